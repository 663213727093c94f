"""`LabellerConfig`: the shape of a network that labels every frame of a recording; stored in its model file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wavenet.checks import (
    ConfigError,
    check_choice,
    check_range,
    check_text,
    check_type,
    check_types,
    from_dict,
    listed,
    shown,
)
from wavenet.config import MAX_PARAMETERS, ModelConfig, frame_context, frame_network_shapes
from wavenet.mel_config import MelConfig

INPUTS = ("mel", "samples")
HEADS = ("plain", "parallel")  # kinds of frame networks that look to both sides
NO_LABEL = ""  # class 0: frames without a label
FRAME_SECONDS, WINDOW_SECONDS = 0.010, 0.025  # defaults
BANDS = 64
MAX_CLASSES = 65_536


@dataclass(frozen=True)
class LabellerConfig:
    """The shape of a labeller: van den Oord et al. 2016, section 3.4, with layers that may look to both sides.

    classes: names of the labels. Frames without a label have a class of their own, which comes before these.
    hop: samples per frame; None: 10 ms.
    input: "mel": the stack is over the frames of `features`. "samples": it is over samples; the mean of its outputs
        over each frame, as in the paper, is what the head receives.
    causal: whether the layers see the past only, as those of a generator. Otherwise their kernels, of odd size, are
        centred on the position.
    head: "plain": two convolutions of three frames. "parallel": parallel branches of several dilations, and one of the
        average over 129 frames (see `wavenet.nn.frame_network`). Both look to both sides.
    joint_loss: weight of the loss of next-sample prediction, for a causal stack over samples; 0: none.
    Others as of `wavenet.config.ModelConfig`.
    """

    classes: tuple[str, ...] = ()
    sample_rate: int = 16_000  # Hz
    hop: int | None = None
    input: str = "mel"
    features: MelConfig | None = None
    causal: bool = False
    cycles: int = 2
    layers_per_cycle: int = 6
    kernel_size: int = 3
    residual_channels: int = 64
    gate_channels: int | None = None
    skip_channels: int = 128
    head: str = "parallel"
    head_channels: int = 128
    joint_loss: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.classes, list):  # from JSON or TOML
            object.__setattr__(self, "classes", tuple(self.classes))
        check_type(self, "sample_rate")
        check_range(self, "sample_rate", 1_000, 384_000)
        if self.hop is None:
            object.__setattr__(self, "hop", round(FRAME_SECONDS * self.sample_rate))
        if self.gate_channels is None:
            object.__setattr__(self, "gate_channels", self.residual_channels)
        check_type(self, "hop")
        check_range(self, "hop", 1, self.sample_rate)
        check_type(self, "input")
        check_choice(self, "input", INPUTS)
        self._set_features()
        check_types(self)
        check_choice(self, "head", HEADS)
        check_range(self, "head_channels", 4, 65_536)
        check_range(self, "joint_loss", 0.0, 1e3)
        self._check_classes()
        self._check_input()
        if not self.causal and self.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size = {self.kernel_size}: must be odd, as kernels are centred (causal = false)")
        _ = self.stack  # raises for its fields
        if self.parameters > MAX_PARAMETERS:
            raise ConfigError(f"parameters = {self.parameters:,}: at most {MAX_PARAMETERS:,} are accepted")

    def _set_features(self) -> None:
        """The features of a network on them, from the values given and defaults that suit the sample rate."""
        if self.input == "samples" and self.features is not None:
            raise ConfigError('features: only used by a network with input = "mel"')
        if self.input == "samples" or isinstance(self.features, MelConfig):
            return
        window = max(16, round(WINDOW_SECONDS * self.sample_rate))
        values: dict[str, Any] = {
            "sample_rate": self.sample_rate,
            "window": window,
            "fft": 1 << (window - 1).bit_length(),
            "hop": self.hop,
            "bands": BANDS,
            "high": min(MelConfig.high, self.sample_rate / 2),
        }
        given: Mapping[str, Any] = self.features if isinstance(self.features, Mapping) else {}
        object.__setattr__(self, "features", from_dict(MelConfig, {**values, **given}, "features"))

    def _check_classes(self) -> None:
        for name in self.classes:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"classes: {shown(name)} is not a name")
            check_text("classes", name)
        if len(set(self.classes)) < len(self.classes):
            raise ConfigError(f"classes: {listed(self.classes)}: a name appears more than once")
        if len(self.classes) > MAX_CLASSES:
            raise ConfigError(f"classes: {len(self.classes):,} names; at most {MAX_CLASSES:,} are accepted")

    def _check_input(self) -> None:
        if self.features is not None and (self.features.hop, self.features.sample_rate) != (self.hop, self.sample_rate):
            raise ConfigError(
                f"features: hop and sample_rate must be those of the labeller, {self.hop} and {self.sample_rate}"
            )
        if self.joint_loss and not (self.causal and self.input == "samples"):
            raise ConfigError('joint_loss: predicts the next sample: needs causal = true and input = "samples"')

    @cached_property
    def stack(self) -> ModelConfig:
        """The shape of the dilated layers, and of the head that predicts the next sample."""
        return ModelConfig(
            cycles=self.cycles,
            layers_per_cycle=self.layers_per_cycle,
            kernel_size=self.kernel_size,
            residual_channels=self.residual_channels,
            gate_channels=self.gate_channels,
            skip_channels=self.skip_channels,
            sample_rate=self.sample_rate,
        )

    @property
    def samples_per_frame(self) -> int:
        """The hop, never None."""
        assert self.hop is not None
        return self.hop

    @property
    def frame_seconds(self) -> float:
        """Duration of a frame."""
        return self.samples_per_frame / self.sample_rate

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the outputs: `NO_LABEL`, then `classes`."""
        return (NO_LABEL, *self.classes)

    @property
    def input_channels(self) -> int:
        """Channels of the stack's input: the bands of the features, or one."""
        return 1 if self.features is None else self.features.bands

    @property
    def taps_ahead(self) -> int:
        """Taps of each kernel after the current position."""
        return 0 if self.causal else (self.kernel_size - 1) // 2

    @property
    def stack_reach(self) -> tuple[int, int]:
        """How far the layers see before and after a position: in frames, or in samples with input = "samples"."""
        total, ahead = sum(self.stack.dilations), self.taps_ahead
        return (self.kernel_size - 1 - ahead) * total, ahead * total

    @property
    def context_frames(self) -> tuple[int, int]:
        """Frames of the input before and after a frame on which its label depends."""
        positions = 1 if self.input == "mel" else self.samples_per_frame  # of the stack in a frame
        before, after = (-(-reach // positions) + frame_context(self.head)[0] for reach in self.stack_reach)
        return before, after

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by its name in `LabellingNetwork.state_dict()` and in the model file."""
        stack = self.stack
        own = ("layers.", "skip.", "head.") if self.joint_loss else ("layers.", "skip.")
        shapes = {
            f"next_sample.{name.removeprefix('head.')}" if name.startswith("head.") else name: shape
            for name, shape in stack.shapes.items()
            if name.startswith(own)
        }
        shapes["input.weight"] = (self.residual_channels, self.input_channels)
        shapes["input.bias"] = (self.residual_channels,)
        of_head = frame_network_shapes(self.head, self.skip_channels, self.head_channels)
        shapes |= {f"head.{name}": shape for name, shape in of_head.items()}
        shapes["output.weight"] = (len(self.class_names), self.head_channels)
        shapes["output.bias"] = (len(self.class_names),)
        return shapes

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def macs_per_frame(self) -> int:
        """Multiply-adds per frame to label it: one per weight, in every sample with input = "samples"."""
        total = 0
        for name, shape in self.shapes.items():
            if name.endswith(".weight") and not name.startswith("next_sample."):
                per_sample = self.input == "samples" and name.startswith(("input.", "layers."))
                total += math.prod(shape) * (self.samples_per_frame if per_sample else 1)
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}
