"""Sampling options: `SamplingConfig`, stored in the model file as a part of `wavenet.config.ModelConfig`."""

from __future__ import annotations

import dataclasses
import math
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wavenet.checks import ConfigError, check_interval, is_integer, shown

if TYPE_CHECKING:
    from wavenet.frame_model_config import FrameModelConfig
    from wavenet.mel_config import MelConfig

MAX_REFINE = 1_000  # iterations; more change nothing that can be heard
MAX_PARTICLES = 1_024
MAX_FRAME_TEMPERATURE = 10.0  # of the stored range; more is noise
SILENT_DBFS = -50.0  # a frame whose RMS is below this is silent, in dB relative to an RMS of 1
NO_PITCH = "voiced_temperature: this model has no features, from which the pitch is computed"
NO_TOP_K = "top_k: a 16-bit output has no list of codes to choose from; use temperature or top_p"


@dataclass(frozen=True)
class SamplingConfig:
    """How audio is drawn from a model, and what is done to make it agree with its features.

    The options that a model file stores are recommendations: those that a call or a command gives replace them one by
    one. A given `temperature` alone keeps a stored `voiced_temperature`, for example. The value that has no effect
    turns an option off: `voiced_temperature` equal to `temperature`, `top_k` = 256, `top_p` = 1, `refine` and
    `particles` = 0.

    temperature, top_k, top_p: see `wavenet.engine.sampling.Sampling`. Outputs other than mu-law have no `top_k`.
    voiced_temperature: the temperature in voiced frames, those with a pitch; None: `temperature`.
    refine: iterations that adapt the audio to its features, see `wavenet.consistency.refine`; 0: none.
    particles: continuations of which every frame is chosen, see `wavenet.guided`; 1: one, corrected; 0: no guidance.
    frame_temperature: of the frames that a frame model draws, see `wavenet.engine.frame_sampler`.
    frame_temperature_range: the frame temperatures at which the model gives useful audio; None: not known.
    The last two need a frame model, and the three before them features. Values are converted to int and float. Raises
    `ConfigError` naming the option that is out of range.
    """

    temperature: float = 1.0
    voiced_temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    refine: int = 0
    particles: int = 0
    frame_temperature: float = 1.0
    frame_temperature_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        checked = {
            "temperature": checked_temperature(self.temperature),
            "top_k": checked_top_k(self.top_k),
            "top_p": checked_top_p(self.top_p),
            "refine": _whole("refine", self.refine, 0, MAX_REFINE),
            "particles": _whole("particles", self.particles, 0, MAX_PARTICLES),
            "frame_temperature": checked_temperature(self.frame_temperature, "frame_temperature"),
        }
        if self.voiced_temperature is not None:
            checked["voiced_temperature"] = checked_temperature(self.voiced_temperature, "voiced_temperature")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.frame_temperature_range is not None:
            check_interval(self, "frame_temperature_range", 0.0, MAX_FRAME_TEMPERATURE)

    def updated(self, **given: Any) -> SamplingConfig:
        """These options with those that are given; None: not given."""
        return dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})

    def check(self, output: str, features: MelConfig | None, frame_model: FrameModelConfig | None = None) -> None:
        """Raises `ConfigError` for an option that a model with this output, features and frame model does not have."""
        if self.top_k is not None and output != "mulaw":
            raise ConfigError(NO_TOP_K)
        if features is None and self.voiced_temperature is not None:
            raise ConfigError(NO_PITCH)
        for name in ("refine", "particles"):
            value = getattr(self, name)
            if value and features is None:
                raise ConfigError(f"{name} = {value}: this model has no features to compare audio with")
            if value and features is not None and not features.can_refine:
                raise ConfigError(
                    f"{name} = {value}: needs windows that overlap by half; the model's have {features.window} "
                    f"samples and begin every {features.hop}"
                )
        if features is not None and not features.refines_in_time(self.refine):
            raise ConfigError(
                f"refine = {self.refine}: takes too long with frames of {features.hop} samples and Fourier transforms "
                f"of {features.fft:,}"
            )
        for name in FRAME_OPTIONS:
            if frame_model is None and getattr(self, name) != UNUSED[name]:
                raise ConfigError(f"{name}: this model has no frame model, which it is an option of")

    @property
    def summary(self) -> str:
        """The options in one line, such as "temperature 0.9, voiced temperature 0.5, refine 40"."""
        values = dataclasses.asdict(self)
        used = {name: value for name, value in values.items() if name == "temperature" or value != UNUSED[name]}
        return ", ".join(
            f"{name.replace('_', ' ').replace('top ', 'top-')} {_text(value)}" for name, value in used.items()
        )


