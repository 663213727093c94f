"""The fused stack against the definition, and when each of them is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import double_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wavenet.config import OUTPUTS, MelConfig, ModelConfig
from wavenet.model import ResidualLayer, WaveNet
from wavenet.nn import fused

SMALL = ModelConfig(cycles=1, layers_per_cycle=4, residual_channels=6, skip_channels=6)
MEL = MelConfig(window=20, fft=25, hop=7, bands=5)
CONDITIONED = ModelConfig(
    cycles=1, layers_per_cycle=3, residual_channels=5, skip_channels=6, speakers=("ann", "bob"), features=MEL
)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Networks of all outputs and kinds of conditioning, with dilations beyond the samples of the tests."""
    output = draw(st.sampled_from(OUTPUTS))
    features = draw(st.sampled_from([None, MEL, MelConfig(window=20, fft=24, hop=6, bands=5)]))
    order = draw(st.sampled_from([0, 4])) if features is not None and output != "mulaw" else 0
    return ModelConfig(
        cycles=draw(st.integers(1, 2)),
        layers_per_cycle=draw(st.integers(1, 6)),
        kernel_size=draw(st.integers(2, 4)),
        residual_channels=draw(st.integers(1, 7)),
        gate_channels=draw(st.integers(1, 7)),
        skip_channels=draw(st.integers(1, 7)),
        output=output,
        mixtures=2,
        speakers=draw(st.sampled_from([(), ("ann",), ("ann", "bob", "cid")])),
        speaker_channels=3,
        features=features,
        frame_channels=4,
        linear_prediction=order,
    )


def random_inputs(
    config: ModelConfig, streams: int, samples: int, first: int
) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
    """The arguments of `WaveNet.forward`; speakers as weights, so that they have gradients."""
    low, high = (0, 256) if config.output == "mulaw" else (-900, 900)
    codes = torch.randint(low, high, (streams, samples))
    speaker = local = None
    if config.speakers:
        speaker = torch.rand(streams, len(config.speakers), dtype=torch.double, requires_grad=True)
    if config.features is not None:
        local = torch.randn(streams, config.features.bands, 6, dtype=torch.double) - 5
        local.requires_grad_(config.linear_prediction == 0)  # the predictor is not differentiable
    return codes, speaker, local, first


