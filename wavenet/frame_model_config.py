"""The shape of a frame model: `FrameModelConfig`, and the constants that its definition and its sampler share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wavenet.checks import ConfigError, check_range, check_types

if TYPE_CHECKING:
    from wavenet.mel_config import MelConfig

# Frame models are trained with these constants: after a change they would have to be trained again.
KERNEL_SIZE = 2  # taps of every dilated convolution
LOUDNESS, VOICING, PITCH = range(3)  # the first dimensions of an encoded frame; those of the shape follow
SOURCE = 3  # their number
SOURCE_PARAMETERS = 6  # of a component: logit of its weight, mean and log scale of two Gaussians, logit of voicing
BUMPS = 28  # Gaussian functions of the pitch that are inputs of the shape's distribution
BUMP_RANGE = 3.5  # standard deviations of the pitch, to both sides, that they cover
MIN_LOG_SCALE, MAX_LOG_SCALE = -2.5, 2.0  # of a mixture component, relative to the deviation of linear prediction
MAX_PITCH_LOG_SCALE = 5.0  # of the pitch, which is not predictable after an unvoiced frame
CODING = "coding."  # prefix of the frame coding's tensors in `FrameModelConfig.shapes`


@dataclass(frozen=True)
class FrameModelConfig:
    """The shape of a `wavenet.frame_model.FrameModel`, which predicts the next frame from the frames before it.

    A stack of dilated causal convolutions as that of `wavenet.config.ModelConfig`, of two taps each, but over frames
    instead of samples: with a hop of 10 ms the default stack has a receptive field of 2.6 seconds.

    residual_channels: channels of the residual path and of the gates. skip_channels: of the skip sum and of the hidden
        layers behind it.
    components: dimensions of the shape in an encoded frame, see `wavenet.frame_coding`; at most the bands.
    mixtures, source_mixtures: mixture components of the shape, and of the source (loudness, voicing and pitch).
    prediction_order: frames that the linear prediction of each dimension is computed from.
    """

    cycles: int = 1
    layers_per_cycle: int = 8
    residual_channels: int = 128
    skip_channels: int = 192
    components: int = 48
    mixtures: int = 8
    source_mixtures: int = 4
    prediction_order: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "cycles", 1, 16)
        check_range(self, "layers_per_cycle", 1, 16)
        for name in ("residual_channels", "skip_channels"):
            check_range(self, name, 1, 4_096)
        check_range(self, "components", 1, 1_024)
        check_range(self, "mixtures", 1, 256)
        check_range(self, "source_mixtures", 1, 256)
        check_range(self, "prediction_order", 1, 16)

    @property
    def layers(self) -> int:
        """Number of residual layers."""
        return self.cycles * self.layers_per_cycle

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of every layer, in frames: it doubles from layer to layer and starts again at 1 with every cycle."""
        return tuple(2**layer for layer in range(self.layers_per_cycle)) * self.cycles

    @property
    def dimensions(self) -> int:
        """D: the values of an encoded frame; loudness, voicing, pitch, and those of the shape."""
        return SOURCE + self.components

    @property
    def receptive_field(self) -> int:
        """Frames that the distribution of the next frame depends on."""
        return max(1 + (KERNEL_SIZE - 1) * sum(self.dilations), self.prediction_order)

    def receptive_field_seconds(self, mel: MelConfig) -> float:
        """The receptive field in seconds, for the frames of these features."""
        return self.receptive_field * mel.hop / mel.sample_rate

    def check(self, mel: MelConfig) -> None:
        """Raises `ConfigError` if there are more components than these features have bands."""
        if self.components > mel.bands:
            raise ConfigError(f"components = {self.components}: at most features.bands, {mel.bands}")

    def shapes(self, mel: MelConfig, speakers: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by its name in `FrameModel.state_dict()`.

        speakers: names of the voices; empty for a single one. Raises `ConfigError` as `check` does.
        """
        self.check(mel)
        coding = self.coding_shapes(mel, len(speakers))
        return self._network_shapes(len(speakers)) | {CODING + name: shape for name, shape in coding.items()}

    def coding_shapes(self, mel: MelConfig, speakers: int = 0) -> dict[str, tuple[int, ...]]:
        """Shape of every array of a `wavenet.frame_coding.FrameCoding` by its name. speakers: 0 for a single voice."""
        voices = max(1, speakers)
        return {
            "mean": (voices, mel.bands),
            "analysis": (mel.bands, self.components),
            "synthesis": (self.components, mel.bands),
            "loudness": (voices, 2),
            "pitch": (voices, 2),
            "limits": (2, self.dimensions),
        }

    def _network_shapes(self, speakers: int) -> dict[str, tuple[int, ...]]:
        """The tensors of the network; those of linear prediction are no parameters."""
        residual, skip, dimensions = self.residual_channels, self.skip_channels, self.dimensions
        shapes: dict[str, tuple[int, ...]] = {"input.weight": (residual, dimensions), "input.bias": (residual,)}
        for layer in range(self.layers):
            shapes[f"layers.{layer}.dilated.weight"] = (KERNEL_SIZE, 2 * residual, residual)
            shapes[f"layers.{layer}.dilated.bias"] = (2 * residual,)
            if layer < self.layers - 1:  # the residual path ends before the last layer's output
                shapes[f"layers.{layer}.residual.weight"] = (residual, residual)
                shapes[f"layers.{layer}.residual.bias"] = (residual,)
        shapes |= {"skip.weight": (skip, self.layers * residual), "skip.bias": (skip,)}
        for head, outputs in (
            ("source", self.source_mixtures * SOURCE_PARAMETERS),
            ("shape", self.mixtures * (1 + 2 * self.components)),
        ):
            shapes |= {f"{head}.hidden.weight": (skip, skip), f"{head}.hidden.bias": (skip,)}
            shapes |= {f"{head}.output.weight": (outputs, skip), f"{head}.output.bias": (outputs,)}
        shapes["shape.source.weight"] = (skip, SOURCE + BUMPS)
        if speakers:
            shapes["speaker.weight"] = (speakers, self.layers * 2 * residual)
        return shapes | {"prediction": (self.prediction_order, dimensions), "deviation": (dimensions,)}

    def parameters(self, speakers: int = 0) -> int:
        """Number of trainable parameters; speakers: the number of voices, 0 for a single one."""
        shapes = self._network_shapes(speakers)
        return sum(math.prod(shape) for name, shape in shapes.items() if name not in ("prediction", "deviation"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML."""
        return dataclasses.asdict(self)
