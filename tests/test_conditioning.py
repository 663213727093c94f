"""What a network is told: against plain transcriptions with the library's convolution and interpolation."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wavenet.config import MelConfig, ModelConfig
from wavenet.engine.conditioning import CHUNK, Conditioner, conditioning_inputs, interpolation_position
from wavenet.model import WaveNet
from wavenet.nn.conditioning import Conditioning, GateBias, ParallelFrames, PlainFrames, interpolation_weights

EVEN = {"window": 20, "fft": 24, "hop": 6, "bands": 5}
ODD = {"window": 20, "fft": 25, "hop": 7, "bands": 5}
SHAPE = {
    "cycles": 2,
    "layers_per_cycle": 2,
    "residual_channels": 3,
    "gate_channels": 4,
    "skip_channels": 6,
    "frame_channels": 8,
    "speaker_channels": 3,
}
SPEAKERS = ("ann", "bob", "cid")

CONFIGS = {
    "speakers": ModelConfig(**SHAPE, speakers=SPEAKERS),
    "plain": ModelConfig(**SHAPE, features=ODD),
    "parallel": ModelConfig(**SHAPE, features=EVEN, frame_network="parallel"),
    "both": ModelConfig(**SHAPE, features=EVEN, speakers=SPEAKERS),
    "both, parallel": ModelConfig(**SHAPE, features=ODD, speakers=SPEAKERS, frame_network="parallel"),
    "16 bits": ModelConfig(**SHAPE, features=ODD, speakers=SPEAKERS, output="logistic", mixtures=2),
}
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
framed = pytest.mark.parametrize(
    "config", [config for config in CONFIGS.values() if config.features], ids=[k for k in CONFIGS if k != "speakers"]
)


def lively(config, seed=0):
    """A network in double precision whose numbers are far from zero, and depend on what it is told."""
    torch.manual_seed(seed)
    model = WaveNet(config).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(3.0 if "conditioning" in name else 0.0, 0.3)  # open rectifiers of the frame network
        model.skip.bias.fill_(9.0)  # keeps the head's rectifiers open
        model.head.hidden.weight.abs_()
        model.head.output.weight.normal_()
    return model


def given_to(config, streams, samples, frames, seed=0):
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


def conv(weights, name, x, rate=1):
    """The library's convolution of x [B, in, n] with weights that are stored as [taps, out, in]."""
    return F.conv1d(x, weights[f"{name}.weight"].permute(1, 2, 0), weights[f"{name}.bias"], dilation=rate)


def frame_network(config, weights, x):
    """[B, bands, N + 2 reach] -> [B, C, N]"""
    prefix = "conditioning.frames"
    if config.frame_network == "plain":
        hidden = F.relu(conv(weights, f"{prefix}.first", x))
        return F.relu(conv(weights, f"{prefix}.second", hidden))
    branches = [conv(weights, f"{prefix}.point", x[..., 64:-64])]
    for rate in (1, 2, 4, 8, 16):
        inside = x[..., 64 - rate : x.shape[-1] - 64 + rate]
        branches.append(conv(weights, f"{prefix}.rate_{rate}", inside, rate))
    around = F.conv1d(x, torch.full((x.shape[1], 1, 129), 1 / 129, dtype=x.dtype), groups=x.shape[1])
    branches.append(conv(weights, f"{prefix}.pooled", around))
    return F.relu(conv(weights, f"{prefix}.joined", F.relu(torch.cat(branches, dim=1))))


def told_to_gates(config, weights, speaker, local, first, samples):
    """V_l c_t + U_l g for all layers: [B, L*2G, T], or [B, L*2G, 1] for speakers alone."""
    told = 0
    if config.speakers:
        shares = F.one_hot(speaker, 3).double() if speaker.dim() == 1 else speaker
        embedded = shares @ weights["conditioning.speaker.weight"]
        told = (embedded @ weights["conditioning.from_speaker.weight"].T)[..., None]
    if config.features:
        mel, beyond = config.features, 60 + config.frame_reach  # frames of silence around, more than any test asks for
        silence = float(np.log(1e-5))
        x = (F.pad(local, (beyond, beyond), value=silence) - mel.mean) / mel.deviation
        frames = frame_network(config, weights, x)  # of frame -60 on
        sampled = F.interpolate(frames, scale_factor=mel.hop, mode="linear", align_corners=False)  # [B, C, n*hop]
        begin = 60 * mel.hop + first
        assert mel.hop <= begin and begin + samples <= sampled.shape[-1] - mel.hop  # the ends are not blended
        told = told + torch.einsum(
            "oc,bct->bot", weights["conditioning.from_frames.weight"], sampled[..., begin : begin + samples]
        )
    return told