@settings(max_examples=80)
@given(
    config=configs(),
    streams=st.integers(1, 3),
    samples=st.integers(1, 40),
    first=st.integers(0, 30),
    seed=st.integers(0, 9),
)
def test_values_and_gradients_are_those_of_the_definition(
    config: ModelConfig, streams: int, samples: int, first: int, seed: int
) -> None:
    model = double_model(config, seed)
    inputs = random_inputs(config, streams, samples, first)
    learnt: dict[str, torch.Tensor] = dict(model.named_parameters())
    for name, tensor in (("speaker", inputs[1]), ("local", inputs[2])):
        if tensor is not None and tensor.requires_grad:
            learnt[name] = tensor
    direction = torch.randn(streams, samples, config.output_channels, dtype=torch.double)
    outputs, gradients = [], []
    for fused_stack in (False, True):
        model.fused = fused_stack
        outputs.append(model(*inputs))
        gradients.append(torch.autograd.grad((outputs[-1] * direction).sum(), list(learnt.values())))
    assert torch.allclose(outputs[0], outputs[1], rtol=1e-10, atol=1e-10)
    for name, one, other in zip(learnt, *gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize("config", [SMALL, CONDITIONED], ids=["plain", "conditioned"])
def test_gradients_are_those_of_finite_differences(config: ModelConfig) -> None:
    model = double_model(config)
    inputs = random_inputs(config, 2, 11, 9)
    model.fused = True
    learnt = [*model.parameters(), *(tensor for tensor in inputs[1:3] if tensor is not None)]
    assert torch.autograd.gradcheck(lambda *_: model(*inputs), learnt, fast_mode=True)


def test_without_gradients_the_values_are_the_same() -> None:
    model = double_model(CONDITIONED)
    inputs = random_inputs(CONDITIONED, 2, 30, 3)
    expected = model(*inputs)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(model(*inputs), expected)


def kept_values(model: WaveNet, *inputs: Any) -> int:
    """How many values a forward pass keeps for the backward pass, each memory counted once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(*inputs)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    assert output.requires_grad
    return sum(size for address, size in kept.items() if address not in weights) // 8


def test_activations_can_be_computed_again() -> None:
    """Cycle by cycle in the backward pass: the same values and gradients, by the definition and by the fused stack."""
    config = replace(CONDITIONED, cycles=3)
    model = double_model(config)
    inputs = random_inputs(config, 2, 300, 9)
    learnt = [*model.parameters(), *(tensor for tensor in inputs[1:3] if tensor is not None)]
    for fused_stack in (False, True):
        model.fused, model.recomputed = fused_stack, False
        expected = model(*inputs)
        gradients = torch.autograd.grad(expected.square().mean(), learnt)
        kept = kept_values(model, *inputs)
        model.recomputed = True
        assert kept_values(model, *inputs) < 0.6 * kept
        actual = model(*inputs)
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
        for one, other in zip(torch.autograd.grad(actual.square().mean(), learnt), gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


# ---- which of them is used -------------------------------------------------------------------------------------------


def x_of(kind: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    return torch.empty(1, 5, 6, dtype=kind, device=device)


def test_the_fused_stack_is_used_where_nothing_needs_more() -> None:
    model = WaveNet(SMALL)
    assert model.uses_fused_stack(x_of())
    assert model.uses_fused_stack(x_of(torch.float64))
    assert not model.uses_fused_stack(x_of(torch.bfloat16))
    assert not model.uses_fused_stack(x_of(device="meta"))
    with torch.autocast("cpu"):
        assert not model.uses_fused_stack(x_of())


def test_either_can_be_forced() -> None:
    model, other = WaveNet(SMALL), WaveNet(SMALL)
    model.fused = False
    assert not model.uses_fused_stack(x_of())
    assert other.uses_fused_stack(x_of())
    model.fused = True
    model.layers[0].register_forward_hook(lambda *_: None)
    assert model.uses_fused_stack(x_of())


@pytest.mark.parametrize("name", ["layers.2", "layers.0.dilated", "layers.1.residual", "layers", "skip"])
@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_hooks_are_called(name: str, register: str) -> None:
    model = WaveNet(SMALL)
    calls: list[Any] = []
    handle = getattr(model.get_submodule(name), register)(lambda *arguments: calls.append(arguments))
    assert not model.uses_fused_stack(x_of())
    model(torch.zeros(2, 9, dtype=torch.long)).sum().backward()
    assert len(calls) == (1 if name != "layers" else 0)  # a list of modules is never called
    handle.remove()
    assert model.uses_fused_stack(x_of())


def test_a_hook_can_record_and_replace_what_a_layer_makes() -> None:
    model = WaveNet(SMALL)
    codes = torch.randint(0, 256, (2, 9))
    before = model(codes)
    gated: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, inputs, made: gated.append(made[1])) for layer in model.layers
    ]
    torch.testing.assert_close(model(codes), before)
    assert [tuple(z.shape) for z in gated] == [(2, 9, 6)] * 4
    for handle in handles:
        handle.remove()
    model.layers[1].register_forward_hook(lambda module, inputs, made: (made[0], torch.zeros_like(made[1])))
    assert not torch.allclose(model(codes), before)


def test_changed_layers_are_called() -> None:
    class Doubled(ResidualLayer):
        def forward(self, x: Tensor, gate_bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
            x, z = super().forward(x, gate_bias)
            return x, 2 * z

    model, codes = WaveNet(SMALL), torch.randint(0, 256, (2, 9))
    before = model(codes)
    doubled = Doubled(SMALL, 2, last=False)
    doubled.load_state_dict(model.layers[1].state_dict())
    model.layers[1] = doubled
    assert not model.uses_fused_stack(x_of())
    assert not torch.allclose(model(codes), before)
    replaced = WaveNet(SMALL)
    replaced.layers[0].forward = lambda x, gate_bias: (x, x)
    assert not replaced.uses_fused_stack(x_of())


def test_parametrized_weights_are_trained() -> None:
    model = double_model(SMALL)
    codes = torch.randint(0, 256, (2, 9))
    expected = model(codes)
    nn.utils.parametrizations.weight_norm(model.layers[1].dilated, dim=1)
    actual = model(codes)
    torch.testing.assert_close(actual, expected)
    actual.sum().backward()
    scale = dict(model.named_parameters())["layers.1.dilated.parametrizations.weight.original0"]
    assert scale.grad.abs().sum() > 0


def test_mixed_precision_trains() -> None:
    torch.manual_seed(0)
    model, codes = WaveNet(CONDITIONED), torch.randint(0, 256, (2, 30))
    arguments = codes, torch.tensor([0, 1]), torch.randn(2, 5, 6) - 5
    expected = model(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = model(*arguments)
    assert actual.dtype == torch.bfloat16
    torch.testing.assert_close(actual.float(), expected, atol=0.02, rtol=0.05)
    actual.float().square().mean().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.dtype == torch.float32, name
        assert torch.isfinite(weight.grad).all(), name


@pytest.mark.parametrize("config", [SMALL, CONDITIONED], ids=["plain", "conditioned"])
def test_the_network_compiles_without_graph_breaks(config: ModelConfig) -> None:
    model = double_model(config)
    inputs = random_inputs(config, 2, 30, 3)
    expected = model(*inputs)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), expected, rtol=1e-10, atol=1e-10)


def test_the_layers_of_a_network_with_linear_prediction_compile() -> None:
    config = ModelConfig(
        cycles=1,
        layers_per_cycle=3,
        residual_channels=5,
        skip_channels=6,
        output="gaussian",
        features=MEL,
        linear_prediction=4,
    )
    model = double_model(config)
    inputs = random_inputs(config, 2, 30, 3)
    compiled = torch.compile(model, backend="eager")  # the predictor itself is NumPy, and remains
    torch.testing.assert_close(compiled(*inputs), model(*inputs), rtol=1e-10, atol=1e-10)
    (only,) = torch._dynamo.explain(model)(*inputs).break_reasons
    assert "<function linear_prediction" in only.reason


def test_gradients_of_gradients_need_the_plain_stack() -> None:
    model, codes = double_model(SMALL), torch.randint(0, 256, (1, 9))
    weight = model.layers[0].dilated.weight
    with pytest.raises(RuntimeError, match="set WaveNet.fused = False"):
        torch.autograd.grad(model(codes).square().sum(), weight, create_graph=True)
    model.fused = False
    (gradient,) = torch.autograd.grad(model(codes).square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), weight)
    assert second.abs().sum() > 0


@pytest.mark.parametrize("fused_stack", [False, True])
@pytest.mark.parametrize("config", [SMALL, CONDITIONED], ids=["plain", "conditioned"])
def test_gradients_are_ready_layer_by_layer(
    config: ModelConfig, fused_stack: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an exchange of gradients in distributed training overlaps with: all weights of a layer, before the next."""
    model, order = double_model(config), list[str]()
    model.fused = fused_stack
    for index, layer in enumerate(model.typed_layers):
        for weight in layer.parameters():
            weight.register_post_accumulate_grad_hook(lambda _, index=index: order.append(str(index)))
    model.skip.weight.register_post_accumulate_grad_hook(lambda _: order.append("skip"))
    backward = fused.layer_backward

    def recorded(*arguments: Any) -> Any:
        order.append("layer")
        return backward(*arguments)

    monkeypatch.setattr(fused, "layer_backward", recorded)
    model(*random_inputs(config, 2, 9, 0)).sum().backward()
    expected = ["skip"]
    for index in reversed(range(config.layers)):
        weights = 2 if index == config.layers - 1 else 4  # the last layer has no residual projection
        expected += ["layer"] * fused_stack + [str(index)] * weights
    assert order == expected


def test_an_export_traces_the_plain_stack() -> None:
    model, codes = WaveNet(SMALL), torch.zeros(1, 9, dtype=torch.long)
    exported = torch.export.export(model, (codes,), strict=False).module()
    np.testing.assert_allclose(exported(codes).detach(), model(codes).detach(), atol=1e-6)


def test_dilations_are_those_of_the_layers() -> None:
    model, codes = double_model(SMALL), torch.randint(0, 256, (2, 30))
    before = model(codes)
    model.layers[1].dilated.dilation = 5
    changed = model(codes)
    model.fused = False
    torch.testing.assert_close(changed, model(codes))
    assert not torch.allclose(changed, before)


def test_hooks_of_all_modules_are_called() -> None:
    model, seen = WaveNet(SMALL), set[type[nn.Module]]()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.add(type(module)))
    model(torch.zeros(2, 9, dtype=torch.long))
    handle.remove()
    assert ResidualLayer in seen
    assert model.uses_fused_stack(x_of())


def test_function_transforms_use_the_definition() -> None:
    """Gradients per stream by `torch.func`, which needs no setting, against those of one stream after the other."""
    model, codes = double_model(CONDITIONED), torch.randint(0, 256, (3, 14))
    speaker, local = torch.tensor([0, 1, 1]), torch.randn(3, 5, 6, dtype=torch.double) - 5
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss(weights: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        output = torch.func.functional_call(model, weights, tuple(value[None] for value in inputs))
        return output.square().mean()

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0, 0, 0))(weights, codes, speaker, local)
    for stream in range(3):
        inputs = codes[stream : stream + 1], speaker[stream : stream + 1], local[stream : stream + 1]
        expected = torch.autograd.grad(model(*inputs).square().mean(), list(model.parameters()))
        for gradient, value in zip(gradients.values(), expected, strict=True):
            torch.testing.assert_close(gradient[stream], value)
