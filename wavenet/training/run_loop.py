"""The course of a training run, of a generator or of a labeller: steps, validations, Ctrl-C, and the saved state.

A run continues exactly where it was saved: the batch of a step depends on the seed and the step only, and everything
else is in the saved state. All files are written through `RunLoop.run`; in distributed training only the process of
rank 0 has to write them.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from wavenet import checkpoint
from wavenet.config import TrainingConfig
from wavenet.data import dataset
from wavenet.data.dataset import Summary
from wavenet.data.errors import printable
from wavenet.training import rollback, schedule
from wavenet.training.interruption import interruption
from wavenet.training.recipe import Recipe
from wavenet.training.rollback import TrainingError as TrainingError
from wavenet.training.run_directory import RunDirectory
from wavenet.training.run_lock import RunLock
from wavenet.training.run_state import START_AGAIN, RunState

LOG_SECONDS = 10.0  # between lines of training loss in the log

S = TypeVar("S", bound=RunState[Any])
V = TypeVar("V")  # result of a validation


class Interrupted(Exception):
    """Ctrl-C during a validation, which is then repeated when the run is continued."""


def is_continued(run: RunDirectory, fresh: bool) -> bool:
    """Whether a run has a saved state to continue with. Raises `CheckpointError` if it has a model but no state."""
    if fresh or run.state.exists():
        return not fresh
    if run.model.exists():
        raise checkpoint.CheckpointError(f"{printable(run.path)}: has a model but no {run.state}; {START_AGAIN}")
    return False


class RunLoop(ABC, Generic[S, V]):
    """A training run. `train` runs it to the end of its budget, or until Ctrl-C, and saves it."""

    def __init__(self, run: RunDirectory, recipe: Recipe, summary: Summary, state: S, fresh: bool) -> None:
        """Continue the run if it exists; with `fresh`, start it again (its files are removed when training starts).

        summary: of the recordings. state: that before the first step.
        Raises `CheckpointError` for a run whose saved state cannot be used.
        """
        self.run, self.recipe, self.summary, self.fresh = run, recipe, summary, fresh
        self.state: S = state
        self.saved_step = 0
        self._lock: RunLock | None = None
        self.is_continued = is_continued(run, fresh)
        if self.is_continued:
            state.load(run.state)
            self.saved_step = state.step
        state.stability.watch(state.folder, summary.kept, summary.seconds, recipe.training)

    @property
    def fraction(self) -> float:
        """Share of the budget spent."""
        return schedule.budget_spent(self.recipe.training, self.state.step, self.state.seconds)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent and the last step validated."""
        return self.fraction >= 1 and not self._validation_is_due()

    def train(self, report: Callable[[Any], None] = lambda event: None) -> V | None:
        """Train to the end of the budget. Returns the last validation, None if the run was finished already.

        Raises `TrainingError`; `CheckpointError` or `AudioError` if a file cannot be written; and, after the state is
        saved, `KeyboardInterrupt` on Ctrl-C and `DatasetError` if the cached audio was truncated.
        """
        self.run.create()
        with self.run.lock() as self._lock, interruption() as interrupted:
            self._prepare_run()
            try:
                return self._loop(report, interrupted)
            except Interrupted:
                raise KeyboardInterrupt from None
            except dataset.DatasetError:
                self._save_interrupted()
                raise
            except (MemoryError, RuntimeError) as error:
                if _is_out_of_memory(error):
                    raise TrainingError(_out_of_memory(self.recipe.training)) from error
                raise

    @abstractmethod
    def _step(self) -> Any:
        """One step; returns its report, a dataclass with `seconds`."""

    @abstractmethod
    def _validate(self, report: Callable[[Any], None], interrupted: threading.Event) -> V:
        """Validate, write the best model, save the state, report."""

    def _prepare_run(self) -> None:
        """Write the recipe, and remove log records later than the saved state, which a killed process can leave."""
        run, state = self.run, self.state
        if self.fresh:
            run.clear()
        run.remove_partial_files()
        checkpoint.write_bytes(run.recipe, self.recipe.to_toml().encode())
        try:
            dataset.write_skipped(run.skipped, self.summary)
        except OSError as error:
            raise checkpoint.cannot_write(run.skipped, error) from error
        last = {"validation": state.validated_step}  # later validations will be repeated
        kept = [line for line in run.read_log() if line["step"] <= last.get(line["event"], state.step)]
        run.rewrite_log([line for line in kept if line.get("number", 0) <= state.stability.rollbacks])

    def _loop(self, report: Callable[[Any], None], interrupted: threading.Event) -> V | None:
        result: V | None = None
        logged = self.state.seconds
        while True:
            if interrupted.is_set():
                self._save_interrupted()
                raise KeyboardInterrupt
            rollback.keep_good_state(self.run, self.state)
            if self._validation_is_due():
                result = self._validate(report, interrupted)
            if self.fraction >= 1:
                return result
            progress = self._step()
            report(progress)
            if progress.seconds - logged >= LOG_SECONDS:
                self.run.append_log({"event": "train", **finite(dataclasses.asdict(progress))})
                logged = progress.seconds
            if self.state.stability.jump is not None:
                self._roll_back(report)

    def _roll_back(self, report: Callable[[Any], None]) -> None:
        """After a jump of the loss: go back to the last good state. Raises `TrainingError` if that has not helped."""
        state, run = self.state, self.run
        event = rollback.roll_back(state, run, self.recipe.training)
        exhausted = state.stability.exhausted
        if exhausted:
            state.stability.repeated = 0
        run.rewrite_log(rollback.records_after(run.read_log(), event))  # before the save: a killed run does it again
        self._save()
        run.remove_good_states([step for step in run.good_states() if step > state.step])
        self._rolled_back()
        if exhausted:
            raise TrainingError(rollback.stop_reason(self.recipe.training, event))
        report(event)

    def _rolled_back(self) -> None:
        """Called when the state of an earlier step was restored."""

    def _validation_is_due(self) -> bool:
        state = self.state
        return schedule.validation_is_due(
            self.recipe.training, state.step, state.seconds, state.validated_step, state.validated_seconds
        )

    def _check_not_interrupted(self, interrupted: threading.Event) -> None:
        """During a validation: raises `Interrupted` after Ctrl-C, when the state is saved."""
        if interrupted.is_set():
            self._save_interrupted()
            raise Interrupted

    def _save(self) -> None:
        if self._lock is not None:
            self._lock.check()
        self.state.save(self.run.state)
        self.saved_step = self.state.step

    def _save_interrupted(self) -> None:
        """Save an interrupted run, and write a model file if there is none yet, although it is not validated."""
        if not self.state.step:
            return
        self._save()
        if not self.run.model.exists():
            checkpoint.save_model(self.run.model, self.state.average)


def finite(value: Any) -> Any:
    """The value, a table for example, with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error is that of memory that could not be allocated, which PyTorch reports in several ways."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


def _out_of_memory(config: TrainingConfig) -> str:
    """What to do then."""
    return (
        f"out of memory: lower training.batch (now {config.batch}) or training.crop (now {config.crop}), for "
        "example with --set training.batch=1, or the model's channels; wavenet info RECIPE estimates the memory"
    )
