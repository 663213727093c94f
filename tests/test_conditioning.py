"""Conditioning: against transcriptions with the library's convolution and interpolation."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from builders import double_model
from conditioned_shapes import CONDITIONINGS, EVEN, ODD, SHAPE
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import MelConfig, ModelConfig
from wavenet.model import WaveNet
from wavenet.nn.conditioning import Conditioning, GateBias
from wavenet.nn.frame_network import ParallelFrames, PlainFrames, moving_average
from wavenet.nn.interpolation import interpolation_weights

every = pytest.mark.parametrize("config", CONDITIONINGS.values(), ids=CONDITIONINGS.keys())
Weights = Mapping[str, Tensor]


def random_inputs(
    config: ModelConfig, streams: int, samples: int, frames: int, seed: int = 0
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Codes [B, T], speakers [B] and features [B, bands, N]."""
    torch.manual_seed(seed)
    low, high = (0, 256) if config.output == "mulaw" else (-20_000, 20_000)
    codes = torch.randint(low, high, (streams, samples))
    speaker = torch.randint(0, 3, (streams,)) if config.speakers else None
    local = None
    if config.features:
        local = config.features.mean + config.features.deviation * torch.randn(
            streams, config.features.bands, frames, dtype=torch.double
        )
    return codes, speaker, local


# ---- transcriptions: channels first, and the whole recording at once -----------------------------------------------


def conv(weights: Weights, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """The library's convolution of x [B, in, n] with weights that are stored as [taps, out, in]."""
    return F.conv1d(x, weights[f"{name}.weight"].permute(1, 2, 0), weights[f"{name}.bias"], dilation=dilation)


def frame_network(config: ModelConfig, weights: Weights, x: Tensor) -> Tensor:
    """[B, bands, N + 2 times the longer context] -> [B, C, N]"""
    prefix = "conditioning.frames"
    if config.frame_network != "parallel":
        hidden = F.relu(conv(weights, f"{prefix}.first", x))
        return F.relu(conv(weights, f"{prefix}.second", hidden))
    branches = [conv(weights, f"{prefix}.point", x[..., 64:-64])]
    for dilation in (1, 2, 4, 8, 16):
        inside = x[..., 64 - dilation : x.shape[-1] - 64 + dilation]
        branches.append(conv(weights, f"{prefix}.rate_{dilation}", inside, dilation))
    average = F.conv1d(x, torch.full((x.shape[1], 1, 129), 1 / 129, dtype=x.dtype), groups=x.shape[1])
    branches.append(conv(weights, f"{prefix}.pooled", average))
    return F.relu(conv(weights, f"{prefix}.joined", F.relu(torch.cat(branches, dim=1))))


def gate_bias(
    config: ModelConfig, weights: Weights, speaker: Tensor | None, local: Tensor | None, first: int, samples: int
) -> Tensor:
    """V_l c_t + U_l g of all layers: [B, L*2G, T], or [B, L*2G, 1] for speakers alone."""
    bias = torch.zeros(1, dtype=torch.double)
    if speaker is not None:
        shares = F.one_hot(speaker, 3).double() if speaker.dim() == 1 else speaker
        embedded = shares @ weights["conditioning.speaker.weight"]
        bias = bias + (embedded @ weights["conditioning.from_speaker.weight"].T)[..., None]
    if local is not None and config.features is not None:
        mel, beyond = (
            config.features,
            60 + max(config.frame_context),
        )  # frames of silence around, more than any test needs
        silence = float(np.log(1e-5))
        x = (F.pad(local, (beyond, beyond), value=silence) - mel.mean) / mel.deviation
        frames = frame_network(config, weights, x)  # of frame -60 on
        sampled = F.interpolate(frames, scale_factor=mel.hop, mode="linear", align_corners=False)  # [B, C, n*hop]
        begin = 60 * mel.hop + first
        assert mel.hop <= begin and begin + samples <= sampled.shape[-1] - mel.hop  # the ends are not interpolated
        bias = bias + torch.einsum(
            "oc,bct->bot", weights["conditioning.from_frames.weight"], sampled[..., begin : begin + samples]
        )
    return bias


def transcription(
    config: ModelConfig, weights: Weights, codes: Tensor, speaker: Tensor | None, local: Tensor | None, first: int
) -> Tensor:
    bias = gate_bias(config, weights, speaker, local, first, codes.shape[1])
    if config.output == "mulaw":
        x = F.one_hot(codes, 256).double() @ weights["embedding.weight"]  # [B, T, R]
    else:
        x = codes.double()[..., None] / 32_768 @ weights["embedding.weight"]
    x, skip = x.transpose(1, 2), torch.zeros(1, dtype=torch.double)
    for layer, dilation in enumerate(config.dilations):
        taps = weights[f"layers.{layer}.dilated.weight"].permute(1, 2, 0)
        y = F.conv1d(F.pad(x, (dilation, 0)), taps, weights[f"layers.{layer}.dilated.bias"], dilation=dilation)
        y = y + bias[:, layer * 2 * config.gate : (layer + 1) * 2 * config.gate]
        a, b = y.chunk(2, dim=1)
        z = torch.tanh(a) * torch.sigmoid(b)
        columns = weights["skip.weight"][:, layer * config.gate : (layer + 1) * config.gate]
        skip = skip + torch.einsum("sg,bgt->bst", columns, z)
        if layer < config.layers - 1:
            residual = torch.einsum("rg,bgt->brt", weights[f"layers.{layer}.residual.weight"], z)
            x = x + residual + weights[f"layers.{layer}.residual.bias"][:, None]
    h = F.relu(skip.transpose(1, 2) + weights["skip.bias"])
    h = F.relu(h @ weights["head.hidden.weight"].T + weights["head.hidden.bias"])
    return h @ weights["head.output.weight"].T + weights["head.output.bias"]


# ---- the network ----------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("first", "samples", "frames"),
    # in the middle of a frame and on borders, within the features, over their end, and far behind it
    [(0, 30, 5), (9, 20, 6), (7, 14, 6), (12, 12, 4), (33, 25, 7), (10, 1, 4), (80, 10, 3)],
)
def test_outputs_and_gradients_are_those_of_the_formulas(
    config: ModelConfig, first: int, samples: int, frames: int, fused: bool
) -> None:
    model = double_model(config, seed=first)
    model.fused = fused
    codes, speaker, local = random_inputs(config, 2, samples, frames)
    direction = torch.randn(2, samples, config.output_channels, dtype=torch.double)
    weights = dict(model.named_parameters())
    learnt = list(weights.values())
    if local is not None:
        learnt.append(local.requires_grad_(True))  # type: ignore[arg-type]  # the gradient of the features, too
    ours = model(codes, speaker, local, first)
    theirs = transcription(config, weights, codes, speaker, local, first)
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad((ours * direction).sum(), learnt)
    expected = torch.autograd.grad((theirs * direction).sum(), learnt)
    for name, one, other in zip([*weights, "local"], gradients, expected, strict=False):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-10), name
    conditioning = [g for name, g in zip(weights, expected, strict=False) if name.startswith("conditioning")]
    assert first == 80 or all(g.abs().max() > 1e-6 for g in conditioning)  # silence alone may close a rectifier


