"""Generators of conditioned models: features, speakers, voiced temperature, and 16-bit outputs."""

from __future__ import annotations

import threading
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import random_model
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig
from wavenet.generate import Generator
from wavenet.model import WaveNet
from wavenet.nn.linear_prediction import voiced

HOP, BANDS = 20, 24
MEL: dict[str, Any] = {"fft": 256, "window": 256, "hop": HOP, "bands": BANDS}


def conditioned_generator(**values: Any) -> Generator:
    torch.manual_seed(4)
    shape: dict[str, Any] = {"cycles": 2, "layers_per_cycle": 3, "residual_channels": 8, "skip_channels": 16}
    model = WaveNet(ModelConfig(**shape, sample_rate=8_000, **values))
    with torch.no_grad():
        if model.config.output == "mulaw":
            model.head.output.weight.mul_(100)
        else:
            model.head.output.bias[-model.config.components :] -= 3  # scales of a twentieth
    return Generator.from_model(model, engine="torch")


def frames_of(count: int, seed: int = 0, streams: tuple[int, ...] = ()) -> NDArray[np.float32]:
    """Features [..., BANDS, count] that audio in [-1, 1] may have."""
    return np.random.default_rng(seed).normal(-5, 2, (*streams, BANDS, count)).clip(-11, 0).astype(np.float32)


@pytest.fixture(
    scope="module",
    params=[
        {"features": MEL},
        {"features": MEL, "speakers": ("ann", "bob"), "output": "logistic", "mixtures": 2},
        {"features": MEL, "frame_network": "parallel", "output": "gaussian", "linear_prediction": 6},
        {"features": MEL, "frame_network": "causal"},
    ],
    ids=["mulaw", "speakers", "predicted", "causal"],
)
def vocoder(request: pytest.FixtureRequest) -> Generator:
    return conditioned_generator(**request.param)


def speaker_of(generator: Generator) -> dict[str, Any]:
    return {"speaker": "bob"} if generator.config.speakers else {}


def test_features_are_rendered_from_the_first_to_the_last(vocoder: Generator) -> None:
    features = frames_of(41)  # over a chunk's end, at 32 frames
    audio = vocoder.render(features=features, seed=3, **speaker_of(vocoder))
    assert audio.shape == (41 * HOP,)
    assert np.abs(audio).max() <= 1 and len(np.unique(audio)) > 50
    assert not np.array_equal(vocoder.render(features=frames_of(41, 1), seed=3, **speaker_of(vocoder)), audio)
    # later frames change nothing before half a frame, by interpolation, and the context of the frame network
    changed = features.copy()
    changed[:, -1] = 0
    after = vocoder.render(features=changed, seed=3, **speaker_of(vocoder))
    unchanged = (41 - 1 - vocoder.config.frame_context[1]) * HOP - HOP // 2
    if unchanged > 0:
        np.testing.assert_array_equal(after[:unchanged], audio[:unchanged])
    assert not np.array_equal(after, audio)
    part = vocoder.render(0.01, features=features, seed=3, **speaker_of(vocoder))
    np.testing.assert_array_equal(part, audio[:80])
    blocks = list(vocoder.stream(block=300, features=features, seed=3, **speaker_of(vocoder)))
    assert [len(block) for block in blocks] == [300, 300, 220]
    np.testing.assert_array_equal(np.concatenate(blocks), audio)


def test_streams_side_by_side_have_their_own_features(vocoder: Generator) -> None:
    own = frames_of(5, 2, (3,))
    batch = vocoder.render(features=own, seed=7, count=3, **speaker_of(vocoder))
    assert batch.shape == (3, 5 * HOP)
    for stream in range(3):
        single = vocoder.render(features=own[stream], seed=7 + stream, **speaker_of(vocoder))
        # the last bits of a float32 differ between batches: mu-law hides that, 16 bits show a step
        np.testing.assert_allclose(batch[stream], single, atol=0 if vocoder.config.output == "mulaw" else 2e-4)


