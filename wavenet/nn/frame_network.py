"""Networks at frame rate: normalised features of a frame and its neighbours -> conditioning channels of that frame.

All of them map [N, B, inputs] to [N - context, B, C], frames first and without padding: `context` is the number of
frames before and after its own that an output depends on (`wavenet.config.frame_context`). The inputs are the bands of
the features and C is `ModelConfig.frame_channels`; in a labeller they are its skip channels and C is
`LabellerConfig.head_channels`.

plain     two convolutions of three taps, one after the other
causal    the same with taps on a frame and those before it, so that features can be used as they arrive
parallel  parallel branches: a projection of the frame alone, convolutions with dilations of 1, 2, 4, 8 and 16 frames,
          and the average over 129 frames; then a projection of all of them. Chen et al. 2017, "Rethinking Atrous
          Convolution for Semantic Image Segmentation", section 3.3: atrous spatial pyramid pooling, in one dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import PARALLEL_DILATIONS, PLAIN_TAPS, POOLED_FRAMES, branch_channels


class FrameConv(nn.Module):
    """A convolution over frames without padding: [N, B, inputs] -> [N - (taps - 1) dilation, B, outputs]."""

    def __init__(self, inputs: int, outputs: int, taps: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(taps, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def reset_parameters(self) -> None:
        """Initialise for a ReLU after the convolution (He et al. 2015)."""
        taps, _, inputs = self.weight.shape
        nn.init.normal_(self.weight, std=math.sqrt(2 / (taps * inputs)))
        nn.init.zeros_(self.bias)

    def forward(self, frames: Tensor) -> Tensor:
        taps = len(self.weight)
        count = len(frames) - (taps - 1) * self.dilation
        context = torch.cat([frames[tap * self.dilation :][:count] for tap in range(taps)], dim=-1)  # [n, B, taps*in]
        return context @ self.weight.permute(0, 2, 1).reshape(-1, len(self.bias)) + self.bias  # [n, B, out]


class PlainFrames(nn.Module):
    """Two convolutions of three taps: four context frames, which precede the frame in a causal network."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.first = FrameConv(inputs, channels, PLAIN_TAPS)
        self.second = FrameConv(channels, channels, PLAIN_TAPS)

    def forward(self, frames: Tensor) -> Tensor:
        """[N, B, inputs] -> [N - 4, B, C]"""
        return F.relu(self.second(F.relu(self.first(frames))))


class ParallelFrames(nn.Module):
    """Parallel branches of different dilations and one of average pooling, then a projection of all of them."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        branch = branch_channels(channels)
        self.point = FrameConv(inputs, branch)
        for dilation in PARALLEL_DILATIONS:
            self.add_module(f"rate_{dilation}", FrameConv(inputs, branch, PLAIN_TAPS, dilation))
        self.pooled = FrameConv(inputs, branch)
        self.joined = FrameConv((2 + len(PARALLEL_DILATIONS)) * branch, channels)

    def forward(self, frames: Tensor) -> Tensor:
        """[N, B, inputs] -> [N - 2 POOLED_FRAMES, B, C]"""
        count = len(frames) - 2 * POOLED_FRAMES
        branches = [self.point(frames[POOLED_FRAMES:][:count])]  # [n, B, branch]
        for dilation in PARALLEL_DILATIONS:
            margin = POOLED_FRAMES - dilation * (PLAIN_TAPS // 2)
            branches.append(self.get_submodule(f"rate_{dilation}")(frames[margin : len(frames) - margin]))
        branches.append(self.pooled(moving_average(frames, 2 * POOLED_FRAMES + 1)))
        return F.relu(self.joined(F.relu(torch.cat(branches, dim=-1))))


def moving_average(frames: Tensor, size: int) -> Tensor:
    """The means of `size` consecutive frames: [N, B, C] -> [N - size + 1, B, C].

    A sum is put together from sums of 1, 2, 4, ... frames, of which all windows share those of two halves: a few
    additions of all frames instead of `size`. Each mean depends on its own frames only, also in its rounding.
    """
    count = len(frames) - size + 1
    total, begin, sums = frames.new_zeros(()), 0, frames
    for power in range(size.bit_length()):
        width = 2**power
        if size & width:
            total = total + sums[begin : begin + count]
            begin += width
        if begin < size:
            sums = sums[:-width] + sums[width:]  # of 2 x width frames
    return total / size


def frame_network(kind: str, inputs: int, channels: int) -> PlainFrames | ParallelFrames:
    """The network of a kind of `wavenet.config.FRAME_NETWORKS`, not initialised."""
    return ParallelFrames(inputs, channels) if kind == "parallel" else PlainFrames(inputs, channels)