def transcribed(config, weights, codes, speaker, local, first):
    told = told_to_gates(config, weights, speaker, local, first, codes.shape[1])
    if config.output == "mulaw":
        x = F.one_hot(codes, 256).double() @ weights["embedding.weight"]  # [B, T, R]
    else:
        x = codes.double()[..., None] / 32_768 @ weights["embedding.weight"]
    x, skip = x.transpose(1, 2), 0
    for layer, dilation in enumerate(config.dilations):
        taps = weights[f"layers.{layer}.dilated.weight"].permute(1, 2, 0)
        y = F.conv1d(F.pad(x, (dilation, 0)), taps, weights[f"layers.{layer}.dilated.bias"], dilation=dilation)
        y = y + told[:, layer * 2 * config.gate : (layer + 1) * 2 * config.gate]
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
@pytest.mark.parametrize(
    ("first", "samples", "frames"),
    # in the middle of a frame and on borders, within the features, over their end, and far behind it
    [(0, 30, 5), (9, 20, 6), (7, 14, 6), (12, 12, 4), (33, 25, 7), (10, 1, 4), (80, 10, 3)],
)
def test_numbers_and_gradients_are_those_of_the_formulas(config, first, samples, frames):
    model = lively(config, seed=first)
    codes, speaker, local = given_to(config, 2, samples, frames)
    towards = torch.randn(2, samples, config.output_channels, dtype=torch.double)
    weights = dict(model.named_parameters())
    learnt = list(weights.values())
    if local is not None:
        learnt.append(local.requires_grad_(True))  # what features change is part of the mathematics, too
    ours = model(codes, speaker, local, first)
    theirs = transcribed(config, weights, codes, speaker, local, first)
    assert torch.allclose(ours, theirs, atol=1e-9)
    gradients = torch.autograd.grad((ours * towards).sum(), learnt)
    expected = torch.autograd.grad((theirs * towards).sum(), learnt)
    for name, one, other in zip([*weights, "local"], gradients, expected, strict=False):
        assert torch.allclose(one, other, atol=1e-8), name
    told = [g for name, g in zip(weights, expected, strict=False) if name.startswith("conditioning")]
    assert first == 80 or all(g.abs().max() > 1e-6 for g in told)  # silence alone may leave a rectifier shut


@every
def test_gradients_are_those_of_finite_differences(config):
    model = lively(config)
    codes, speaker, local = given_to(config, 2, 11, 4)
    if local is not None:
        local.requires_grad_(True)
    told = [weight for name, weight in model.named_parameters() if name.startswith("conditioning")]
    biases = [layer.dilated.bias for layer in model.layers]  # what is told takes their place inside

    def numbers(*_):
        return model(codes, speaker, local, 9)

    inputs = [*told, *biases, *([] if local is None else [local])]
    assert torch.autograd.gradcheck(numbers, inputs, fast_mode=True)


@every
def test_what_is_told_matters_and_streams_do_not_touch_each_other(config):
    model = lively(config)
    codes, speaker, local = given_to(config, 3, 20, 5)
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
def test_a_later_part_is_a_slice_of_the_whole(config):
    model = lively(config)
    codes, speaker, local = given_to(config, 2, 60, 10)
    whole = model(codes, speaker, local)
    field = config.receptive_field
    for first in (1, 7, 17, 21, 40):
        part = model(codes[:, first:], speaker, local, first)
        assert torch.allclose(part[:, field - 1 :], whole[:, first + field - 1 :], atol=1e-12)
        assert not torch.allclose(part[:, 0], whole[:, first], atol=1e-4)  # the past is missing


def test_a_later_part_with_a_linear_predictor_is_a_slice_of_the_whole():
    config = ModelConfig(**SHAPE, features=ODD, output="gaussian", linear_prediction=5)
    model = lively(config)
    codes, _, local = given_to(config, 2, 60, 10)
    codes = codes // 100  # as loud as such features are, so that no input is cut
    whole = model(codes, None, local)
    for first in (3, 14, 25):
        part = model(codes[:, first:], None, local, first)
        seen = config.context
        assert torch.allclose(part[:, seen - 1 :], whole[:, first + seen - 1 :], rtol=0, atol=1e-10)
        assert (part[:, seen - 3] - whole[:, first + seen - 3]).abs().max() > 1e-8  # the last that misses a sample


