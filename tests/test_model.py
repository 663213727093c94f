"""The network: its mathematics against a plain transcription, causality, receptive field, resolution and learning."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wavenet.config import ModelConfig
from wavenet.model import WaveNet
from wavenet.nn.outputs import masked_loss

shapes = st.builds(
    ModelConfig,
    cycles=st.integers(1, 3),
    layers_per_cycle=st.integers(1, 4),
    kernel_size=st.integers(2, 4),
    residual_channels=st.integers(1, 9),
    gate_channels=st.integers(1, 9),
    skip_channels=st.integers(1, 9),
    head_channels=st.integers(1, 9),
)


def lively(config: ModelConfig, seed: int = 0) -> WaveNet:
    """A network in double precision whose logits are far from zero."""
    torch.manual_seed(seed)
    model = WaveNet(config).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.3)
        model.skip.bias.fill_(9.0)  # keeps the head's rectifiers open, which in a narrow network may all be shut
        model.head.hidden.weight.abs_()
        model.head.output.weight.normal_()
    return model


def transcribed(model: WaveNet, codes: torch.Tensor) -> torch.Tensor:
    """The formulas of the paper, channels first, with the library's convolution: slow, plain, and by other means."""
    config, weights = model.config, model.state_dict()
    x = F.one_hot(codes, 256).double() @ weights["embedding.weight"]  # [B, T, R]
    x = x.transpose(1, 2)  # [B, R, T]
    skip = torch.zeros(1, dtype=torch.double)
    for layer, dilation in enumerate(config.dilations):
        taps = weights[f"layers.{layer}.dilated.weight"].permute(1, 2, 0)  # [2G, R, K]
        padded = F.pad(x, ((config.kernel_size - 1) * dilation, 0))
        y = F.conv1d(padded, taps, weights[f"layers.{layer}.dilated.bias"], dilation=dilation)
        a, b = y.chunk(2, dim=1)
        z = torch.tanh(a) * torch.sigmoid(b)  # [B, G, T]
        columns = slice(layer * config.gate, (layer + 1) * config.gate)
        skip = skip + torch.einsum("sg,bgt->bst", weights["skip.weight"][:, columns], z)
        if layer < config.layers - 1:
            residual = weights[f"layers.{layer}.residual.weight"]
            x = x + torch.einsum("rg,bgt->brt", residual, z) + weights[f"layers.{layer}.residual.bias"][:, None]
    h = F.relu(skip.transpose(1, 2) + weights["skip.bias"])  # [B, T, S]
    h = F.relu(h @ weights["head.hidden.weight"].T + weights["head.hidden.bias"])
    return h @ weights["head.output.weight"].T + weights["head.output.bias"]


@settings(max_examples=40)
@given(config=shapes, streams=st.integers(1, 3), samples=st.integers(1, 40), seed=st.integers(0, 99))
def test_logits_and_gradients_are_those_of_the_formulas(config, streams, samples, seed):
    model = lively(config, seed)
    codes = torch.randint(0, 256, (streams, samples))
    towards = torch.randn(streams, samples, 256, dtype=torch.double)
    assert torch.allclose(model(codes), transcribed(model, codes), atol=1e-9)
    ours = torch.autograd.grad((model(codes) * towards).sum(), list(model.parameters()))
    plain = dict(model.named_parameters())
    # the transcription reads state_dict(), which is detached: give it the parameters themselves
    model.state_dict = lambda: plain  # type: ignore[method-assign]
    theirs = torch.autograd.grad((transcribed(model, codes) * towards).sum(), list(plain.values()))
    for name, one, other in zip(plain, ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-8), name


def seen_by(model: WaveNet, samples: int, at: int) -> list[int]:
    """Which input samples have a gradient from the logits at one position."""
    codes = torch.randint(0, 256, (1, samples))
    inputs = []
    model.embedding.register_forward_hook(lambda module, given, made: inputs.append(made))
    model(codes)[0, at].square().sum().backward(inputs=[model.embedding.weight], retain_graph=True)
    (gradient,) = torch.autograd.grad(model(codes)[0, at].square().sum(), inputs[-1])  # [T, R]: one stream
    return torch.nonzero(gradient.abs().sum(1)).flatten().tolist()