@dataclass(frozen=True)
class RecordedLevels:
    """How loud the recordings of each speaker are, or of the only one, that a network without features was trained on.

    Its streams keep these levels at every temperature, see `wavenet.level_session`. Raises `ConfigError`.
    """

    loud: tuple[float, ...]  # dBFS, of the mean power of the frames that are not silent
    silent: tuple[float, ...]  # share of silent frames: those below `SILENT_DBFS`

    def __post_init__(self) -> None:
        for name, low, high in (("loud", SILENT_DBFS, 0.0), ("silent", 0.0, 1.0)):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not all(_between(value, low, high) for value in values):
                raise ConfigError(f"{name} = {shown(values)}: expected numbers from {low:g} to {high:g}")
            object.__setattr__(self, name, tuple(map(float, values)))

    def check(self, speakers: tuple[str, ...], features: MelConfig | None) -> None:
        """Raises `ConfigError` for a model with other speakers, or with features."""
        if features is not None:
            raise ConfigError("recorded_levels: only for a model without features, which state the level")
        for name, values in (("loud", self.loud), ("silent", self.silent)):
            if len(values) != max(1, len(speakers)):
                raise ConfigError(
                    f"recorded_levels.{name}: has {len(values):,} values for {max(1, len(speakers)):,} voices"
                )


FRAME_OPTIONS = ("frame_temperature", "frame_temperature_range")
UNUSED = {field.name: field.default for field in dataclasses.fields(SamplingConfig)}


def checked_temperature(value: Any, name: str = "temperature") -> float:
    """A temperature as a float. Raises `ConfigError` if it is out of range. name: of the option, for the message."""
    temperature = _real(name, value)
    if temperature is None or not 0 <= temperature < math.inf:
        raise ConfigError(f"{name} = {shown(value)}: must be a number from 0 upwards")
    return temperature


def checked_top_k(value: Any) -> int | None:
    """A number of codes as an int, or None. Raises `ConfigError` if it is out of range."""
    if value is None:
        return None
    if not is_integer(value) or value < 1:
        raise ConfigError(f"top_k = {shown(value)}: must be a whole number from 1, or None for all codes")
    return int(value)


def checked_top_p(value: Any) -> float | None:
    """A total probability as a float, or None. Raises `ConfigError` if it is out of range."""
    if value is None:
        return None
    top_p = _real("top_p", value)
    if top_p is None or not 0 < top_p <= 1:
        raise ConfigError(f"top_p = {shown(value)}: must be above 0 and at most 1, or None for all codes")
    return top_p


def _between(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high


def _text(value: Any) -> str:
    return " to ".join(f"{number:g}" for number in (value if isinstance(value, tuple) else (value,)))


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if not is_integer(value) or not low <= value <= high:
        raise ConfigError(f"{name} = {shown(value)}: must be a whole number from {low} to {high:,}")
    return int(value)


def _real(name: str, value: Any) -> float | None:
    """A real number as a float, None for anything else. Raises `ConfigError` for a number that is too large."""
    try:
        return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else None
    except OverflowError:
        raise ConfigError(f"{name}: the number is too large") from None
