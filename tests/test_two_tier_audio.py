"""Audio of models of two tiers: refinement, live generation, and the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from commands import Capture, error_of, run
from two_tier_data import CHUNK, HOP, MEL, RATE, generator_of, hum, two_tiers

from wavenet import checkpoint
from wavenet import engine as engines
from wavenet.config import SamplingConfig
from wavenet.consistency import refine
from wavenet.data import audio
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.refined_session import RefinedSession

pytestmark = pytest.mark.skipif(not engines.native_installed(), reason="the native engine is not built")
SEEN = {"output": "gaussian", "sampling": SamplingConfig(refine=3)}


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    file = tmp_path / "m.safetensors"
    checkpoint.save_model(file, two_tiers(**SEEN))
    return file


@pytest.mark.parametrize("primed", [0, 0.1])
def test_rendered_audio_is_refined_with_the_drawn_frames(primed: float) -> None:
    generator = generator_of(**SEEN)
    clip = hum(primed) if primed else None
    session = generator.session(seed=4, prime=clip, count=2)
    frames, parts = [session.frames(0)], []
    for _ in range(3):
        before = session.position
        parts.append(session.next(CHUNK))
        frames.append(session.frames(before // HOP))
    plain, features = np.concatenate(parts, axis=1), np.concatenate(frames, axis=2)
    rendered = generator.render(3 * CHUNK / RATE, seed=4, prime=clip, count=2)
    for stream in range(2):
        whole = plain[stream] if clip is None else np.concatenate([clip, plain[stream]])
        np.testing.assert_array_equal(rendered[stream], refine(whole, features[stream], MEL, 3)[-3 * CHUNK :])
    np.testing.assert_array_equal(
        generator.render(0.1, seed=4, refine=0), plain[0, :800] if clip is None else generator.session(seed=4).next(800)
    )


@pytest.mark.parametrize("block", [1, 100, 2_000])
def test_a_stream_without_end_is_refined(block: int) -> None:
    generator = generator_of(**SEEN)
    stream, expected = generator.stream(seed=4, block=block), generator.stream(seed=4, block=400)
    streamed = np.concatenate([next(stream) for _ in range(2_000 // block)])
    np.testing.assert_array_equal(streamed, np.concatenate([next(expected) for _ in range(5)])[: len(streamed)])
    if block == 2_000:
        limited = np.concatenate(list(generator.stream(0.5, seed=4)))
        np.testing.assert_array_equal(limited[:2_000], streamed)
        assert limited.shape == (4_000,)
        plain, session = generator.render(0.25, seed=4, refine=0), generator.session(seed=4)
        session.next(800)
        target = session.frames(0)[0]
        distances = [np.abs(mel_spectrogram(each[:800], MEL) - target).mean() for each in (plain, streamed)]
        assert distances[1] < 0.7 * distances[0]


def test_a_refined_stream_keeps_few_frames() -> None:
    session = generator_of(**SEEN).session(seed=4)
    refined = RefinedSession(session, MEL, 2, None)
    sizes = []
    for _ in range(4):
        refined.next(3 * CHUNK)  # more than the session keeps frames of
        (refiner,) = refined._progress.refiners
        sizes.append(len(refiner._frames))
    assert max(sizes) < 40


def test_a_live_generator_of_two_tiers_draws_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = generator_of()
    alone = Generator(generator._engine)
    assert 0 < generator._times_real_time() < alone._times_real_time()  # frames cost time, too
    monkeypatch.setattr(Generator, "_times_real_time", lambda self: 0.5 if self.precision == "f32" else 2.0)
    with pytest.warns(UserWarning, match="generating in int8"):
        live = generator_of().live()
    assert live.precision == "int8"
    np.testing.assert_array_equal(live.render(0.1), generator_of(precision="int8").render(0.1))


def test_generate_writes_refined_audio(model_file: Path, tmp_path: Path, capsys: Capture) -> None:
    generator, out = generator_of(**SEEN), tmp_path / "x.wav"

    def written(*options: object) -> Any:
        assert run("generate", model_file, "-o", out, "--seconds", 0.3, "--seed", 2, *options) == 0
        return soundfile.read(out, dtype="float32")[0]

    plain = written("--refine", 0)
    np.testing.assert_array_equal(plain, generator.render(0.3, seed=2, refine=0))
    cold = written("--refine", 0, "--temperature", 0)
    np.testing.assert_array_equal(cold, generator.render(0.3, seed=2, refine=0, temperature=0))
    refined = written()
    assert refined.shape == (2_400,) and not np.array_equal(refined, plain)
    np.testing.assert_allclose(refined, generator.render(0.3, seed=2), atol=0.1)  # with a look-ahead
    clip = tmp_path / "clip.wav"
    audio.write(clip, hum(0.2), RATE)
    primed = written("--refine", 0, "--prime", clip)
    assert not np.array_equal(primed, plain)
    assert run("generate", model_file, "-o", tmp_path / "y.wav", "--seconds", 0.2, "--count", 2) == 0
    assert {path.name for path in tmp_path.glob("y*")} == {"y-0.wav", "y-1.wav"}
    assert "x real time" in capsys.readouterr().err


def test_vocode_gives_the_frames_to_the_same_model(model_file: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.wav", tmp_path / "x.wav"
    audio.write(clip, hum(0.3), RATE)
    assert run("vocode", model_file, clip, "-o", out) == 0
    assert len(soundfile.read(out)[0]) == 2_400


def test_standard_output_is_refined_without_delay(model_file: Path, capsysbinary: Any) -> None:
    assert run("generate", model_file, "-o", "-", "--seconds", 0.2) == 0
    samples = np.frombuffer(capsysbinary.readouterr().out, "<i2")
    assert samples.shape == (1_600,) and np.ptp(samples) > 100


def test_a_command_names_what_a_model_of_two_tiers_does_not_take(model_file: Path, capsys: Capture) -> None:
    message = error_of(capsys, "generate", model_file, "--temperature", "-1")
    assert "temperature = -1.0: must be a number from 0" in message
    assert "refine = -3: must be a whole number" in error_of(capsys, "generate", model_file, "--refine", "-3")
