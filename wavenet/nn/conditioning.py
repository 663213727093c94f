"""What a network is told to play: a speaker, or the frames of a spectrogram, as an addition to every layer's gates.

Van den Oord et al. 2016, section 2.5: a, b = W * x + V c_t + U g, with c_t the features of sample t and g the speaker.

    features [B, bands, N] --frame network--> [F, B, C] --V_l--> [L, F, B, 2G] --linear interpolation--> every sample
                                           speaker [B, E] --U_l--^

All of this runs at the rate of frames. Interpolation commutes with the products V_l, so it comes last, and costs next
to nothing. A frame's value holds in its middle; between the middles of two frames it runs in a straight line. The frame
network is given silence beyond the ends, so that it says the same about a crop, with enough around it, as about the
whole.

The parallel frame network looks at a frame with branches side by side: alone, and with neighbours 1, 2, 4, 8 and 16
frames away, and beside them the average over a second or so (Chen et al. 2017, "Rethinking Atrous Convolution for
Semantic Image Segmentation", section 3.3: atrous spatial pyramid pooling, here in one dimension).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import PARALLEL_DILATIONS, PLAIN_TAPS, POOLED_FRAMES, MelConfig, ModelConfig
from wavenet.engine.conditioning import ConditioningInputs


class Conditioning(nn.Module):
    """From speakers and features to what every layer's gates are told."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        gates = config.layers * 2 * config.gate
        if config.speakers:
            self.speaker = nn.Embedding(len(config.speakers), config.speaker_channels)
            self.from_speaker = nn.Linear(config.speaker_channels, gates, bias=False)
        if config.features is not None:
            self.frames = PlainFrames(config) if config.frame_network == "plain" else ParallelFrames(config)
            self.from_frames = nn.Linear(config.frame_channels, gates, bias=False)

    def reset_parameters(self) -> None:
        """The gates are told half a unit at the start."""
        for weight in self.parameters():
            nn.init.zeros_(weight)
        if self.config.speakers:
            nn.init.normal_(self.speaker.weight)
            nn.init.normal_(self.from_speaker.weight, std=0.5 / math.sqrt(self.config.speaker_channels))
        if self.config.features is not None:
            for part in self.frames.children():
                cast(FrameConv, part).reset_parameters()
            nn.init.normal_(self.from_frames.weight, std=0.5 / math.sqrt(self.config.frame_channels))

    def forward(self, speaker: Tensor | None, local: Tensor | None, streams: int, first: int, samples: int) -> GateBias:
        """What B = `streams` are told at the `samples` positions from `first` on; see `WaveNet.forward`."""
        self._check(speaker, local, streams, first)
        if local is None:
            assert speaker is not None
            return GateBias(self._layers(self._voice(speaker)[None]), samples, streams)
        hop = self.config.hop
        begin, end = first // hop, (first + samples - 1) // hop + 1  # frames that hold a position
        frames = self.frame_rows(local, begin - 1, end + 1)  # [F, B, C]; one more to each side to blend with
        told = self.from_frames(frames)  # [F, B, L*2G]
        if speaker is not None:
            told = told + self._voice(speaker)
        return GateBias(self._layers(told), samples, streams, interpolation_weights(hop, local), first - begin * hop)

    def frame_rows(self, local: Tensor, begin: int, end: int) -> Tensor:
        """The frame network's output [end - begin, B, C] for these frames of features [B, bands, N]."""
        mel, reach = cast(MelConfig, self.config.features), self.config.frame_reach
        low, high = begin - reach, end + reach
        inside = local[..., max(0, low) : max(0, min(high, local.shape[-1]))]
        before = min(high, 0) - low if low < 0 else 0
        padded = F.pad(inside, (before, high - low - before - inside.shape[-1]), value=mel.silence)
        rows = (padded.permute(2, 0, 1) - mel.mean) / mel.deviation  # [n, B, bands]
        return self.frames(rows)

    def _voice(self, speaker: Tensor) -> Tensor:
        """[B, L*2G] of indices [B] or of shares [B, speakers]."""
        embedded = speaker @ self.speaker.weight if speaker.is_floating_point() else self.speaker(speaker)
        return self.from_speaker(embedded)

    def _layers(self, told: Tensor) -> Tensor:
        """[F, B, L*2G] -> [L, F, B, 2G]"""
        return told.unflatten(2, (self.config.layers, -1)).permute(2, 0, 1, 3)

    def _check(self, speaker: Tensor | None, local: Tensor | None, streams: int, first: int) -> None:
        if (speaker is None) == bool(self.config.speakers):
            known = ", ".join(self.config.speakers)
            raise ValueError(f"speaker: this model knows {known}; one is needed" if known else "speaker: it knows none")
        if (local is None) == (self.config.features is not None):
            raise ValueError("local: this model needs features" if local is None else "local: it is driven by none")
        if speaker is not None:
            expected = [[streams], [streams, len(self.config.speakers)]][speaker.is_floating_point()]
            if list(speaker.shape) != expected:
                raise ValueError(f"speaker must be {expected}, not {list(speaker.shape)}")
        if local is not None and self.config.features is not None:
            bands = self.config.features.bands
            if local.dim() != 3 or local.shape[0] != streams or local.shape[1] != bands:
                raise ValueError(f"local must be [{streams}, {bands}, N] features, not {list(local.shape)}")
        if first < 0:
            raise ValueError(f"first = {first}: must be a sample of the features, from 0")


