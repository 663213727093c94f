"""The course of a training run, of a generator or of a labeller: steps, validations, Ctrl-C, and the saved state.

A run continues exactly where it was saved: the batch of a step depends on the seed and the step only, and everything
else is in the saved state. Several processes can train together: each takes part in the steps, and all decide alike
when to validate and when to stop; the first one alone validates and writes files, while the others wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.config import ConfigError, TrainingConfig
from wavenet.data import dataset
from wavenet.data.dataset import Summary
from wavenet.data.errors import AudioError, printable
from wavenet.training import rollback, schedule
from wavenet.training.distributed import SINGLE, Processes, launch, started_by_torchrun
from wavenet.training.feed import FeedError
from wavenet.training.interruption import interruption
from wavenet.training.readout import Readout
from wavenet.training.recipe import Recipe
from wavenet.training.rollback import TrainingError as TrainingError
from wavenet.training.run_directory import RunDirectory
from wavenet.training.run_lock import RunLock
from wavenet.training.run_state import START_AGAIN, Content, RunState

LOG_SECONDS = 10.0  # between lines of training loss in the log
# Keys of [training] that do not change what is learned: how steps are computed, and what validations do.
NOT_LEARNED_FROM = (
    *("accumulation", "activation_checkpointing", "compile", "workers"),
    *("validate_minutes", "validate_steps", "validation_seconds", "clip_seconds"),
)

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

    def __init__(
        self,
        run: RunDirectory,
        recipe: Recipe,
        summary: Summary,
        state: S,
        fresh: bool,
        processes: Processes = SINGLE,
    ) -> None:
        """Continue the run if it exists; with `fresh`, start it again (its files are removed when training starts).

        summary: of the recordings. state: that before the first step. Only the first process reads the run directory.
        Raises `CheckpointError` for a run whose saved state cannot be used.
        """
        check_rows(recipe.training.batch, processes)
        self.run, self.recipe, self.summary, self.fresh, self.processes = run, recipe, summary, fresh, processes
        self.state: S = state
        self.saved_step = 0
        self._lock: RunLock | None = None
        saved = processes.first(
            lambda: state.read(run.state) if is_continued(run, fresh) else None, "the saved state of the run"
        )
        self.is_continued = saved is not None
        if saved is not None:
            state.restore(saved)
            self.saved_step = state.step
        learned_with = dataclasses.asdict(recipe.training)
        for key in NOT_LEARNED_FROM:
            del learned_with[key]
        state.stability.watch(state.folder, summary.kept, summary.seconds, learned_with)
        self.readout = Readout(next(state.model.parameters()).device)
        self.interrupted = threading.Event()  # this process, by Ctrl-C
        self._stopping = False  # all processes, because one of them was interrupted

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
        saved, `KeyboardInterrupt` on Ctrl-C and `DatasetError` if the cached audio was truncated, `FeedError` if
        a process that prepares batches has ended.
        """
        if not self.processes.is_first:
            report = _no_report
        with interruption() as self.interrupted, contextlib.ExitStack() as writing:

            def begin() -> None:
                self.run.create()
                self._lock = writing.enter_context(self.run.lock())
                self._prepare_run()

            self.processes.first(begin, "the run directory")
            weights = [*self.state.model.state_dict().values(), *self.state.average.state_dict().values()]
            self.processes.broadcast(weights, "the weights")  # hosts can differ in rounding
            try:
                return self._loop(report)
            except Interrupted:
                raise KeyboardInterrupt from None
            except (dataset.DatasetError, FeedError):
                if self.processes.count == 1:  # otherwise the others are within a step
                    self._flush()
                    self._save_interrupted()
                raise
            except (CheckpointError, AudioError) as error:
                if self.saved_step and isinstance(error.__cause__, OSError) and self.run.state.exists():
                    raise CheckpointError(f"{error}; {self._how_to_continue()}") from error.__cause__
                raise
            except (MemoryError, RuntimeError) as error:
                if _is_out_of_memory(error):
                    raise TrainingError(_out_of_memory(self.recipe.training)) from error
                raise

    def _how_to_continue(self) -> str:
        """What to do when a full disk, for example, has ended the training."""
        command = "the same command without --fresh" if self.fresh else "the same command"
        return f"the run is saved at step {self.saved_step:,}: {command} continues it there"

    @abstractmethod
    def _step(self) -> Any:
        """One step; returns its report, a dataclass with `seconds`. Ends with `_end_step`."""

    @abstractmethod
    def _record(self, figures: Sequence[float]) -> None:
        """Record what `_end_step` was given for a step, for every step in order: sums over the processes."""

    @abstractmethod
    def _validate(self, report: Callable[[Any], None]) -> V:
        """Validate, write the best model, save the state, report: on the first process."""

    @abstractmethod
    def _validated(self, result: V) -> None:
        """Change the counters of the state after a validation: on every process."""

    def _prepare_run(self) -> None:
        """Write the recipe, and remove log records later than the saved state, which a killed process can leave."""
        run, state = self.run, self.state
        if self.fresh:
            run.clear()
            if started_by_torchrun():
                checkpoint.write_bytes(run.cleared_by, launch().encode())
        run.remove_partial_files()
        checkpoint.write_bytes(run.recipe, self.recipe.to_toml().encode())
        try:
            dataset.write_skipped(run.skipped, self.summary)
        except OSError as error:
            raise checkpoint.cannot_write(run.skipped, error) from error
        last = {"validation": state.validated_step}  # later validations will be repeated
        kept = [line for line in run.read_log() if line["step"] <= last.get(line["event"], state.step)]
        run.rewrite_log([line for line in kept if line.get("number", 0) <= state.stability.rollbacks])

    def _loop(self, report: Callable[[Any], None]) -> V | None:
        result: V | None = None
        logged = self.state.seconds
        while True:
            if self._is_interrupted():
                self._flush()
                self.processes.first(self._save_interrupted, "the state to be saved")
                raise KeyboardInterrupt
            if rollback.is_good_step(self.state):
                self._flush()
                self.processes.first(lambda: rollback.keep_good_state(self.run, self.state), "the state to be saved")
            if self._validation_is_due():
                self._flush()
                result = self.processes.first(lambda: self._validate(report), "the validation")
                self._validated(result)
            if self.fraction >= 1:
                return result
            progress = self._step()
            report(progress)
            if progress.seconds - logged >= LOG_SECONDS:
                if self.processes.is_first:
                    self.run.append_log({"event": "train", **finite(dataclasses.asdict(progress))})
                logged = progress.seconds
            if self.state.stability.jump is not None:
                self._roll_back(report)

    def _roll_back(self, report: Callable[[Any], None]) -> None:
        """After a jump of the loss: go back to the last good state. Raises `TrainingError` if that has not helped."""
        self._flush()
        event, exhausted, saved = self.processes.first(self._go_back, "the state before a jump of the loss")
        if saved is not None and not self.processes.is_first:
            self.state.restore(saved)
        if exhausted:
            raise TrainingError(rollback.stop_reason(self.recipe.training, event))
        report(event)

    def _go_back(self) -> tuple[rollback.Rollback, bool, Content | None]:
        """On the first process; returns also whether that has been done too often, and the state for the others."""
        state, run = self.state, self.run
        event = rollback.roll_back(state, run, self.recipe.training)
        exhausted = state.stability.exhausted
        if exhausted:
            state.stability.repeated = 0
        run.rewrite_log(rollback.records_after(run.read_log(), event))  # before the save: a killed run does it again
        self._save()
        run.remove_good_states([step for step in run.good_states() if step > state.step])
        return event, exhausted, state.read(run.state) if self.processes.count > 1 else None

    def _is_interrupted(self) -> bool:
        """Whether to stop: by Ctrl-C here, but with several processes when all of them have heard of it."""
        return self.interrupted.is_set() if self.processes.count == 1 else self._stopping

    def _end_step(self, figures: Tensor, seconds: float) -> None:
        """Count a step, and exchange its figures, or those of an earlier one, with the other processes.

        figures: [n] on the device, of which `_record` gets the sums over the processes. seconds: that the step took;
        those of the first process count.
        """
        self.state.step += 1
        self.readout.add(figures)
        self._exchange(self.readout.ready(), seconds)

    def _flush(self) -> None:
        """Record the figures of all steps so far."""
        while len(self.readout):
            self._exchange(self.readout.next(), 0.0)

    def _exchange(self, figures: list[float] | None, seconds: float) -> None:
        """What all decisions need, in one exchange: figures of a step, if there are some, Ctrl-C, and the time."""
        own = [float(self.interrupted.is_set()), seconds if self.processes.is_first else 0.0]
        found = self.processes.sums([*own, *(figures or ())], f"the figures of step {self.state.step:,}")
        self._stopping = found[0] > 0
        self.state.seconds += found[1]
        if figures:
            self._record(found[2:])

    def _validation_is_due(self) -> bool:
        state = self.state
        return schedule.validation_is_due(
            self.recipe.training, state.step, state.seconds, state.validated_step, state.validated_seconds
        )

    def _check_not_interrupted(self) -> None:
        """Often during a validation: raises `Interrupted` after Ctrl-C, when the state is saved."""
        self.processes.beat()
        if self.interrupted.is_set():
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


def check_rows(batch: int, processes: Processes) -> None:
    """Raises `ConfigError` if a batch has not a crop for each process."""
    if batch < processes.count:
        raise ConfigError(
            f"training.batch = {batch:,} with {processes.count:,} processes: each needs a crop; raise training.batch, "
            "or start fewer processes"
        )


def _no_report(event: Any) -> None:
    """What the processes do that only take part in the steps."""


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
        "example with --set training.batch=1, or the model's channels; --memory SIZE makes a recipe fit"
    )
