"""Long streams of drawn frames keep the level and the share of voiced frames of the recordings."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from frame_data import MEL, SMALL, random_coding, random_frame_model, tensors_of

from wavenet.config import ConfigError, FeatureRange, FrameModelConfig, ModelConfig, from_dict
from wavenet.engine.frame_sampler import MEAN_FEEDBACK, VOICING_FEEDBACK, Drift, FrameSampler
from wavenet.frame_model_config import LOUDNESS, PITCH, VOICING
from wavenet.training.recipe import Recipe
from wavenet.two_tier_session import frame_sampler

TENSORS = tensors_of(random_frame_model(SMALL), random_coding(SMALL))


def draw(count: int, voices: int = 1, level: float | None = None, **options: Any) -> np.ndarray:
    tensors = TENSORS if voices == 1 else tensors_of(random_frame_model(SMALL, voices), random_coding(SMALL, voices))
    sampler = FrameSampler(SMALL, MEL, tensors, 4, 3, candidates=1, **options)
    return sampler.draw(count, loudness=None if level is None else np.full(count, level))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_voiced_share_of_a_stream_is_that_of_the_recordings(share: float) -> None:
    drifting, kept = draw(2_000)[:, 500:, VOICING].mean(1), draw(2_000, voiced=(share,))[:, 500:, VOICING].mean(1)
    assert np.abs(kept - share).max() < 0.1
    assert np.abs(drifting - 0.5).max() < 0.1  # of this random model


def test_the_mean_loudness_of_a_stream_comes_closer_to_that_of_the_recordings() -> None:
    drifting, kept = (draw(2_000, voiced=voiced)[:, 500:, LOUDNESS].mean() for voiced in ((), (0.5,)))
    assert abs(kept) < 0.5 * abs(drifting)


def test_distributions_are_shifted_against_the_drift() -> None:
    sampler = FrameSampler(SMALL, MEL, TENSORS, streams=2, voiced=(0.5,))
    sampler.draw(3)
    given = sampler.network.source(sampler._state, sampler.network.predicted(sampler._state))
    sampler._drift = Drift(*np.array([[0.1, 0.0], [0.0, 0.4], [-0.2, 0.0]], np.float32))
    shifted, deviation = sampler._corrected(given), sampler.network.deviation
    lower = given.voicing_logit[0] - shifted.voicing_logit[0]
    np.testing.assert_allclose(lower, 0.1 * VOICING_FEEDBACK, rtol=1e-5)
    quieter = given.loudness[1] - shifted.loudness[1]
    np.testing.assert_allclose(quieter, 0.4 * MEAN_FEEDBACK * deviation[LOUDNESS], rtol=1e-4)
    higher = shifted.pitch[0] - given.pitch[0]
    np.testing.assert_allclose(higher, 0.2 * MEAN_FEEDBACK * deviation[PITCH], rtol=1e-4)
    np.testing.assert_array_equal(shifted.loudness[0], given.loudness[0])


def test_mixed_speakers_have_the_mixed_share() -> None:
    drawn = draw(2_000, 2, voiced=(0.2, 0.8), speaker=[0.5, 0.5])
    assert np.abs(drawn[:, 500:, VOICING].mean(1) - 0.5).max() < 0.1
    sampler = FrameSampler(
        SMALL, MEL, tensors_of(random_frame_model(SMALL, 2), random_coding(SMALL, 2)), speaker=0, voiced=(0.2, 0.8)
    )
    sampler.speak(1)
    assert abs(sampler.draw(3_000)[0, 1_000:, VOICING].mean() - 0.8) < 0.12


def test_what_is_given_is_not_counteracted_afterwards() -> None:
    sampler = FrameSampler(SMALL, MEL, TENSORS, seed=1, voiced=(0.5,))
    sampler.draw(20)
    before = sampler._drift
    sampler.draw(200, pitch=np.full(200, 400.0), loudness=np.full(200, -20.0))
    np.testing.assert_allclose(sampler._drift.loudness, before.loudness, rtol=1e-4)
    np.testing.assert_allclose(sampler._drift.pitch, before.pitch, rtol=1e-4)
    sampler.draw(20)
    assert abs(sampler._drift.loudness - before.loudness) > 1e-3 and abs(sampler._drift.pitch - before.pitch) > 1e-3


def test_streams_drift_alike_in_any_block_size_and_batch() -> None:
    whole = draw(60, voiced=(0.3,))
    sampler = FrameSampler(SMALL, MEL, TENSORS, 4, 3, candidates=1, voiced=(0.3,))
    parts = [sampler.draw(7), sampler.draw(20)]
    copied = sampler.copy()
    np.testing.assert_array_equal(np.concatenate([*parts, sampler.draw(33)], axis=1), whole)
    np.testing.assert_array_equal(copied.draw(33), whole[:, 27:])
    alone = FrameSampler(SMALL, MEL, TENSORS, 1, 5, candidates=1, voiced=(0.3,))
    np.testing.assert_array_equal(alone.draw(60)[0], whole[2])
    sampler.restart()
    assert not np.any(sampler._drift)


def config_of(*voiced: float, speakers: tuple[str, ...] = ()) -> ModelConfig:
    known = FeatureRange((-60.0, -20.0), (80.0, 300.0), voiced=voiced)
    return ModelConfig(features=MEL, frame_model=FrameModelConfig(), training_range=known, speakers=speakers)


def test_the_share_is_stored_with_the_model_and_used() -> None:
    config = config_of(0.25)
    assert from_dict(ModelConfig, config.to_dict()) == config
    assert "voiced = [0.25]" in Recipe(model=config).to_toml()
    small = dataclasses.replace(config, frame_model=SMALL)
    assert frame_sampler(small, TENSORS, None)._share == pytest.approx(0.25)
    assert frame_sampler(dataclasses.replace(small, training_range=None), TENSORS, None)._share is None


def test_shares_are_checked() -> None:
    with pytest.raises(ConfigError, match="voiced: 1.5 is not a share"):
        FeatureRange((-60.0, -20.0), (80.0, 300.0), voiced=(1.5,))
    with pytest.raises(ConfigError, match="training_range.voiced: has 2 shares for 1 voices"):
        config_of(0.2, 0.3)
    assert config_of(0.2, 0.3, speakers=("ann", "bob")).training_range is not None
