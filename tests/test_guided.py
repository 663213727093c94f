"""Guided sampling: audio near its features, for any engine, output and block size; copies, primes, refused options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_model
from commands import MEL, Capture, error_of, run, save_model
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig, SamplingConfig
from wavenet.data import audio
from wavenet.engine import base
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.guided import GuidedSession

HOP = 40
FEATURES = {**MEL, "hop": HOP}  # windows of four hops: 60 samples after a frame
SAMPLES = 1_200
pytestmark = pytest.mark.filterwarnings("ignore:features. mean:UserWarning")  # of random models
ENGINES = (("native", "f32"), ("native", "int8"), ("torch", "f32"), ("naive", "f32"))
SHAPE: dict[str, Any] = {"cycles": 2, "layers_per_cycle": 3, "residual_channels": 8, "skip_channels": 12}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    file = tmp_path_factory.mktemp("models") / "vocoder.safetensors"
    return Generator.load(save_model(file, output="gaussian", features=FEATURES, linear_prediction=8), threads=1)


def features_of(generator: Generator, samples: int = SAMPLES) -> NDArray[np.float32]:
    """Features of white noise that swells and fades, [20, samples / 40]."""
    noise = np.random.default_rng(0).normal(0, 0.1, samples)
    mel = generator.config.features
    assert mel is not None
    return mel_spectrogram(noise * np.sin(np.linspace(0.1, 3, samples)) ** 3, mel)


def distance(generator: Generator, samples: NDArray[np.float32], features: NDArray[np.float32]) -> float:
    """Mean distance of the features of audio to those that it was generated from."""
    mel = generator.config.features
    assert mel is not None
    return float(np.abs(mel_spectrogram(samples, mel) - features).mean())


def test_guided_audio_agrees_better_with_its_features(generator: Generator) -> None:
    features = features_of(generator)
    plain, one, eight = (generator.render(features=features, seed=3, particles=n) for n in (0, 1, 8))
    assert plain.shape == one.shape == eight.shape == (SAMPLES,)
    assert one.dtype == np.float32 and np.abs(one).max() <= 1
    assert distance(generator, one, features) < 0.6 * distance(generator, plain, features)
    assert distance(generator, eight, features) < distance(generator, one, features)
    np.testing.assert_array_equal(generator.render(features=features, seed=3), plain)


@pytest.mark.parametrize("output", ["mulaw", "logistic", "gaussian"])
@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_every_engine_and_output_is_guided_and_repeats_itself(engine: str, precision: str, output: str) -> None:
    order = {} if output == "mulaw" else {"linear_prediction": 4, "pitch_taps": 3}
    config = ModelConfig(**SHAPE, output=output, mixtures=3, features=MelConfig(**FEATURES), **order)
    generator = Generator.from_model(random_model(config), engine, precision, threads=1)
    features = features_of(generator, 120 if engine == "naive" else 400)
    plain = generator.render(features=features, seed=1)
    guided = generator.render(features=features, seed=1, particles=3)
    np.testing.assert_array_equal(generator.render(features=features, seed=1, particles=3), guided)
    assert not np.array_equal(generator.render(features=features, seed=2, particles=3), guided)
    assert distance(generator, guided, features) < 0.9 * distance(generator, plain, features)


@pytest.mark.parametrize("block", [1, 33, HOP, 1_000])
def test_the_same_audio_for_every_block_size(generator: Generator, block: int) -> None:
    features = features_of(generator)
    session = generator.session(features=features, seed=3, particles=2)
    parts, left = [], session.left
    while left:
        parts.append(session.next(min(block, left)))
        assert session.position + (session.left or 0) == SAMPLES
        left = session.left
    np.testing.assert_array_equal(np.concatenate(parts), generator.render(features=features, seed=3, particles=2))
    with pytest.raises(ValueError, match="0 left, not 1"):
        session.next(1)


def test_the_first_frame_is_that_of_the_plain_stream_corrected(generator: Generator) -> None:
    """One particle draws the samples of the stream of its seed, until the first correction."""
    session = generator.session(features=features_of(generator), seed=3, particles=1)
    assert isinstance(session, GuidedSession)
    assert session.lookahead == HOP + 60
    drawn: list[NDArray[np.float32]] = []
    (refiner,) = session._refiners

    def noting(past: Any, block: NDArray[np.float32], position: int) -> Any:
        drawn.append(block)
        return refiner(past, block, position)

    session._refiners = [type("Noting", (), {"tail": refiner.tail, "__call__": staticmethod(noting)})()]
    first = session.next(HOP)
    plain = generator.render(features=features_of(generator), seed=3)
    np.testing.assert_array_equal(drawn[0], plain[: HOP + 60])
    assert not np.array_equal(first, plain[:HOP])


@pytest.mark.parametrize("done", [0, 13, HOP, 333])
def test_copies_and_primes_continue_at_the_sample_that_was_returned(generator: Generator, done: int) -> None:
    features = features_of(generator)
    session = generator.session(features=features, seed=3, particles=2)
    returned = session.next(done) if done else np.zeros(0, np.float32)
    branch, other, primed = session.copy(), session.copy(seed=90), session.copy()
    expected = session.next(500)
    np.testing.assert_array_equal(branch.next(500), expected)
    assert not np.array_equal(other.next(500), expected)
    clip = np.sin(np.arange(200) / 5).astype(np.float32) / 4  # longer than a window
    primed.prime(clip)
    assert primed.position == done + 200
    begun = generator.session(features=features, seed=3, particles=2, prime=np.concatenate([returned, clip])[None])
    begun._progress = replace(begun._progress, origin=200)  # of the numbers, as many as were returned are used
    np.testing.assert_array_equal(primed.next(300), begun.next(300))


def test_an_interrupted_call_loses_whole_frames_only(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    session = generator.session(features=features_of(generator), seed=3, particles=2)
    session.next(50)
    expected, prime = session.copy().next(400), session._engine.prime
    calls = iter(range(4))

    def interrupted(*arguments: Any) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        prime(*arguments)

    monkeypatch.setattr(session._engine, "prime", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.next(300)
    monkeypatch.undo()
    assert session.position == 5 * HOP
    np.testing.assert_array_equal(session.next(250), expected[5 * HOP - 50 :])


@pytest.mark.parametrize(("engine", "precision"), [("native", "f32"), ("native", "int8"), ("torch", "f32")])
def test_a_batch_contains_the_single_streams(engine: str, precision: str) -> None:
    config = ModelConfig(**SHAPE, output="logistic", mixtures=2, features=MelConfig(**FEATURES), linear_prediction=4)
    generator = Generator.from_model(random_model(config), engine, precision, threads=1)
    features = np.stack([features_of(generator, 600), features_of(generator, 600)[:, ::-1]])
    clips = np.sin(np.arange(400) / 9).astype(np.float32).reshape(2, 200) / 5
    batch = generator.session(features=features, seed=7, particles=3, count=2, prime=clips)
    singles = [generator.session(features=features[i], seed=7 + i, particles=3, prime=clips[i]) for i in range(2)]
    np.testing.assert_array_equal(batch.next(130), [single.next(130) for single in singles])
    branch, other = batch.copy(seed=20), singles[1].copy(seed=21)
    np.testing.assert_array_equal(branch.next(90)[1], other.next(90))
    for session in (batch, *singles):
        session.prime(clips[0, :70])
    np.testing.assert_array_equal(batch.next(200), [single.next(200) for single in singles])
    assert batch.features is not None
    np.testing.assert_array_equal(batch.features, features)


def test_options_and_shapes(generator: Generator) -> None:
    features = features_of(generator)
    batch = generator.session(features=features[None], seed=3, particles=2, count=1, temperature=0.5)
    assert batch.next(60).shape == (1, 60) and batch.next_codes(60).dtype == np.int64
    assert batch.features is not None and batch.features.shape == (1, *features.shape)
    whole = generator.render(features=features, seed=3, particles=2)
    streamed = list(generator.stream(features=features, seed=3, particles=2, block=500, refine=4))
    assert sum(map(len, streamed)) == SAMPLES
    assert distance(generator, np.concatenate(streamed), features) < distance(generator, whole, features)
    session = generator.session(features=features, seed=3, particles=2)
    session.next(100)
    session.temperature = 0.1
    assert not np.array_equal(session.next(200), whole[100:300])


def test_what_cannot_be_guided_is_refused(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    features = features_of(generator)
    wrong: Any
    for wrong in (-1, 1.5, True, "2", 1_025):
        with pytest.raises(ValueError, match=r"particles = .*from 0 to 1,024"):
            generator.session(features=features, particles=wrong)
    monkeypatch.setattr(base, "memory", lambda: 2**27)
    with pytest.raises(ValueError, match=r"particles = 1,024 of 50 streams need .* GB of memory.*: use fewer"):
        generator.session(features=np.broadcast_to(features, (50, *features.shape)), count=50, particles=1_024)
    with pytest.raises(ValueError, match="particles = 2: this model has no features"):
        SamplingConfig(particles=2).check("mulaw", None)
    with pytest.raises(ValueError, match="particles = 2: needs windows that overlap by half"):
        SamplingConfig(particles=2).check("mulaw", MelConfig(hop=400))


def test_vocode_with_particles(tmp_path: Path, capsys: Capture) -> None:
    model = save_model(tmp_path / "m.safetensors", output="gaussian", features=FEATURES, linear_prediction=8)
    generator = Generator.load(model, threads=1)
    features = features_of(generator)
    np.save(tmp_path / "mel.npy", features)
    arguments = ["vocode", model, "--mel", tmp_path / "mel.npy", "--threads", 1]
    assert run(*arguments, "--particles", 2, "-o", tmp_path / "out.wav") == 0
    expected = generator.render(features=features, particles=2)
    np.testing.assert_allclose(audio.read(tmp_path / "out.wav", generator.sample_rate), expected, atol=2**-15)
    capsys.readouterr()
    assert "particles = -2" in error_of(capsys, *arguments, "--particles", -2, "-o", tmp_path / "no.wav")
