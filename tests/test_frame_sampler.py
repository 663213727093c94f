"""Generation of frames: against the definition, the same for any block size and batch, temperature, copies, priming."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from frame_data import MEL, SMALL, random_coding, random_frame_model, random_frames, syllables, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet.engine.frame_sampler import PERIODIC, FrameSampler
from wavenet.engine.frame_step import FrameNetwork, FrameState
from wavenet.frame_model_config import FrameModelConfig

SINGLE = tensors_of(random_frame_model(), random_coding())
VOICES = tensors_of(random_frame_model(speakers=3), random_coding(voices=3))


def sampler_of(**options: Any) -> FrameSampler:
    """A sampler of the small model, or of that with three voices."""
    return FrameSampler(SMALL, MEL, VOICES if "speaker" in options else SINGLE, **options)


@settings(max_examples=8)
@given(
    seed=st.integers(0, 99),
    cycles=st.integers(1, 2),
    order=st.integers(1, 3),
    streams=st.integers(1, 3),
    speakers=st.sampled_from([0, 2]),
)
def test_parameters_are_those_of_the_definition(
    seed: int, cycles: int, order: int, streams: int, speakers: int
) -> None:
    config = dataclasses.replace(SMALL, cycles=cycles, prediction_order=order)
    model = random_frame_model(config, speakers, seed)
    frames = random_frames(config, 24, seed, streams)
    inputs, targets = frames[:, :-1], frames[:, 1:]
    shares = np.random.default_rng(seed).dirichlet([1, 1], streams).astype(np.float32) if speakers else None
    with torch.no_grad():
        given_speaker = None if shares is None else torch.from_numpy(shares)
        expected = model(torch.from_numpy(inputs), torch.from_numpy(targets), given_speaker)
    network, state = FrameNetwork(config, dict(model.state_dict()), shares), FrameState(config, streams)
    for t in range(inputs.shape[1]):
        network.advance(state, inputs[:, t])
        predicted = network.predicted(state)
        steps: list[Any] = [network.source(state, predicted), network.shape(state, targets[:, t, :3], predicted)]
        for parts, distribution in zip(steps, expected, strict=True):
            for name, part in parts._asdict().items():
                np.testing.assert_allclose(part, getattr(distribution, name)[:, t], atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("speaker", [None, 1])
def test_the_same_seed_gives_the_same_frames_for_any_block_size_and_batch(speaker: int | None) -> None:
    options: dict[str, Any] = {} if speaker is None else {"speaker": speaker}
    batch = sampler_of(streams=3, seed=5, **options)
    expected = batch.draw(30)
    assert expected.shape == (3, 30, 9)
    for stream in range(3):
        single = sampler_of(seed=5 + stream, **options)
        blocks = [single.draw(count) for count in (1, 7, 0, 12, 10)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1)[0], expected[stream])
    assert not np.array_equal(expected[0], expected[1])


def test_next_gives_the_decoded_frames() -> None:
    features, encoded = sampler_of(streams=2).next(5), sampler_of(streams=2).draw(5)
    assert features.shape == (2, 80, 5) and features.dtype == np.float32
    np.testing.assert_array_equal(features, random_coding().decode(encoded).swapaxes(1, 2))
    shares = np.eye(3)[[2, 0]]
    mixed = sampler_of(streams=2, speaker=shares)
    np.testing.assert_allclose(mixed.next(4)[0], sampler_of(speaker=2).next(4)[0], atol=1e-4)


def test_a_copy_continues_as_its_original() -> None:
    sampler = sampler_of(streams=2)
    sampler.draw(9)
    copy = sampler.copy()
    expected = sampler.draw(20)
    np.testing.assert_array_equal(copy.draw(20), expected)
    np.testing.assert_array_equal(copy.draw(5), sampler.draw(5))


def test_priming_is_as_if_the_frames_had_been_drawn() -> None:
    clip = syllables(0.3, seed=9)
    sampler = sampler_of(streams=2)
    sampler.prime(clip.T)
    sampler.draw(1)
    network, state, encoded = FrameNetwork(SMALL, SINGLE), FrameState(SMALL, 2), sampler.coding.encode(clip)
    for frame in encoded.clip(*sampler.coding.limits.astype(np.float32)):
        network.advance(state, np.tile(frame, (2, 1)))
    np.testing.assert_array_equal(sampler._state.h, state.h)
    np.testing.assert_array_equal(sampler._state.frames, state.frames)


def test_a_restarted_sampler_has_no_past_and_the_next_random_numbers() -> None:
    clip, fresh, used = syllables(0.2, seed=9).T, sampler_of(), sampler_of()
    for sampler in (fresh, used):
        sampler.draw(4)
    used.prime(clip)
    for sampler in (fresh, used):
        sampler.restart()
    np.testing.assert_array_equal(fresh.draw(3), used.draw(3))
    used.reseed(0)
    used.restart()
    np.testing.assert_array_equal(used.draw(4), sampler_of().draw(4))
    with pytest.raises(ValueError, match="seed = -1: must be a whole number from 0"):
        used.reseed(-1)


def test_a_voice_can_be_changed_and_keeps_the_past() -> None:
    changed, other = sampler_of(speaker=0), sampler_of(speaker=1)
    kept = changed.copy()
    changed.speak([0, 1, 0])
    np.testing.assert_array_equal(changed.next(5), other.next(5))
    np.testing.assert_array_equal(kept.next(5), sampler_of(speaker=0).next(5))
    changed.speak(2)
    assert not np.array_equal(changed.next(5), sampler_of(speaker=2).next(5))
    with pytest.raises(ValueError, match="shares of 3 voices, not of 2"):
        changed.speak([0.5, 0.5])


def test_temperature_scales_the_deviations_of_the_shape_and_changes_nothing_that_follows() -> None:
    one, half, none = (sampler_of(temperature=temperature, streams=5).draw(8) for temperature in (1, 0.5, 0))
    np.testing.assert_array_equal(one[..., :3], half[..., :3])  # loudness, voicing and pitch, of all frames
    np.testing.assert_array_equal(one[..., :3], none[..., :3])
    inside = (np.abs(one) < np.abs(random_coding().limits).min(0)) & (np.arange(9) > 2)
    assert inside.mean() > 0.1 and (one != none)[inside].all()
    np.testing.assert_allclose((half - none)[inside], 0.5 * (one - none)[inside], rtol=1e-3, atol=1e-5)


def test_loudness_and_voicing_have_the_stated_distribution_at_any_temperature() -> None:
    streams, temperature = 2_000, 0.3
    sampler = sampler_of(streams=streams, temperature=temperature, candidates=1)
    drawn = sampler.draw(1)[:, 0]
    source = sampler.network.source(sampler._state, sampler.network.predicted(sampler._state))  # all streams are equal
    weights = np.exp(source.log_weights[0])
    chance = (weights / (1 + np.exp(-source.voicing_logit[0]))).sum()
    assert drawn[:, 1].mean() == pytest.approx(chance, abs=0.04)
    mean = (weights * source.loudness[0]).sum()
    variance = (weights * (np.exp(2 * source.loudness_log_scale[0]) + np.square(source.loudness[0] - mean))).sum()
    assert drawn[:, 0].mean() == pytest.approx(mean, abs=0.1 * float(variance) ** 0.5)
    assert drawn[:, 0].std() == pytest.approx(float(variance) ** 0.5, rel=0.1)


def test_more_candidates_agree_better_with_the_drawn_pitch() -> None:
    config = FrameModelConfig(
        layers_per_cycle=2, residual_channels=4, skip_channels=8, components=40, mixtures=2, source_mixtures=2
    )
    tensors = tensors_of(random_frame_model(config), random_coding(config))
    agreed = []
    for candidates in (1, 8):
        sampler = FrameSampler(config, MEL, tensors, streams=8, candidates=candidates)
        encoded = sampler.draw(25)
        voiced = encoded[encoded[..., 1] > 0.5]
        agreed.append((sampler.coding.periodicity(voiced) >= PERIODIC).mean())
    assert 1 - agreed[1] < 0.5 * (1 - agreed[0])


def test_frames_stay_within_the_limits_of_the_training_data() -> None:
    tensors = SINGLE | {"deviation": 50 * SINGLE["deviation"]}
    sampler = FrameSampler(SMALL, MEL, tensors, streams=4, temperature=5.0)
    encoded, limits = sampler.draw(20), sampler.coding.limits
    assert (encoded >= limits[0] - 1e-6).all() and (encoded <= limits[1] + 1e-6).all()
    assert set(np.unique(encoded[..., 1])) <= {0, 1}
    assert (encoded[encoded[..., 1] == 0, 2] == 0).all()


def test_every_frame_takes_the_same_number_of_random_numbers() -> None:
    sampler = sampler_of(seed=3, candidates=2)
    assert sampler.uniforms_per_frame == 2 + 2 + 2 + 2 * 6
    sampler.draw(7)
    reference = np.random.Generator(np.random.PCG64(np.random.SeedSequence(3, spawn_key=(1,))))
    reference.random(7 * sampler.uniforms_per_frame)
    assert sampler._generators[0].random() == reference.random()
    assert sampler_of(candidates=1).uniforms_per_frame == 2 + 1 + 2 + 6


def test_arguments_that_are_not_allowed_are_named() -> None:
    with pytest.raises(ValueError, match="streams = 0, candidates = 8: must be 1 or more"):
        sampler_of(streams=0)
    with pytest.raises(ValueError, match="seed = -1: must be a whole number from 0"):
        sampler_of(seed=-1)
    with pytest.raises(ValueError, match="temperature = -1: must be a number from 0"):
        sampler_of(temperature=-1)
    with pytest.raises(ValueError, match="speaker: give one"):
        FrameSampler(SMALL, MEL, VOICES)
    with pytest.raises(ValueError, match="single voice: leave out speaker"):
        FrameSampler(SMALL, MEL, SINGLE, speaker=0)
    with pytest.raises(ValueError, match="speaker = 3: must be from 0 to 2"):
        sampler_of(speaker=3)
    with pytest.raises(ValueError, match="shares of 3 voices, not of 2"):
        sampler_of(speaker=[0.5, 0.5])


def test_the_sampler_does_not_import_torch() -> None:
    code = "import sys, wavenet.engine.frame_sampler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
