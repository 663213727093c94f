"""Whether the loss of a training run has jumped, and how far its learning rates are lowered for that.

Losses are averaged over blocks of 64 steps. A block is high if its mean is above the lowest mean so far by more than a
least rise and by more than ten standard errors of the difference; or if most of its steps were skipped, because a
value was not finite. Two high blocks in a row are a jump. The error is estimated from the spread of the losses in the
two blocks themselves, so that recordings whose crops differ widely, and single outliers, are no jump.

In runs of the recipes tiny, speech and voice, on one and on three recordings, and from a trained model (250 to 2,400
steps each), no block was more than 2 standard errors above the lowest; of 320,000 steps drawn at random from the losses
of such runs, 20 times for each, no block more than 6.6.

The decision depends on the losses only, and everything here is saved with the state: a run that is continued decides
like one that was not interrupted, and all processes of a run decide alike.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wavenet.checks import ConfigError, check_types, from_dict

BLOCK = 64  # steps
HIGH_BLOCKS = 2  # in a row
STANDARD_ERRORS = 10.0
BOUND = 32  # least rises above the lowest mean; larger losses count as this in the error
LOWERING = 0.5  # of the learning rate at each rollback
MOST_ROLLBACKS = 3  # to the same state
SUSPECT_STEPS = (HIGH_BLOCKS + 1) * BLOCK  # before the end of a jump; it may have begun in the first of these blocks


@dataclass(frozen=True)
class Loss:
    """A loss that is watched: that of a table of the recipe with a learning rate."""

    unit: str
    least_rise: float  # in this unit; less is no jump however steady the loss is


BITS = Loss("bits per sample", 0.5)
FRAME_NATS = Loss("nats per frame", 5.0)
LABEL_NATS = Loss("nats per frame", 0.5)


@dataclass
class Watch:
    """What is known of one loss. Fields as they are saved; sums are of the block that is not complete yet."""

    steps: int = 0
    skipped: int = 0
    total: float = 0.0
    bounded: float = 0.0  # sum of the losses with an upper bound, and of their squares
    squares: float = 0.0
    lowest: float = math.inf  # mean of a block
    lowest_variance: float = 0.0  # of that mean
    high_blocks: int = 0  # in a row, up to the last one
    latest: float = math.nan  # mean of the last block; NaN if most of its steps were skipped
    limit: float = math.inf  # of the learning rate

    def __post_init__(self) -> None:
        check_types(self)

    def record(self, loss: float | None, least_rise: float) -> None:
        """Count a step; None: it was skipped."""
        self.steps += 1
        if loss is None or not math.isfinite(loss):
            self.skipped += 1
        else:
            bounded = min(loss, self.lowest + BOUND * least_rise)
            self.total += loss
            self.bounded += bounded
            self.squares += bounded * bounded
        if self.steps == BLOCK:
            self._end_block(least_rise)

    def _end_block(self, least_rise: float) -> None:
        count = self.steps - self.skipped
        if 2 * self.skipped > BLOCK:
            self.latest, variance, high = math.nan, 0.0, True
        else:
            self.latest, mean = self.total / count, self.bounded / count
            variance = max(0.0, self.squares - count * mean * mean) / (count - 1) / count
            error = math.sqrt(variance + self.lowest_variance)
            high = mean - self.lowest > max(least_rise, STANDARD_ERRORS * error)
        self.high_blocks = self.high_blocks + 1 if high else 0
        if self.latest < self.lowest:
            self.lowest, self.lowest_variance = self.latest, variance
        self.forget_block()

    def forget_block(self) -> None:
        """Begin a new block."""
        self.steps = self.skipped = 0
        self.total = self.bounded = self.squares = 0.0

    def forget(self) -> None:
        """Forget the losses, and keep the limit of the learning rate."""
        self.lowest, self.lowest_variance, self.high_blocks, self.latest = math.inf, 0.0, 0, math.nan
        self.forget_block()


@dataclass(frozen=True)
class Jump:
    """A loss that has jumped."""

    table: str  # of the recipe: "training", "training.frames"
    unit: str
    before: float  # lowest mean of a block; inf if there was none
    after: float  # mean of the last block; NaN if most of its steps were skipped

    @property
    def text(self) -> str:
        """What happened, in words."""
        if math.isnan(self.after):
            return f"the loss was not finite in most of the last {HIGH_BLOCKS * BLOCK} steps"
        return f"the loss jumped from {self.before:.2f} to {self.after:.2f} {self.unit}"


class Stability:
    """Watches the losses of a run, and limits the learning rates of their tables."""

    def __init__(self, losses: Mapping[str, Loss]) -> None:
        """losses: by table of the recipe."""
        self.losses = losses
        self.watches = {table: Watch() for table in losses}
        self.rollbacks = 0  # of the run so far
        self.rolled_back_to, self.repeated = -1, 0  # step of the last one, and how many led to that step
        self.data = ""  # stands for the recordings and settings that the losses are of

    def record(self, table: str, loss: float | None) -> None:
        """Count a step with its loss; None: it was skipped; NaN: it had none."""
        if loss is None or not math.isnan(loss):
            self.watches[table].record(loss, self.losses[table].least_rise)

    @property
    def jump(self) -> Jump | None:
        """The loss that has jumped; None if none has."""
        for table, watch in self.watches.items():
            if watch.high_blocks >= HIGH_BLOCKS:
                return Jump(table, self.losses[table].unit, watch.lowest, watch.latest)
        return None

    def limited(self, table: str, peak: float) -> float:
        """The peak of the learning rate of a table: that of the recipe, or less after rollbacks."""
        return min(peak, self.watches[table].limit)

    def share(self, table: str, peak: float) -> float:
        """The same as a share of the recipe's peak."""
        return self.limited(table, peak) / peak

    def roll_back(self, before: Stability, jump: Jump, step: int, peak: float) -> None:
        """After the state of `step` was restored, this object with it: lower the learning rate of a jump.

        before: as it was at the jump. peak: the learning rate of the recipe's table.
        """
        if self.data != before.data:  # the state is from before settings were changed
            self.forget()
            self.data = before.data
        for table, watch in self.watches.items():
            watch.limit = before.watches[table].limit
        self.watches[jump.table].limit = LOWERING * before.limited(jump.table, peak)
        self.repeated = before.repeated + 1 if step == before.rolled_back_to else 1
        self.rollbacks, self.rolled_back_to = before.rollbacks + 1, step

    @property
    def exhausted(self) -> bool:
        """Whether lower learning rates have not helped."""
        return self.repeated > MOST_ROLLBACKS

    def watch(self, *data: object) -> None:
        """Forget the losses if they were of other recordings or settings than these."""
        digest = hashlib.sha256(repr(data).encode()).hexdigest()[:16]
        if self.data not in ("", digest):
            self.forget()
        self.data = digest

    def forget(self) -> None:
        """Forget the losses."""
        for watch in self.watches.values():
            watch.forget()

    def counters(self) -> dict[str, Any]:
        """Everything, for the state file."""
        return {
            "losses": {table: dataclasses.asdict(watch) for table, watch in self.watches.items()},
            "rollbacks": [self.rollbacks, self.rolled_back_to, self.repeated],
            "data": self.data,
        }

    def restored(self, counters: Mapping[str, Any]) -> Stability:
        """That of a state file; one of an earlier version, without counters, has seen nothing. Raises `ValueError`."""
        found = Stability(self.losses)
        if not counters:
            return found
        try:
            found.watches = {table: from_dict(Watch, counters["losses"][table]) for table in self.losses}
            found.rollbacks, found.rolled_back_to, found.repeated = map(int, counters["rollbacks"])
            found.data = str(counters["data"])
        except (KeyError, TypeError, ConfigError) as error:
            raise ValueError(f"stability: {error}") from None
        return found
