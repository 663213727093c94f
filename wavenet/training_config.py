"""The settings of a training run: data (`DataConfig`), budget and optimizers (`TrainingConfig`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from wavenet.checks import ConfigError, check_choice, check_interval, check_range, check_types, from_dict

SPLITS = ("auto", "files", "time")
BASES = ("none", "auto")
PRECISIONS = ("float32", "bf16", "fp16")


@dataclass(frozen=True)
class DataConfig:
    """How a folder of recordings becomes training crops."""

    validation: float = 0.05  # share of the files or of their time that is held out for validation
    split: str = "auto"  # by "files", or "time": stretches of every file; "auto": by time if files are few and long
    trim_db: float = 0.0  # cut ends that are this far below the clip's peak; 0 keeps every sample
    join: bool = False  # continue a crop with another clip where one ends, instead of padding it
    edge_silence: float = -1.0  # seconds of silence kept at clip ends in training crops; negative keeps all
    pitch_shift: tuple[float, float] = (1.0, 1.0)  # crops are played faster by a factor between these two: [0.5, 2.0]
    pitch_shift_share: float = 1.0  # share of the crops whose pitch is shifted
    gain_shift: tuple[float, float] = (0.0, 0.0)  # dB; crops are amplified by a gain between these two: [-20, 6]
    loudness: float = 0.0  # dBFS; recordings are amplified to this level, if their peaks allow it; 0: as they are
    speakers: str = ""  # "folders": named by the first-level sub-folders; FILE.csv: path,speaker; "": a single voice

    def __post_init__(self) -> None:
        check_interval(self, "pitch_shift", 0.1, 10.0)
        check_interval(self, "gain_shift", -60.0, 60.0)
        check_types(self)
        check_choice(self, "split", SPLITS)
        check_range(self, "pitch_shift_share", 0.0, 1.0)
        check_range(self, "validation", 0.0, 0.5)
        check_range(self, "trim_db", 0.0, 200.0)
        check_range(self, "loudness", -60.0, 0.0)
        check_range(self, "edge_silence", -1e6, 3600.0)


@dataclass(frozen=True)
class FrameTrainingConfig:
    """The steps of a frame model, `wavenet.frame_model`, which alternate with those of the network."""

    steps: int = 1  # of the frame model after each step of the network; 0: its weights are kept as they are
    batch: int = 4  # crops per step
    crop: int = 256  # frames per crop
    learning_rate: float = 5e-3  # peak
    warmup: int = 100  # steps to the peak
    final_rate: float = 0.02  # learning rate at the end of the cosine, as a share of the peak
    clip_norm: float = 20.0  # gradients of a larger norm are scaled down to it
    ema: float = 0.995  # decay per step of the averaged weights

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "steps", 0, 1_000)
        check_range(self, "crop", 1, 2**20)
        check_optimizer(self)


@dataclass(frozen=True)
class LabelTrainingConfig:
    """What keeps a labeller from learning a small set of recordings by heart, and the weights of the classes.

    Masks are those of SpecAugment (Park et al. 2019): bands, or frames, of the log-mel spectrogram are set to its mean.
    """

    dropout: float = 0.2  # share of the channels before and after the head that are zero
    noise: float = 0.0  # standard deviation of noise on log-mel values, in nepers
    band_masks: int = 1  # of a crop
    band_mask: int = 8  # bands; widest mask
    frame_masks: int = 1  # of a crop
    frame_mask: int = 10  # frames; widest mask
    class_balance: float = 0.3  # weights of classes are their frequency to the power of minus this; 0: all are equal

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "dropout", 0.0, 0.95)
        check_range(self, "noise", 0.0, 100.0)
        check_range(self, "band_masks", 0, 100)
        check_range(self, "band_mask", 0, 1_024)
        check_range(self, "frame_masks", 0, 1_000)
        check_range(self, "frame_mask", 0, 100_000)
        check_range(self, "class_balance", 0.0, 1.0)


@dataclass(frozen=True)
class TrainingConfig:
    """The budget and the optimizer. The cosine ends with the budget: `steps` if given, otherwise `minutes`."""

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {"rate": "learning_rate"}

    minutes: float = 30.0
    steps: int = 0  # 0: the budget is in minutes
    batch: int = 2  # crops per step
    crop: int = 3_072  # samples per crop that count in the loss
    learning_rate: float = 4e-3  # peak
    warmup: int = 100  # steps to the peak
    final_rate: float = 0.01  # learning rate at the end of the cosine, as a share of the peak
    clip_norm: float = 1.0  # gradients of a larger norm are scaled down to it
    ema: float = 0.999  # decay per step of the averaged weights
    validate_minutes: float = 5.0  # between validations, saves and clips; the first is after a minute
    validate_steps: int = 0  # the same in steps; 0: in minutes
    validation_seconds: float = 30.0  # held-out audio used by each validation
    clip_seconds: float = 10.0  # audio generated at each validation, at most 2 without the native engine; 0: none
    seed: int = 0
    base: str = "none"  # the model that a new run starts from: "auto": the shipped one that fits; "none": no model
    past: int = 0  # samples of the recording before each crop that are inputs, but do not count in the loss
    precision: str = "float32"  # of the network's matrix products: or "bf16", "fp16"
    compile: bool = False  # by torch.compile
    accumulation: int = 1  # parts in which the crops of a batch are computed, one after the other
    activation_checkpointing: bool = False  # activations are computed again in the backward pass instead of being kept
    workers: int = -1  # processes that prepare batches; 0: the training process does it; -1: chosen for the machine
    frames: FrameTrainingConfig = field(default_factory=FrameTrainingConfig)  # for networks with a frame model
    labels: LabelTrainingConfig = field(default_factory=LabelTrainingConfig)  # for labellers

    def __post_init__(self) -> None:
        if isinstance(self.frames, Mapping):
            object.__setattr__(self, "frames", from_dict(FrameTrainingConfig, self.frames, "frames"))
        if isinstance(self.labels, Mapping):
            object.__setattr__(self, "labels", from_dict(LabelTrainingConfig, self.labels, "labels"))
        check_types(self)
        check_range(self, "minutes", 0.0, 1e6)
        check_range(self, "steps", 0, 10**9)
        if not self.steps and not self.minutes:
            raise ConfigError("training.minutes and training.steps are both 0: one of them is the budget")
        check_range(self, "crop", 1, 2**24)
        check_optimizer(self)
        check_range(self, "validate_minutes", 0.01, 1e6)
        check_range(self, "validate_steps", 0, 10**9)
        check_range(self, "validation_seconds", 0.01, 1e6)
        check_range(self, "clip_seconds", 0.0, 3600.0)
        check_range(self, "seed", 0, 2**63 - 1)
        check_choice(self, "base", BASES)
        check_range(self, "past", 0, 2**24)
        check_choice(self, "precision", PRECISIONS)
        check_range(self, "accumulation", 1, 65_536)
        check_range(self, "workers", -1, 1_024)


def check_optimizer(config: FrameTrainingConfig | TrainingConfig) -> None:
    """Check the fields that both have."""
    check_range(config, "batch", 1, 65_536)
    check_range(config, "learning_rate", 1e-8, 1.0)
    check_range(config, "warmup", 0, 10**6)
    check_range(config, "final_rate", 0.0, 1.0)
    check_range(config, "clip_norm", 1e-6, 1e6)
    check_range(config, "ema", 0.0, 0.999999)
