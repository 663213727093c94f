"""The network of a labeller: two-sided layers, receptive field to both sides, shapes, and its configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from labellers import HOP, MEL, small_config
from torch import Tensor

from wavenet.config import ConfigError, ModelConfig
from wavenet.labelling_config import LabellerConfig
from wavenet.labelling_model import LabellingNetwork
from wavenet.model import DilatedConv, ResidualLayer, delayed

JOINT: dict[str, Any] = {"input": "samples", "causal": True, "joint_loss": 0.5}
KINDS: list[dict[str, Any]] = [
    {},
    {"head": "plain"},
    {"causal": True, "kernel_size": 2},
    {"input": "samples", "head": "plain"},
    {"kernel_size": 5, "cycles": 2},
    JOINT,
]


def inputs_of(config: LabellerConfig, frames: int, streams: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (streams, 12, frames) if config.features else (streams, frames * HOP)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def network_of(config: LabellerConfig) -> LabellingNetwork:
    torch.manual_seed(0)
    return LabellingNetwork(config).double().eval()


def test_a_two_sided_convolution_by_hand() -> None:
    convolution = DilatedConv(1, 1, kernel_size=3, dilation=2, ahead=1)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([100.0, 10.0, 1.0])[:, None, None])
        convolution.bias.fill_(0.5)
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[None, :, None]
    # y_t = 0.5 + 100 x_(t-2) + 10 x_t + x_(t+2)
    assert convolution(x).flatten().tolist() == [13.5, 24.5, 135.5, 240.5, 350.5]


@pytest.mark.parametrize("samples", [1, 3, 4, 9])
def test_a_negative_delay_puts_zeros_behind(samples: int) -> None:
    x = torch.arange(1.0, 5.0)[None, :, None]
    assert delayed(x, -samples).flatten().tolist() == [1.0, 2.0, 3.0, 4.0, *[0.0] * samples][samples:][:4]


def test_a_two_sided_layer_is_the_same_forwards_and_backwards() -> None:
    layer = ResidualLayer(ModelConfig(1, 3, 3, 4, skip_channels=8), dilation=4, last=False, ahead=1)
    layer.reset_parameters()
    x = torch.randn(2, 30, 4)
    expected = [output.flip(1) for output in layer(x.flip(1))]
    layer.dilated.weight.data = layer.dilated.weight.data.flip(0)
    for found, mirrored in zip(layer(x), expected, strict=True):
        assert torch.allclose(found, mirrored, atol=1e-6)


@pytest.mark.parametrize("options", KINDS)
def test_the_receptive_field_is_that_of_the_gradient(options: dict[str, Any]) -> None:
    config = small_config(**options)
    before, after = config.context_frames
    frames, frame = before + after + 9, before + 4
    inputs = inputs_of(config, frames).requires_grad_()
    logits = network_of(config)(inputs)
    logits[0, frame].square().sum().backward()
    assert inputs.grad is not None
    touched = inputs.grad[0].abs()
    if config.features is None:  # samples: the context of the layers need not fill a frame
        touched = touched.unflatten(0, (frames, HOP)).sum(1)[None]
    reached = touched.sum(0).nonzero().flatten()
    assert [int(reached.min()), int(reached.max())] == [frame - before, frame + after]


def test_the_context_by_hand() -> None:
    assert small_config(head="plain").context_frames == (
        7 + 2,
        7 + 2,
    )  # dilations 1, 2, 4; two convolutions of 3 frames
    assert small_config().context_frames == (7 + 64, 7 + 64)
    assert small_config(causal=True, head="plain").context_frames == (14 + 2, 2)
    assert small_config(input="samples", head="plain").context_frames == (1 + 2, 1 + 2)  # 7 samples: one frame


@pytest.mark.parametrize("options", KINDS)
def test_the_tensors_are_those_of_the_configuration(options: dict[str, Any]) -> None:
    config = small_config(**options)
    network = network_of(config)
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == config.shapes
    assert config.parameters == sum(weight.numel() for weight in network.parameters())
    assert network(inputs_of(config, 10, 2)).shape == (2, 10, 3)


def test_a_causal_stack_is_the_same_with_and_without_the_fused_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(causal=True)
    network, inputs = network_of(config), inputs_of(config, 40)
    fused = network(inputs)
    monkeypatch.setattr("wavenet.nn.fused.supports", lambda x: False)
    assert torch.allclose(network(inputs), fused, atol=1e-12)


def test_the_next_sample_is_predicted_from_the_past_only() -> None:
    config = small_config(**JOINT)
    network, inputs = network_of(config), inputs_of(config, 3)
    _, before = network.with_next_sample(inputs)
    inputs[0, 100] += 1
    logits, after = network.with_next_sample(inputs)
    assert logits.shape == (1, 3, 3) and after.shape == (1, 3 * HOP, 256)
    assert torch.equal(before[0, :100], after[0, :100]) and not torch.equal(before[0, 100], after[0, 100])


def test_mean_pooling_by_hand() -> None:
    config = small_config(input="samples", head="plain")
    network = network_of(config)
    hidden = torch.randn(1, 4 * HOP, 8, dtype=torch.float64)
    means = torch.stack([hidden[:, n * HOP : (n + 1) * HOP].mean(1) for n in range(4)], dim=1)
    assert torch.allclose(network.classified(hidden), network.classified(means.repeat_interleave(HOP, dim=1)))


def test_dropout_is_applied_in_training_only() -> None:
    network = LabellingNetwork(small_config())
    network.dropout = 0.5
    inputs = inputs_of(network.config, 20).float()
    assert torch.equal(network.eval()(inputs), network(inputs))
    network.train()
    assert not torch.equal(network(inputs), network(inputs))


@pytest.mark.parametrize("shape", [(1, 11, 5), (1, 12, 0), (12, 5)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features must be \[B, 12, N\]"):
        LabellingNetwork(small_config())(torch.zeros(shape))


def test_samples_are_whole_frames() -> None:
    with pytest.raises(ValueError, match=r"samples must be \[B, N x 80\]"):
        LabellingNetwork(small_config(input="samples"))(torch.zeros(1, HOP + 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size = 4: must be odd"),
        ({"head": "paralel"}, "did you mean 'parallel'"),
        ({"joint_loss": 0.1}, "needs causal = true and input"),
        ({"classes": ["a", "a"]}, "more than once"),
        ({"classes": ["a", ""]}, "is not a name"),
        ({"input": "samples", "features": MEL}, 'only used by a network with input = "mel"'),
        ({"features": {"hop": 40}}, "must be those of the labeller, 80 and 8000"),
        ({"cycles": 0}, "cycles = 0"),
        ({"hop": 0}, "hop = 0"),
    ],
)
def test_invalid_configurations_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small_config(**options)


def test_defaults_suit_the_sample_rate() -> None:
    config = LabellerConfig(sample_rate=44_100)
    assert (config.hop, config.frame_seconds) == (441, 0.01)
    assert config.features is not None and (config.features.window, config.features.fft) == (1_102, 2_048)
    assert config.class_names == ("",)
