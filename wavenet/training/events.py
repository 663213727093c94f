"""What a trainer reports while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from wavenet.evaluation.likelihood import ReferenceLevels
from wavenet.evaluation.verdict import Verdict
from wavenet.training.frame_tier import FrameValidation
from wavenet.training.rollback import Rollback


@dataclass(frozen=True)
class Progress:
    """Reported after every step."""

    step: int
    fraction: float  # of the budget
    bits: float  # training loss, bits per sample, smoothed
    learning_rate: float  # of the step
    samples_per_second: float
    seconds: float  # trained so far, also before interruptions
    seconds_left: float
    skipped: int  # steps without an update because a value was not finite
    nats: float = math.nan  # training loss of the frame model, nats per frame, smoothed
    gradient_norm: float = math.nan  # of the network, before it is limited
    waiting: float = math.nan  # share of the time of steps that was spent waiting for batches, smoothed


@dataclass(frozen=True)
class ValidationProgress:
    """Reported several times during a validation."""

    step: int
    phase: str  # "validating", "measuring temperatures", "generating a clip", "measuring the clip"
    fraction: float  # of the phase


@dataclass(frozen=True)
class Validation:
    """Result of the averaged weights on held-out recordings."""

    step: int
    bits: float  # per sample; NaN when nothing is held out
    best: float
    is_best: bool
    seconds: float
    skipped: int
    references: ReferenceLevels
    training_bits: float = math.nan  # mean training loss since the last validation, bits per sample
    verdict: Verdict = field(default_factory=Verdict)
    frames: FrameValidation | None = None  # of a network with a frame model


Event = Progress | ValidationProgress | Validation | Rollback
Report = Callable[[Event], None]
