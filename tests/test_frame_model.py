"""The frame model: its likelihood against PyTorch's distributions, causality, receptive field, its initial state."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from frame_data import MEL, SMALL, random_frame_model, random_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, MixtureSameFamily, Normal

from wavenet.frame_model import FrameModel, source_inputs
from wavenet.frame_model_config import MAX_LOG_SCALE, MIN_LOG_SCALE, FrameModelConfig
from wavenet.frame_prediction import FramePrediction
from wavenet.nn import fused


def frames_of(config: FrameModelConfig, count: int, seed: int = 0, streams: int = 2) -> Tensor:
    return torch.from_numpy(random_frames(config, count, seed, streams))


def double(model: FrameModel) -> FrameModel:
    return model.double().eval()


@settings(max_examples=15)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2))
def test_the_likelihood_is_that_of_the_distributions(seed: int, sources: int, shapes: int, speakers: int) -> None:
    config = dataclasses.replace(SMALL, source_mixtures=sources, mixtures=shapes)
    model = double(random_frame_model(config, speakers, seed))
    frames = frames_of(config, 9, seed).double()
    inputs, targets = frames[:, :-1], frames[:, 1:]
    speaker = torch.tensor([0, speakers - 1]) if speakers else None
    source, shape = model(inputs, targets, speaker)
    source_nats, shape_nats = model.losses(inputs, targets, speaker)
    assert source_nats.shape == shape_nats.shape == (2, 8)

    level = Normal(source.loudness, source.loudness_log_scale.exp()).log_prob(targets[..., :1])
    voicing = Bernoulli(logits=source.voicing_logit).log_prob(targets[..., 1:2])
    pitch = Normal(source.pitch, source.pitch_log_scale.exp()).log_prob(targets[..., 2:3]) * targets[..., 1:2]
    expected = torch.logsumexp(source.log_weights + level + voicing + pitch, -1)
    torch.testing.assert_close(-source_nats, expected)
    torch.testing.assert_close(source.log_weights.exp().sum(-1), torch.ones(2, 8).double())

    mixture = MixtureSameFamily(
        Categorical(logits=shape.log_weights), Independent(Normal(shape.means, shape.log_scales.exp()), 1)
    )
    torch.testing.assert_close(-shape_nats, mixture.log_prob(targets[..., 3:]))


def test_the_density_of_the_source_sums_to_one() -> None:
    model = double(random_frame_model())
    frames = frames_of(SMALL, 4).double()
    source, _ = model(frames, frames)
    one = type(source)(*(part[0, 2] for part in source))  # of one frame: [M]
    grid = torch.linspace(-30, 30, 1_201, dtype=torch.double)
    step = float(grid[1] - grid[0])
    level, pitch = torch.meshgrid(grid, grid, indexing="ij")
    voiced = one.log_prob(torch.stack([level, torch.ones_like(level), pitch], -1)).exp().sum() * step**2
    unvoiced = one.log_prob(torch.stack([grid, 0 * grid, 0 * grid], -1)).exp().sum() * step
    assert (voiced + unvoiced).item() == pytest.approx(1, abs=1e-4)


def test_outputs_depend_on_the_past_within_the_receptive_field_only() -> None:
    config = dataclasses.replace(SMALL, cycles=2)
    model, at = double(random_frame_model(config)), 30
    inputs = frames_of(config, 40, streams=1).double().requires_grad_()
    source, shape = model(inputs, torch.zeros_like(inputs))
    total = sum(part[0, at].sum() for part in (*source[1:], *shape[1:]))
    (gradient,) = torch.autograd.grad(total, inputs)
    reached = gradient[0].abs().sum(-1).nonzero().flatten().tolist()  # frames
    assert config.receptive_field == 1 + 2 * 7
    assert reached == list(range(at - config.receptive_field + 1, at + 1))


def test_the_shape_depends_on_the_source_of_its_own_frame_and_not_on_its_shape() -> None:
    model = double(random_frame_model())
    frames = frames_of(SMALL, 6).double()
    inputs, targets = frames[:, :-1], frames[:, 1:].clone().requires_grad_()
    source, shape = model(inputs, targets)
    assert torch.autograd.grad(source.loudness.sum(), targets, allow_unused=True, retain_graph=True) == (None,)
    (gradient,) = torch.autograd.grad(shape.means[:, 2].sum(), targets)
    assert gradient[:, 2, :2].abs().min() > 0
    gradient[:, 2, :3] = 0
    assert gradient.abs().max() == 0


@pytest.mark.parametrize("speakers", [0, 2])
def test_the_fused_stack_gives_the_same(speakers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = double(random_frame_model(speakers=speakers))
    frames = frames_of(SMALL, 20).double()
    speaker = torch.tensor([1, 0]) if speakers else None

    def result() -> list[Tensor]:
        nats = sum(model.losses(frames[:, :-1], frames[:, 1:], speaker))
        assert isinstance(nats, Tensor)
        return [nats, *torch.autograd.grad(nats.sum(), list(model.parameters()))]

    fast = result()
    monkeypatch.setattr(fused, "supports", lambda x: False)
    for one, other in zip(fast, result(), strict=True):
        torch.testing.assert_close(one, other)


def test_speakers_are_indices_or_shares() -> None:
    model = double(random_frame_model(speakers=2))
    frames = frames_of(SMALL, 8).double()
    first, second = (model.hidden(frames, torch.tensor(indices)) for indices in ([0, 1], [1, 0]))
    assert not torch.allclose(first, second)
    torch.testing.assert_close(model.hidden(frames, torch.eye(2).double()), first)
    with pytest.raises(ValueError, match="speaker: give one"):
        model.losses(frames, frames)
    with pytest.raises(ValueError, match="single voice: leave out speaker"):
        random_frame_model().losses(frames.float(), frames.float(), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"frames must be \[B, T, 9\], T >= 1, not \[2, 0, 9\]"):
        model.losses(frames[:, :0], frames[:, :0], torch.tensor([0, 0]))


def slow_frames(seed: int, count: int = 300) -> np.ndarray:
    """Frames [count, D] that are predictable from those before them."""
    rng = np.random.default_rng(seed)
    frames = random_frames(SMALL, count, seed)[0]
    for t in range(1, count):
        frames[t, [0, *range(3, 9)]] = 0.9 * frames[t - 1, [0, *range(3, 9)]] + 0.4 * rng.standard_normal(7)
    return frames


def test_training_begins_at_the_level_of_linear_prediction() -> None:
    torch.manual_seed(0)
    model, prediction = FrameModel(SMALL, MEL).double(), FramePrediction.fit([slow_frames(0)], 2)
    model.set_prediction(prediction)
    frames = slow_frames(1)
    inputs, targets = (torch.from_numpy(part).double()[None] for part in (frames[:-1], frames[1:]))
    source, shape = (nats[0].detach().numpy() for nats in model.losses(inputs, targets))
    expected_source, expected_shape = prediction.nats(frames)
    assert abs(shape.mean() - expected_shape.mean()) < 0.5  # the components differ a little
    with torch.no_grad():
        for head in (model.source, model.shape):
            head.output.weight.zero_()
            head.output.bias.zero_()
    source, shape = (nats[0].detach().numpy() for nats in model.losses(inputs, targets))
    np.testing.assert_allclose(shape, expected_shape, rtol=1e-5)
    unvoiced = (frames[1:, 1] == 0) & (frames[:-1, 1] == 0)
    odds = -math.log(0.5) + math.log(1 - prediction.voicing[0])  # the network's voicing is still 50%
    np.testing.assert_allclose(source[unvoiced], expected_source[unvoiced] + odds, rtol=1e-5)


def test_scales_are_limited_so_that_the_loss_of_outliers_is_finite() -> None:
    model = random_frame_model()
    with torch.no_grad():
        model.shape.output.bias[3 + 18 :] = torch.tensor([-1e6, 1e6] * 9)
    frames = frames_of(SMALL, 5)
    _, shape = model(frames, frames)
    relative = (shape.log_scales - model.deviation[3:].log()).detach()
    assert relative.min() == pytest.approx(MIN_LOG_SCALE, abs=1e-5)
    assert relative.max() == pytest.approx(MAX_LOG_SCALE, abs=1e-5)
    assert all(torch.isfinite(nats).all() for nats in model.losses(frames, 100 * frames))


def test_bumps_of_the_pitch() -> None:
    source = torch.tensor([[0.3, 1.0, -3.5], [0.3, 0.0, 0.0], [0.3, 1.0, 7 / 27 - 3.5]])
    inputs = source_inputs(source)
    torch.testing.assert_close(inputs[:, :3], source)
    torch.testing.assert_close(inputs[0, 3:6], torch.exp(-0.5 * torch.tensor([0.0, 1.0, 4.0])))
    assert inputs[1, 3:].abs().max() == 0  # unvoiced
    assert inputs[2, 3:].argmax() == 1


def test_a_gradient_step_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = FrameModel(SMALL, MEL)
    model.set_prediction(FramePrediction.fit([slow_frames(0)], 2))
    frames = torch.from_numpy(slow_frames(1)).float()[None]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = sum(nats.mean() for nats in model.losses(frames[:, :-1], frames[:, 1:]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1