def test_features_are_heard_as_far_as_the_frame_network_reaches():
    for name, reach in (("plain", 2), ("parallel", 64)):
        config = ModelConfig(**SHAPE, features=EVEN, frame_network=name)
        model = lively(config)
        codes, _, local = given_to(config, 1, 1, 200)
        local.requires_grad_(True)
        # sample 4 of frame 100, in its second half, is also told what frame 101 says
        (gradient,) = torch.autograd.grad(model(codes, None, local, 100 * 6 + 4).square().sum(), local)
        heard = torch.nonzero(gradient[0].abs().sum(0)).flatten()
        assert (heard.min().item(), heard.max().item()) == (100 - reach, 101 + reach)


def test_an_index_is_a_share_of_one():
    config = CONFIGS["both"]
    model = lively(config)
    codes, speaker, local = given_to(config, 3, 12, 4)
    shares = F.one_hot(speaker, 3).double()
    assert torch.allclose(model(codes, shares, local), model(codes, speaker, local), atol=1e-12)
    # a blend lies between: half of each speaker's embedding
    half = torch.tensor([[0.5, 0.5, 0.0]]).double().expand(3, -1)
    weights = dict(model.named_parameters())
    assert torch.allclose(model(codes, half, local), transcribed(config, weights, codes, half, local, 0), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "speaker", "local", "first", "message"),
    [
        ("both", None, (2, 5, 4), 0, "speaker: this model knows ann, bob, cid; one is needed"),
        ("plain", (2,), (2, 5, 4), 0, "speaker: it knows none"),
        ("both", (2,), None, 0, "local: this model needs features"),
        ("speakers", (2,), (2, 5, 4), 0, "local: it is driven by none"),
        ("both", (3,), (2, 5, 4), 0, "speaker must be [2], not [3]"),
        ("both", (2, 3), (2, 5, 4), 0, "speaker must be [2], not [2, 3]"),
        ("speakers", (2, 2.0), None, 0, "speaker must be [2, 3], not [2, 2]"),
        ("both", (2,), (1, 5, 4), 0, "local must be [2, 5, N] features, not [1, 5, 4]"),
        ("both", (2,), (2, 4, 5), 0, "local must be [2, 5, N] features, not [2, 4, 5]"),
        ("both", (2,), (5, 4), 0, "local must be [2, 5, N] features, not [5, 4]"),
        ("both", (2,), (2, 5, 4), -1, "first = -1: must be a sample of the features, from 0"),
    ],
)
def test_what_does_not_fit_is_one_line(name, speaker, local, first, message):
    kind = torch.double if speaker and isinstance(speaker[-1], float) else torch.long
    given = None if speaker is None else torch.zeros([int(size) for size in speaker], dtype=kind)
    features = None if local is None else torch.zeros(local, dtype=torch.double)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        lively(CONFIGS[name])(torch.zeros(2, 5, dtype=torch.long), given, features, first)
    assert "\n" not in str(error.value)


@every
def test_the_state_dict_is_what_the_configuration_says(config):
    model = WaveNet(config)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == config.shapes
    assert sum(weight.numel() for weight in model.parameters()) == config.parameters


# ---- its parts ------------------------------------------------------------------------------------------------------


def test_shares_of_frames_by_hand():
    # hop 4: samples lie 3/8 and 1/8 of a frame to each side of its middle
    expected = [[3 / 8, 5 / 8, 0], [1 / 8, 7 / 8, 0], [0, 7 / 8, 1 / 8], [0, 5 / 8, 3 / 8]]
    assert interpolation_weights(4, torch.zeros(1)).tolist() == expected
    assert interpolation_weights(3, torch.zeros(1, dtype=torch.double))[1].tolist() == [
        0,
        1,
        0,
    ]  # the middle of its frame
    assert torch.allclose(
        interpolation_weights(160, torch.zeros(1, dtype=torch.double)).sum(1), torch.ones(160, dtype=torch.double)
    )


@pytest.mark.parametrize("hop", [5, 6])
@pytest.mark.parametrize(("offset", "samples"), [(0, 18), (0, 7), (4, 11), (3, 2)])
def test_gathering_is_spreading_backwards(hop, offset, samples):
    blocks = (offset + samples - 1) // hop + 1
    told = torch.randn(1, blocks + 2, 3, 4, dtype=torch.double)
    added = GateBias(told, samples, 3, interpolation_weights(hop, told), offset)
    frames, towards = told[0].requires_grad_(True), torch.randn(samples * 3, 4, dtype=torch.double)
    spread = added.upsample(frames)
    assert spread.shape == (samples * 3, 4)
    (expected,) = torch.autograd.grad((spread * towards).sum(), frames)
    assert torch.allclose(added.upsample_backward(towards), expected, atol=1e-12)


