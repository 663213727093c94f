"""The slow tier of libwavenet: its frames are those of `wavenet.engine.frame_sampler` for the same seed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from two_tier_data import MEL, two_tiers

from wavenet import checkpoint
from wavenet.config import FRAME_MODEL, FeatureRange, ModelConfig
from wavenet.engine import frame_sampler as definition
from wavenet.engine.frame_sampler import START_FRAMES
from wavenet.two_tier_session import frame_sampler, frame_weights

native = pytest.importorskip("wavenet.engine._native")

SOURCES = Path(__file__).parent.parent / "libwavenet" / "src"
SPEECH = Path(__file__).parent.parent / "samples" / "made" / "voice-base.safetensors"
DIFFERENT = 0.02  # nepers; rounding stays below for some hundred frames, another component is far above

Array = NDArray[np.float32]


def range_of(*voiced: float) -> FeatureRange:
    """Shares of voiced frames, which streams keep."""
    return FeatureRange(level=(-90, 0), pitch=(50, 500), voiced=voiced)


def both(config: ModelConfig, weights: Mapping[str, Any], seed: int, shares: Array | None = None) -> tuple[Any, Any]:
    """Samplers of the same model and seed: Python's, and that of the library."""
    arrays = {name: np.asarray(array, np.float32) for name, array in weights.items() if name.startswith(FRAME_MODEL)}
    in_c = native.create_frame_sampler(json.dumps(config.to_dict()), arrays, seed)
    if shares is not None:
        in_c.speak(shares)
    batch = None if shares is None else shares[None]
    return frame_sampler(config, frame_weights(arrays), batch, seed=seed), in_c


def small(seed: int = 0, shares: Array | None = None, **options: Any) -> tuple[Any, Any]:
    """Both samplers of a random model."""
    model = two_tiers(**options)
    return both(model.config, model.state_dict(), seed, shares)


def drawn(sampler: Any, count: int, pitch: Any = np.nan, loudness: Any = np.nan, bands: int = MEL.bands) -> Array:
    """The next frames [count, bands] of the library."""
    frames = np.empty((count, bands), np.float32)
    sampler.next(*(np.array(np.broadcast_to(curve, count), np.float64) for curve in (pitch, loudness)), frames)
    return frames


def test_the_frames_of_a_trained_model_are_those_of_python() -> None:
    """In short streams, as rounding errors grow from frame to frame."""
    python, in_c = both(*checkpoint.read_model(SPEECH), seed=0)
    for seed in range(5):
        python.reseed(seed)
        in_c.reseed(seed)
        python.start()
        in_c.start()
        expected = python.next(60)[0].T
        assert expected.std() > 1  # speech, not silence
        np.testing.assert_allclose(drawn(in_c, 60, bands=80), expected, atol=DIFFERENT)


@pytest.mark.parametrize("seed", range(4))
def test_the_frames_of_random_models_are_those_of_python(seed: int) -> None:
    """With mixtures of voices, shares of voiced frames, temperatures and curves that change."""
    shares = np.random.default_rng(seed).dirichlet([1, 1, 1], 2).astype(np.float32)
    options = {"speakers": ("a", "b", "c"), "training_range": range_of(0.2, 0.9, 0.5)}
    samplers = small(seed, shares[0], **options)
    pitch, loudness = np.full(60, 170.0), np.linspace(-40, -20, 60)
    pitch[20:] = loudness[:40] = np.nan
    python, in_c = samplers
    for sampler in samplers:
        sampler.restart()
    np.testing.assert_allclose(drawn(in_c, 300), python.next(300)[0].T, atol=DIFFERENT)
    python.temperature = 0.5
    in_c.set_temperature(0.5)
    np.testing.assert_allclose(drawn(in_c, 60, pitch, loudness), python.next(60, pitch, loudness)[0].T, atol=DIFFERENT)
    for sampler in samplers:
        sampler.speak(shares[1])
    np.testing.assert_allclose(drawn(in_c, 100), python.next(100)[0].T, atol=DIFFERENT)


@pytest.mark.parametrize("voiced", [(), (0.05,), (0.95,)])
def test_streams_return_to_the_recordings_as_in_python(voiced: tuple[float, ...]) -> None:
    python, in_c = small(training_range=range_of(*voiced) if voiced else None)
    np.testing.assert_allclose(drawn(in_c, 400), python.next(400)[0].T, atol=DIFFERENT)


def test_a_sampler_continues_given_frames() -> None:
    given = small(seed=9)[0].next(40)[0]
    python, in_c = small()
    python.prime(given)
    in_c.prime(np.ascontiguousarray(given.T))
    expected = python.next(100)[0].T
    np.testing.assert_allclose(drawn(in_c, 100), expected, atol=DIFFERENT)
    assert np.abs(small()[0].next(100)[0].T - expected).max() > 10 * DIFFERENT


def test_a_copy_continues_as_its_original() -> None:
    _, in_c = small(seed=1)
    drawn(in_c, 10)
    copy = in_c.copy()
    expected = drawn(in_c, 20)
    np.testing.assert_array_equal(drawn(copy, 20), expected)
    for _ in range(2):  # from any state
        in_c.reseed(5)
        in_c.start()
        np.testing.assert_array_equal(drawn(in_c, 20), drawn(started(5), 20))


def started(seed: int) -> Any:
    """A new sampler of the library, after silence."""
    _, in_c = small(seed)
    in_c.start()
    return in_c


def test_start_is_what_a_session_begins_with() -> None:
    _, in_c = small(seed=5)
    in_c.prime(np.full((START_FRAMES, MEL.bands), MEL.silence, np.float32))
    np.testing.assert_array_equal(drawn(in_c, 20), drawn(started(5), 20))


def test_constants_are_those_of_python() -> None:
    header = (SOURCES / "frame_sampler.h").read_text()
    stated = {name: float(value) for name, value in re.findall(r"constexpr \w+ (\w+) = ([\d.]+)f?;", header)}
    names = ("CANDIDATES", "PERIODIC", "DRIFT_SECONDS", "VOICING_FEEDBACK", "MEAN_FEEDBACK")
    expected = {name: getattr(definition, name) for name in names}
    assert stated == {**expected, "START_FRAMES": START_FRAMES}


def test_what_does_not_fit_is_refused() -> None:
    _, in_c = small(speakers=("a", "b"), shares=np.array([1, 0], np.float32))
    free = np.full(3, np.nan)
    with pytest.raises(ValueError, match="frames must be"):
        in_c.next(free, free, np.empty((3, 19), np.float32))
    with pytest.raises(ValueError, match="frames must be"):
        in_c.prime(np.empty((3, 21), np.float32))
    with pytest.raises(ValueError, match="NaN or infinity"):
        in_c.prime(np.full((3, MEL.bands), np.nan, np.float32))
    with pytest.raises(ValueError, match="shares must be"):
        in_c.speak(np.ones(1, np.float32))
    model = two_tiers()
    weights = {name: value.numpy() for name, value in model.state_dict().items() if name != "frame_model.deviation"}
    with pytest.raises(ValueError, match="no tensor frame_model.deviation"):
        native.create_frame_sampler(json.dumps(model.config.to_dict()), weights, 0)
