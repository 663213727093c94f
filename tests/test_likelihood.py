"""Bits per sample: pieces equal the whole in bounded memory, and reference levels by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from wavenet import engine, mulaw
from wavenet.config import ModelConfig
from wavenet.data.clips import Clips
from wavenet.data.quantizers import quantizer_for
from wavenet.evaluation import likelihood
from wavenet.model import WaveNet


def clips_of(*codes: Any) -> Clips:
    """Clips whose mu-law codes are the given ones."""
    clips = [np.round(mulaw.decode(np.array(one)) * 32768).astype(np.int16) for one in codes]
    lengths = np.array([len(clip) for clip in clips])
    return Clips(np.concatenate(clips), np.cumsum(lengths) - lengths, lengths, 16_000)


@pytest.fixture
def model() -> WaveNet:
    torch.manual_seed(0)
    network = WaveNet(ModelConfig(cycles=2, layers_per_cycle=3, residual_channels=6, skip_channels=8))
    network.head.output.weight.data.normal_()
    return network


def test_pieces_give_the_bits_of_the_whole(model: WaveNet, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, 256, 500)
    whole = likelihood.sample_bits(model, codes)
    monkeypatch.setattr(likelihood, "PIECE", 37)
    assert np.allclose(likelihood.sample_bits(model, codes), whole, atol=1e-5)


def test_bits_are_those_of_the_models_probabilities(model: WaveNet) -> None:
    codes = np.array([3, 200, 128, 7])
    probabilities = torch.softmax(model(torch.tensor([[128, 3, 200, 128]])), -1)[0].detach()
    by_hand = [-math.log2(probabilities[t, code]) for t, code in enumerate(codes)]
    assert np.allclose(likelihood.sample_bits(model, codes), by_hand, atol=1e-5)


def test_the_mean_is_over_samples_and_can_be_limited(model: WaveNet) -> None:
    clips = clips_of([1, 2, 3, 4, 5, 6], [250, 128])
    bits = [likelihood.sample_bits(model, clips.codes(index)) for index in range(2)]
    assert likelihood.bits_per_sample(model, clips) == pytest.approx(np.concatenate(bits).mean())
    assert likelihood.bits_per_sample(model, clips, seconds=4 / 16_000) == pytest.approx(bits[0][:4].mean(), abs=1e-5)
    assert math.isnan(likelihood.bits_per_sample(model, clips_of([])))


def test_reference_levels_by_hand() -> None:
    # codes 10, 10, 20, 20: a histogram gives 1 bit; of the pairs (128, 10), (10, 10), (10, 20), (20, 20) only what
    # follows the two 10s is uncertain: 1 bit each over 4 samples
    levels = likelihood.reference_levels(clips_of([10, 10, 20, 20]))
    assert levels.histogram == pytest.approx(1.0)
    assert levels.pairs == pytest.approx(0.5)


def test_reference_levels_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(np.random.default_rng(0).integers(100, 140, 30_000), [3] * 50, [])
    whole = likelihood.reference_levels(clips)
    for piece in (37, 9_000):
        monkeypatch.setattr(likelihood, "COUNTED", piece)
        assert likelihood.reference_levels(clips) == whole


def test_reference_levels_report_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(likelihood, "COUNTED", 400)
    held_out, train = clips_of([3] * 100), clips_of([3] * 1_000, [4] * 10)
    likelihood.reference_levels(held_out, train, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 1_110) for done in (100, 500, 900, 1_100, 1_110)]


def test_reference_levels_counted_on_other_clips_are_higher() -> None:
    rng = np.random.default_rng(0)
    one, other = clips_of(rng.integers(100, 140, 2_000)), clips_of(rng.integers(100, 140, 2_000))
    own = likelihood.reference_levels(one)
    learned = likelihood.reference_levels(one, counted_on=other)
    assert learned.histogram > own.histogram
    assert learned.pairs > own.pairs


class Watched:
    """Samples of long recordings: notes how many are read at once."""

    def __init__(self, samples: int) -> None:
        self.samples = np.random.default_rng(0).integers(-9_000, 9_000, samples).astype(np.int16)
        self.longest = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, span: slice) -> NDArray[np.int16]:
        self.longest = max(self.longest, span.stop - span.start)
        return self.samples[span]


@pytest.mark.parametrize("output", ["mulaw", "gaussian"])
def test_memory_does_not_grow_with_the_recordings(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "PIECE", 500)
    monkeypatch.setattr(likelihood, "COUNTED", 700)
    network = WaveNet(ModelConfig(1, 2, residual_channels=2, skip_channels=2, output=output))
    watched: Any = Watched(20_000)
    clips = Clips(watched, np.array([0, 19_000]), np.array([19_000, 1_000]), 16_000)
    likelihood.reference_levels(clips, clips, output)
    assert watched.longest == 700
    watched.longest = 0
    likelihood.bits_per_sample(network, clips)
    assert watched.longest == 500 + network.config.context
    watched.longest = 0
    likelihood.bits_per_sample(engine.create("naive", network.config, network.state_dict()), clips, seconds=0.05)
    assert watched.longest == 500


CONDITIONED: dict[str, dict[str, Any]] = {
    "speakers": {"speakers": ("ann", "bob")},
    "features": {"features": {"fft": 64, "window": 64, "hop": 16, "bands": 6}},
    "16 bits": {
        "features": {"fft": 65, "window": 64, "hop": 17, "bands": 6},
        "output": "gaussian",
        "linear_prediction": 7,
        "speakers": ("ann", "bob"),
    },
    "adaptive": {"output": "gaussian", "linear_prediction": 7, "speakers": ("ann", "bob")},
}


def conditioned_model(**changes: Any) -> WaveNet:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"cycles": 2, "layers_per_cycle": 3, "residual_channels": 6, "skip_channels": 8}
    network = WaveNet(ModelConfig(sample_rate=8_000, **shape, **changes))
    network.head.output.weight.data.normal_(std=0.3)
    return network


@pytest.fixture(params=list(CONDITIONED.values()), ids=list(CONDITIONED))
def conditioned(request: pytest.FixtureRequest) -> WaveNet:
    return conditioned_model(**request.param)


def voices() -> Clips:
    rng = np.random.default_rng(0)
    samples = (8_000 * np.sin(np.arange(1_100) / 9) + rng.normal(0, 900, 1_100)).astype(np.int16)
    return Clips(samples, np.array([0, 700]), np.array([700, 400]), 8_000, ["bob", "ann"])


def test_pieces_of_a_conditioned_clip_give_the_bits_of_the_whole(
    conditioned: WaveNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, clips = conditioned.config, voices()
    conditioning = likelihood.clip_conditioning(config, clips, 0)
    codes = clips.codes(0, quantizer_for(config.output))
    whole = likelihood.sample_bits(conditioned, codes, conditioning)
    for piece in (1, 37, 160):
        monkeypatch.setattr(likelihood, "PIECE", piece)
        assert np.allclose(likelihood.sample_bits(conditioned, codes[:400], conditioning), whole[:400], atol=1e-3)


@pytest.mark.parametrize("network", ["plain", "parallel", "causal"])
@pytest.mark.parametrize("samples", [1, 90, 300, 699])
def test_the_first_seconds_need_only_the_features_around_them(network: str, samples: int) -> None:
    model = conditioned_model(**CONDITIONED["16 bits"], frame_network=network)
    samples_read = np.tile(voices().samples[:700], 8)  # longer than the frames that the parallel network pools
    clips = Clips(samples_read, np.array([0]), np.array([5_600]), 8_000, ["bob"])
    codes = clips.codes(0, quantizer_for("gaussian"))
    whole = likelihood.sample_bits(model, codes, likelihood.clip_conditioning(model.config, clips, 0))
    limited = likelihood.bits_per_sample(model, clips, seconds=samples / 8_000)
    assert limited == pytest.approx(whole[:samples].mean(), abs=1e-3)
    conditioning = likelihood.clip_conditioning(model.config, clips, 0, samples=samples)
    assert conditioning is not None
    assert conditioning.features is not None
    assert conditioning.features.shape[-1] * 17 < 5_600


def test_an_engine_gives_the_bits_of_the_network_for_a_conditioned_clip(conditioned: WaveNet) -> None:
    config, clips = conditioned.config, voices()
    conditioning = likelihood.clip_conditioning(config, clips, 1)
    codes = clips.codes(1, quantizer_for(config.output))
    player = engine.create("torch", config, conditioned.state_dict())
    expected = likelihood.sample_bits(conditioned, codes, conditioning)
    assert np.allclose(likelihood.sample_bits(player, codes, conditioning), expected, atol=2e-3)


@pytest.mark.parametrize("name", ["speakers", "16 bits"])
def test_clips_have_their_own_speaker(name: str) -> None:
    model, clips = conditioned_model(**CONDITIONED[name]), voices()
    own = likelihood.clip_conditioning(model.config, clips, 0)
    ann = likelihood.clip_conditioning(model.config, clips, 0, "ann")
    assert own is not None
    assert own.speaker is not None
    assert own.speaker.tolist() == [[0, 1]]
    assert ann is not None
    assert ann.speaker is not None
    assert ann.speaker.tolist() == [[1, 0]]
    own_bits = likelihood.bits_per_sample(model, clips)
    assert likelihood.bits_per_sample(model, clips, speaker="ann") != own_bits
    with pytest.raises(ValueError, match="known: ann, bob"):
        likelihood.bits_per_sample(model, clips, speaker="cid")
    clips.speakers = None
    with pytest.raises(ValueError, match="speaker: required; this model has the speakers ann, bob"):
        likelihood.clip_conditioning(model.config, clips, 0)


@pytest.mark.parametrize("name", ["features", "16 bits"])
def test_clips_have_their_own_features(name: str) -> None:
    config = conditioned_model(**CONDITIONED[name]).config
    conditioning = likelihood.clip_conditioning(config, voices(), 0)
    assert conditioning is not None
    assert conditioning.features is not None
    assert conditioning.features.shape == (1, 6, -(-700 // config.hop))
    assert likelihood.clip_conditioning(ModelConfig(), voices(), 0) is None


def test_bits_of_16_bit_codes_are_those_of_the_distribution() -> None:
    model = WaveNet(ModelConfig(1, 1, residual_channels=2, skip_channels=2, output="gaussian"))
    model.head.output.weight.data.zero_()
    model.head.output.bias.data[:] = torch.tensor([0.25, math.log(0.01)])
    codes = np.array([8_192, 8_192 + 328, -3_000])
    density = stats.norm.pdf(codes / 32_768, 0.25, 0.01)  # times the width of an interval
    assert np.allclose(likelihood.sample_bits(model, codes), -np.log2(density / 32_768), rtol=1e-3)
