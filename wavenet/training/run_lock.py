"""The lock of a run directory: one process at a time writes there, and others are told which one.

On one machine the lock is the kernel's (flock): it ends with the process that holds it, however that ends. Some network
file systems do not pass it on to other machines, and some systems do not have it. Therefore the file also says who
holds it, and its time is refreshed every few seconds: a holder on another machine is believed for `STALE_SECONDS`
after its last sign of life. A machine is known by its name, or by the boot of its kernel, which containers share.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from wavenet.checkpoint import CheckpointError, cannot_write
from wavenet.checks import ConfigError, check_types, from_dict
from wavenet.data import files
from wavenet.data.errors import printable

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS = 15.0
STALE_SECONDS = 120.0  # network file systems cache the times of files for up to a minute
BOOT = Path("/proc/sys/kernel/random/boot_id")
_open_files: set[TextIO] = set()  # of the locks that this process holds
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock."""

    pid: int
    host: str
    boot: str  # of the kernel; empty where it is not known
    since: float  # seconds since the epoch

    def __post_init__(self) -> None:
        check_types(self)

    @classmethod
    def this_process(cls) -> Holder:
        boot = ""
        with contextlib.suppress(OSError):
            boot = BOOT.read_text(encoding="ascii").strip()
        return cls(os.getpid(), socket.gethostname(), boot, time.time())

    @classmethod
    def of(cls, text: str) -> Holder | None:
        """The holder that the content of a lock file names; None if it names none."""
        try:
            return from_dict(cls, json.loads(text))
        except (ValueError, TypeError, AttributeError, RecursionError, ConfigError):
            return None

    def same_machine(self, other: Holder) -> bool:
        """Whether both are on one machine, where a lock of the kernel holds for both."""
        return self.host == other.host or (self.boot != "" and self.boot == other.boot)

    def __str__(self) -> str:
        with contextlib.suppress(ValueError, OverflowError, OSError):
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
            return f"process {self.pid} on {printable(self.host, 60)} since {since}"
        return f"process {self.pid} on {printable(self.host, 60)}"


@dataclass(frozen=True)
class RunLock:
    """A lock that this process holds."""

    path: Path
    holder: Holder

    def check(self) -> None:
        """Raises `CheckpointError` if the lock is gone, or another process holds it: it must not be written there."""
        try:
            found = Holder.of(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(
                f"{printable(self.path)}: cannot be read any more ({error.strerror or error}); was the run removed?"
            ) from error
        if found != self.holder:
            raise CheckpointError(f"{printable(self.path)}: {found or 'another process'} has taken over this run")


@contextlib.contextmanager
def locked(path: Path, advice: str) -> Iterator[RunLock]:
    """Hold the lock file `path`. Raises `CheckpointError` if a process holds it, or it cannot be written.

    advice: what to do then, for the message.
    """
    own = Holder.this_process()
    with _opened(path) as file, _closed_in_forks(file):
        is_kernels = _flock(file, path, advice)
        before = Holder.of(file.read())
        if before is not None and not (is_kernels and before.same_machine(own)):
            _check_stale(path, before, advice)
        _write(file, json.dumps(asdict(own)), path)
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, own, ended), name="wavenet run lock", daemon=True)
        beat.start()
        try:
            yield RunLock(path, own)
        finally:
            ended.set()
            beat.join()
            with contextlib.suppress(OSError):  # of a disk that is full or gone; the kernel's lock ends all the same
                if Holder.of(path.read_text(encoding="utf-8")) == own:
                    file.truncate(0)


def _opened(path: Path) -> TextIO:
    try:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the caller closes it
        file.seek(0)
    except OSError as error:
        raise cannot_write(path, error) from error
    return file


@contextlib.contextmanager
def _closed_in_forks(file: TextIO) -> Iterator[None]:
    """A forked process that outlives this one, such as a worker that prepares batches, does not keep the lock."""
    _open_files.add(file)
    try:
        yield
    finally:
        _open_files.discard(file)


def _forked() -> None:
    while _open_files:
        _open_files.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _flock(file: TextIO, path: Path, advice: str) -> bool:
    """Lock an open file. False if this system has no such locks; raises `CheckpointError` if it is locked already."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held(path, Holder.of(file.read()), advice) from None
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise cannot_write(path, error) from error
    return True


def _held(path: Path, holder: Holder | None, advice: str) -> CheckpointError:
    by = "" if holder is None else f" ({holder})"
    return CheckpointError(f"{printable(path.parent.parent)}: a training is running here{by}; {advice}")


def _check_stale(path: Path, holder: Holder, advice: str) -> None:
    """Raises `CheckpointError` if the file was refreshed not long ago."""
    age = _age(path)
    if age < STALE_SECONDS:
        wait = f"{advice}; if it was killed, try again in {STALE_SECONDS - age:.0f} seconds"
        raise _held(path, holder, wait)


def _age(path: Path) -> float:
    """Seconds since a file was refreshed, by the clock of its file system."""
    try:
        with files.temporary(path) as now:
            return now.stat().st_mtime - path.stat().st_mtime
    except OSError as error:
        raise cannot_write(path, error) from error


def _write(file: TextIO, text: str, path: Path) -> None:
    try:
        file.truncate(0)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def _beat(path: Path, own: Holder, ended: threading.Event) -> None:
    """Refresh the time of the lock file until the lock ends, or is another's."""
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            if Holder.of(path.read_text(encoding="utf-8")) != own:
                return
            os.utime(path)
