"""Sessions of models of two tiers: engines, blocks, batches, copies, interruptions, priming, speakers, temperature."""

from __future__ import annotations

import warnings
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from two_tier_data import CHUNK, HOP, MEL, generator_of, hum, two_tiers

from wavenet import engine as engines
from wavenet.config import SamplingConfig
from wavenet.engine.conditioning import ChunkConditioner
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.session import Session
from wavenet.two_tier_session import FrameTier, TwoTierSession

pytestmark = pytest.mark.skipif(not engines.native_installed(), reason="the native engine is not built")
VOICES: dict[str, Any] = {"speakers": ("ann", "bob")}
PREDICTED: dict[str, Any] = {"output": "gaussian", "linear_prediction": 4}


def sampler_of(generator: Generator, seed: int) -> Any:
    """The sampler of a stream that continues silence, made without a session: that of its engine."""
    sampler = FrameTier(generator.config, two_tiers().state_dict(), generator.engine).sampler(None, seed=seed)
    sampler.start()
    return sampler


def session_of(generator: Generator, **options: Any) -> TwoTierSession:
    session = generator.session(**options)
    assert isinstance(session, TwoTierSession)
    return session


@pytest.mark.parametrize(("options", "samples"), [({}, 600), (VOICES, 540), ({"frame_network": "parallel"}, 540)])
def test_engines_agree(options: dict[str, Any], samples: int) -> None:
    speaker = {"speaker": "bob"} if "speakers" in options else {}
    audio = [
        generator_of(name, **options).session(seed=5, **speaker).next_codes(samples)
        for name in ("native", "torch", "naive")
    ]
    np.testing.assert_array_equal(audio[1], audio[0])
    np.testing.assert_array_equal(audio[2], audio[0])
    assert len(np.unique(audio[0])) > 50


@pytest.mark.filterwarnings("ignore:features")
@pytest.mark.parametrize("name", ["native", "torch"])
def test_the_audio_is_that_of_a_vocoder_with_the_drawn_frames(name: str) -> None:
    generator = generator_of(name, **PREDICTED)
    features = sampler_of(generator, seed=3).next(70)[0]
    vocoded = generator.session(seed=3, features=features)
    assert type(vocoded) is Session and vocoded.left == 70 * HOP
    drawn = session_of(generator, seed=3)
    assert drawn.left is None
    samples = (70 - 1 - generator.config.frame_context[1]) * HOP - HOP // 2  # later ones look beyond the 70 frames
    np.testing.assert_array_equal(drawn.next(CHUNK), vocoded.next(CHUNK))
    np.testing.assert_array_equal(drawn.frames(0, 32)[0], features[:, :32])
    np.testing.assert_array_equal(drawn.next(samples - CHUNK), vocoded.next(samples - CHUNK))
    np.testing.assert_array_equal(drawn.frames(30, 67)[0], features[:, 30:67])


def test_block_sizes_and_threads_do_not_matter() -> None:
    whole = generator_of(**PREDICTED).render(0.3, seed=2)
    for threads, blocks in ((1, (1, 511, 1, 700, 1_187)), (2, (512, 1_024, 864))):
        session = generator_of(threads=threads, **PREDICTED).session(seed=2)
        np.testing.assert_array_equal(np.concatenate([session.next(samples) for samples in blocks]), whole)
    streamed = list(generator_of(**PREDICTED).stream(0.3, seed=2, block=900))
    np.testing.assert_array_equal(np.concatenate(streamed), whole)


@pytest.mark.parametrize("options", [{}, VOICES])
def test_a_stream_of_a_batch_is_the_stream_alone(options: dict[str, Any]) -> None:
    generator = generator_of(**options)
    speaker = {"speaker": {"ann": 1, "bob": 3}} if options else {}
    batch = generator.render(0.2, seed=4, count=3, **speaker)
    assert batch.shape == (3, 1_600)
    for stream in range(3):
        np.testing.assert_array_equal(batch[stream], generator.render(0.2, seed=4 + stream, **speaker))
    assert not np.array_equal(batch[0], batch[1])


def test_frames_depend_on_the_seed_only() -> None:
    options = ({"seed": 1}, {"seed": 1, "top_p": 0.5, "voiced_temperature": 0.1}, {"seed": 2})
    sessions = [session_of(generator_of(), **given) for given in options]
    audio = [session.next(600) for session in sessions]
    frames = [session.frames(0, 40) for session in sessions]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])
    assert not np.array_equal(audio[0], audio[1])