def test_beyond_the_end_of_the_features_nothing_is_generated(vocoder: Generator) -> None:
    features = frames_of(10)
    session = vocoder.session(seed=5, features=features, **speaker_of(vocoder))
    whole = vocoder.render(features=features, seed=5, **speaker_of(vocoder))
    assert session.left == 200
    np.testing.assert_array_equal(session.next(130), whole[:130])
    assert session.left == 70
    for samples in (71, 10_000):
        with pytest.raises(ValueError, match=f"end after 200 samples .10 frames.* 70 left, not {samples:,}"):
            session.next(samples)
    with pytest.raises(ValueError, match="the features end after 200 samples"):
        session.prime(np.zeros(71))
    assert (session.left, session.position) == (70, 130)
    np.testing.assert_array_equal(session.next(70), whole[130:])  # with the uniforms that were not used
    assert session.left == 0
    with pytest.raises(ValueError, match="0 left, not 1"):
        session.next(1)


def test_features_begin_with_the_primed_audio(vocoder: Generator) -> None:
    features, options = frames_of(10), speaker_of(vocoder)
    session = vocoder.session(seed=5, features=features, **options)
    played = session.next(110)
    rest = vocoder.session(seed=0, features=features, prime=played, **options)
    assert rest.left == 90
    rest._uniforms, rest._progress = session._uniforms, replace(rest._progress, origin=0)
    expected = session.copy().next(90)
    np.testing.assert_allclose(rest.next(90), expected, atol=0 if vocoder.config.output == "mulaw" else 1e-3)
    assert vocoder.render(features=features, prime=played, **options).shape == (90,)
    for ask in (vocoder.render, vocoder.stream):
        with pytest.raises(ValueError, match="the features end with the primed audio"):
            ask(features=features, prime=np.zeros(200), **options)


def test_audio_longer_than_its_features_is_refused_at_once(vocoder: Generator) -> None:
    for ask in (vocoder.render, vocoder.stream):
        with pytest.raises(ValueError, match="the features last for 200 samples, not for 201: leave seconds out"):
            ask(201 / 8_000, features=frames_of(10), **speaker_of(vocoder))


