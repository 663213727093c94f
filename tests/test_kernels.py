"""The training kernels in C++ against the definition and against PyTorch."""

from __future__ import annotations

import pytest
import torch
from builders import double_model
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused import MEL, random_inputs
from torch import Tensor

from wavenet.config import ModelConfig
from wavenet.model import WaveNet
from wavenet.nn import kernels

needs_kernels = pytest.mark.skipif(not kernels.enabled, reason="no processor with AVX2, or built without a compiler")


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, in units of the largest value."""
    return float((actual.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-3))


@needs_kernels
@settings(max_examples=20)
@given(
    residual=st.sampled_from([16, 32, 48, 80]),
    gate=st.sampled_from([16, 48, 64]),
    skip=st.sampled_from([16, 96]),
    kernel_size=st.integers(2, 3),
    samples=st.sampled_from([1, 5, 96, 100, 200]),  # of two streams: a block has 192 rows
    conditioned=st.booleans(),
)
def test_kernels_agree_with_the_definition(
    residual: int, gate: int, skip: int, kernel_size: int, samples: int, conditioned: bool
) -> None:
    """In float32, against the definition in float64; rows beyond a block, and dilations beyond the samples."""
    config = ModelConfig(
        cycles=1,
        layers_per_cycle=5,
        kernel_size=kernel_size,
        residual_channels=residual,
        gate_channels=gate,
        skip_channels=skip,
        speakers=("ann", "bob") if conditioned else (),
        features=MEL if conditioned else None,
    )
    exact = double_model(config)
    exact.fused = False
    model = WaveNet(config)
    model.load_state_dict(exact.state_dict())
    codes, speaker, local, first = random_inputs(config, 2, samples, 3)
    inputs = [None if tensor is None else tensor.detach().float() for tensor in (speaker, local)]
    assert kernels.support_layer(model.embedding.weight, model.skip.weight[:, :gate])
    outputs = model(codes, *inputs, first), exact(codes, speaker, local, first)
    assert relative_error(outputs[0], outputs[1]) < 2e-6
    direction = torch.randn(outputs[1].shape, dtype=torch.double)
    gradients = torch.autograd.grad((outputs[0] * direction.float()).sum(), list(model.parameters()))
    expected = torch.autograd.grad((outputs[1] * direction).sum(), list(exact.parameters()))
    for (name, _), one, other in zip(model.named_parameters(), gradients, expected, strict=True):
        assert relative_error(one, other) < 2e-5, name


@needs_kernels
def test_kernels_and_pytorch_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a network of the usual size, and where hooks or other activations leave the head to PyTorch."""
    torch.manual_seed(0)
    model = WaveNet(ModelConfig(cycles=1, layers_per_cycle=8, residual_channels=64, skip_channels=128))
    codes, seen = torch.randint(0, 256, (2, 300)), list[int]()
    handle = model.head.hidden.register_forward_hook(lambda *_: seen.append(1))
    results = []
    for enabled in (True, False):
        monkeypatch.setattr(kernels, "enabled", enabled)
        output = model(codes)
        results.append((output, *torch.autograd.grad(output.square().mean(), list(model.parameters()))))
    assert len(seen) == 2
    handle.remove()
    monkeypatch.setattr(kernels, "enabled", True)
    output = model(codes)
    results.append((output, *torch.autograd.grad(output.square().mean(), list(model.parameters()))))
    for tensors in zip(*results, strict=True):
        for tensor in tensors[1:]:
            torch.testing.assert_close(tensor, tensors[0], rtol=1e-4, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_reach_the_outputs(value: float) -> None:
    """So that a step with them is noticed and skipped."""
    model = WaveNet(ModelConfig(cycles=1, layers_per_cycle=3, residual_channels=16, skip_channels=16))
    with torch.no_grad():
        model.get_parameter("layers.0.residual.bias")[2] = value
    output = model(torch.randint(0, 256, (1, 9)))
    assert not torch.isfinite(output).all()
