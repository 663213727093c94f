"""Conditioning on speakers and mel spectrograms: both are mapped to a bias of every layer's gates.

Van den Oord et al. 2016, section 2.5:  a, b = W * x + V c_t + U g,  with c_t the features of sample t, g the speaker.

    features [B, bands, N] --frame network--> [F, B, C] --V_l--> [L, F, B, 2G] --linear interpolation--> every sample
                                           speaker [B, E] --U_l--^

Everything before the interpolation is computed once per frame. Interpolation commutes with the projections V_l, so it
comes last (`wavenet.nn.interpolation`). Frames beyond the ends of the features are silent, so that a crop with enough
context around it has the conditioning of the whole recording.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import MelConfig, ModelConfig, listed
from wavenet.nn.frame_network import FrameConv, frame_network
from wavenet.nn.interpolation import interpolation_weights


class Conditioning(nn.Module):
    """Maps speakers and features to the gate bias V c_t + U g of every layer."""

    interpolation: Tensor  # [hop, 3]: interpolation weights, kept on the device of the network

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        gates = config.layers * 2 * config.gate
        if config.speakers:
            self.speaker = nn.Embedding(len(config.speakers), config.speaker_channels)
            self.from_speaker = nn.Linear(config.speaker_channels, gates, bias=False)
        if config.features is not None:
            self.frames = frame_network(config.frame_network, config.features.bands, config.frame_channels)
            self.from_frames = nn.Linear(config.frame_channels, gates, bias=False)
            weights = torch.from_numpy(interpolation_weights(config.hop))
            self.register_buffer("interpolation", weights, persistent=False)

    def reset_parameters(self) -> None:
        """Initialise so that the gate bias has a standard deviation of about one half."""
        for weight in self.parameters():
            nn.init.zeros_(weight)
        if self.config.speakers:
            nn.init.normal_(self.speaker.weight)
            nn.init.normal_(self.from_speaker.weight, std=0.5 / math.sqrt(self.config.speaker_channels))
        if self.config.features is not None:
            for convolution in self.frames.children():
                cast(FrameConv, convolution).reset_parameters()
            nn.init.normal_(self.from_frames.weight, std=0.5 / math.sqrt(self.config.frame_channels))

    def forward(self, speaker: Tensor | None, local: Tensor | None, streams: int, first: int, samples: int) -> GateBias:
        """The gate bias of B = `streams` at `samples` positions from `first` on; arguments as of `WaveNet.forward`."""
        self._check(speaker, local, streams, first)
        if local is None:
            assert speaker is not None
            return GateBias(self._by_layer(self._project_speaker(speaker)[None]), samples)
        hop = self.config.hop
        begin, end = first // hop, (first + samples - 1) // hop + 1  # frames that hold a position
        frames = self.from_frames(self.frame_outputs(local, begin - 1, end + 1))  # one more to each side: [F, B, L*2G]
        if speaker is not None:
            frames = frames + self._project_speaker(speaker)
        return GateBias(self._by_layer(frames), samples, self.interpolation.to(frames), first - begin * hop)

    def frame_outputs(self, local: Tensor, begin: int, end: int) -> Tensor:
        """The frame network's output [end - begin, B, C] for these frames of features [B, bands, N]."""
        mel, (earlier, later) = cast(MelConfig, self.config.features), self.config.frame_context
        low, high = begin - earlier, end + later
        inside = local[..., max(0, low) : max(0, min(high, local.shape[-1]))]
        before = min(high, 0) - low if low < 0 else 0
        padded = F.pad(inside, (before, high - low - before - inside.shape[-1]), value=mel.silence)  # [B, bands, n]
        return self.frames((padded.permute(2, 0, 1) - mel.mean) / mel.deviation)

    def _project_speaker(self, speaker: Tensor) -> Tensor:
        """U g [B, L*2G] of indices [B], or of weights of all speakers [B, speakers]."""
        embedded = speaker @ self.speaker.weight if speaker.is_floating_point() else self.speaker(speaker)  # [B, E]
        return self.from_speaker(embedded)

    def _by_layer(self, frames: Tensor) -> Tensor:
        """[F, B, L*2G] -> [L, F, B, 2G]"""
        return frames.unflatten(2, (self.config.layers, -1)).permute(2, 0, 1, 3)

    def _check(self, speaker: Tensor | None, local: Tensor | None, streams: int, first: int) -> None:
        names, mel = self.config.speakers, self.config.features
        if speaker is None and names:
            raise ValueError(f"speaker: required; this model has the speakers {listed(names)}")
        if speaker is not None and not names:
            raise ValueError("speaker: this model has no speakers; leave it out")
        if local is None and mel is not None:
            raise ValueError("local: required; this model is conditioned on features")
        if local is not None and mel is None:
            raise ValueError("local: this model is not conditioned on features; leave it out")
        if speaker is not None:
            expected = [streams, len(names)] if speaker.is_floating_point() else [streams]
            if list(speaker.shape) != expected:
                raise ValueError(f"speaker must be {expected}, not {list(speaker.shape)}")
        if local is not None and mel is not None and (local.dim() != 3 or local.shape[:2] != (streams, mel.bands)):
            raise ValueError(f"local must be features of shape [{streams}, {mel.bands}, N], not {list(local.shape)}")
        if first < 0:
            raise ValueError(f"first = {first}: must be the index of a sample, from 0")


@dataclass
class GateBias:
    """The bias that conditioning adds to the gates of each layer, at frame rate, for T samples of B streams.

    frames: [L, F, B, 2G]. For speakers alone F is 1 and holds for all samples.
    samples: T.
    weights: interpolation weights [hop, 3]; None for speakers alone.
    offset: position of the first sample within its frame, which is frames[:, 1].
    """

    frames: Tensor
    samples: int
    weights: Tensor | None = None
    offset: int = 0

    def at_samples(self, layer: int) -> Tensor:
        """The layer's gate bias at every sample: [B, T, 2G], or [B, 1, 2G] for speakers alone."""
        return self.upsample(self.frames[layer]).transpose(0, 1)

    def upsample(self, frames: Tensor) -> Tensor:
        """One layer's frames [F, B, 2G] -> [T, B, 2G]; for speakers alone unchanged, [1, B, 2G]."""
        if self.weights is None:
            return frames
        triples = frames.unfold(0, 3, 1).movedim(-1, 1).flatten(2)  # each frame and its neighbours: [F - 2, 3, B*2G]
        weights = self.weights.to(frames.dtype).expand(len(triples), -1, -1)  # [F - 2, hop, 3]
        samples = torch.bmm(weights, triples)  # [F - 2, hop, B*2G]
        return samples.view(-1, *frames.shape[1:])[self.offset : self.offset + self.samples]

    def upsample_backward(self, grad: Tensor) -> Tensor:
        """The gradient of `upsample`: that of the samples [T, B, 2G] -> that of the frames [F, B, 2G]."""
        if self.weights is None:
            return grad.sum(0, keepdim=True)
        hop = len(self.weights)
        after = -(self.offset + len(grad)) % hop  # samples to the end of the last frame
        if self.offset or after:
            grad = F.pad(grad, (0, 0, 0, 0, self.offset, after))
        blocks = grad.view(-1, hop, grad[0].numel())  # [F - 2, hop, B*2G]
        triples = torch.bmm(self.weights.t().expand(len(blocks), -1, -1), blocks)  # [F - 2, 3, B*2G]
        frames = grad.new_zeros(len(blocks) + 2, grad[0].numel())
        for neighbour in range(3):
            frames[neighbour : neighbour + len(blocks)] += triples[:, neighbour]
        return frames.view(-1, *grad.shape[1:])
