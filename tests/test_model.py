"""The network: against a transcription with the library's convolution; causality, receptive field, learning."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builders import definition_outputs, double_model, engine_for, random_codes, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from wavenet import mulaw
from wavenet.config import ModelConfig
from wavenet.engine import ENGINES
from wavenet.generate import Generator
from wavenet.model import DilatedConv, Head, ResidualLayer, WaveNet, delayed
from wavenet.nn.outputs import masked_loss

SMALL = ModelConfig(cycles=1, layers_per_cycle=4, residual_channels=6, skip_channels=6)
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


def transcription(model: WaveNet, codes: Tensor) -> Tensor:
    """The formulas of the paper, channels first, with the library's convolution."""
    config, weights = model.config, dict(model.named_parameters())
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
@given(
    config=shapes, streams=st.integers(1, 3), samples=st.integers(1, 40), seed=st.integers(0, 99), fused=st.booleans()
)
def test_logits_and_gradients_are_those_of_the_formulas(
    config: ModelConfig, streams: int, samples: int, seed: int, fused: bool
) -> None:
    model = double_model(config, seed)
    model.fused = fused
    codes = torch.randint(0, 256, (streams, samples))
    direction = torch.randn(streams, samples, 256, dtype=torch.double)
    logits, expected = model(codes), transcription(model, codes)
    assert torch.allclose(logits, expected, rtol=1e-10, atol=1e-10)
    weights = dict(model.named_parameters())
    ours = torch.autograd.grad((logits * direction).sum(), list(weights.values()))
    theirs = torch.autograd.grad((expected * direction).sum(), list(weights.values()))
    for name, one, other in zip(weights, ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10), name


def test_a_causal_convolution_by_hand() -> None:
    convolution = DilatedConv(1, 1, kernel_size=3, dilation=2)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([100.0, 10.0, 1.0])[:, None, None])
        convolution.bias.fill_(0.5)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])[None, :, None]
    # y_t = 0.5 + x_t + 10 x_(t-2) + 100 x_(t-4)
    assert convolution(x).flatten().tolist() == [1.5, 2.5, 13.5, 24.5, 135.5, 246.5]


@pytest.mark.parametrize("samples", [0, 1, 3, 4, 9])
def test_a_delay_puts_zeros_in_front(samples: int) -> None:
    x = torch.arange(1.0, 5.0)[None, :, None]
    assert delayed(x, samples).flatten().tolist() == [*[0.0] * samples, 1.0, 2.0, 3.0, 4.0][:4]


def test_a_residual_layer_by_hand() -> None:
    config = ModelConfig(cycles=1, layers_per_cycle=1, residual_channels=1, gate_channels=1, skip_channels=1)
    layer = ResidualLayer(config, dilation=1, last=False)
    assert layer.residual is not None
    with torch.no_grad():
        layer.dilated.weight.copy_(torch.tensor([[0.5, 0.0], [0.25, 1.0]])[..., None])  # [taps, a and b, 1]
        layer.dilated.bias.zero_()
        layer.residual.weight.fill_(2.0)
        layer.residual.bias.fill_(0.125)
    x, z = layer(torch.tensor([1.0, -2.0])[None, :, None], gate_bias=torch.tensor([0.0, 0.75]).view(1, 1, 2))
    # a = 0.25 x_t + 0.5 x_(t-1); b = x_t + 0.75
    expected = [math.tanh(0.25) / (1 + math.exp(-1.75)), math.tanh(-0.5 + 0.5) / (1 + math.exp(1.25))]
    assert z.flatten().tolist() == pytest.approx(expected)
    assert x.flatten().tolist() == pytest.approx([1 + 2 * expected[0] + 0.125, -2 + 2 * expected[1] + 0.125])


def test_the_heads_activation_is_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(SMALL)
    skip = torch.randn(2, 3, 6)
    assert torch.equal(head(skip), head.output(F.relu(head.hidden(F.relu(skip)))))
    monkeypatch.setattr(Head, "activation", torch.tanh)
    assert torch.equal(head(skip), head.output(torch.tanh(head.hidden(torch.tanh(skip)))))
    model, codes = random_model(SMALL), random_codes(SMALL, 2, 20)
    for name in ("torch", "naive"):
        engine = engine_for(name, model)
        logits = engine.logits(engine.new_state(2), codes)
        np.testing.assert_allclose(logits, definition_outputs(model, codes), atol=1e-3)


def test_a_generator_never_ignores_another_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    model, codes = random_model(SMALL), random_codes(SMALL, 1, 20)
    model.head.activation = torch.tanh
    for name in ENGINES:
        with pytest.raises(ValueError, match="engines use that of the class"):
            Generator.from_model(model, engine=name)
    del model.head.activation
    assert Generator.from_model(model, engine="torch").engine == "torch"
    monkeypatch.setattr(Head, "activation", torch.tanh)
    with pytest.raises(ValueError, match="ReLU only"):
        Generator.from_model(model, engine="native")
    engine = Generator.from_model(model)._engine
    assert engine.name == "torch"
    logits = engine.logits(engine.new_state(), codes)
    np.testing.assert_allclose(logits, definition_outputs(model, codes), atol=1e-3)