@every
def test_gradients_are_those_of_finite_differences(config: ModelConfig) -> None:
    model = double_model(config)
    codes, speaker, local = random_inputs(config, 2, 11, 4)
    if local is not None:
        local.requires_grad_(True)
    conditioning = [weight for name, weight in model.named_parameters() if name.startswith("conditioning")]
    biases = [layer.dilated.bias for layer in model.typed_layers]  # inside, added to the conditioning
    inputs = [*conditioning, *biases, *([] if local is None else [local])]
    assert torch.autograd.gradcheck(lambda *_: model(codes, speaker, local, 9), inputs, fast_mode=True)


@every
def test_conditioning_changes_the_output_of_its_own_stream_only(config: ModelConfig) -> None:
    model = double_model(config)
    codes, speaker, local = random_inputs(config, 3, 20, 5)
    together = model(codes, speaker, local, 4)
    for stream in range(3):
        one = slice(stream, stream + 1)
        alone = model(codes[one], *(None if part is None else part[one] for part in (speaker, local)), 4)
        assert torch.allclose(together[one], alone, atol=1e-12)
    if speaker is not None:
        assert (model(codes, (speaker + 1) % 3, local, 4) - together).abs().amax((1, 2)).min() > 1e-3
    if local is not None:
        assert (model(codes, speaker, local + 1, 4) - together).abs().amax((1, 2)).min() > 1e-3