def test_speakers_alone_are_the_same_at_every_sample():
    told = torch.randn(1, 1, 3, 4, dtype=torch.double)
    added = GateBias(told, 6, 3)
    spread = added.upsample(told[0]).view(6, 3, 4)
    assert torch.equal(spread, told[0].expand(6, -1, -1))
    for samples, streams in ((6, 1), (1, 3), (1, 1)):  # new rows, which the layer then overwrites, in every shape
        one = told[0, :, :streams].contiguous()
        GateBias(one[None], samples, streams).upsample(one).zero_()
        assert one.any()
    grad = torch.randn(18, 4, dtype=torch.double)
    assert torch.allclose(added.upsample_backward(grad), grad.view(6, 1, 3, 4).sum(0))


@pytest.mark.parametrize(("kind", "name"), [(PlainFrames, "plain"), (ParallelFrames, "parallel")])
def test_a_fresh_frame_network_says_something_of_unit_size(kind, name):
    torch.manual_seed(0)
    config = ModelConfig(features=MelConfig(), frame_network=name)
    conditioning = Conditioning(config)
    conditioning.reset_parameters()
    assert isinstance(conditioning.frames, kind)
    rows = conditioning.frames(torch.randn(300, 4, 80))
    assert rows.shape == (300 - 2 * config.frame_reach, 4, 64)
    assert 0.2 < rows.square().mean().sqrt() < 2
    told = conditioning.from_frames(rows)
    assert 0.1 < told.std() < 1  # half a unit


def test_the_parallel_network_costs_what_the_plain_one_does():
    plain, parallel = (ModelConfig(features=MelConfig(), frame_network=name) for name in ("plain", "parallel"))
    # plain: 3 x 80 x 64 + 3 x 64 x 64; parallel: 16 of 80 bands at 1 + 5 x 3 + 1 taps, then 7 x 16 to 64
    by_hand = [3 * 80 * 64 + 3 * 64 * 64, 17 * 16 * 80 + 7 * 16 * 64]
    projection = plain.layers * 2 * plain.gate * 64
    assert [plain.macs_per_frame, parallel.macs_per_frame] == [cost + projection for cost in by_hand]
    assert by_hand[1] / by_hand[0] == pytest.approx(1, abs=0.06)


# ---- the same in NumPy ----------------------------------------------------------------------------------------------


@framed
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_the_engines_conditioner_is_the_networks(config, chunk):
    model = lively(config).float()
    _, speaker, local = given_to(config, 2, 1, 50)  # ends in the middle of chunk 1
    local = local.float()
    names = None if speaker is None else {"ann": 0.25, "cid": 0.75}
    shares = None if speaker is None else torch.tensor([[0.25, 0, 0.75]] * 2)
    conditioner = Conditioner(config, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    hop, samples = config.hop, CHUNK * config.hop
    assert conditioner.samples == samples
    rows = conditioner.told(conditioning_inputs(config, 2, names, local.numpy()), chunk).rows
    assert rows.shape == (2, CHUNK + 2, config.layers, 2 * config.gate)
    with torch.no_grad():
        added = model.conditioning(shares, local, 2, chunk * samples, samples)
        expected = added.rows(model.gate_bias())  # [L, F, B, 2G], the gates' own bias included
        np.testing.assert_allclose(rows.transpose(2, 1, 0, 3), expected.numpy(), atol=1e-5)
        for layer in range(config.layers):
            spread = added.upsample(expected[layer]).view(samples, 2, -1).numpy()
            for offset in (0, 1, hop - 1, hop, 5 * hop + 3, samples - 1):
                row, along = interpolation_position(offset, hop)
                blended = (1 - along) * rows[:, row, layer] + along * rows[:, min(row + 1, CHUNK + 1), layer]
                np.testing.assert_allclose(blended, spread[offset], atol=1e-5)
    assert rows.std() > 0.1


def test_the_engines_conditioner_of_speakers_is_the_networks():
    config = CONFIGS["speakers"]
    model = lively(config).float()
    conditioner = Conditioner(config, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    assert conditioner.samples is None
    rows = conditioner.told(conditioning_inputs(config, 2, "bob"), 0).rows
    with torch.no_grad():
        added = model.conditioning(torch.tensor([1, 1]), None, 2, 0, 9)
        expected = added.rows(model.gate_bias())  # [L, 1, B, 2G]
    np.testing.assert_allclose(rows.transpose(2, 1, 0, 3), expected.numpy(), atol=1e-6)
