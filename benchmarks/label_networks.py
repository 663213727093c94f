"""Networks and a classifier to compare labellers with: they map log-mel frames [B, bands, N] to logits [B, N, C].

`fitted` gives a network the width with which it has about as many parameters as another one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import librosa
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.labelling_config import LabellerConfig
from wavenet.labelling_model import LabellingNetwork

DROPOUT = 0.2  # before the output, as of the recipe `labels`
POOLINGS = 4  # by 2 each
MFCC, WINDOW, FFT = 20, 400, 512  # coefficients; samples
AROUND = 5  # frames on either side that the regression sees
REGRESSION_FRAMES = 50_000  # it is fitted to so many, chosen at random

Network = Callable[[Tensor], Tensor]


def parameters(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(weight.numel() for weight in network.parameters())


def fitted(build: Callable[[int], nn.Module], target: int) -> nn.Module:
    """The network, of those that `build` makes of a width, whose number of parameters is the closest to `target`."""
    widths = range(8, 400, 4)
    counts = [parameters(build(width)) for width in widths if width < 32 or parameters(build(width)) < 2 * target]
    return build(widths[int(np.argmin(np.abs(np.subtract(counts, target))))])


def stack(config: LabellerConfig, width: int, dilated: bool, head: str) -> LabellingNetwork:
    """The labeller's stack with another width and head; without dilation, all of its layers have the dilation 1."""
    cycles, per_cycle = (config.cycles, config.layers_per_cycle) if dilated else (config.stack.layers, 1)
    return LabellingNetwork(
        replace(
            config, cycles=cycles, layers_per_cycle=per_cycle, head=head, residual_channels=width, gate_channels=width,
            skip_channels=2 * width,
        )
    )  # fmt: skip


class Baseline(nn.Module):
    """Normalises its input as the labeller does, and ends with dropout and a linear layer."""

    def __init__(self, config: LabellerConfig, width: int) -> None:
        super().__init__()
        assert config.features is not None
        self.mel = config.features
        self.output = nn.Linear(width, len(config.class_names))

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.hidden((features - self.mel.mean) / self.mel.deviation)  # [B, width, N]
        return self.output(F.dropout(hidden.transpose(1, 2), DROPOUT, self.training))

    def hidden(self, x: Tensor) -> Tensor:
        """[B, bands, N] -> [B, width, N]."""
        raise NotImplementedError


class Pooled(Baseline):
    """Two convolutions of three frames at each of five resolutions, on the way down and up again.

    skips: the way up gets also the outputs of the way down (U-Net, Ronneberger et al. 2015).
    """

    def __init__(self, config: LabellerConfig, width: int, skips: bool = False) -> None:
        super().__init__(config, width)
        self.skips = skips
        self.down = nn.ModuleList(_block(width if level else self.mel.bands, width) for level in range(POOLINGS + 1))
        self.up = nn.ModuleList(_block(width * (1 + skips), width) for _ in range(POOLINGS))

    def hidden(self, x: Tensor) -> Tensor:
        frames = x.shape[-1]
        x = F.pad(x, (0, -frames % 2**POOLINGS))
        outputs = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool1d(x, 2) if level else x)
            outputs.append(x)
        for block, beside in zip(self.up, outputs[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="linear", align_corners=False)
            x = block(torch.cat([x, beside], 1) if self.skips else x)
        return x[..., :frames]


class Recurrent(Baseline):
    """Two bidirectional layers of gated recurrent units."""

    def __init__(self, config: LabellerConfig, width: int) -> None:
        super().__init__(config, 2 * width)
        self.gru = nn.GRU(self.mel.bands, width, num_layers=2, bidirectional=True, batch_first=True)

    def hidden(self, x: Tensor) -> Tensor:
        return self.gru(x.transpose(1, 2))[0].transpose(1, 2)


def _block(channels: int, width: int) -> nn.Sequential:
    """Two convolutions with batch normalisation."""
    layers: list[nn.Module] = []
    for inputs in (channels, width):
        layers += [nn.Conv1d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class MfccRegression:
    """Logistic regression on the MFCC of a frame and of five frames on either side."""

    def __init__(self, clips: list[NDArray[np.float32]], classes: list[NDArray[np.int32]], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        chosen = np.random.default_rng(0)
        share = min(1.0, REGRESSION_FRAMES / sum(map(len, classes)))
        rows, targets = [], []
        for samples, target in zip(clips, classes, strict=True):
            kept = chosen.random(len(target)) < share
            rows.append(self._inputs(samples, len(target))[kept])
            targets.append(target[kept])
        self.model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))
        self.model.fit(np.concatenate(rows), np.concatenate(targets))

    def __call__(self, samples: NDArray[np.float32], frames: int) -> NDArray[np.int64]:
        """The class of each frame [frames] of audio [samples]."""
        return self.model.predict(self._inputs(samples, frames)).astype(np.int64)

    @property
    def parameters(self) -> int:
        return self.model[-1].coef_.size + self.model[-1].intercept_.size

    def _inputs(self, samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
        """[frames, MFCC x window]; frames are centred as those of the labels are."""
        hop = self.sample_rate // 100
        mfcc = librosa.feature.mfcc(
            y=np.pad(samples, (0, hop))[hop // 2 :], sr=self.sample_rate, n_mfcc=MFCC, n_fft=FFT, win_length=WINDOW,
            hop_length=hop,
        )  # fmt: skip
        padded = np.pad(mfcc[:, :frames], ((0, 0), (AROUND, AROUND)), mode="edge")
        windows = sliding_window_view(padded, 2 * AROUND + 1, axis=1)  # [MFCC, frames, window]
        return windows.transpose(1, 0, 2).reshape(frames, -1)