def tensors_of(told: ConditioningInputs | None, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Speaker and features of `told` as `WaveNet.forward` takes them."""
    if told is None:
        return None, None
    speaker, local = (
        None if part is None else torch.from_numpy(part).to(device) for part in (told.speaker, told.features)
    )
    return speaker, local


@dataclass
class GateBias:
    """What is told to every layer's gates, frame by frame, and how it spreads over T samples of B streams.

    told: [L, F, B, 2G]. Without interpolation_weights F is 1, and holds for all samples. With them, [hop, 3], sample j
    of a block of hop samples has the weights interpolation_weights[j] of three frames; the first position lies `offset`
    samples into the first block.
    """

    told: Tensor
    samples: int
    streams: int
    interpolation_weights: Tensor | None = None
    offset: int = 0

    def rows(self, bias: Tensor) -> Tensor:
        """`told` and the gates' own bias [L, 2G]: [L, F, B, 2G], every layer's lying together."""
        return (self.told + bias[:, None, None]).contiguous()

    def upsample(self, frames: Tensor) -> Tensor:
        """One layer's frames [F, B, 2G] -> new rows [T*B, 2G], time first."""
        width = frames.shape[-1]
        if self.interpolation_weights is None:
            return frames.repeat(self.samples, 1, 1).view(-1, width)  # of one stream, too, every row its own
        blocks, size = len(frames) - 2, frames[0].numel()
        threes = frames.as_strided((blocks, 3, size), (size, size, 1), frames.storage_offset())
        woven = torch.bmm(self.interpolation_weights.expand(blocks, -1, -1), threes)  # [F - 2, hop, B*2G]
        begin = self.offset * self.streams
        return woven.view(-1, width)[begin : begin + self.samples * self.streams]

    def upsample_backward(self, grad: Tensor) -> Tensor:
        """`spread` backwards: from the gradient of its rows [T*B, 2G] to that of the frames [F, B, 2G]."""
        width = grad.shape[-1]
        if self.interpolation_weights is None:
            return grad.view(self.samples, 1, self.streams, width).sum(0)
        hop = len(self.interpolation_weights)
        rest = -(self.offset + self.samples) % hop
        if self.offset or rest:
            grad = F.pad(grad, (0, 0, self.offset * self.streams, rest * self.streams))
        blocks = grad.view(-1, hop, self.streams * width)
        threes = torch.bmm(self.interpolation_weights.t().expand(len(blocks), -1, -1), blocks)  # [F - 2, 3, B*2G]
        frames = grad.new_zeros(len(blocks) + 2, self.streams * width)
        for part in range(3):
            frames[part : part + len(blocks)] += threes[:, part]
        return frames.view(-1, self.streams, width)


def interpolation_weights(hop: int, like: Tensor) -> Tensor:
    """Shares [hop, 3] that the frames before, around and behind a sample have in what it is told."""
    along = (torch.arange(hop, dtype=torch.float64) - (hop - 1) / 2) / hop  # from the middle of its frame, in frames
    shares = torch.stack([(-along).clamp_min(0), 1 - along.abs(), along.clamp_min(0)], dim=1)
    return shares.to(like)


class FrameConv(nn.Module):
    """A convolution over rows [n, B, in], not padded: [n - (taps - 1) rate, B, out]."""

    def __init__(self, inputs: int, outputs: int, taps: int = 1, rate: int = 1) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.empty(taps, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def reset_parameters(self) -> None:
        """As suits a relu behind it (He et al. 2015)."""
        taps, _, inputs = self.weight.shape
        nn.init.normal_(self.weight, std=math.sqrt(2 / (taps * inputs)))
        nn.init.zeros_(self.bias)

    def forward(self, rows: Tensor) -> Tensor:
        taps = len(self.weight)
        kept = len(rows) - (taps - 1) * self.rate
        shifted = torch.cat([rows[tap * self.rate :][:kept] for tap in range(taps)], dim=-1)  # [kept, B, taps*in]
        return shifted @ self.weight.permute(0, 2, 1).reshape(-1, len(self.bias)) + self.bias


class PlainFrames(nn.Module):
    """Two convolutions of three taps, one after the other: it sees two frames to each side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bands, width = cast(MelConfig, config.features).bands, config.frame_channels
        self.first = FrameConv(bands, width, PLAIN_TAPS)
        self.second = FrameConv(width, width, PLAIN_TAPS)

    def forward(self, rows: Tensor) -> Tensor:
        """[n, B, bands] -> [n - 2 reach, B, C]"""
        return F.relu(self.second(F.relu(self.first(rows))))


class ParallelFrames(nn.Module):
    """Branches side by side, near and far, and one over all that is around; then one product over all of them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bands, width, branch = cast(MelConfig, config.features).bands, config.frame_channels, config.branch_channels
        self.point = FrameConv(bands, branch)
        for rate in PARALLEL_DILATIONS:
            self.add_module(f"rate_{rate}", FrameConv(bands, branch, PLAIN_TAPS, rate))
        self.pooled = FrameConv(bands, branch)
        self.joined = FrameConv((2 + len(PARALLEL_DILATIONS)) * branch, width)

    def forward(self, rows: Tensor) -> Tensor:
        """[n, B, bands] -> [n - 2 reach, B, C]"""
        kept = len(rows) - 2 * POOLED_FRAMES
        seen = [self.point(rows[POOLED_FRAMES:][:kept])]
        for rate in PARALLEL_DILATIONS:
            margin = POOLED_FRAMES - rate * (PLAIN_TAPS // 2)
            seen.append(self.get_submodule(f"rate_{rate}")(rows[margin : len(rows) - margin]))
        around = F.avg_pool1d(rows.permute(1, 2, 0), 2 * POOLED_FRAMES + 1, stride=1).permute(2, 0, 1)
        seen.append(self.pooled(around))
        return F.relu(self.joined(F.relu(torch.cat(seen, dim=-1))))