def test_a_generator_refuses_layers_that_it_would_replace() -> None:
    class Muted(ResidualLayer):
        def forward(self, x: Tensor, gate_bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x, z = super().forward(x, gate_bias)
            return x, 0 * z

    model = random_model(SMALL)
    model.layers[1] = Muted(SMALL, 2, last=False)
    with pytest.raises(ValueError, match="layers or a head of another class"):
        Generator.from_model(model)


def context_of(model: WaveNet, samples: int, at: int) -> list[int]:
    """The input samples with a gradient from the logits at one position."""
    codes = torch.randint(0, 256, (1, samples))
    inputs: list[Tensor] = []
    model.embedding.register_forward_hook(lambda module, given, output: inputs.append(output))
    (gradient,) = torch.autograd.grad(model(codes)[0, at].square().sum(), inputs)  # [1, T, R]
    return torch.nonzero(gradient[0].abs().sum(1)).flatten().tolist()


@settings(max_examples=25)
@given(config=shapes, at=st.integers(0, 60), fused=st.booleans())
def test_causality_and_receptive_field_by_gradient(config: ModelConfig, at: int, fused: bool) -> None:
    model = double_model(config)
    model.fused = fused
    context = context_of(model, 61, at)
    assert max(context) == at  # the current sample, and never a later one
    assert min(context) == max(0, at + 1 - config.receptive_field)


@pytest.mark.parametrize(
    ("cycles", "layers_per_cycle", "kernel_size", "receptive_field"),
    [(2, 8, 2, 511), (4, 6, 3, 505), (2, 6, 3, 253), (30, 1, 3, 61)],  # the last three: Tacotron 2, table 5
)
def test_receptive_field_of_published_stacks_by_gradient(
    cycles: int, layers_per_cycle: int, kernel_size: int, receptive_field: int
) -> None:
    model = double_model(ModelConfig(cycles, layers_per_cycle, kernel_size, residual_channels=4, skip_channels=4))
    context = context_of(model, 600, 599)
    assert (min(context), max(context)) == (600 - receptive_field, 599)


def test_every_sample_of_every_stream_is_predicted() -> None:
    model = WaveNet(ModelConfig(cycles=1, layers_per_cycle=3, residual_channels=4, skip_channels=4))
    for samples in (1, 2, 7, 8, 9):
        assert model(torch.zeros(3, samples, dtype=torch.long)).shape == (3, samples, 256)


def test_streams_are_independent() -> None:
    model = double_model(SMALL)
    codes = torch.randint(0, 256, (3, 30))
    together = model(codes)
    for stream in range(3):
        assert torch.allclose(together[stream], model(codes[stream : stream + 1])[0], atol=1e-12)


def test_the_state_dict_has_the_configured_shapes() -> None:
    config = ModelConfig(
        cycles=2, layers_per_cycle=3, kernel_size=3, residual_channels=5, gate_channels=4, head_channels=7
    )
    model = WaveNet(config)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == config.shapes
    assert sum(weight.numel() for weight in model.parameters()) == config.parameters


@pytest.mark.parametrize(
    "shape", [{}, {"cycles": 3, "residual_channels": 64, "skip_channels": 256}, {"kernel_size": 3}]
)
def test_a_new_network_starts_at_eight_bits(shape: dict[str, int]) -> None:
    torch.manual_seed(1)
    codes = torch.randint(0, 256, (1, 500))
    loss = masked_loss(WaveNet(ModelConfig(**shape))(codes), codes.roll(-1, 1), torch.ones(1, 500)).item() / math.log(2)
    assert loss == pytest.approx(8, abs=0.001)


@pytest.mark.parametrize("fused", [True, False])
def test_a_sine_is_learnt_to_almost_zero_bits(fused: bool) -> None:
    torch.manual_seed(0)
    sample_rate, period = 8_000, 50
    codes = torch.from_numpy(mulaw.encode(0.8 * np.sin(2 * np.pi * np.arange(4 * period + 1) / period)))[None]
    model = WaveNet(
        ModelConfig(cycles=1, layers_per_cycle=6, residual_channels=16, skip_channels=32, sample_rate=sample_rate)
    )
    model.fused = fused
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)  # from the first step on: no warm-up is needed
    for _ in range(200):
        optimizer.zero_grad()
        loss = masked_loss(model(codes[:, :-1]), codes[:, 1:], torch.ones(1, codes.shape[1] - 1))
        loss.backward()
        optimizer.step()
    assert loss.item() / math.log(2) < 0.02


@pytest.mark.parametrize("codes", [torch.zeros(5, dtype=torch.long), torch.zeros(1, 0, dtype=torch.long)])
def test_other_shapes_are_refused(codes: Tensor) -> None:
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        WaveNet(SMALL)(codes)


def test_conditioning_of_an_unconditioned_model_is_refused() -> None:
    with pytest.raises(ValueError, match="not conditioned"):
        WaveNet(SMALL)(torch.zeros(1, 3, dtype=torch.long), speaker=torch.zeros(1))