@every
def test_a_later_part_is_a_slice_of_the_whole(config: ModelConfig) -> None:
    model = double_model(config)
    codes, speaker, local = random_inputs(config, 2, 60, 10)
    whole = model(codes, speaker, local)
    field = config.receptive_field
    for first in (1, 7, 17, 21, 40):
        part = model(codes[:, first:], speaker, local, first)
        assert torch.allclose(part[:, field - 1 :], whole[:, first + field - 1 :], atol=1e-12)
        assert not torch.allclose(part[:, 0], whole[:, first], atol=1e-4)  # the past is missing


def test_a_later_part_with_a_linear_predictor_is_a_slice_of_the_whole() -> None:
    config = ModelConfig(**SHAPE, features=ODD, output="gaussian", linear_prediction=5)
    model = double_model(config)
    codes, _, local = random_inputs(config, 2, 60, 10)
    codes = codes // 100  # as loud as such features are, so that no input is limited
    whole = model(codes, None, local)
    for first in (3, 14, 25):
        part = model(codes[:, first:], None, local, first)
        context = config.context
        assert torch.allclose(part[:, context - 1 :], whole[:, first + context - 1 :], rtol=0, atol=1e-10)
        assert (part[:, context - 3] - whole[:, first + context - 3]).abs().max() > 1e-8  # the last one too early


def test_features_have_an_effect_as_far_as_the_frame_network_reaches() -> None:
    for name, before, after in (("plain", 2, 2), ("parallel", 64, 64), ("causal", 4, 0)):
        config = ModelConfig(**SHAPE, features=EVEN, frame_network=name)
        model = double_model(config)
        codes, _, local = random_inputs(config, 1, 1, 200)
        assert local is not None
        local.requires_grad_(True)
        # sample 4 of frame 100 is in its second half: interpolated with frame 101
        (gradient,) = torch.autograd.grad(model(codes, None, local, 100 * 6 + 4).square().sum(), local)
        frames = torch.nonzero(gradient[0].abs().sum(0)).flatten()
        assert (frames.min().item(), frames.max().item()) == (100 - before, 101 + after)


def test_an_index_is_a_weight_of_one() -> None:
    config = CONDITIONINGS["both"]
    model = double_model(config)
    codes, speaker, local = random_inputs(config, 3, 12, 4)
    assert speaker is not None
    one_hot = F.one_hot(speaker, 3).double()
    assert torch.allclose(model(codes, one_hot, local), model(codes, speaker, local), atol=1e-12)
    # a mixture: half of each speaker's embedding
    half = torch.tensor([[0.5, 0.5, 0.0]]).double().expand(3, -1)
    weights = dict(model.named_parameters())
    assert torch.allclose(model(codes, half, local), transcription(config, weights, codes, half, local, 0), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "speaker", "local", "first", "message"),
    [
        ("both", None, (2, 5, 4), 0, "speaker: required; this model has the speakers ann, bob, cid"),
        ("plain", (2,), (2, 5, 4), 0, "speaker: this model has no speakers"),
        ("both", (2,), None, 0, "local: required; this model is conditioned on features"),
        ("speakers", (2,), (2, 5, 4), 0, "local: this model is not conditioned on features"),
        ("both", (3,), (2, 5, 4), 0, "speaker must be [2], not [3]"),
        ("both", (2, 3), (2, 5, 4), 0, "speaker must be [2], not [2, 3]"),
        ("speakers", (2, 2.0), None, 0, "speaker must be [2, 3], not [2, 2]"),
        ("both", (2,), (1, 5, 4), 0, "local must be features of shape [2, 5, N], not [1, 5, 4]"),
        ("both", (2,), (2, 4, 5), 0, "local must be features of shape [2, 5, N], not [2, 4, 5]"),
        ("both", (2,), (5, 4), 0, "local must be features of shape [2, 5, N], not [5, 4]"),
        ("both", (2,), (2, 5, 4), -1, "first = -1: must be the index of a sample, from 0"),
    ],
)
def test_other_conditioning_is_refused_in_one_line(
    name: str, speaker: tuple[float, ...] | None, local: tuple[int, ...] | None, first: int, message: str
) -> None:
    kind = torch.double if speaker and isinstance(speaker[-1], float) else torch.long
    speakers = None if speaker is None else torch.zeros([int(size) for size in speaker], dtype=kind)
    features = None if local is None else torch.zeros(local, dtype=torch.double)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        double_model(CONDITIONINGS[name])(torch.zeros(2, 5, dtype=torch.long), speakers, features, first)
    assert "\n" not in str(error.value)