def rippled() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features of frames with and without harmonics, and which have them."""
    pitched = np.array([0, 0, 1, 1, 1, 0, 1, 0, 0, 1], bool)
    ripple = np.where((np.arange(BANDS) + 1) // 2 % 2 == 0, 2.0, -2.0)  # by band
    features = (-5 + np.where(pitched, ripple[:, None], 0)).astype(np.float32)
    np.testing.assert_array_equal(voiced(features.T, MelConfig(sample_rate=8_000, high=4_000.0, **MEL)), pitched)
    return features, pitched


def test_voiced_frames_have_their_own_temperature(vocoder: Generator) -> None:
    features, pitched = rippled()
    options = {"features": features, "seed": 4, **speaker_of(vocoder)}
    by_hand = vocoder.session(temperature=1.2, **options)
    parts = []
    for frame in pitched:
        by_hand.temperature = 0.3 if frame else 1.2
        parts.append(by_hand.next(HOP))
    whole = vocoder.render(temperature=1.2, voiced_temperature=0.3, **options)
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, vocoder.render(temperature=1.2, **options))
    for block in (1, 7, HOP, 3 * HOP + 1):
        blocks = list(vocoder.stream(block=block, temperature=1.2, voiced_temperature=0.3, **options))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    same = vocoder.render(count=2, temperature=1.2, voiced_temperature=0.3, **options)
    np.testing.assert_allclose(same[0], whole, atol=0 if vocoder.config.output == "mulaw" else 2e-4)


def test_the_voiced_temperature_may_change_between_calls(vocoder: Generator) -> None:
    features, _ = rippled()
    options = {"features": features, "seed": 4, **speaker_of(vocoder)}
    plain = vocoder.render(**options)
    session = vocoder.session(voiced_temperature=0.2, **options)
    branch = session.copy()
    assert (session.voiced_temperature, session.temperature) == (0.2, 1.0)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="^voiced_temperature = "):
            session.voiced_temperature = wrong
        assert session.voiced_temperature == 0.2
    session.voiced_temperature = None
    np.testing.assert_array_equal(session.next(200), plain)
    assert not np.array_equal(branch.next(200), plain)
    session = vocoder.session(voiced_temperature=0.2, **options)
    with pytest.raises(ValueError, match="0 left|200 left, not 201"):
        session.next(201)  # whose frames differ: none is made of the first ones either
    assert session.position == 0


def test_each_stream_of_a_batch_has_its_own_voiced_frames(vocoder: Generator) -> None:
    features, _ = rippled()
    own = np.stack([features, features[:, ::-1], frames_of(10)])
    options = {"temperature": 1.2, "voiced_temperature": 0.3, **speaker_of(vocoder)}
    batch = vocoder.session(features=own, seed=4, count=3, **options)
    audio = np.concatenate([batch.next(70), batch.next(130)], axis=1)  # [3, 200]
    for stream in range(3):
        single = vocoder.render(features=own[stream], seed=4 + stream, **options)
        np.testing.assert_allclose(audio[stream], single, atol=0 if vocoder.config.output == "mulaw" else 2e-4)


def test_a_voiced_temperature_needs_features() -> None:
    with pytest.raises(ValueError, match="voiced_temperature: this model has no features, from which"):
        conditioned_generator().session(voiced_temperature=0.5)


def test_without_features_render_needs_a_length() -> None:
    generator = conditioned_generator(speakers=("ann", "bob"))
    assert generator.session(speaker="ann").left is None
    with pytest.raises(ValueError, match="seconds: give the length"):
        generator.render(speaker="ann")
    endless = generator.stream(block=10, speaker="ann")
    assert [len(next(endless)) for _ in range(3)] == [10] * 3


@pytest.mark.parametrize("features", [None, MEL])
def test_the_speaker_may_change_between_calls(features: dict[str, int] | None) -> None:
    generator = conditioned_generator(speakers=("ann", "bob"), features=features)
    options = {} if features is None else {"features": frames_of(20)}
    ann, bob = (generator.render(0.03, seed=6, speaker=name, **options) for name in ("ann", "bob"))
    assert not np.array_equal(ann, bob)
    session = generator.session(seed=6, speaker="ann", **options)
    np.testing.assert_array_equal(session.next(100), ann[:100])
    stays, mixture = session.copy(), session.copy()
    session.speaker = "bob"
    assert (session.speaker, stays.speaker) == ("bob", "ann")
    changed = session.next(140)
    np.testing.assert_array_equal(stays.next(140), ann[100:])  # a copy keeps its own
    assert not np.array_equal(changed, ann[100:])
    at_once = generator.session(seed=6, speaker="ann", **options)
    at_once.speaker = "bob"
    np.testing.assert_array_equal(at_once.next(240), bob)
    mixture.speaker = {"ann": 1, "bob": 3}
    whole_bob = mixture.copy()
    mixed = mixture.next(140)
    assert not np.array_equal(mixed, changed) and not np.array_equal(mixed, ann[100:])
    whole_bob.speaker = {"bob": 9}  # a mixture of one is that one
    np.testing.assert_array_equal(whole_bob.next(140), changed)


def test_an_unknown_speaker_changes_nothing() -> None:
    generator = conditioned_generator(speakers=("ann", "bob"))
    expected = generator.render(0.01, seed=1, speaker="ann")
    session = generator.session(seed=1, speaker="ann")
    for wrong in ("bop", None, {"ann": -1}, {}):
        with pytest.raises(ValueError, match="speaker"):
            session.speaker = wrong
        assert session.speaker == "ann"
    np.testing.assert_array_equal(session.next(80), expected)


def test_a_model_without_speakers_has_none(vocoder: Generator) -> None:
    generator = conditioned_generator()
    session = generator.session()
    assert (session.speaker, session.left) == (None, None)
    session.speaker = None
    with pytest.raises(ValueError, match="this model has no speakers"):
        session.speaker = "ann"
    with pytest.raises(ValueError, match="features: this model is not conditioned on features"):
        generator.session(features=frames_of(3))
    with pytest.raises(ValueError, match="features: this model is conditioned on a mel spectrogram"):
        vocoder.session(**speaker_of(vocoder))


def test_a_16_bit_output_has_no_top_k() -> None:
    generator = conditioned_generator(output="gaussian")
    session = generator.session(seed=2)
    audio = session.next(50)
    assert np.array_equal(audio * 32_768, np.rint(audio * 32_768))
    assert len(np.unique(audio)) > 45
    with pytest.raises(ValueError, match="top_k: a 16-bit output"):
        generator.session(top_k=5)
    with pytest.raises(ValueError, match="top_k: a 16-bit output"):
        session.top_k = 5
    assert session.top_k is None
    codes = generator.session(seed=2).next_codes(50)
    np.testing.assert_array_equal(codes / 32_768, audio)


def test_a_voiced_temperature_takes_the_memory_of_one_call() -> None:
    """Ten minutes of features: 80 bands and 60,000 frames are 19 MB; cepstra of all frames would be 250 MB."""
    torch.manual_seed(0)
    model = WaveNet(ModelConfig(1, 2, 2, 4, skip_channels=8, features=MelConfig()))
    generator = Generator.from_model(model)
    features = np.full((80, 60_000), -7, np.float32)
    features[::2, ::3] = -2
    session = generator.session(features=features, voiced_temperature=0.5)
    session.next(100)
    tracemalloc.start()
    try:
        session.voiced_temperature = 0.7
        session.next(1_600)
        assert tracemalloc.get_traced_memory()[1] < 5e6
        tracemalloc.reset_peak()
        generator.session(features=features, voiced_temperature=0.5)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * features.nbytes  # one copy, and masks
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        own = generator.session(features=np.stack([features] * 3), count=3)
        kept = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.reset_peak()
        own.voiced_temperature = 0.7
        assert tracemalloc.get_traced_memory()[1] < before + kept + 10e6  # all streams have the same features
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("engine", ["native", "torch", "naive"])
@pytest.mark.parametrize("output", ["logistic", "gaussian"])
def test_16_bit_audio_of_a_seed_is_the_same_for_every_block_size_and_thread_count(engine: str, output: str) -> None:
    config = ModelConfig(1, 5, 2, 32, skip_channels=64, output=output, sample_rate=8_000)
    model = random_model(config)
    seconds = 0.05 if engine == "native" else 0.02  # 400 or 160 samples
    expected = Generator.from_model(model, engine, threads=1).render(seconds, seed=5)
    assert len(np.unique(expected)) > 50
    for threads in (1, 2, 3) if engine == "native" else (1, 2):
        generator = Generator.from_model(model, engine, threads=threads)
        for block in (400, 33, 7):
            blocks = list(generator.stream(seconds, block, seed=5))
            np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_a_speaker_assigned_during_a_call_is_that_of_the_next_call(engine: str) -> None:
    if engine == "native":
        pytest.importorskip("wavenet.engine._native")
    model = random_model(ModelConfig(cycles=1, layers_per_cycle=3, residual_channels=8, speakers=("ann", "bob")))
    generator = Generator.from_model(model, engine=engine, threads=1)
    session, other = generator.session(speaker="ann"), generator.session(speaker="ann")
    samples = 200_000 if engine == "native" else 3_000
    expected = other.next(samples)
    audio: list[NDArray[np.float32]] = []
    worker = threading.Thread(target=lambda: audio.append(session.next(samples)))
    worker.start()
    while not session._lock.locked() and worker.is_alive():
        pass
    session.speaker = other.speaker = "bob"
    with pytest.raises(ValueError, match="speaker = 'eve': unknown"):
        session.speaker = "eve"
    assert session.speaker == "bob"
    worker.join()
    np.testing.assert_array_equal(audio[0], expected)
    np.testing.assert_array_equal(session.copy().next(50), other.copy().next(50))
    for each in (session, other):
        each.speaker = "ann"
        each.prime(np.zeros(20))  # as this speaker
    np.testing.assert_array_equal(session.next(50), other.next(50))
