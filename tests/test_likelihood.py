"""Bits per sample: pieces equal the whole, and reference levels by hand."""

import math

import numpy as np
import pytest
import torch

from wavenet import likelihood, mulaw
from wavenet.config import ModelConfig
from wavenet.dataset import Clips
from wavenet.model import WaveNet


def clips_of(*codes):
    """Clips whose mu-law codes are the given ones."""
    sounds = [np.round(mulaw.decode(np.array(one)) * 32768).astype(np.int16) for one in codes]
    lengths = np.array([len(sound) for sound in sounds])
    return Clips(np.concatenate(sounds), np.cumsum(lengths) - lengths, lengths, 16_000)


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = WaveNet(ModelConfig(cycles=2, layers_per_cycle=3, residual_channels=6, skip_channels=8))
    network.head.output.weight.data.normal_()
    return network


def test_pieces_cost_what_the_whole_costs(model, monkeypatch):
    codes = np.random.default_rng(0).integers(0, 256, 500)
    whole = likelihood.bits_of(model, codes)
    monkeypatch.setattr(likelihood, "PIECE", 37)
    assert np.allclose(likelihood.bits_of(model, codes), whole, atol=1e-5)


def test_bits_are_those_of_the_models_probabilities(model):
    codes = np.array([3, 200, 128, 7])
    probabilities = torch.softmax(model(torch.tensor([[128, 3, 200, 128]])), -1)[0].detach()
    by_hand = [-math.log2(probabilities[t, code]) for t, code in enumerate(codes)]
    assert np.allclose(likelihood.bits_of(model, codes), by_hand, atol=1e-5)


def test_the_mean_is_over_samples_and_can_be_cut(model):
    clips = clips_of([1, 2, 3, 4, 5, 6], [250, 128])
    costs = [likelihood.bits_of(model, clips.codes(index)) for index in range(2)]
    assert likelihood.bits_per_sample(model, clips) == pytest.approx(np.concatenate(costs).mean())
    assert likelihood.bits_per_sample(model, clips, seconds=4 / 16_000) == pytest.approx(costs[0][:4].mean(), abs=1e-5)
    assert math.isnan(likelihood.bits_per_sample(model, clips_of([])))


def test_reference_levels_by_hand():
    # codes 10, 10, 20, 20: a histogram costs 1 bit; as pairs (128, 10), (10, 10), (10, 20), (20, 20) only what follows
    # the two 10s is open: 1 bit each over 4 samples
    levels = likelihood.reference_levels(clips_of([10, 10, 20, 20]))
    assert levels.histogram == pytest.approx(1.0)
    assert levels.pairs == pytest.approx(0.5)


def test_reference_levels_in_pieces(monkeypatch):
    clips = clips_of(np.random.default_rng(0).integers(100, 140, 1_000), [3] * 50)
    whole = likelihood.reference_levels(clips)
    monkeypatch.setattr(likelihood, "PIECE", 37)
    assert likelihood.reference_levels(clips) == whole


def test_reference_levels_counted_on_other_clips_cost_more():
    rng = np.random.default_rng(0)
    seen, other = clips_of(rng.integers(100, 140, 2_000)), clips_of(rng.integers(100, 140, 2_000))
    own = likelihood.reference_levels(seen)
    learnt = likelihood.reference_levels(seen, counted_on=other)
    assert learnt.histogram > own.histogram
    assert learnt.pairs > own.pairs
