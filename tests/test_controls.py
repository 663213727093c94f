"""Pitch and loudness curves: their values, files, what they do to frames, and how sessions and commands take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Capture, error_of, run, save_model
from frame_data import random_frame_model, syllables, tensors_of
from two_tier_data import CHUNK, HOP, MEL, generator_of, hum, two_tiers

from wavenet import checkpoint, controls
from wavenet import engine as engines
from wavenet.config import MelConfig
from wavenet.data import audio
from wavenet.engine.frame_sampler import PERIODIC, FrameSampler
from wavenet.features import mel_spectrogram
from wavenet.frame_coding import FrameCoding, decibels
from wavenet.frame_model_config import LOUDNESS, PITCH, VOICING, FrameModelConfig
from wavenet.two_tier_session import TwoTierSession

WIDE = MelConfig()  # 16 kHz, 100 frames per second
native = pytest.mark.skipif(not engines.native_installed(), reason="the native engine is not built")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pitch", 19.0, "pitch = 19: must be from 20 to 2,000 Hz"),
        ("pitch", 0, "pitch = 0: must be from 20"),
        ("pitch", float("nan"), "pitch = nan: must be from 20"),
        ("pitch", [100, -1.0], "pitch = -1: must be from 20"),
        ("loudness", 3, "loudness = 3: must be from -120 to 0 dBFS"),
        ("loudness", [float("inf")], "loudness = inf: must be from -120"),
        ("pitch", "220", "pitch = '220': must be a number of Hz, or an array .* wavenet.controls.read"),
        ("pitch", [[1.0]], r"pitch = \[\[...\]\]: must be a number of Hz, or an array"),
        ("pitch", True, "pitch = True: must be a number of Hz"),
        ("loudness", {}, "loudness = {}: must be a number of dBFS"),
    ],
)
def test_values_that_are_no_curve_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        controls.checked(name, value)


def test_a_curve_ends_and_has_gaps() -> None:
    curve = controls.checked("pitch", np.array([100, 0, np.nan, 300]))
    assert curve is not None
    np.testing.assert_array_equal(curve.part(1, 4), [np.nan, np.nan, 300, np.nan])
    np.testing.assert_array_equal(curve.part(9, 2), [np.nan, np.nan])
    constant = controls.checked("loudness", np.float32(-20))
    assert constant is not None and controls.checked("pitch", None) is None
    np.testing.assert_array_equal(constant.part(1_000_000, 2), [-20, -20])


def test_a_csv_file_is_interpolated_between_its_rows(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text("time,hertz\n0.005,100\n0.025,140\n\n0.035,\n0.045,200\n0.055,0\n")
    curve = controls.read(file, "pitch", WIDE)  # centres of frames: 5 ms, 15 ms, ...
    np.testing.assert_allclose(curve, [100, 120, 140, np.nan, 200, np.nan])
    file.write_text("0.02,-30\n0.04,-10\n")
    np.testing.assert_allclose(controls.read(file, "loudness", WIDE), [np.nan, np.nan, -25, -15])


def test_an_array_is_a_value_for_each_frame(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.array([100, 200], np.int32))
    np.testing.assert_array_equal(controls.read(tmp_path / "c.npy", "pitch", WIDE), [100, 200])


def test_the_curves_of_a_recording_are_measured(tmp_path: Path) -> None:
    time = np.arange(16_000) / 16_000
    tone = sum(np.sin(2 * np.pi * 200 * k * time) / k for k in range(1, 20))
    samples = np.where(time < 0.5, 0.05 * tone, 0.0)
    audio.write(tmp_path / "c.wav", samples.astype(np.float32), 16_000)
    pitch, level = (controls.read(tmp_path / "c.wav", name, WIDE) for name in ("pitch", "loudness"))
    assert pitch.shape == level.shape == (100,)
    np.testing.assert_allclose(pitch[5:45], 200, rtol=0.02)
    assert np.isnan(pitch[55:]).all() and (level[55:] < -80).all()
    loud = controls.measured(samples[:8_000], "loudness", WIDE)[5:45]
    np.testing.assert_allclose(loud, 20 * np.log10(np.sqrt(np.mean(samples[:8_000] ** 2))), atol=2)
    np.testing.assert_allclose(level[5:45] - level[5:45].mean(), loud - loud.mean(), atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no rows"),
        ("time,value\n", "there are no rows"),
        ("0,100\nx,3\n", "line 2: expected a time in seconds and a value in Hz"),
        ("0,100\n0.5\n0.2,100\n", "the times must be finite and ascend"),
        ("nan,100\n", "the times must be finite and ascend"),
        ("0,220Hz\n1,100\n", "line 1: expected a time in seconds and a value in Hz"),
        ("0,220\n1e9,200\n", "a time is 1e\\+09; times are in seconds"),
        ("220\n230\n", "it has no pitch for any frame"),
        ("0,220\n1,5\n2,220\n", "pitch = 5: must be from 20 to 2,000 Hz"),
    ],
)
def test_files_that_are_no_curve_are_named(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"c.csv.*{message}"):
        controls.read(file, "pitch", WIDE)
    for array in (np.zeros((2, 2)), np.array(["a"])):
        np.save(tmp_path / "c.npy", array)
        with pytest.raises(ValueError, match="c.npy: must be one array of numbers"):
            controls.read(tmp_path / "c.npy", "pitch", WIDE)
    np.save(tmp_path / "c.npy", [-20.0, 3.0])
    with pytest.raises(ValueError, match="c.npy: loudness = 3: must be from -120 to 0 dBFS"):
        controls.read(tmp_path / "c.npy", "loudness", WIDE)
    (tmp_path / "c.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="c.npy: not a .npy file of numbers"):
        controls.read(tmp_path / "c.npy", "pitch", WIDE)
    (tmp_path / "c.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="c.npy: not a .npy file of numbers"):
        controls.read(tmp_path / "c.npy", "pitch", WIDE)
    with pytest.raises(FileNotFoundError):
        controls.read(tmp_path / "none.csv", "pitch", WIDE)


def sampler_of(streams: int = 1, seed: int = 0, voices: int = 1, **options: Any) -> FrameSampler:
    """A sampler of a model that keeps enough of the spectrum for its pitch."""
    config = FrameModelConfig(
        layers_per_cycle=2, residual_channels=4, skip_channels=8, components=40, mixtures=2, source_mixtures=2
    )
    clips = [syllables(4, seed=voice, pitch=150 + 60 * voice) for voice in range(voices)]
    model = random_frame_model(config, voices if voices > 1 else 0)
    tensors = tensors_of(model, FrameCoding.fit(clips, WIDE, 40))
    return FrameSampler(config, WIDE, tensors, streams, seed, **options)


def test_frames_have_the_given_level_and_pitch() -> None:
    sampler = sampler_of(streams=3)
    coding, limits = sampler.coding, sampler.coding.limits
    level, hertz = np.linspace(-30, -25, 40), np.linspace(150, 220, 40)
    level[:5] = hertz[:5] = np.nan
    encoded = sampler.copy().draw(40, hertz, level)
    inside = (encoded[:, 5:, LOUDNESS] > limits[0, LOUDNESS]) & (encoded[:, 5:, LOUDNESS] < limits[1, LOUDNESS])
    assert inside.mean() > 0.5
    found = decibels(coding.decode(encoded[:, 5:]), WIDE)
    np.testing.assert_allclose(found[inside], np.tile(level[5:], (3, 1))[inside], atol=0.2)
    is_voiced = encoded[:, 5:, VOICING] == 1
    assert 0.2 < is_voiced.mean() < 0.98
    expected = np.tile(coding.encoded_pitch(hertz[5:]).clip(*limits[:, PITCH]), (3, 1))
    np.testing.assert_allclose(encoded[:, 5:, PITCH], np.where(is_voiced, expected, 0), atol=1e-5)
    free = sampler.copy().draw(40)
    np.testing.assert_array_equal(encoded[:, :5], free[:, :5])
    frames = sampler.copy().next(40, hertz, level)
    np.testing.assert_array_equal(frames, coding.decode(encoded).swapaxes(1, 2))


def test_candidates_are_chosen_for_the_given_pitch() -> None:
    hertz, missed = np.full(60, 170.0), []
    for candidates in (1, 8):
        sampler = sampler_of(streams=4, candidates=candidates)
        encoded = sampler.draw(60, hertz)
        periodicity = sampler.coding.periodicity(encoded[encoded[..., VOICING] == 1])
        missed.append((periodicity < PERIODIC).mean())
    assert missed[1] < 0.5 * missed[0]


def test_a_level_is_that_of_the_audio() -> None:
    noise = np.convolve(np.random.default_rng(0).standard_normal(32_000), [0.5, 0.3, 0.2])
    samples = (noise / 10).clip(-1, 1)
    frames = mel_spectrogram(samples, WIDE).T[10:190]
    rms = 20 * np.log10(np.sqrt(np.mean(samples**2)))
    assert decibels(frames, WIDE).mean() == pytest.approx(rms, abs=1)
    np.testing.assert_allclose(decibels(frames + np.log(2), WIDE) - decibels(frames, WIDE), 6.02, atol=0.05)


def test_levels_and_pitches_are_those_of_every_voice() -> None:
    given, shares = (np.full(3, 180.0), np.full(3, -27.0)), np.eye(2, dtype=np.float32)
    mixed = sampler_of(2, voices=2, speaker=shares).draw(3, *given)
    single = [sampler_of(seed=i, voices=2, speaker=i).draw(3, *given) for i in (0, 1)]
    np.testing.assert_allclose(mixed, np.concatenate(single), atol=1e-4)
    assert mixed[0, 0, LOUDNESS] != mixed[1, 0, LOUDNESS]


@native
def test_a_session_follows_curves_that_begin_with_the_next_frame_drawn() -> None:
    generator, curve = generator_of(), np.linspace(-50, -20, 60)
    session = generator.session(seed=3, loudness=curve)
    assert isinstance(session, TwoTierSession) and session.loudness is curve and session.pitch is None
    session.next(CHUNK)
    parts = [session.frames(0, 32)]
    for _ in range(3):
        session.next(CHUNK)
        parts.append(session.frames(sum(part.shape[2] for part in parts)))
    features = np.concatenate(parts, axis=2)[0].T  # [frames, bands]
    followed = np.abs(decibels(features[:60], MEL) - curve) < 0.1
    assert followed.mean() > 0.5  # others are beyond the levels of the training data
    assert (np.abs(decibels(features[60:100], MEL) + 20) > 0.1).mean() > 0.8  # the model's choice after the end
    blocks = generator.session(seed=3, loudness=curve)
    whole = generator.render(4 * CHUNK / 8_000, seed=3, loudness=curve)
    np.testing.assert_array_equal(np.concatenate([blocks.next(n) for n in (1, 700, 1_347)]), whole)


@native
def test_controls_may_change_while_a_session_plays() -> None:
    generator = generator_of()
    session, other = (generator.session(seed=3, loudness=-30.0) for _ in range(2))
    assert isinstance(session, TwoTierSession) and isinstance(other, TwoTierSession)
    for each in (session, other):
        each.next(600)
    session.loudness = -45
    session.pitch = np.full(9, 180.0)
    branch = session.copy()
    assert isinstance(branch, TwoTierSession)
    for each in (session, other, branch):
        each.next(700)
    drawn = 2 * CHUNK // HOP + 1 + generator.config.frame_context[1]  # before the change
    np.testing.assert_array_equal(session.frames(60, drawn), other.frames(60, drawn))
    later = [decibels(each.frames(drawn, drawn + 10)[0].T, MEL) for each in (session, other)]
    assert later[0].mean() < later[1].mean() - 2
    assert branch.loudness == -45
    np.testing.assert_array_equal(branch.frames(60, drawn + 9), session.frames(60, drawn + 9))
    with pytest.raises(ValueError, match="loudness = 1: must be from"):
        session.loudness = 1
    assert session.loudness == -45
    session.loudness = None
    session.next(2 * CHUNK)
    assert session.loudness is None


@native
def test_controls_need_frames_that_are_drawn() -> None:
    generator = generator_of()
    with pytest.raises(ValueError, match="pitch: controls the frames that a frame model draws, and the features are"):
        generator.session(features=np.full((MEL.bands, 9), -4.0, np.float32), pitch=200.0)
    with pytest.raises(ValueError, match="loudness = 9: must be from"):
        generator.session(loudness=9.0)


@native
def test_generate_takes_constants_and_files(tmp_path: Path, capsys: Capture) -> None:
    file, plain = tmp_path / "m.safetensors", tmp_path / "p.safetensors"
    checkpoint.save_model(file, two_tiers())
    out, clip, curve = tmp_path / "x.wav", tmp_path / "clip.wav", tmp_path / "c.csv"
    audio.write(clip, hum(0.2), 8_000)
    curve.write_text("0,150\n0.2,300\n")
    options = ("-o", out, "--seconds", 0.2)
    written = []
    for given in ((), ("--pitch", 200, "--loudness", "-40"), ("--pitch", curve, "--loudness", clip)):
        assert run("generate", file, *options, *given) == 0
        written.append(out.read_bytes())
    capsys.readouterr()
    assert len(set(written)) == 3
    level = controls.read(clip, "loudness", MEL)
    expected = generator_of().render(0.2, pitch=controls.read(curve, "pitch", MEL), loudness=level)
    np.testing.assert_allclose(audio.read(out, 8_000), expected, atol=1e-4)
    save_model(plain)
    assert "pitch: controls the frames" in error_of(capsys, "generate", plain, "--pitch", 200)
    assert "--pitch: this model has no frame model" in error_of(capsys, "generate", plain, "--pitch", clip)
    assert "loudness = 3: must be from" in error_of(capsys, "generate", file, "--loudness", 3)
    message = error_of(capsys, "generate", file, "--loudness", tmp_path / "none.csv")
    assert "none.csv: no such file" in message
