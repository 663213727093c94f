"""Going back to the last good state of a run, with a lower learning rate, after its loss has jumped.

Every 1,024 steps, and before the first, the state is kept beside the one that the run is continued from, as
last/good_STEP.safetensors; the last two are kept. A jump leads back to the newest of them that is older than the blocks
in which the loss can have begun to rise.

The batches of the repeated steps are the same as before, as everything else is that depends on the seed and the step
only. What is different is the learning rate: half of it. Other batches would help if a few bad ones were the cause; but
crops are random, so that bad recordings come again. If the loss has jumped four times after the same state, training
stops there and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wavenet.config import FrameTrainingConfig, TrainingConfig
from wavenet.training.run_directory import RunDirectory, is_number
from wavenet.training.run_state import RunState
from wavenet.training.stability import MOST_ROLLBACKS, SUSPECT_STEPS, Jump

GOOD_STEPS = 1_024  # between good states
EVENT = "rollback"  # in the log


class TrainingError(RuntimeError):
    """Training cannot continue; the message gives the reason and what to change."""


@dataclass(frozen=True)
class Rollback:
    """Reported after the state of an earlier step was restored, with a lower learning rate."""

    step: int  # where training goes on
    from_step: int  # where the jump was noticed
    jump: Jump
    learning_rate: float  # its peak from now on
    number: int  # of the run's rollbacks so far
    seconds: float  # trained so far

    @property
    def text(self) -> str:
        """What happened, in a sentence."""
        return (
            f"step {self.from_step:,}: {self.jump.text}: back to step {self.step:,}, "
            f"{self.jump.table}.learning_rate is now {self.learning_rate:.2g}"
        )

    def record(self) -> dict[str, Any]:
        """For the log."""
        return {
            "event": EVENT,
            "step": self.step,
            "from_step": self.from_step,
            "table": self.jump.table,
            "before": self.jump.before if is_number(self.jump.before) else None,
            "after": self.jump.after if is_number(self.jump.after) else None,
            "learning_rate": self.learning_rate,
            "number": self.number,
            "seconds": self.seconds,
            "text": self.text,
        }


def is_good_step(state: RunState[Any]) -> bool:
    """Whether the state of this step is to be kept."""
    return state.step % GOOD_STEPS == 0


def keep_good_state(run: RunDirectory, state: RunState[Any]) -> None:
    """Save the state as a good one unless it is kept already, and remove older ones. Raises `CheckpointError`."""
    if run.good_state(state.step).exists():
        return
    state.save(run.good_state(state.step))
    run.remove_good_states([step for step in run.good_states() if step < state.step - GOOD_STEPS])


def roll_back(state: RunState[Any], run: RunDirectory, training: TrainingConfig) -> Rollback:
    """Restore the last good state, and lower the learning rate of the loss that has jumped. Nothing is written.

    Raises `TrainingError` if there is no good state, `CheckpointError` if it cannot be used.
    """
    jump, before, noticed, seconds = state.stability.jump, state.stability, state.step, state.seconds
    assert jump is not None
    config = settings(training, jump.table)
    steps = [step for step in run.good_states() if step <= max(0, noticed - SUSPECT_STEPS)]
    if not steps:
        raise TrainingError(f"step {noticed:,}: {jump.text}, and there is no earlier state: {advice(training, jump)}")
    state.load(run.good_state(steps[-1]))
    state.seconds = seconds  # they are spent
    state.stability.roll_back(before, jump, state.step, config.learning_rate)
    lowered = state.stability.limited(jump.table, config.learning_rate)
    return Rollback(state.step, noticed, jump, lowered, state.stability.rollbacks, seconds)


def settings(training: TrainingConfig, table: str) -> TrainingConfig | FrameTrainingConfig:
    """The settings in a table of the recipe."""
    return training.frames if table == "training.frames" else training


def stop_reason(training: TrainingConfig, rollback: Rollback) -> str:
    """Why training stops after rollbacks that have not helped, and what to do."""
    return (
        f"step {rollback.from_step:,}: {rollback.jump.text}, once more after going back to step {rollback.step:,} "
        f"{MOST_ROLLBACKS} times with lower learning rates; the run is saved there: {advice(training, rollback.jump)}"
    )


def advice(training: TrainingConfig, jump: Jump) -> str:
    """What to change after a jump."""
    config = settings(training, jump.table)
    return (
        f"lower {jump.table}.learning_rate (now {config.learning_rate:g}) or {jump.table}.clip_norm (now "
        f"{config.clip_norm:g}), or look for damaged recordings"
    )


def records_after(records: list[dict[str, Any]], rollback: Rollback) -> list[dict[str, Any]]:
    """The records of a log after a rollback: those of steps that are repeated are left out."""
    kept = [record for record in records if record["step"] <= rollback.step or record["event"] == EVENT]
    return [*kept, rollback.record()]
