"""Run directories: where a training run keeps its recipe, its best model, its state, its log and its clips.

    recipe.toml                  the resolved recipe; its presence makes the folder a run directory
    model.safetensors            averaged weights, the best on validation
    last/state.safetensors       what is needed to continue the run, see `wavenet.training.run_state`
    last/good_N.safetensors      the same of earlier steps, for when the loss jumps, see `wavenet.training.rollback`
    log.jsonl                    a line of JSON for every validation, and for the training loss every few seconds
    skipped.csv                  files that are not trained on, and why
    samples/step_N.wav, .svg     a clip generated at every validation, and a picture of it beside a recording; of a
                                 labeller the confusion matrix
    tensorboard/                 curves for TensorBoard, if they are wanted
    index.html                   a page with the clips, the curves and the verdict

Files are replaced in one piece. Only one process writes here at a time: the one that holds the lock; in distributed
training that of rank 0. All methods that write raise `CheckpointError` with the `OSError` as its cause.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError, cannot_write
from wavenet.config import SamplingConfig
from wavenet.data import files
from wavenet.data.errors import printable
from wavenet.training import recipe as recipes
from wavenet.training.run_lock import RunLock, locked


@dataclass(frozen=True)
class RunSummary:
    """Progress of a run. Figures that are not available yet are None."""

    step: int  # steps trained
    seconds: float  # trained, validations included
    steps: int  # budget in steps; 0 if it is in minutes
    minutes: float  # budget in minutes, if not in steps
    bits: float | None  # bits per sample of the last validation
    best: float | None  # of the best validation, which model.safetensors is from
    best_step: int | None
    folder: str | None  # of the recordings
    base: str | None  # the model that it was started from; None: random weights, or not known


@dataclass(frozen=True)
class RunDirectory:
    """A folder that a training run writes, or has written."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def model(self) -> Path:
        """Averaged weights, the best on validation."""
        return self.path / checkpoint.MODEL_NAME

    @property
    def state(self) -> Path:
        """What is needed to continue: weights, their average, the optimizer's moments, counters."""
        return self.path / "last" / "state.safetensors"

    def good_state(self, step: int) -> Path:
        """The state of a step to go back to when the loss jumps."""
        return self.state.with_name(f"good_{step}.safetensors")

    def good_states(self) -> list[int]:
        """The steps whose good states there are, in order."""
        names = (file.name.removeprefix("good_") for file in self.state.parent.glob("good_*.safetensors"))
        steps = (name.removesuffix(".safetensors") for name in names)
        return sorted(int(step) for step in steps if step.isdecimal())

    @property
    def cleared_by(self) -> Path:
        """Which torchrun has cleared the run, so that a process that it restarts does not clear it again."""
        return self.path / "last" / ".cleared-by"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def skipped(self) -> Path:
        """Skipped files of the data folder, with reasons."""
        return self.path / "skipped.csv"

    def sample(self, step: int) -> Path:
        """The clip generated at a validation."""
        return self.path / "samples" / f"step_{step}.wav"

    def picture(self, step: int) -> Path:
        """Its spectrogram above that of a recording; of a labeller the confusion matrix of the held-out recordings."""
        return self.sample(step).with_suffix(".svg")

    @property
    def page(self) -> Path:
        """The page that shows the run in a browser."""
        return self.path / "index.html"

    @property
    def tensorboard(self) -> Path:
        """The folder of curves for TensorBoard."""
        return self.path / "tensorboard"

    def exists(self) -> bool:
        """Whether it holds a run."""
        return self.recipe.is_file()

    def check(self) -> None:
        """Raises `CheckpointError` if the path is a file, cannot be written, or has other files and no run."""
        if self.path.exists() and not self.path.is_dir():
            raise CheckpointError(f"{printable(self.path)}: is a file; give a folder for the run with --out")
        if not self.exists() and any(_visible_files(self.path)):
            raise CheckpointError(
                f"{printable(self.path)}: contains other files and no run; give another folder with --out"
            )
        absolute = self.path.absolute()
        folder = next(folder for folder in (absolute, *absolute.parents) if folder.exists())  # others are created in it
        try:
            files.check_writable(folder / self.path.name)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def create(self) -> None:
        """Create the folders. Raises `CheckpointError` if they cannot be created, or as `check` does."""
        self.check()
        try:
            for folder in (self.state.parent, self.sample(0).parent):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def lock(self, advice: str = "give another --out") -> AbstractContextManager[RunLock]:
        """Lock the folder against other runs, see `wavenet.training.run_lock`.

        advice: what to do when it is locked, for the message of the `CheckpointError`.
        """
        return locked(self.state.parent / ".lock", advice)

    def clear(self) -> None:
        """Remove the files of a run and no others; the recipe is left: the next run replaces it."""
        clips = [file for kind in ("wav", "svg") for file in self.path.glob(f"samples/step_*.{kind}")]
        clips += self.tensorboard.glob("events.out.tfevents.*")
        for file in (self.state, self.model, self.log, self.skipped, self.page, *clips, self.cleared_by):
            _remove(file)
        self.remove_good_states(self.good_states())

    def remove_good_states(self, steps: Iterable[int]) -> None:
        """Remove the good states of these steps."""
        for step in steps:
            _remove(self.good_state(step))

    def remove_partial_files(self) -> None:
        """Remove temporary files of a killed process. Requires the lock."""
        names = [f".{file.name}.*.partial" for file in (self.recipe, self.model, self.log, self.skipped, self.page)]
        own = [file for name in names for file in self.path.glob(name)]
        for folder in (self.state.parent, self.sample(0).parent):
            own += folder.glob(".*.partial")
        for file in own:
            _remove(file)

    def append_log(self, record: Mapping[str, Any]) -> None:
        """Append a line of JSON, and flush it to the disk."""
        try:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self.log, error) from error

    def read_log(self) -> list[dict[str, Any]]:
        """The records of the log, see `read_log`; none if there is no log."""
        return read_log(self.log) if self.log.exists() else []

    def rewrite_log(self, records: list[dict[str, Any]]) -> None:
        """Replace the log."""
        checkpoint.write_bytes(self.log, "".join(json.dumps(record) + "\n" for record in records).encode())

    def save_sampling(self, sampling: SamplingConfig) -> None:
        """Replace the recommended sampling options in the model file and in the recipe, which later models are from.

        Requires the lock. Raises `ConfigError` or `CheckpointError`.
        """
        recipe = recipes.load(self.recipe)
        changed = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, sampling=sampling))
        checkpoint.update_config(self.model, sampling=sampling)
        checkpoint.write_bytes(self.recipe, changed.to_toml().encode())

    def summary(self) -> RunSummary:
        """Progress of the run, from its recipe, state and log. Raises `ConfigError` or `CheckpointError`."""
        training = recipes.load(self.recipe).training
        counters: dict[str, Any] = {}
        if self.state.exists():
            with contextlib.suppress(ValueError, KeyError, RecursionError):  # a damaged state: use the log
                found = json.loads(checkpoint.read_header(self.state).metadata["wavenet.state"])
                counters = found if isinstance(found, dict) else {}
        validations = [record for record in self.read_log() if record["event"] == "validation"]
        bits = [(record["bits"], record["step"]) for record in validations if is_number(record.get("bits"))]
        last: Mapping[str, Any] = validations[-1] if validations else {}
        best, best_step = min(bits) if bits else (None, None)
        folder, base = counters.get("begun_with"), counters.get("base")
        return RunSummary(
            step=_number(counters, last, "step", 0),
            seconds=_number(counters, last, "seconds", 0.0),
            steps=training.steps,
            minutes=training.minutes,
            bits=bits[-1][0] if bits else None,
            best=best,
            best_step=best_step,
            folder=folder if isinstance(folder, str) else None,
            base=base if isinstance(base, str) and base else None,
        )


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log. Lines without an "event" and a "step" are ignored: a kill can leave half a line.

    Raises `CheckpointError` for a file that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: cannot be read ({error.strerror or error})") from error
    return [record for record in map(_record, text.splitlines()) if record is not None]


def _visible_files(folder: Path) -> Iterator[Path]:
    return (entry for entry in folder.rglob("*") if entry.is_file() and not entry.name.startswith("."))


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"{printable(file)}: cannot be removed ({error.strerror or error})") from error


def _record(line: str) -> dict[str, Any] | None:
    """Parse a line of the log; None if it is not a record."""
    try:
        record = json.loads(line)
        whole = isinstance(record["step"], int) and record["step"] >= 0 and isinstance(record["event"], str)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if whole else None


def is_number(value: object) -> bool:
    """Whether a value of a record is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(first: Mapping[str, Any], second: Mapping[str, Any], name: str, default: Any) -> Any:
    """A figure from the first of two tables that has it."""
    return next((table[name] for table in (first, second) if is_number(table.get(name))), default)