@settings(max_examples=25)
@given(config=shapes, at=st.integers(0, 60))
def test_causality_and_receptive_field_by_gradient(config, at):
    samples = 61
    seen = seen_by(lively(config), samples, at)
    assert max(seen) == at  # the current sample, and never a later one
    assert min(seen) == max(0, at + 1 - config.receptive_field)


@pytest.mark.parametrize(
    ("cycles", "layers_per_cycle", "kernel_size", "receptive_field"),
    [(2, 8, 2, 511), (4, 6, 3, 505), (2, 6, 3, 253), (30, 1, 3, 61)],  # the last three: Tacotron 2, table 5
)
def test_receptive_field_of_published_stacks_by_gradient(cycles, layers_per_cycle, kernel_size, receptive_field):
    model = lively(ModelConfig(cycles, layers_per_cycle, kernel_size, residual_channels=4, skip_channels=4))
    seen = seen_by(model, 600, 599)
    assert (min(seen), max(seen)) == (600 - receptive_field, 599)


def test_every_sample_of_every_stream_is_predicted():
    model = WaveNet(ModelConfig(cycles=1, layers_per_cycle=3, residual_channels=4, skip_channels=4))
    for samples in (1, 2, 7, 8, 9):
        assert model(torch.zeros(3, samples, dtype=torch.long)).shape == (3, samples, 256)


def test_streams_do_not_touch_each_other():
    model = lively(ModelConfig(cycles=1, layers_per_cycle=4, residual_channels=6, skip_channels=6))
    codes = torch.randint(0, 256, (3, 30))
    together = model(codes)
    for stream in range(3):
        assert torch.allclose(together[stream], model(codes[stream : stream + 1])[0], atol=1e-12)


def test_the_state_dict_is_what_the_configuration_says():
    config = ModelConfig(
        cycles=2, layers_per_cycle=3, kernel_size=3, residual_channels=5, gate_channels=4, head_channels=7
    )
    model = WaveNet(config)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == config.shapes
    assert sum(weight.numel() for weight in model.parameters()) == config.parameters


@pytest.mark.parametrize(
    "shape", [{}, {"cycles": 3, "residual_channels": 64, "skip_channels": 256}, {"kernel_size": 3}]
)
def test_a_fresh_network_starts_at_eight_bits(shape):
    torch.manual_seed(1)
    codes = torch.randint(0, 256, (1, 500))
    loss = masked_loss(WaveNet(ModelConfig(**shape))(codes), codes.roll(-1, 1), torch.ones(1, 500)).item() / math.log(2)
    assert loss == pytest.approx(8, abs=0.001)


def test_a_sine_is_learnt_to_almost_zero_bits():
    torch.manual_seed(0)
    rate, period = 8_000, 50
    sine = 0.8 * np.sin(2 * np.pi * np.arange(4 * period + 1) / period)
    from wavenet import mulaw

    codes = torch.from_numpy(mulaw.encode(sine))[None]
    model = WaveNet(ModelConfig(cycles=1, layers_per_cycle=6, residual_channels=16, skip_channels=32, sample_rate=rate))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)  # from the first step at full rate: no warm-up tricks
    for _ in range(200):
        optimizer.zero_grad()
        loss = masked_loss(model(codes[:, :-1]), codes[:, 1:], torch.ones(1, codes.shape[1] - 1))
        loss.backward()
        optimizer.step()
    assert loss.item() / math.log(2) < 0.02


@pytest.mark.parametrize("codes", [torch.zeros(5, dtype=torch.long), torch.zeros(1, 0, dtype=torch.long)])
def test_other_shapes_are_refused(codes):
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        WaveNet(ModelConfig(cycles=1, layers_per_cycle=1, residual_channels=2, skip_channels=2))(codes)


def test_conditioning_of_an_unconditioned_model_is_refused():
    model = WaveNet(ModelConfig(cycles=1, layers_per_cycle=1, residual_channels=2, skip_channels=2))
    with pytest.raises(ValueError, match="not conditioned"):
        model(torch.zeros(1, 3, dtype=torch.long), speaker=torch.zeros(1))
