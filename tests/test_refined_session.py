"""Refined audio of generators and of `vocode`: offline, streaming, in batches, after a prime, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import MEL, save_model
from numpy.typing import NDArray

from wavenet.config import MelConfig, SamplingConfig
from wavenet.consistency import refine
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.refined_session import RefinedSession

HOP = 40
FEATURES = {**MEL, "hop": HOP}  # windows of four hops


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    file = tmp_path_factory.mktemp("models") / "vocoder.safetensors"
    return Generator.load(save_model(file, output="gaussian", features=FEATURES, linear_prediction=8), threads=1)


def mel_of(generator: Generator) -> MelConfig:
    assert generator.config.features is not None
    return generator.config.features


def features_of(generator: Generator, seed: int = 0) -> NDArray[np.float32]:
    """Features of half a second of low noise that swells and fades, [20, 100]."""
    noise = np.cumsum(np.random.default_rng(seed).uniform(-0.05, 0.05, 4_000))
    return mel_spectrogram(np.sin(noise) * np.sin(np.linspace(0.1, 3, 4_000)) ** 3, mel_of(generator))


def distance(generator: Generator, samples: Any, features: NDArray[np.float32]) -> float:
    """Mean distance of the features of audio to those that it was generated from."""
    return float(np.abs(mel_spectrogram(samples, mel_of(generator)) - features).mean())


def test_render_refines_the_audio_that_it_generated(generator: Generator) -> None:
    features = features_of(generator)
    plain = generator.render(features=features, seed=3)
    refined = generator.render(features=features, seed=3, refine=5)
    np.testing.assert_array_equal(refined, refine(plain, features, mel_of(generator), 5))
    assert refined.dtype == np.float32 and refined.shape == plain.shape
    assert distance(generator, refined, features) < 0.5 * distance(generator, plain, features)
    np.testing.assert_array_equal(generator.render(features=features, seed=3, refine=0), plain)


@pytest.mark.parametrize("block", [1, 33, HOP, 1_000, 9_000])
def test_a_stream_is_refined_in_blocks_of_any_size(generator: Generator, block: int) -> None:
    features = features_of(generator)
    blocks = list(generator.stream(block=block, features=features, seed=3, refine=5))
    assert [len(each) for each in blocks[:-1]] == [block] * (len(blocks) - 1)
    streamed, offline = np.concatenate(blocks), generator.render(features=features, seed=3, refine=5)
    assert streamed.shape == offline.shape == (4_000,)
    expected = np.concatenate(list(generator.stream(block=HOP, features=features, seed=3, refine=5)))
    np.testing.assert_array_equal(streamed, expected)
    plain = generator.render(features=features, seed=3)
    assert distance(generator, streamed, features) < 0.5 * distance(generator, plain, features)


def test_streams_of_a_batch_are_refined_with_their_own_features(generator: Generator) -> None:
    own = np.stack([features_of(generator, seed) for seed in range(3)])
    batch = generator.render(features=own, count=3, seed=2, refine=4)
    streamed = np.concatenate(list(generator.stream(features=own, count=3, seed=2, refine=4, block=700)), axis=1)
    assert batch.shape == streamed.shape == (3, 4_000)
    for index in range(3):
        plain = generator.render(features=own[index], seed=2 + index)
        np.testing.assert_allclose(batch[index], refine(plain, own[index], mel_of(generator), 4), atol=1e-3)
        single = np.concatenate(list(generator.stream(features=own[index], seed=2 + index, refine=4)))
        np.testing.assert_allclose(streamed[index], single, atol=1e-3)


def test_audio_is_refined_together_with_its_prime(generator: Generator) -> None:
    features = features_of(generator)
    start = generator.render(features=features, seed=5)[:777]
    plain = generator.render(features=features, prime=start)
    whole = refine(np.concatenate([start, plain]), features, mel_of(generator), 4)
    rendered = generator.render(features=features, prime=start, refine=4)
    np.testing.assert_array_equal(rendered, whole[777:])
    streamed = np.concatenate(list(generator.stream(features=features, prime=start, refine=4)))
    assert streamed.shape == rendered.shape == (4_000 - 777,)
    batch = generator.render(features=features, prime=start, refine=4, count=2)
    np.testing.assert_allclose(batch[0], rendered, atol=1e-3)


def test_audio_that_ends_before_its_features_is_refined_to_its_end(generator: Generator) -> None:
    features = features_of(generator)
    plain = generator.render(0.1, features=features)
    rendered = generator.render(0.1, features=features, refine=4)
    np.testing.assert_array_equal(rendered, refine(plain, features[:, :20], mel_of(generator), 4))
    assert sum(len(block) for block in generator.stream(0.1, features=features, refine=4)) == 800


def test_the_iterations_of_the_model_are_the_default(tmp_path: Path) -> None:
    options = {"output": "gaussian", "features": FEATURES, "sampling": SamplingConfig(refine=4)}
    generator = Generator.load(save_model(tmp_path / "m.safetensors", **options))
    features = features_of(generator)
    np.testing.assert_array_equal(generator.render(features=features), generator.render(features=features, refine=4))
    np.testing.assert_array_equal(
        np.concatenate(list(generator.stream(features=features))),
        np.concatenate(list(generator.stream(features=features, refine=4))),
    )
    plain = generator.session(features=features).next(4_000)  # a session is not refined
    np.testing.assert_array_equal(generator.render(features=features, refine=0), plain)


def test_refinement_is_refused_without_features_and_out_of_range(generator: Generator, tmp_path: Path) -> None:
    unconditioned = Generator.load(save_model(tmp_path / "m.safetensors"))
    for ask in (unconditioned.render, unconditioned.stream):
        with pytest.raises(ValueError, match="refine = 3: this model has no features"):
            ask(0.1, refine=3)
        ask(0.1, refine=0)
    for wrong in (-1, 1_001, 2.0, True):
        with pytest.raises(ValueError, match=f"refine = {wrong}: must be a whole number from 0 to 1,000"):
            generator.stream(features=features_of(generator), refine=wrong)  # type: ignore[arg-type]


def test_a_refined_session_ends_with_its_audio(generator: Generator) -> None:
    session = generator.session(features=features_of(generator))
    refined = RefinedSession(session, mel_of(generator), 2, 1_000)
    assert refined.next(900).shape == (900,)
    with pytest.raises(ValueError, match="100 samples are left, not 101"):
        refined.next(101)
    assert refined.next(100).shape == (100,)


def test_a_stream_is_refined_in_bounded_memory(generator: Generator) -> None:
    features = np.tile(features_of(generator), 16)  # 8 s: 256 kB of audio
    stream = generator.stream(block=800, features=features, refine=1)
    for _ in range(20):
        next(stream)
    tracemalloc.start()
    try:
        for _ in stream:
            pass
        assert tracemalloc.get_traced_memory()[1] < 200e3
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("block", [1, HOP, 100, 1_000])
def test_a_refined_session_is_ahead_by_the_look_ahead_and_less_than_a_frame(generator: Generator, block: int) -> None:
    session = generator.session(features=features_of(generator), seed=3)
    refined = RefinedSession(session, mel_of(generator), 4, 4_000, lookahead=0.05)
    ahead = round(0.05 * generator.sample_rate)
    for returned in range(block, 2_001, block):
        refined.next(block)
        assert ahead <= session.position - returned < ahead + HOP


def test_what_an_interrupted_call_loses_is_silence(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    features = features_of(generator)
    expected = generator.session(features=features, seed=3).next(4_000)
    session = generator.session(features=features, seed=3)
    refined = RefinedSession(session, mel_of(generator), 0, 4_000, lookahead=0)
    parts = [refined.next(400)]
    draw = session.next

    def interrupted(samples: int) -> Any:
        draw(samples)
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        refined.next(200)
    monkeypatch.undo()
    parts.append(refined.next(3_600))
    audio, lost = np.concatenate(parts), slice(440, 640)  # after a look-ahead of one frame
    expected[lost] = 0
    np.testing.assert_array_equal(audio, expected)
    with pytest.raises(ValueError, match="0 samples are left, not 1"):
        refined.next(1)
