"""What the studio shows of a folder: `Catalogue` finds model files and run directories, and keeps what it read of them.

Everything is addressed by an identifier that is looked up here. Paths are never made from what a browser sends, and
links that leave the folder are not followed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wavenet import checkpoint
from wavenet.checkpoint import MODEL_NAME, CheckpointError
from wavenet.config import ModelConfig
from wavenet.data.errors import printable
from wavenet.training.run_directory import RunDirectory

SUFFIX = ".safetensors"
DEEPEST = 8  # folders inside each other
MOST_ENTRIES = 200_000  # files and folders that one scan looks at
MOST_MODELS, MOST_RUNS = 500, 500  # that are listed
RESCAN_SECONDS = 1.0  # a scan is not older
LONGEST_REASON = 300  # characters


@dataclass(frozen=True)
class Model:
    """A model file. config: None if it cannot be played, for `reason`."""

    id: str
    name: str  # its path in the folder without the suffix, or that of the run directory
    path: Path
    bytes: int
    config: ModelConfig | None
    reason: str = ""


@dataclass(frozen=True)
class Run:
    """A run directory."""

    id: str
    name: str
    directory: RunDirectory


@dataclass(frozen=True)
class Contents:
    """Models and runs by their identifiers, sorted by path. complete: False if there are more than are listed."""

    models: dict[str, Model] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    complete: bool = True


Found = tuple[list[Path], list[Path], bool]  # model files, run directories, and whether all was looked at
Signature = tuple[Path, int, int]  # a file, its time of modification in ns, and its size


class Catalogue:
    """The models and runs in a folder, or a single model file or run directory. For any thread."""

    def __init__(self, root: Path) -> None:
        """Raises `CheckpointError` for a path that does not exist, or is a file that is no model."""
        self.root = root.resolve()
        self.name = printable(root.absolute().name or str(root))
        if not root.exists():
            raise CheckpointError(
                f"{printable(root)}: no such file or folder; give a model, a run, or a folder of them"
            )
        if not root.is_dir():
            checkpoint.read_config(root)
        self._lock = threading.Lock()
        self._read: dict[Signature, tuple[ModelConfig | None, str]] = {}
        self._contents, self._scanned = Contents(), -RESCAN_SECONDS

    def contents(self) -> Contents:
        """What the folder contains now; files that did not change are not read again. May take seconds."""
        with self._lock:
            if time.monotonic() - self._scanned >= RESCAN_SECONDS:
                self._contents = self._scan()
                self._scanned = time.monotonic()
            return self._contents

    def model(self, identifier: str) -> Model | None:
        """The playable model of an identifier, if its file is still where it was found."""
        found = self.contents().models.get(identifier)
        return found if found is not None and found.config is not None and self.inside(found.path) else None

    def run(self, identifier: str) -> Run | None:
        """The run of an identifier, likewise."""
        found = self.contents().runs.get(identifier)
        return found if found is not None and self.inside(found.directory.path) else None

    def inside(self, path: Path) -> bool:
        """Whether a path, links followed, exists and is in the folder."""
        try:
            return path.resolve(strict=True).is_relative_to(self.root)
        except (OSError, RuntimeError):
            return False

    def _scan(self) -> Contents:
        files, runs, complete = _found(self.root) if self.root.is_dir() else ([self.root], [], True)
        models: dict[str, Model] = {}
        read: dict[Signature, tuple[ModelConfig | None, str]] = {}
        for path in files[:MOST_MODELS]:
            try:
                status = path.stat()
            except OSError:  # removed meanwhile
                continue
            if not stat.S_ISREG(status.st_mode) or not self.inside(path):
                continue
            signature = (path, status.st_mtime_ns, status.st_size)
            read[signature] = self._read.get(signature) or _described(path)
            config, reason = read[signature]
            identifier = _identifier(self._relative(path))
            models[identifier] = Model(identifier, self._title(path), path, status.st_size, config, reason)
        self._read = read
        listed = [Run(_identifier(self._relative(path)), self._title(path), RunDirectory(path)) for path in runs]
        complete = complete and len(files) <= MOST_MODELS and len(runs) <= MOST_RUNS
        return Contents(models, {run.id: run for run in listed[:MOST_RUNS]}, complete)

    def _relative(self, path: Path) -> str:
        """A path in the folder, as text."""
        return path.relative_to(self.root).as_posix()

    def _title(self, path: Path) -> str:
        """The name of a model file or run directory for people."""
        shown = self._relative(path).removesuffix(SUFFIX)
        if path.name == MODEL_NAME and path != self.root:
            shown = self._relative(path.parent)
        return self.name.removesuffix(SUFFIX) if shown == "." else printable(shown)


def _found(root: Path) -> Found:
    """Model files and run directories in a folder, each sorted; and whether all of it was looked at."""
    files: list[Path] = []
    runs: list[Path] = []
    pending, left = [(root, 0)], MOST_ENTRIES
    while pending and left > 0:
        folder, depth = pending.pop()
        if RunDirectory(folder).exists():
            runs.append(folder)
            files += [folder / MODEL_NAME] if (folder / MODEL_NAME).exists() else []
            continue
        for entry in _entries(folder):
            left -= 1
            if left <= 0:
                break
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending += [(Path(entry.path), depth + 1)] if depth < DEEPEST else []
            elif entry.name.endswith(SUFFIX):
                files.append(Path(entry.path))
    return sorted(files), sorted(runs), left > 0


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:  # no permission, or removed meanwhile
        return


def _described(path: Path) -> tuple[ModelConfig | None, str]:
    """The configuration of a model file; or None, and the reason why it cannot be played."""
    try:
        config = checkpoint.read_config(path)
    except CheckpointError as error:
        return None, printable(str(error).removeprefix(f"{printable(path)}: "), LONGEST_REASON)
    if isinstance(config, ModelConfig):
        return config, ""
    return None, "a labeller, which generates no audio"


def _identifier(name: str) -> str:
    """An identifier for addresses, the same as long as the name is."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
