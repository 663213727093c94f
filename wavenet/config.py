"""Configurations: frozen, validated dataclasses; every derived quantity is a property.

A recipe consists of three: `ModelConfig` (the network; stored in the model file, with the parameters of its features in
a `MelConfig` and recommended sampling options in a `SamplingConfig`), `DataConfig` (from recordings to crops) and
`TrainingConfig` (the budget and the optimizer). An invalid value raises `ConfigError` with a message that names the
field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from wavenet.checks import ConfigError as ConfigError
from wavenet.checks import check_choice, check_range, check_text, check_type, check_types, current_names
from wavenet.checks import from_dict as from_dict
from wavenet.checks import listed as listed
from wavenet.checks import shown as shown
from wavenet.checks import suggest as suggest
from wavenet.frame_model_config import FrameModelConfig as FrameModelConfig
from wavenet.mel_config import MAX_PITCH_TAPS as MAX_PITCH_TAPS
from wavenet.mel_config import FeatureRange as FeatureRange
from wavenet.mel_config import MelConfig as MelConfig
from wavenet.sampling_config import RecordedLevels as RecordedLevels
from wavenet.sampling_config import SamplingConfig as SamplingConfig
from wavenet.training_config import DataConfig as DataConfig
from wavenet.training_config import FrameTrainingConfig as FrameTrainingConfig
from wavenet.training_config import LabelTrainingConfig as LabelTrainingConfig
from wavenet.training_config import TrainingConfig as TrainingConfig

MU_LAW_CODES = 256  # output classes and rows of the embedding table: 8-bit mu-law
MIN_LOG_SCALE, MAX_LOG_SCALE = -14.0, 8.0  # of 16-bit distributions, relative to full scale; e^-14: 1/18 of half a step
PCM_LEVELS = 65_536  # codes of the 16-bit outputs: -32,768 to 32,767
OUTPUTS = ("mulaw", "logistic", "gaussian")
FRAME_NETWORKS = ("plain", "parallel", "causal")
PLAIN_TAPS = 3  # kernel size of every convolution at frame rate
PARALLEL_DILATIONS = (1, 2, 4, 8, 16)  # in frames, one for each dilated branch of the parallel frame network
POOLED_FRAMES = 64  # frames to each side that the pooling branch averages over
SCALAR_INPUTS, PREDICTED_INPUTS = 1, 3  # input channels of a 16-bit model without and with linear prediction
LEVEL_INPUTS = 2  # more if it is backward-adaptive
ADAPTATION_WINDOW, ADAPTATION_HOP = 0.020, 0.0025  # s: the past that it is computed from, and between updates
FRAME_MODEL = "frame_model."  # prefix of its tensors in a model file
MAX_PARAMETERS = 2**31  # more is a typing error or a malicious file
MAX_QUEUE_SIZE = 2**26  # values in the queues of one stream: 256 MiB in float32; more is an error, likewise


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a WaveNet (van den Oord et al. 2016, sections 2.1 to 2.5). Widths are numbers of channels.

    `gate_channels` defaults to `residual_channels`, `head_channels` to `skip_channels`. Layer l has the dilation
    2^(l mod layers_per_cycle): it doubles from layer to layer and starts again at 1 with every cycle.

    output: "mulaw": a softmax over 256 mu-law codes; "logistic" or "gaussian": 16-bit samples from a discretised
        mixture of `mixtures` logistic distributions, or from a single Gaussian.
    speakers: names of the speakers for global conditioning; each has an embedding of `speaker_channels` values.
    features: parameters of the log-mel spectrogram for local conditioning; None: no local conditioning. The frame
        network (`frame_network`: "plain", "parallel" or "causal") maps the frames to `frame_channels` channels.
    linear_prediction: order of a linear predictor whose coefficients are computed from the features or, in a network
        without features, from the stream's own past (backward-adaptive); 0: none. The 16-bit output is then the
        distribution of the prediction residual.
    pitch_taps: number of earlier residual samples, centred one pitch period back, that are additional inputs; 0: none.
        The pitch period is computed from the features, too.
    frame_model: the slow tier, which draws the frames of the features that this network, the fast tier, is conditioned
        on; None: the network has no slow tier, its features are given.
    sampling: the recommended sampling options, which are used unless others are given.
    training_range: what the features that the network was trained on were like; None: not known.
    recorded_levels: without features, the levels of the recordings, which streams keep; None: not known.
    """

    cycles: int = 2
    layers_per_cycle: int = 10
    kernel_size: int = 2
    residual_channels: int = 32
    gate_channels: int | None = None
    skip_channels: int = 128
    head_channels: int | None = None
    output: str = "mulaw"
    mixtures: int = 10  # used by the logistic output only
    sample_rate: int = 16_000  # Hz
    speakers: tuple[str, ...] = ()
    speaker_channels: int = 16
    features: MelConfig | None = None
    frame_network: str = "plain"
    frame_channels: int = 64
    linear_prediction: int = 0
    pitch_taps: int = 0
    frame_model: FrameModelConfig | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    training_range: FeatureRange | None = None
    recorded_levels: RecordedLevels | None = None

    def __post_init__(self) -> None:
        if self.gate_channels is None:
            object.__setattr__(self, "gate_channels", self.residual_channels)
        if self.head_channels is None:
            object.__setattr__(self, "head_channels", self.skip_channels)
        if isinstance(self.speakers, list):  # from JSON or TOML
            object.__setattr__(self, "speakers", tuple(self.speakers))
        check_type(self, "sample_rate")
        check_range(self, "sample_rate", 1_000, 384_000)
        if isinstance(self.features, Mapping):
            given = current_names(MelConfig, self.features)
            values = {"sample_rate": self.sample_rate, "high": min(MelConfig.high, self.sample_rate / 2), **given}
            object.__setattr__(self, "features", from_dict(MelConfig, values, "features"))
        if isinstance(self.frame_model, Mapping):
            given_shape = from_dict(FrameModelConfig, self.frame_model, "frame_model")
            object.__setattr__(self, "frame_model", given_shape)
        if isinstance(self.sampling, Mapping):
            object.__setattr__(self, "sampling", from_dict(SamplingConfig, self.sampling, "sampling"))
        if isinstance(self.training_range, Mapping):
            given_range = from_dict(FeatureRange, self.training_range, "training_range")
            object.__setattr__(self, "training_range", given_range)
        if isinstance(self.recorded_levels, Mapping):
            given_levels = from_dict(RecordedLevels, self.recorded_levels, "recorded_levels")
            object.__setattr__(self, "recorded_levels", given_levels)
        check_types(self)
        check_range(self, "cycles", 1, 64)
        check_range(self, "layers_per_cycle", 1, 24)
        check_range(self, "kernel_size", 2, 64)
        for name in ("residual_channels", "gate_channels", "skip_channels", "head_channels"):
            check_range(self, name, 1, 65_536)
        check_range(self, "mixtures", 1, 256)
        check_range(self, "speaker_channels", 1, 4_096)
        check_range(self, "frame_channels", 4, 4_096)
        check_range(self, "linear_prediction", 0, 64)
        check_range(self, "pitch_taps", 0, MAX_PITCH_TAPS)
        check_choice(self, "output", OUTPUTS)
        check_choice(self, "frame_network", FRAME_NETWORKS)
        self._check_speakers()
        self._check_features()
        self._check_sampling()
        self._check_size()

    def _check_speakers(self) -> None:
        names: set[str] = set()
        for name in self.speakers:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"speakers: {shown(name)} is not a name")
            check_text("speakers", name)
            if name in names:
                raise ConfigError(f"speakers: {shown(name)} appears more than once")
            names.add(name)

    def _check_features(self) -> None:
        if self.features is not None and self.features.sample_rate != self.sample_rate:
            raise ConfigError(
                f"features.sample_rate = {self.features.sample_rate}: must be the model's sample_rate, "
                f"{self.sample_rate}"
            )
        if self.linear_prediction and self.output == "mulaw":
            raise ConfigError("linear_prediction: needs a 16-bit output, logistic or gaussian")
        if self.pitch_taps and not (self.linear_prediction and self.features and self.pitch_taps % 2):
            raise ConfigError(f"pitch_taps = {self.pitch_taps}: must be odd, and needs linear_prediction and features")
        if self.pitch_taps and self.features is not None and len(set(self.features.pitch_periods)) == 1:
            raise ConfigError(f"pitch_taps: features.fft = {self.features.fft} is too short to measure pitch periods")

        if self.frame_model is not None:
            if self.features is None:
                raise ConfigError("frame_model: needs features, which it draws")
            self.frame_model.check(self.features)

        if self.training_range is not None and self.training_range.voiced:
            shares, voices = len(self.training_range.voiced), max(1, len(self.speakers))
            if shares != voices:
                raise ConfigError(f"training_range.voiced: has {shares:,} shares for {voices:,} voices")

    def _check_sampling(self) -> None:
        if self.recorded_levels is not None:
            self.recorded_levels.check(self.speakers, self.features)
        try:
            self.sampling.check(self.output, self.features, self.frame_model)
        except ConfigError as error:
            raise ConfigError(f"sampling.{error}") from None

    def _check_size(self) -> None:
        if self.parameters > MAX_PARAMETERS:
            raise ConfigError(f"parameters = {self.parameters:,}: at most {MAX_PARAMETERS:,} are accepted")
        if self.queue_size > MAX_QUEUE_SIZE:
            raise ConfigError(
                f"receptive_field = {self.receptive_field:,} x residual_channels: the queues of a stream would hold "
                f"{self.queue_size:,} values, at most {MAX_QUEUE_SIZE:,} are accepted"
            )

    @property
    def conditioned(self) -> bool:
        """Whether the network has global or local conditioning."""
        return bool(self.speakers) or self.features is not None

    @property
    def hop(self) -> int:
        """Samples per frame of the features. Raises `ConfigError` for a model without features."""
        if self.features is None:
            raise ConfigError("features: this model is not conditioned on features")
        return self.features.hop

    @property
    def frame_context(self) -> tuple[int, int]:
        """Context of the frame network: frames before and after its own that it depends on."""
        return frame_context(self.frame_network)

    @property
    def gate(self) -> int:
        """Gate channels G, never None."""
        return typing.cast(int, self.gate_channels)

    @property
    def head(self) -> int:
        """Head channels H, never None."""
        return typing.cast(int, self.head_channels)

    @property
    def layers(self) -> int:
        """Residual layers L = cycles x layers_per_cycle."""
        return self.cycles * self.layers_per_cycle

    @cached_property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each layer in samples: 1, 2, 4, ... in every cycle."""
        return tuple(2 ** (layer % self.layers_per_cycle) for layer in range(self.layers))

    @property
    def receptive_field(self) -> int:
        """Samples that one output depends on through the convolutions: 1 + (K - 1) x the sum of the dilations."""
        return 1 + (self.kernel_size - 1) * sum(self.dilations)

    @property
    def receptive_field_ms(self) -> float:
        """The receptive field in milliseconds."""
        return 1000 * self.receptive_field / self.sample_rate

    @property
    def context(self) -> int:
        """Samples that one output depends on in all: the receptive field and the history of linear prediction."""
        return self.receptive_field + self.pitch_reach + self.prediction_reach

    @property
    def prediction_reach(self) -> int:
        """How far back a linear prediction and the residual before it reach, in samples; 0: there are none."""
        if not self.linear_prediction:
            return 0
        return max(self.linear_prediction + 1, self.adaptation_window + self.adaptation_hop)

    @property
    def backward_adaptive(self) -> bool:
        """Whether the linear predictor is computed from the samples of the past, not from features."""
        return bool(self.linear_prediction) and self.features is None

    @property
    def adaptation_window(self) -> int:
        """Samples before an update from which a backward-adaptive predictor is computed; 0 for other networks."""
        return round(ADAPTATION_WINDOW * self.sample_rate) if self.backward_adaptive else 0

    @property
    def adaptation_hop(self) -> int:
        """Samples between updates of a backward-adaptive predictor, the first at position 0; 0 for other networks."""
        return max(1, round(ADAPTATION_HOP * self.sample_rate)) if self.backward_adaptive else 0

    @property
    def pitch_reach(self) -> int:
        """How far back the pitch taps reach, in samples."""
        if not self.pitch_taps or self.features is None:
            return 0
        return self.features.pitch_periods[1] + self.pitch_taps // 2

    @property
    def queue_size(self) -> int:
        """Values in one stream's queues in the native engine: slots in powers of two, channels in multiples of 16."""
        slots = sum(1 << ((self.kernel_size - 1) * dilation - 1).bit_length() for dilation in self.dilations)
        return slots * (-(-self.residual_channels // 16) * 16)

    @property
    def output_channels(self) -> int:
        """Output channels A of the head: logits, or the weights, means and log scales of a 16-bit distribution."""
        return {"mulaw": MU_LAW_CODES, "logistic": 3 * self.mixtures, "gaussian": 2}[self.output]

    @property
    def components(self) -> int:
        """Mixture components of a 16-bit output."""
        return self.mixtures if self.output == "logistic" else 1

    @property
    def input_channels(self) -> int:
        """Rows of the input embedding: one per mu-law code, or one per input value of a 16-bit model."""
        if self.output == "mulaw":
            return MU_LAW_CODES
        if not self.linear_prediction:
            return SCALAR_INPUTS
        return PREDICTED_INPUTS + (LEVEL_INPUTS if self.backward_adaptive else self.pitch_taps)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor of this network, by its name in `WaveNet.state_dict()` and in the model file."""
        residual, gate, skip = self.residual_channels, self.gate, self.skip_channels
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (self.input_channels, residual)}
        for layer in range(self.layers):
            shapes[f"layers.{layer}.dilated.weight"] = (self.kernel_size, 2 * gate, residual)
            shapes[f"layers.{layer}.dilated.bias"] = (2 * gate,)
            if layer < self.layers - 1:  # the residual path ends before the last layer's output
                shapes[f"layers.{layer}.residual.weight"] = (residual, gate)
                shapes[f"layers.{layer}.residual.bias"] = (residual,)
        shapes["skip.weight"] = (skip, self.layers * gate)
        shapes["skip.bias"] = (skip,)
        shapes["head.hidden.weight"] = (self.head, skip)
        shapes["head.hidden.bias"] = (self.head,)
        shapes["head.output.weight"] = (self.output_channels, self.head)
        shapes["head.output.bias"] = (self.output_channels,)
        if self.speakers:
            shapes["conditioning.speaker.weight"] = (len(self.speakers), self.speaker_channels)
            shapes["conditioning.from_speaker.weight"] = (self.layers * 2 * gate, self.speaker_channels)
        if self.features is not None:
            of_frames = frame_network_shapes(self.frame_network, self.features.bands, self.frame_channels)
            shapes |= {f"conditioning.frames.{name}": shape for name, shape in of_frames.items()}
            shapes["conditioning.from_frames.weight"] = (self.layers * 2 * gate, self.frame_channels)
        return shapes

    @cached_property
    def frame_model_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor of the frame model by its name in a model file; empty without one."""
        if self.frame_model is None or self.features is None:
            return {}
        shapes = self.frame_model.shapes(self.features, self.speakers)
        return {FRAME_MODEL + name: shape for name, shape in shapes.items()}

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def macs_per_sample(self) -> int:
        """Multiply-adds per generated sample: one per weight, except in the embedding, which is a look-up.

        The cost per frame of the features (`macs_per_frame`) and per speaker is not included.
        """
        weights = (name for name in self.shapes if name.endswith(".weight") and name != "embedding.weight")
        return sum(math.prod(self.shapes[name]) for name in weights if not name.startswith("conditioning."))

    @property
    def macs_per_frame(self) -> int:
        """Multiply-adds per frame of the features: the frame network, and its projection to the gates of all layers."""
        weights = (
            name for name in self.shapes if name.startswith(("conditioning.frames.", "conditioning.from_frames"))
        )
        return sum(math.prod(self.shapes[name]) for name in weights if name.endswith(".weight"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML."""
        return {**dataclasses.asdict(self), "speakers": list(self.speakers)}


def frame_context(kind: str) -> tuple[int, int]:
    """Context of a frame network of a kind of `FRAME_NETWORKS`: frames before and after its own."""
    if kind == "parallel":
        return POOLED_FRAMES, POOLED_FRAMES
    taps = 2 * (PLAIN_TAPS - 1)  # of both convolutions, besides the frame itself
    return (taps, 0) if kind == "causal" else (taps // 2, taps // 2)


def branch_channels(channels: int) -> int:
    """Channels of each branch of a parallel frame network; with 80 inputs it then costs as much as a plain one."""
    return channels // 4


def frame_network_shapes(kind: str, inputs: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Tensors of a frame network; the weights of convolutions are [taps, outputs, inputs]."""
    if kind != "parallel":
        return {
            "first.weight": (PLAIN_TAPS, channels, inputs),
            "first.bias": (channels,),
            "second.weight": (PLAIN_TAPS, channels, channels),
            "second.bias": (channels,),
        }
    shapes: dict[str, tuple[int, ...]] = {}
    branch = branch_channels(channels)
    for name in ("point", *(f"rate_{dilation}" for dilation in PARALLEL_DILATIONS), "pooled"):
        taps = PLAIN_TAPS if name.startswith("rate") else 1
        shapes |= {f"{name}.weight": (taps, branch, inputs), f"{name}.bias": (branch,)}
    branches = 2 + len(PARALLEL_DILATIONS)
    return shapes | {"joined.weight": (1, channels, branches * branch), "joined.bias": (channels,)}