@every
def test_the_state_dict_has_the_configured_shapes(config: ModelConfig) -> None:
    model = WaveNet(config)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == config.shapes
    assert sum(weight.numel() for weight in model.parameters()) == config.parameters


# ---- components -----------------------------------------------------------------------------------------------------


def test_interpolation_weights_by_hand() -> None:
    # hop 4: samples are 3/8 and 1/8 of a frame to each side of its centre
    expected = [[3 / 8, 5 / 8, 0], [1 / 8, 7 / 8, 0], [0, 7 / 8, 1 / 8], [0, 5 / 8, 3 / 8]]
    assert interpolation_weights(4).tolist() == expected
    assert interpolation_weights(3)[1].tolist() == [0, 1, 0]  # the centre of its frame
    assert interpolation_weights(1).tolist() == [[0, 1, 0]]
    np.testing.assert_allclose(interpolation_weights(160).sum(1), 1, atol=1e-15)


@pytest.mark.parametrize("hop", [5, 6])
@pytest.mark.parametrize(("offset", "samples"), [(0, 18), (0, 7), (4, 11), (3, 2)])
def test_the_gradient_of_upsampling(hop: int, offset: int, samples: int) -> None:
    blocks = (offset + samples - 1) // hop + 1
    frames = torch.randn(blocks + 2, 3, 4, dtype=torch.double, requires_grad=True)
    bias = GateBias(frames[None], samples, torch.from_numpy(interpolation_weights(hop)), offset)
    upsampled, direction = bias.upsample(frames), torch.randn(samples, 3, 4, dtype=torch.double)
    assert upsampled.shape == (samples, 3, 4)
    assert torch.equal(bias.at_samples(0), upsampled.transpose(0, 1))
    (expected,) = torch.autograd.grad((upsampled * direction).sum(), frames)
    assert torch.allclose(bias.upsample_backward(direction), expected, atol=1e-12)


def test_speakers_alone_are_the_same_at_every_sample() -> None:
    frames = torch.randn(1, 1, 3, 4, dtype=torch.double)
    bias = GateBias(frames, 6)
    assert torch.equal(bias.at_samples(0), frames[0].transpose(0, 1))  # [3, 1, 4]: the same for all samples
    grad = torch.randn(6, 3, 4, dtype=torch.double)
    assert torch.equal(bias.upsample_backward(grad), grad.sum(0, keepdim=True))


@pytest.mark.parametrize(("kind", "name"), [(PlainFrames, "plain"), (ParallelFrames, "parallel")])
def test_the_outputs_of_a_new_frame_network_have_unit_size(kind: type[nn.Module], name: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(features=MelConfig(), frame_network=name)
    conditioning = Conditioning(config)
    conditioning.reset_parameters()
    assert isinstance(conditioning.frames, kind)
    rows = conditioning.frames(torch.randn(300, 4, 80))
    assert rows.shape == (300 - sum(config.frame_context), 4, 64)
    assert 0.2 < rows.square().mean().sqrt() < 2
    assert 0.1 < conditioning.from_frames(rows).std() < 1  # about a half


@pytest.mark.parametrize("size", [1, 2, 7, 129])
def test_a_moving_average_is_that_of_pytorch(size: int) -> None:
    frames = torch.randn(200, 2, 3)
    expected = nn.functional.avg_pool1d(frames.permute(1, 2, 0), size, stride=1).permute(2, 0, 1)
    assert torch.allclose(moving_average(frames, size), expected, atol=1e-6)
    assert torch.allclose(moving_average(frames[:size], size)[0], frames[:size].mean(0), atol=1e-6)


def test_the_parallel_network_costs_what_the_plain_one_does() -> None:
    plain, parallel = (ModelConfig(features=MelConfig(), frame_network=name) for name in ("plain", "parallel"))
    # plain: 3 x 80 x 64 + 3 x 64 x 64; parallel: 16 of 80 bands at 1 + 5 x 3 + 1 taps, then 7 x 16 to 64
    by_hand = [3 * 80 * 64 + 3 * 64 * 64, 17 * 16 * 80 + 7 * 16 * 64]
    projection = plain.layers * 2 * plain.gate * 64
    assert [plain.macs_per_frame, parallel.macs_per_frame] == [cost + projection for cost in by_hand]
    assert by_hand[1] / by_hand[0] == pytest.approx(1, abs=0.06)
