"""What ends a run early in tests, and what a run leaves: its content is the same however often it was interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wavenet import checkpoint
from wavenet.training.run_directory import RunDirectory


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Killed(BaseException):
    """Ends a training like a kill: nothing handles it."""


class Kill:
    """Ends the process at the n-th write: before it, within it, or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, when: str) -> None:
        self.at, self.when, self.writes = at, when, 0
        replace, append = os.replace, RunDirectory.append_log

        def killing_replace(old: Path, new: Path) -> None:
            self.writes += 1
            if self.writes == self.at and self.when != "after":
                Path(f"{old}.partial").touch()  # what a kill leaves, and exceptions do not
                raise Killed
            replace(old, new)
            self.die_after()

        def killing_append(run: RunDirectory, record: Mapping[str, Any]) -> None:
            self.writes += 1
            if self.writes == self.at and self.when != "after":
                line = json.dumps(record) if self.when == "within" else ""
                with open(run.log, "a") as file:
                    file.write(line[: len(line) // 2])
                raise Killed
            append(run, record)
            self.die_after()

        monkeypatch.setattr("os.replace", killing_replace)
        monkeypatch.setattr(RunDirectory, "append_log", killing_append)

    def die_after(self) -> None:
        if self.writes == self.at and self.when == "after":
            raise Killed


def content(run: RunDirectory) -> dict[str, Any]:
    """Everything in a run directory, except for times."""
    files: dict[str, Any] = {
        str(path.relative_to(run.path)): path.read_bytes() for path in run.path.rglob("*") if path.is_file()
    }
    files["index.html"] = re.findall('src="(.*?)"', files["index.html"].decode())
    timed = {"seconds": 0, "verdict": None}  # the trend depends on the minutes
    files["log.jsonl"] = [{**line, **timed} for line in run.read_log()]
    for state in (run.state, *map(run.good_state, run.good_states())):
        tensors, metadata = checkpoint.read_tensors(state)
        counters = json.loads(metadata["wavenet.state"])
        values = {name: tensor.tobytes() for name, tensor in tensors.items()}
        files[str(state.relative_to(run.path))] = {
            **values,
            "counters": {**counters, "seconds": 0, "validated": counters["validated"][0]},
        }
        if state == run.state:
            assert counters["validated"][1] == pytest.approx(counters["seconds"])
    if run.model.exists():  # the metadata of a file have no fixed order
        tensors, metadata = checkpoint.read_tensors(run.model)
        files["model.safetensors"] = {**metadata, **{name: tensor.tobytes() for name, tensor in tensors.items()}}
    return files
