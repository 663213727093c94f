"""Bits per sample: pieces equal the whole, and reference levels by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from wavenet import engine, mulaw
from wavenet.config import ModelConfig
from wavenet.data.clips import Clips
from wavenet.data.quantizers import quantizer_for
from wavenet.evaluation import likelihood
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


TOLD = {
    "speakers": {"speakers": ("ann", "bob")},
    "features": {"features": {"fft": 64, "window": 64, "hop": 16, "bands": 6}},
    "16 bits": {
        "features": {"fft": 65, "window": 64, "hop": 17, "bands": 6},
        "output": "gaussian",
        "linear_prediction": 7,
        "speakers": ("ann", "bob"),
    },
}


@pytest.fixture(params=TOLD.values(), ids=TOLD.keys())
def told_model(request):
    torch.manual_seed(0)
    shape = {"cycles": 2, "layers_per_cycle": 3, "residual_channels": 6, "skip_channels": 8, "sample_rate": 8_000}
    network = WaveNet(ModelConfig(**shape, **request.param))
    network.head.output.weight.data.normal_(std=0.3)
    return network


def voices():
    rng = np.random.default_rng(0)
    samples = (8_000 * np.sin(np.arange(1_100) / 9) + rng.normal(0, 900, 1_100)).astype(np.int16)
    return Clips(samples, np.array([0, 700]), np.array([700, 400]), 8_000, ["bob", "ann"])


def test_pieces_of_a_told_clip_cost_what_the_whole_costs(told_model, monkeypatch):
    config, clips = told_model.config, voices()
    told = likelihood.clip_conditioning(config, clips, 0)
    codes = clips.codes(0, quantizer_for(config.output))
    whole = likelihood.bits_of(told_model, codes, told)
    for piece in (1, 37, 160):
        monkeypatch.setattr(likelihood, "PIECE", piece)
        assert np.allclose(likelihood.bits_of(told_model, codes[:400], told), whole[:400], atol=1e-3)


def test_an_engine_says_what_the_network_says_of_a_told_clip(told_model):
    config, clips = told_model.config, voices()
    told = likelihood.clip_conditioning(config, clips, 1)
    codes = clips.codes(1, quantizer_for(config.output))
    player = engine.create("torch", config, told_model.state_dict())
    assert np.allclose(likelihood.bits_of(player, codes, told), likelihood.bits_of(told_model, codes, told), atol=2e-3)


def test_clips_are_told_their_own_speaker_and_features(told_model):
    config, clips = told_model.config, voices()
    told = likelihood.clip_conditioning(config, clips, 0)
    if config.speakers:
        assert told.speaker.tolist() == [[0, 1]]
        assert likelihood.clip_conditioning(config, clips, 0, "ann").speaker.tolist() == [[1, 0]]
        assert likelihood.bits_per_sample(told_model, clips, speaker="ann") != likelihood.bits_per_sample(
            told_model, clips
        )
        with pytest.raises(ValueError, match="known: ann, bob"):
            likelihood.bits_per_sample(told_model, clips, speaker="cid")
        clips.speakers = None
        with pytest.raises(ValueError, match="speaker: name one of those"):
            likelihood.clip_conditioning(config, clips, 0)
    if config.features:
        assert told.features.shape == (1, 6, -(-700 // config.hop))
    assert likelihood.clip_conditioning(ModelConfig(), clips, 0) is None


def test_sixteen_bits_are_those_of_the_distribution():
    model = WaveNet(ModelConfig(1, 1, residual_channels=2, skip_channels=2, output="gaussian"))
    model.head.output.weight.data.zero_()
    model.head.output.bias.data[:] = torch.tensor([0.25, math.log(0.01)])
    codes = np.array([8_192, 8_192 + 328, -3_000])
    density = stats.norm.pdf(codes / 32_768, 0.25, 0.01)  # times the width of an interval
    assert np.allclose(likelihood.bits_of(model, codes), -np.log2(density / 32_768), rtol=1e-3)