def test_copies_continue_alike_and_with_another_seed_differently() -> None:
    session = session_of(generator_of(), seed=1)
    session.next(700)
    same, other, again = session.copy(), session.copy(seed=8), session.copy(seed=8)
    expected = session.next(900)
    np.testing.assert_array_equal(same.next(900), expected)
    branch = other.next(900)
    assert not np.array_equal(branch, expected)
    np.testing.assert_array_equal(again.next(900), branch)
    known = (700 // CHUNK + 1) * CHUNK // HOP + 1 + generator_of().config.frame_context[1]  # drawn before the copy
    assert isinstance(other, TwoTierSession)
    np.testing.assert_array_equal(other.frames(60, known), session.frames(60, known))
    assert not np.array_equal(other.frames(known, known + 20), session.frames(known, known + 20))


def test_sessions_of_a_generator_share_the_frame_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from wavenet.engine import _native

    generator, created = generator_of(**VOICES), Mock(wraps=_native.create_frame_sampler)
    monkeypatch.setattr(_native, "create_frame_sampler", created)
    first = generator.session(seed=4, speaker="bob").next(600)
    generator.session(seed=5, speaker="ann", count=2).next(400)
    np.testing.assert_array_equal(generator.session(seed=4, speaker="bob").next(600), first)
    assert created.call_count == 1


def test_an_interrupted_call_changes_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    from wavenet.engine.native_frames import NativeFrameSampler

    generator = generator_of()
    expected = generator.session(seed=6).next(2_000)
    session = generator.session(seed=6)
    parts, drawn = [session.next(500)], NativeFrameSampler.next

    def interrupted(sampler: NativeFrameSampler, count: int) -> Any:
        drawn(sampler, count)
        raise KeyboardInterrupt

    monkeypatch.setattr(NativeFrameSampler, "next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.next(300)
    monkeypatch.undo()
    assert session.position == CHUNK  # the samples before the frames are lost
    generate = generator._engine.generate

    def interrupted_later(*arguments: Any) -> Any:
        generate(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(generator._engine, "generate", interrupted_later)
    with pytest.raises(KeyboardInterrupt):
        session.next(300)
    monkeypatch.undo()
    assert session.position == CHUNK + 300
    parts.append(session.next(2_000 - session.position))
    np.testing.assert_array_equal(parts[0], expected[:500])
    np.testing.assert_array_equal(parts[1], expected[CHUNK + 300 :])


def test_frames_that_nothing_needs_are_dropped() -> None:
    session = session_of(generator_of(), seed=1)
    session.next(3 * CHUNK)
    kept = session.features
    session.next(6 * CHUNK)
    assert kept is not None and session.features is not None
    assert session.features.shape == kept.shape and kept.shape[2] < 120
    assert session.features.base is None or session.features.base.nbytes < 2 * kept.nbytes
    np.testing.assert_array_equal(session.next(100), generator_of().render(0.7, seed=1)[9 * CHUNK :][:100])
    with pytest.raises(ValueError, match="frame 100 is not kept: the first one is"):
        session.frames(100, 200)


@pytest.mark.parametrize("name", ["native", "torch", "naive"])
def test_engines_that_look_back_agree_late_in_a_stream(name: str) -> None:
    """The naive engine computes its context anew for every sample, and torch after a prime."""
    native, other = generator_of(), generator_of(name)
    sessions = [session_of(generator, seed=2) for generator in (native, other)]
    for session in sessions:  # far, at the cost of frames only
        session.prime(hum(0.5))
        session.prime(hum(0.1, 1))
    np.testing.assert_array_equal(sessions[1].next_codes(600), sessions[0].next_codes(600))


@pytest.mark.parametrize("name", ["native", "torch"])
def test_primed_frames_are_those_of_the_clip_and_drawn_ones_follow(name: str) -> None:
    clip, generator = hum(0.1), generator_of(name, **PREDICTED)
    session = session_of(generator, seed=3, prime=clip)  # 50 frames; windows reach 24 samples beyond a frame's own ones
    inside = 48
    features = mel_spectrogram(clip, MEL)
    np.testing.assert_allclose(session.frames(0, inside)[0], features[:, :inside], atol=0.02)  # 16 bits
    sampler = sampler_of(generator, seed=3)
    sampler.prime(session.frames(0, inside))
    np.testing.assert_array_equal(session.frames(inside, inside + 10), sampler.next(10))
    later = session_of(generator, seed=3)
    later.prime(clip)
    assert later.position == session.position == 800
    np.testing.assert_array_equal(later.next(900), session.next(900))


@pytest.mark.parametrize("name", ["native", "torch"])
def test_priming_in_mid_stream_is_priming_at_the_start_once_the_past_is_out_of_reach(name: str) -> None:
    generator, clip = generator_of(name), hum(0.2)
    start, stream = session_of(generator, seed=9, prime=clip), session_of(generator, seed=2)
    stream.next(2 * CHUNK)
    kept, before = stream.copy(), stream.frames(40, 2 * CHUNK // HOP)
    branch = stream.copy(seed=9)
    branch.prime(clip)
    assert branch.position == 2 * CHUNK + len(clip) and isinstance(branch, TwoTierSession)
    np.testing.assert_array_equal(branch.frames(40, 2 * CHUNK // HOP), before)
    np.testing.assert_array_equal(branch.next(1_000), start.next(1_000))
    never = generator.session(seed=2)
    never.next(2 * CHUNK)
    np.testing.assert_array_equal(kept.next(900), never.next(900))


def test_a_clip_shorter_than_a_window_leaves_the_frames_as_they_are() -> None:
    plain, primed = session_of(generator_of(), seed=3), session_of(generator_of(), seed=3, prime=hum(0.00375))
    plain.next(40)
    assert primed.position == 30
    np.testing.assert_array_equal(primed.frames(0, 30), plain.frames(0, 30))
    primed.next(7)
    primed.prime(hum(0.005))
    assert primed.position == 77
    np.testing.assert_array_equal(primed.frames(0, 30), plain.frames(0, 30))


def test_the_voice_is_that_of_the_speaker_and_may_change() -> None:
    generator = generator_of(**VOICES)
    ann, bob, mixed = (session_of(generator, speaker=speaker) for speaker in ("ann", "bob", {"ann": 1, "bob": 1}))
    frames = [session.next(CHUNK) is not None and session.frames(0, 30) for session in (ann, bob, mixed)]
    assert not np.array_equal(frames[0], frames[1]) and not np.array_equal(frames[0], frames[2])
    one, changed = ann.copy(), ann.copy()
    changed.speaker = "bob"
    assert changed.speaker == "bob"
    audio = one.next(2 * CHUNK), changed.next(2 * CHUNK)
    known = 2 * CHUNK // HOP
    assert isinstance(one, TwoTierSession) and isinstance(changed, TwoTierSession)
    np.testing.assert_array_equal(one.frames(25, 35), changed.frames(25, 35))  # drawn before
    assert not np.array_equal(one.frames(40, known), changed.frames(40, known))
    assert not np.array_equal(audio[0][:100], audio[1][:100])  # the samples change at once
    with pytest.raises(ValueError, match="speaker: required"):
        generator.session()
    with pytest.raises(ValueError, match="unknown, did you mean 'bob'"):
        changed.speaker = "bobb"


def test_the_temperature_is_that_of_the_frames() -> None:
    options = SamplingConfig(temperature=0.5, frame_temperature=0.3, frame_temperature_range=(0.2, 1.1))
    generator = generator_of(sampling=options)
    session = session_of(generator, seed=3)
    assert session.temperature == 0.3 and session._sampling.temperature == 0.5
    np.testing.assert_array_equal(session.next(900), session_of(generator, seed=3, temperature=0.3).next(900))
    other = session_of(generator, seed=3, temperature=1)
    other.next(900)
    assert not np.array_equal(other.frames(0, 50), session.frames(0, 50))
    assert type(generator.session(temperature=0.7, features=sampler_of(generator, seed=0).next(9)[0])) is Session
    changed = session.copy()
    changed.temperature = 1.0
    for each in (changed, session):
        each.next(900)
    assert isinstance(changed, TwoTierSession)
    known = 2 * CHUNK // HOP + 1 + generator.config.frame_context[1]
    np.testing.assert_array_equal(changed.frames(60, known), session.frames(60, known))
    assert not np.array_equal(changed.frames(known, known + 20), session.frames(known, known + 20))
    assert changed.delay == pytest.approx(35 * HOP / 8_000)


def test_a_temperature_outside_of_the_useful_range_is_named_once() -> None:
    generator = generator_of(sampling=SamplingConfig(frame_temperature_range=(0.8, 1.1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = generator.session()
    with pytest.warns(UserWarning, match=r"temperature = 2: this model was found to be useful from 0\.8 to 1\.1"):
        session.temperature = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.temperature = 3
    for wrong in (-1, float("nan"), "x"):
        with pytest.raises(ValueError, match="^temperature = .*: must be a number from 0"):
            session.temperature = wrong  # type: ignore[assignment]
        with pytest.raises(ValueError, match="^temperature = .*: must be a number from 0"):
            generator.session(temperature=wrong)  # type: ignore[arg-type]
    assert session.temperature == 3


def test_what_a_session_of_two_tiers_refuses() -> None:
    generator = generator_of()
    with pytest.raises(ValueError, match="particles = 2: only for given features, which this model draws"):
        generator.session(particles=2)
    with pytest.raises(ValueError, match="seconds: give the length"):
        generator.render()
    with pytest.raises(ValueError, match="prime: peaks at"):
        generator.session(prime=np.full(9, 99.0))
    with pytest.raises(ValueError, match="speaker = 'ann': this model has no speakers"):
        generator.session(speaker="ann")
    with pytest.raises(ValueError, match="seed = -1"):
        generator.session(seed=-1)


def test_chunks_are_computed_from_frames_of_a_window_as_from_all() -> None:
    conditioner = generator_of()._engine.conditioner
    assert isinstance(conditioner, ChunkConditioner)
    first, last = conditioner.frames_needed(5 * CHUNK + 17)
    assert (first, last) == (5 * 32 - 3, 6 * 32 + 3)


def test_the_torch_free_path(tmp_path: Any) -> None:
    import subprocess
    import sys

    from wavenet import checkpoint

    checkpoint.save_model(tmp_path / "m.safetensors", two_tiers())
    code = (
        "import sys, wavenet; g = wavenet.Generator.load(sys.argv[1]); g.render(0.1, refine=2); "
        "next(g.stream(0.1)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.safetensors")], check=False).returncode == 0
