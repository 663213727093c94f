"""Frozen, validated configurations; every derived figure is a property.

Three of them make a recipe: `ModelConfig` (the network; it travels inside the model file, and with it `MelConfig`, what
its features are), `DataConfig` (how recordings become crops) and `TrainingConfig` (the budget and the optimizer). Wrong
values raise `ConfigError`, whose message names the field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

MU_LAW_CODES = 256  # output classes and rows of the embedding table: 8-bit mu-law
PCM_LEVELS = 65_536  # codes of the 16-bit outputs: -32,768 to 32,767
OUTPUTS = ("mulaw", "logistic", "gaussian")
FRAME_NETWORKS = ("plain", "parallel")
PLAIN_TAPS = 3  # of every convolution at frame rate
PARALLEL_DILATIONS = (1, 2, 4, 8, 16)  # dilations, in frames, of the parallel branches
POOLED_FRAMES = 64  # to each side: what the global branch averages over
SCALAR_INPUTS, PREDICTED_INPUTS = 1, 3  # numbers per sample that the first layer of a 16-bit model is given
MOST_PITCH_TAPS = 9
PITCHES = (50.0, 500.0)  # Hz; of voices, whose periods a pitch predictor looks back by
MAX_PARAMETERS = 2**31  # more is a typing error or a hostile file, not a WaveNet
MAX_QUEUED = 2**26  # numbers in the queues of one stream, likewise: a quarter of a gigabyte

# Names that fields had in files written by earlier versions.
FORMER_NAMES = {"MelConfig": {"rate": "sample_rate"}, "TrainingConfig": {"rate": "learning_rate"}}

C = TypeVar("C", bound="MelConfig | ModelConfig | DataConfig | TrainingConfig")


class ConfigError(ValueError):
    """A configuration that cannot be: the message names the field and what it may hold."""


@dataclass(frozen=True)
class MelConfig:
    """What a model's features are: the natural logarithm of a mel spectrogram, `wavenet.features` says how.

    Two programs mean the same features only if every one of these agrees.
    """

    sample_rate: int = 16_000  # Hz; of the model that they belong to
    window: int = 640  # samples, Hann
    fft: int = 1_024  # samples, the window padded with zeros
    hop: int = 160  # samples from frame to frame
    bands: int = 80
    low: float = 0.0  # Hz, lower end of the first band
    high: float = 8_000.0  # Hz, upper end of the last band
    scale: str = "slaney"  # of the bands: "slaney" (linear, then logarithmic) or "htk" (logarithmic)
    area: bool = True  # every band's weights are divided by its width in Hz ("Slaney norm")
    power: float = 1.0  # of the magnitudes that a band sums: 1 magnitude, 2 energy
    floor: float = 1e-5  # a band that holds less is taken to hold this
    mean: float = -5.0  # normalisation: the frame network is given (feature - mean) / deviation
    deviation: float = 2.5

    def __post_init__(self) -> None:
        _check_types(self)
        _check_range(self, "sample_rate", 1_000, 384_000)
        _check_range(self, "fft", 16, 65_536)
        _check_range(self, "window", 4, self.fft)
        _check_range(self, "hop", 1, self.fft)
        _check_range(self, "bands", 1, 1_024)
        _check_range(self, "high", 1.0, self.sample_rate / 2)
        _check_range(self, "low", 0.0, self.high - 1)
        _check_choice(self, "scale", ("slaney", "htk"))
        _check_range(self, "power", 0.1, 4.0)
        _check_range(self, "floor", 1e-30, 1.0)
        _check_range(self, "mean", -1e3, 1e3)
        _check_range(self, "deviation", 1e-3, 1e3)

    @property
    def silence(self) -> float:
        """The feature of silence, in every band."""
        return math.log(self.floor)

    @property
    def periods(self) -> tuple[int, int]:
        """The shortest and the longest pitch period in samples, as far as half a transform tells them apart."""
        shortest = max(MOST_PITCH_TAPS, round(self.sample_rate / PITCHES[1]))
        return shortest, max(shortest, min(round(self.sample_rate / PITCHES[0]), self.fft // 2))

    def check_same(self, stated: Mapping[str, object]) -> None:
        """Raises `ConfigError` naming the first parameter that differs in other features, or does not exist."""
        mine = dataclasses.asdict(self)
        from_dict(MelConfig, {**stated, **mine})  # names a parameter that does not exist
        for name, given in stated.items():
            if given != mine[name]:
                raise ConfigError(
                    f"its features have {name} = {given!r}, the model's have {mine[name]!r}; "
                    "make them again with the model's parameters"
                )


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a WaveNet (van den Oord et al. 2016, sections 2.1 to 2.5). All widths count channels.

    `gate_channels` defaults to `residual_channels`, `head_channels` to `skip_channels`. Layer l has the dilation
    2^(l mod layers_per_cycle), so the dilation doubles along a cycle and starts again at 1 with the next one.

    output: "mulaw", 256 classes; or 16-bit samples from a discretised distribution with `mixtures` logistic parts
        ("logistic") or a single Gaussian ("gaussian").
    speakers: names of the voices it can be told to use, each an embedding of `speaker_channels` numbers.
    features: what the spectrogram that drives it is; None: it is driven by none. Then `frame_network` ("plain" or
        "parallel") makes `frame_channels` numbers of every frame and those around it.
    linear_prediction: order of a linear predictor that is computed from the features; 0: none. The 16-bit output then
        describes what the predictor leaves over.
    pitch_taps: of what it left over one pitch period ago, the network is given so many samples; 0: none. The period is
        computed from the features, too.
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

    def __post_init__(self) -> None:
        if self.gate_channels is None:
            object.__setattr__(self, "gate_channels", self.residual_channels)
        if self.head_channels is None:
            object.__setattr__(self, "head_channels", self.skip_channels)
        if isinstance(self.speakers, list):  # as JSON and TOML have it
            object.__setattr__(self, "speakers", tuple(self.speakers))
        if isinstance(self.features, Mapping):
            given = _current_names(MelConfig, self.features)
            values = {"sample_rate": self.sample_rate, "high": min(MelConfig.high, self.sample_rate / 2), **given}
            object.__setattr__(self, "features", from_dict(MelConfig, values, "features"))
        _check_types(self)
        _check_range(self, "cycles", 1, 64)
        _check_range(self, "layers_per_cycle", 1, 24)
        _check_range(self, "kernel_size", 2, 64)
        for name in ("residual_channels", "gate_channels", "skip_channels", "head_channels"):
            _check_range(self, name, 1, 65_536)
        _check_range(self, "mixtures", 1, 256)
        _check_range(self, "sample_rate", 1_000, 384_000)
        _check_range(self, "speaker_channels", 1, 4_096)
        _check_range(self, "frame_channels", 4, 4_096)
        _check_range(self, "linear_prediction", 0, 64)
        _check_range(self, "pitch_taps", 0, MOST_PITCH_TAPS)
        _check_choice(self, "output", OUTPUTS)
        _check_choice(self, "frame_network", FRAME_NETWORKS)
        self._check_speakers()
        if self.features is not None and self.features.sample_rate != self.sample_rate:
            raise ConfigError(
                f"features.sample_rate = {self.features.sample_rate}: "
                f"must be the model's sample_rate, {self.sample_rate}"
            )
        if self.linear_prediction and (self.features is None or self.output == "mulaw"):
            raise ConfigError("linear_prediction: needs features to compute it from, and a 16-bit output to shift")
        if self.pitch_taps and not (self.linear_prediction and self.pitch_taps % 2):
            raise ConfigError(f"pitch_taps = {self.pitch_taps}: must be odd, and needs linear_prediction")
        if self.pitch_taps and self.features is not None and len(set(self.features.periods)) == 1:
            raise ConfigError(
                f"pitch_taps: features.fft = {self.features.fft} is too short to tell pitch periods apart"
            )
        if self.parameters > MAX_PARAMETERS:
            raise ConfigError(f"parameters = {self.parameters:,}: at most {MAX_PARAMETERS:,} are accepted")
        if self.queued > MAX_QUEUED:
            raise ConfigError(
                f"receptive_field = {self.receptive_field:,} x residual_channels: the queues of a stream would hold "
                f"{self.queued:,} numbers, at most {MAX_QUEUED:,} are accepted"
            )

    def _check_speakers(self) -> None:
        for name in self.speakers:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"speakers: {name!r} is no name")
        if len(set(self.speakers)) < len(self.speakers):
            raise ConfigError("speakers: a name stands there twice")

    @property
    def conditioned(self) -> bool:
        """Whether the network has to be told what to play."""
        return bool(self.speakers) or self.features is not None

    @property
    def hop(self) -> int:
        """Samples per frame of the features. Raises `ConfigError` where there are none."""
        if self.features is None:
            raise ConfigError("features: this model is driven by none")
        return self.features.hop

    @property
    def frame_reach(self) -> int:
        """Frames to each side of one that the frame network sees."""
        return POOLED_FRAMES if self.frame_network == "parallel" else 2 * (PLAIN_TAPS // 2)

    @property
    def branch_channels(self) -> int:
        """Channels of each parallel branch of the frame network: with 80 bands it then costs as much as a plain one."""
        return self.frame_channels // 4

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
        """Dilation of each layer in samples: 1, 2, 4, ... doubling along a cycle."""
        return tuple(2 ** (layer % self.layers_per_cycle) for layer in range(self.layers))

    @property
    def receptive_field(self) -> int:
        """Samples that one prediction sees: 1 + (K - 1) x the sum of the dilations."""
        return 1 + (self.kernel_size - 1) * sum(self.dilations)

    @property
    def context(self) -> int:
        """Samples that can change a prediction, at most: the receptive field and the reach of a linear predictor."""
        return self.receptive_field + self.pitch_reach + (self.linear_prediction + 1 if self.linear_prediction else 0)

    @property
    def pitch_reach(self) -> int:
        """Samples back to the oldest that a pitch predictor looks at."""
        if not self.pitch_taps or self.features is None:
            return 0
        return self.features.periods[1] + self.pitch_taps // 2

    @property
    def queued(self) -> int:
        """Numbers in one stream's queues in the native engine: slots in powers of two, channels in sixteens."""
        slots = sum(1 << ((self.kernel_size - 1) * dilation - 1).bit_length() for dilation in self.dilations)
        return slots * (-(-self.residual_channels // 16) * 16)

    @property
    def receptive_field_ms(self) -> float:
        """The same in milliseconds at the model's rate."""
        return 1000 * self.receptive_field / self.sample_rate

    @property
    def output_channels(self) -> int:
        """Channels A that the head makes for every sample: logits, or weights, means and log scales."""
        return {"mulaw": MU_LAW_CODES, "logistic": 3 * self.mixtures, "gaussian": 2}[self.output]

    @property
    def components(self) -> int:
        """Parts of a 16-bit output's distribution: its means and log scales are so many each."""
        return self.mixtures if self.output == "logistic" else 1

    @property
    def input_rows(self) -> int:
        """Rows of the embedding: one for each code, or for each number that a 16-bit model is given per sample."""
        if self.output == "mulaw":
            return MU_LAW_CODES
        return PREDICTED_INPUTS + self.pitch_taps if self.linear_prediction else SCALAR_INPUTS

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the network: its name in `WaveNet.state_dict()` and in the model file, and its shape."""
        residual, gate, skip = self.residual_channels, self.gate, self.skip_channels
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (self.input_rows, residual)}
        for layer in range(self.layers):
            shapes[f"layers.{layer}.dilated.weight"] = (self.kernel_size, 2 * gate, residual)
            shapes[f"layers.{layer}.dilated.bias"] = (2 * gate,)
            if layer < self.layers - 1:  # nothing reads the residual path after the last layer
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
            shapes |= {f"conditioning.frames.{name}": shape for name, shape in self._frame_shapes().items()}
            shapes["conditioning.from_frames.weight"] = (self.layers * 2 * gate, self.frame_channels)
        return shapes

    def _frame_shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensors of the frame network; convolutions are [taps, outputs, inputs]."""
        bands, width, branch = typing.cast(MelConfig, self.features).bands, self.frame_channels, self.branch_channels
        if self.frame_network == "plain":
            return {
                "first.weight": (PLAIN_TAPS, width, bands),
                "first.bias": (width,),
                "second.weight": (PLAIN_TAPS, width, width),
                "second.bias": (width,),
            }
        shapes: dict[str, tuple[int, ...]] = {}
        for name in ("point", *(f"rate_{rate}" for rate in PARALLEL_DILATIONS), "pooled"):
            taps = PLAIN_TAPS if name.startswith("rate") else 1
            shapes |= {f"{name}.weight": (taps, branch, bands), f"{name}.bias": (branch,)}
        branches = 2 + len(PARALLEL_DILATIONS)
        return shapes | {"joined.weight": (1, width, branches * branch), "joined.bias": (width,)}

    @property
    def parameters(self) -> int:
        """Trainable numbers in the network."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def macs_per_sample(self) -> int:
        """Multiply-adds per sample with cached queues: every weight once, but the embedding, which is a look-up.

        What is done once per frame, or once per speaker, is not in it: see `macs_per_frame`.
        """
        weights = (name for name in self.shapes if name.endswith(".weight") and name != "embedding.weight")
        return sum(math.prod(self.shapes[name]) for name in weights if not name.startswith("conditioning."))

    @property
    def macs_per_frame(self) -> int:
        """Multiply-adds per frame of the features: the frame network, and its projection into every layer's gates."""
        weights = (
            name for name in self.shapes if name.startswith(("conditioning.frames.", "conditioning.from_frames"))
        )
        return sum(math.prod(self.shapes[name]) for name in weights if name.endswith(".weight"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or TOML."""
        return {**dataclasses.asdict(self), "speakers": list(self.speakers)}


@dataclass(frozen=True)
class DataConfig:
    """How a folder of recordings becomes training crops."""

    validation: float = 0.05  # share of the files held out
    trim_db: float = 0.0  # cut ends that lie this far below the clip's peak; 0 keeps every sample
    join: bool = False  # go on with another clip where one ends, instead of padding
    edge_silence: float = -1.0  # seconds of silence kept at clip ends in training crops; negative keeps all
    speakers: str = ""  # "folders": the first-level sub-folders name them; FILE.csv: path,speaker; "": one voice

    def __post_init__(self) -> None:
        _check_types(self)
        _check_range(self, "validation", 0.0, 0.5)
        _check_range(self, "trim_db", 0.0, 200.0)
        _check_range(self, "edge_silence", -1e6, 3600.0)


@dataclass(frozen=True)
class TrainingConfig:
    """The budget and the optimizer. The cosine ends with the budget: `steps` if given, otherwise `minutes`."""

    minutes: float = 30.0
    steps: int = 0  # 0: the budget is in minutes
    batch: int = 2  # crops per step
    crop: int = 3_072  # samples per crop that the loss counts
    learning_rate: float = 4e-3  # peak
    warmup: int = 100  # steps to the peak
    final_rate: float = 0.01  # share of the peak at the end of the cosine
    clip_norm: float = 1.0  # gradients longer than this are scaled down to it
    ema: float = 0.999  # decay per step of the averaged weights
    validate_minutes: float = 5.0  # between validations, saves and clips
    validate_steps: int = 0  # the same in steps; 0: in minutes
    validation_seconds: float = 30.0  # held-out sound heard at each validation
    clip_seconds: float = 1.0  # sound generated at each validation; 0: none
    seed: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        _check_range(self, "minutes", 0.0, 1e6)
        _check_range(self, "steps", 0, 10**9)
        if not self.steps and not self.minutes:
            raise ConfigError("training.minutes and training.steps are both 0: one of them is the budget")
        _check_range(self, "batch", 1, 65_536)
        _check_range(self, "crop", 1, 2**24)
        _check_range(self, "learning_rate", 1e-8, 1.0)
        _check_range(self, "warmup", 0, 10**6)
        _check_range(self, "final_rate", 0.0, 1.0)
        _check_range(self, "clip_norm", 1e-6, 1e6)
        _check_range(self, "ema", 0.0, 0.999999)
        _check_range(self, "validate_minutes", 0.01, 1e6)
        _check_range(self, "validate_steps", 0, 10**9)
        _check_range(self, "validation_seconds", 0.01, 1e6)
        _check_range(self, "clip_seconds", 0.0, 3600.0)
        _check_range(self, "seed", 0, 2**63 - 1)


def from_dict(kind: type[C], values: Mapping[str, Any], section: str = "") -> C:
    """Build a configuration from plain values. Raises `ConfigError` naming the key that is unknown or wrong."""
    prefix = f"{section}." if section else ""
    values = _current_names(kind, values)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{prefix}{key}: unknown key{suggest(key, known)}; known: {', '.join(known)}")
    try:
        return kind(**values)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith(prefix) else prefix + message) from None


def _current_names(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under today's field names: model files and run directories of earlier versions keep loading."""
    former = FORMER_NAMES.get(kind.__name__, {})
    return {former.get(name, name): value for name, value in values.items()}


def suggest(word: str, known: typing.Iterable[str]) -> str:
    """', did you mean X?' for the nearest known word, or nothing."""
    import difflib  # for a mistake only: sound starts sooner without

    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def _check_types(config: Any) -> None:
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        if hint is float and type(value) is int:  # a whole number is a float written shortly
            try:
                object.__setattr__(config, field.name, float(value))
            except OverflowError:
                raise ConfigError(f"{field.name}: far too large a number") from None
            continue
        allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        plain = tuple(typing.get_origin(kind) or kind for kind in allowed)
        if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
            names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in plain if kind is not types.NoneType)
            raise ConfigError(f"{field.name} = {value!r}: expected {names}")


def _check_choice(config: Any, name: str, known: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in known:
        raise ConfigError(f"{name} = {value!r}: unknown{suggest(value, known)}; known: {', '.join(known)}")


def _check_range(config: Any, name: str, low: float, high: float) -> None:
    value = getattr(config, name)
    if not low <= value <= high:  # also refuses NaN
        raise ConfigError(f"{name} = {value!r}: must be between {low:,} and {high:,}")
