"""Parameters of the features: `MelConfig`, stored in the model file as a part of `wavenet.config.ModelConfig`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from wavenet.checks import (
    ConfigError,
    check_choice,
    check_interval,
    check_range,
    check_types,
    current_names,
    from_dict,
    shown,
)

PITCH_RANGE = (50.0, 500.0)  # Hz; the fundamental frequencies that the pitch taps cover
MAX_PITCH_TAPS = 9
LOOKAHEAD_SECONDS = 0.05  # of audio that is refined while it is generated
MAX_REFINING_WORK = 2**18  # values of Fourier transforms per sample: several times slower than real time


@dataclass(frozen=True)
class MelConfig:
    """Parameters of a model's features, a log-mel spectrogram (see `wavenet.features`).

    Features made by another program fit the model only if all of these agree.
    """

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"rate": "sample_rate"}

    sample_rate: int = 16_000  # Hz; that of the model
    window: int = 640  # samples, Hann
    fft: int = 1_024  # samples; the window is zero-padded to this length
    hop: int = 160  # samples from one frame to the next
    bands: int = 80
    low: float = 0.0  # Hz, lower edge of the first band
    high: float = 8_000.0  # Hz, upper edge of the last band
    scale: str = "slaney"  # mel scale: "slaney" (linear, then logarithmic) or "htk" (logarithmic)
    area: bool = True  # divide the weights of each band by its width in Hz ("Slaney norm")
    power: float = 1.0  # exponent of the spectrum: 1 magnitude, 2 energy
    floor: float = 1e-5  # lower limit of a band before the logarithm
    mean: float = -5.0  # normalisation: the frame network receives (feature - mean) / deviation
    deviation: float = 2.5

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "sample_rate", 1_000, 384_000)
        check_range(self, "fft", 16, 65_536)
        check_range(self, "window", 4, self.fft)
        check_range(self, "hop", 1, self.fft)
        check_range(self, "bands", 1, 1_024)
        check_range(self, "high", 1.0, self.sample_rate / 2)
        check_range(self, "low", 0.0, self.high - 1)
        check_choice(self, "scale", ("slaney", "htk"))
        check_range(self, "power", 0.1, 4.0)
        check_range(self, "floor", 1e-30, 1.0)
        check_range(self, "mean", -1e3, 1e3)
        check_range(self, "deviation", 1e-3, 1e3)

    @property
    def silence(self) -> float:
        """The feature of silence, in every band."""
        return math.log(self.floor)

    @property
    def can_refine(self) -> bool:
        """Whether windows overlap by half or more, so that audio can be refined (see `wavenet.consistency`)."""
        return 2 * self.hop <= self.window

    def refines_in_time(self, iterations: int) -> bool:
        """Whether so many iterations, while audio is generated, are at most `MAX_REFINING_WORK`."""
        inside = max(1, round(LOOKAHEAD_SECONDS * self.sample_rate / self.hop))  # frames that take part in each
        transforms = -(-iterations // inside) * (inside + self.window // self.hop)  # per frame
        return transforms * self.fft <= MAX_REFINING_WORK * self.hop

    @property
    def pitch_periods(self) -> tuple[int, int]:
        """The shortest and the longest pitch period in samples; `fft` limits the longest to half its length."""
        shortest = max(MAX_PITCH_TAPS, round(self.sample_rate / PITCH_RANGE[1]))
        return shortest, max(shortest, min(round(self.sample_rate / PITCH_RANGE[0]), self.fft // 2))

    def check_same(self, stated: Mapping[str, object]) -> None:
        """Compare with the parameters stated for other features, which may be some of all.

        Raises `ConfigError` for the first parameter that differs or does not exist.
        """
        own, stated = dataclasses.asdict(self), current_names(MelConfig, stated)
        from_dict(MelConfig, {**own, **stated})  # raises for a parameter that does not exist or has an invalid value
        for name, value in stated.items():
            if value != own[name]:
                raise ConfigError(
                    f"its features have {name} = {shown(value)}, the model's have {own[name]!r}; "
                    "compute them again with the model's parameters"
                )


@dataclass(frozen=True)
class FeatureRange:
    """The levels and pitches of the features that a network was trained on, to warn of others.

    Each interval contains 98% of the frames that are not silent: all but the lowest and the highest percent. It is
    measured when training starts, see `wavenet.engine.feature_range`.
    """

    level: tuple[float, float]  # dB; the mean over the bands of a frame
    pitch: tuple[float, float]  # Hz, of voiced frames; [0, 0]: there were none
    gains: float = 0.0  # dB; width of `data.gain_shift`, of earlier versions, which have no `quietest`
    quietest: float | None = None  # dB; the level of the loud frames of the quietest recordings; None: not known
    voiced: tuple[float, ...] = ()  # with a frame model: share of voiced frames of each speaker, which its streams keep

    def __post_init__(self) -> None:
        check_interval(self, "level", -1e4, 1e4)
        check_interval(self, "pitch", 0.0, 1e6)
        if isinstance(self.voiced, list):  # from JSON or TOML
            object.__setattr__(self, "voiced", tuple(self.voiced))
        check_types(self)
        check_range(self, "gains", 0.0, 1e4)
        if self.quietest is not None:
            check_range(self, "quietest", -1e4, 1e4)
        for share in self.voiced:
            if type(share) not in (int, float) or not 0 <= share <= 1:
                raise ConfigError(f"voiced: {shown(share)} is not a share, from 0 to 1")
