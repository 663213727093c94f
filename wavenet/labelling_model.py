"""The definition of the labeller: a WaveNet stack that gives every frame of a recording a class.

    log-mel frames, or samples -> linear -> layer 0 -> layer 1 -> ... -> layer L-1     the layers of `wavenet.model`
                                             |          |                 |
                                            z_0        z_1     ...      z_(L-1)        skip sum
    skip sum, with samples its mean over every frame -> ReLU, head: h -> linear        logits of the classes

The layers are causal, or their kernels are centred on the position (two-sided). Outside of the recording everything
is zero. The head is one of `wavenet.nn.frame_network`.

Source: van den Oord et al. 2016, section 3.4: dilated convolutions over samples, mean pooling to frames of 10 ms, a few
non-causal convolutions, and a second loss, which predicts the next sample. Dilated kernels centred on the position:
Yu and Koltun 2016, "Multi-scale context aggregation by dilated convolutions".

Symbols: B recordings, N frames, T positions (N frames, or N x hop samples), R, G and S channels, C classes.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import frame_context
from wavenet.labelling_config import LabellerConfig
from wavenet.model import SAMPLE_SCALE, Head, ResidualLayer
from wavenet.nn import fused
from wavenet.nn.frame_network import FrameConv, frame_network


class LabellingNetwork(nn.Module):
    """Logits of the classes of every frame: features [B, bands, N] or samples [B, N x hop] -> [B, N, C].

    dropout: share of the channels before and after the head that are zero in a training step, other ones in every
        frame; it is set for training and not stored.
    """

    dropout = 0.0

    def __init__(self, config: LabellerConfig) -> None:
        super().__init__()
        self.config = config
        stack, last = config.stack, config.stack.layers - 1
        self.input = nn.Linear(config.input_channels, config.residual_channels)
        self.layers = nn.ModuleList(
            ResidualLayer(stack, dilation, index == last, config.taps_ahead)
            for index, dilation in enumerate(stack.dilations)
        )
        self.skip = nn.Linear(stack.layers * stack.gate, config.skip_channels)
        self.head = frame_network(config.head, config.skip_channels, config.head_channels)
        self.output = nn.Linear(config.head_channels, len(config.class_names))
        if config.joint_loss:
            self.next_sample = Head(stack)
        self.reset_parameters()

    def forward(self, inputs: Tensor) -> Tensor:
        """Features [B, bands, N], or samples [B, N x hop] in [-1, 1] -> logits [B, N, C] of the classes.

        Raises `ValueError` for wrong shapes.
        """
        return self.classified(self.hidden(inputs))

    def with_next_sample(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the classes [B, N, C], and those of the mu-law code of the next sample [B, T, 256].

        For a network with `joint_loss`; position t predicts sample t + 1 from samples <= t.
        """
        hidden = self.hidden(inputs)
        return self.classified(hidden), self.next_sample(hidden)

    def hidden(self, inputs: Tensor) -> Tensor:
        """The stack and the skip sum: inputs as of `forward` -> [B, T, S]."""
        x = self.input(self._normalised(inputs))  # [B, T, R]
        if self.config.causal and fused.supports(x):
            layers = [layer.weights() for layer in self.typed_layers]
            dilations = self.config.stack.dilations
            return fused.residual_stack(x, layers, dilations, self.skip.weight, self.skip.bias)
        gated = []
        for layer in self.layers:
            x, z = layer(x)
            gated.append(z)
        return self.skip(torch.cat(gated, dim=-1))

    def classified(self, hidden: Tensor) -> Tensor:
        """The skip sum [B, T, S] -> logits [B, N, C]."""
        if self.config.input == "samples":  # mean pooling: [B, N, S]
            hidden = hidden.unflatten(1, (-1, self.config.samples_per_frame)).mean(2)
        frames = F.relu(hidden).transpose(0, 1)  # frames first: [N, B, S]
        reach, _ = frame_context(self.config.head)  # to both sides
        padded = F.pad(self._dropped(frames), (0, 0, 0, 0, reach, reach))  # [reach + N + reach, B, S]
        return self.output(self._dropped(self.head(padded))).transpose(0, 1)

    def _normalised(self, inputs: Tensor) -> Tensor:
        """The input of the first layer [B, T, bands or 1]."""
        mel, hop = self.config.features, self.config.samples_per_frame
        if mel is None:
            if inputs.dim() != 2 or not inputs.shape[1] or inputs.shape[1] % hop:
                raise ValueError(f"samples must be [B, N x {hop}] with N >= 1, not {list(inputs.shape)}")
            return inputs[..., None]
        if inputs.dim() != 3 or inputs.shape[1] != mel.bands or not inputs.shape[2]:
            raise ValueError(f"features must be [B, {mel.bands}, N] with N >= 1, not {list(inputs.shape)}")
        return (inputs.transpose(1, 2) - mel.mean) / mel.deviation

    def _dropped(self, frames: Tensor) -> Tensor:
        return F.dropout(frames, self.dropout, self.training)

    @property
    def typed_layers(self) -> list[ResidualLayer]:
        """The layers, typed."""
        return [cast(ResidualLayer, layer) for layer in self.layers]

    def reset_parameters(self) -> None:
        """Initialise: all activations have about unit variance, and all classes are about equally probable."""
        scale = SAMPLE_SCALE if self.config.input == "samples" else 1 / math.sqrt(self.input.in_features)
        nn.init.normal_(self.input.weight, std=scale)
        nn.init.zeros_(self.input.bias)
        for layer in self.typed_layers:
            layer.reset_parameters()
        # z = tanh . sigmoid of unit inputs has a standard deviation of about 0.3
        nn.init.normal_(self.skip.weight, std=3 / math.sqrt(self.skip.in_features))
        nn.init.zeros_(self.skip.bias)
        for convolution in self.head.children():
            cast(FrameConv, convolution).reset_parameters()
        nn.init.normal_(self.output.weight, std=0.1 / math.sqrt(self.output.in_features))
        nn.init.zeros_(self.output.bias)
        if self.config.joint_loss:
            self.next_sample.reset_parameters()
