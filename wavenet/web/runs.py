"""Training runs as the studio shows them: progress, curves, clips and pictures, from `log.jsonl` and `samples/`."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from pathlib import Path
from typing import Any

from wavenet.checkpoint import CheckpointError
from wavenet.config import ConfigError
from wavenet.training import labelling_page, recipe, run_page, schedule
from wavenet.training.curves import Records
from wavenet.training.run_directory import is_number
from wavenet.web.catalogue import Catalogue, Run

QUIET_SECONDS = 300.0  # without a line in its log, after which a run is taken to have stopped: validations take a while
MOST_ENTRIES = 100  # validations that are shown, the newest
MOST_LOG_BYTES = 2**28  # of a log that is read
FILE = re.compile(r"step_(0|[1-9][0-9]{0,17})\.(wav|svg)")  # of `samples/`
MEDIA_TYPES = {"wav": "audio/wav", "svg": "image/svg+xml"}


class Runs:
    """What is read of the runs in a catalogue; logs that did not change are not read again. For any thread."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._lock = threading.Lock()
        self._logs: dict[Path, tuple[tuple[int, int], Records]] = {}  # with their times of modification and sizes
        self._recipes: dict[Path, tuple[int, recipe.Recipe | str]] = {}  # likewise; or why they cannot be read

    def listed(self) -> list[dict[str, Any]]:
        """Progress of all runs, those that train first, then the latest."""
        runs = [self._progress(run, self._records(run)) for run in self.catalogue.contents().runs.values()]
        return sorted(runs, key=lambda run: (run["state"] != "training", -run["changed"]))

    def details(self, identifier: str) -> dict[str, Any] | None:
        """All of a run; None if there is none with this identifier."""
        run = self.catalogue.run(identifier)
        if run is None:
            return None
        records = self._records(run)
        settings = self._settings(run)
        labels = isinstance(settings, recipe.Recipe) and settings.labeller is not None
        make_contents = labelling_page.contents if labels else run_page.generator_contents
        contents = make_contents(run.directory, records)
        return {
            **self._progress(run, records),
            "latest": contents.latest and dataclasses.asdict(contents.latest),
            "charts": [dataclasses.asdict(chart) for chart in contents.charts],
            "title": contents.title,
            "entries": [dataclasses.asdict(entry) for entry in contents.entries[:MOST_ENTRIES]],
            "settings": settings.to_toml() if isinstance(settings, recipe.Recipe) else settings,
        }

    def file(self, identifier: str, name: str) -> tuple[Path, str] | None:
        """A clip or picture of a run, and its media type; None if there is none of this name."""
        run, match = self.catalogue.run(identifier), FILE.fullmatch(name)
        if run is None or match is None:
            return None
        step, kind = int(match[1]), match[2]
        path = run.directory.sample(step) if kind == "wav" else run.directory.picture(step)
        return (path, MEDIA_TYPES[kind]) if self.catalogue.inside(path) and path.is_file() else None

    def _records(self, run: Run) -> Records:
        log = run.directory.log
        try:
            status = log.stat()
        except OSError:  # not trained yet
            return []
        signature = status.st_mtime_ns, status.st_size
        if status.st_size > MOST_LOG_BYTES or not self.catalogue.inside(log) or not log.is_file():
            return []
        with self._lock:
            known, records = self._logs.get(log, (None, []))
            if known != signature:
                try:
                    records = run.directory.read_log()
                except CheckpointError:  # no permission
                    records = []
                self._logs[log] = signature, records
            return records

    def _progress(self, run: Run, records: Records) -> dict[str, Any]:
        """What the list shows of a run."""
        changed = _changed(run)
        validations = [record for record in records if record["event"] == "validation"]
        step = max((record["step"] for record in records), default=0)
        seconds = max((record["seconds"] for record in records if is_number(record.get("seconds"))), default=0.0)
        fraction, left = self._of_budget(run, step, seconds)
        quiet = time.time() - changed > QUIET_SECONDS
        state = "finished" if fraction is not None and fraction >= 1 else "stopped" if quiet else "training"
        return {
            "id": run.id,
            "name": run.name,
            "state": state if records else "not started",
            "changed": changed,
            "step": step,
            "seconds": seconds,
            "fraction": fraction,
            "secondsLeft": left if records and state == "training" else None,
            "bits": _number(validations[-1], "bits") if validations else None,
            "validations": len(validations),
        }

    def _of_budget(self, run: Run, step: int, seconds: float) -> tuple[float | None, float | None]:
        """The share of a run's budget that is used, and the seconds left; None: not known."""
        settings = self._settings(run)
        if not isinstance(settings, recipe.Recipe):
            return None, None
        left = schedule.seconds_left(settings.training, step, seconds)
        return schedule.budget_spent(settings.training, step, seconds), left if is_number(left) else None

    def _settings(self, run: Run) -> recipe.Recipe | str:
        """The recipe of a run, or why it cannot be read."""
        try:
            signature = run.directory.recipe.stat().st_mtime_ns
        except OSError:  # removed meanwhile
            signature = 0
        with self._lock:
            known, settings = self._recipes.get(run.directory.path, (-1, ""))
            if known != signature:
                try:
                    settings = recipe.load(run.directory.recipe)
                except ConfigError as error:
                    settings = str(error)
                self._recipes[run.directory.path] = signature, settings
            return settings


def _changed(run: Run) -> float:
    """When the log was written last, or the recipe, in seconds since 1970; 0: not known."""
    for path in (run.directory.log, run.directory.recipe):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _number(record: Any, name: str) -> float | None:
    value = record.get(name)
    return value if is_number(value) else None
