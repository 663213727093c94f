"""A folder of files, on a disk or at any address that fsspec knows, such as s3://bucket/folder."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from wavenet.data import files
from wavenet.data.cached_samples import DatasetError
from wavenet.data.errors import printable
from wavenet.extras import Unavailable, how_to_install

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

RETRY_SECONDS = (0.5, 2.0, 8.0)  # waited before each further try of what a network refused

Result = TypeVar("Result")


def is_address(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is given as an address instead of a path."""
    return "://" in os.fspath(folder)


class Storage:
    """The files of one folder. It can be pickled: every process makes its own connection, when it needs one.

    path: the folder, if it is on a disk of this machine; None: the files are read through fsspec.
    Methods raise `DatasetError` for what a network refuses several times, `OSError` for what a disk does, and
    `FileNotFoundError` for a file that is not there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.address = os.fspath(folder)
        self.path: Path | None = Path(folder)
        self._remote: tuple[Any, str] | None = None  # the file system, and the folder in it
        self._process = 0  # that made it
        if is_address(folder):
            system, root = self._connected()
            self.path = Path(root) if "file" in system.protocol else None

    def __reduce__(self) -> tuple[object, ...]:
        return Storage, (self.address,)

    def sizes(self) -> dict[str, int]:
        """The size in bytes of each file by its name; empty if the folder does not exist, or cannot be listed."""
        if self.path is not None:
            try:
                entries = [entry for entry in os.scandir(self.path) if entry.is_file()]
            except FileNotFoundError:
                return {}
            return {entry.name: entry.stat().st_size for entry in entries}
        with suppress(FileNotFoundError):
            listed = self._tried(lambda system, root: system.ls(root, detail=True))
            return {_last(entry["name"]): entry["size"] for entry in listed if entry["size"] is not None}
        return {}

    def size(self, name: str) -> int | None:
        """The size in bytes of a file; None if it is not there."""
        with suppress(FileNotFoundError):
            if self.path is not None:
                return os.stat(self.path / name).st_size
            return self._tried(lambda system, root: system.size(f"{root}/{name}"))
        return None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes `start` to `stop` of a file, or to its end."""
        if self.path is None:
            content = self._tried(lambda system, root: system.cat_file(f"{root}/{name}", start=start or None, end=stop))
            if stop is not None and len(content) > stop - start:
                raise DatasetError(f"{printable(self.address)} serves whole files only: copy it to a disk or a bucket")
            return content
        with open(self.path / name, "rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else stop - start)

    def open(self, name: str) -> BinaryIO:
        """Open a file to read it from start to end."""
        if self.path is None:
            return self._tried(lambda system, root: system.open(f"{root}/{name}", "rb"))
        return open(self.path / name, "rb")

    @contextmanager
    def replacing(self, name: str) -> Iterator[BinaryIO]:
        """A new file that replaces another when the block ends without an error; at no time is there a part of one."""
        if self.path is not None:
            self.path.mkdir(parents=True, exist_ok=True)
            with files.replacing(self.path / name) as file:
                yield file
            return
        with tempfile.NamedTemporaryFile(prefix="wavenet-") as file:  # sent when it is complete
            yield file  # type: ignore[misc]
            file.flush()
            self._tried(lambda system, root: system.makedirs(root, exist_ok=True))
            self._tried(lambda system, root: system.put_file(file.name, f"{root}/{name}"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process of this machine write here meanwhile; the folder is made. Addresses have no locks.

        Raises `DatasetError` if another process writes.
        """
        if self.path is None or fcntl is None:
            yield
            return
        with suppress(FileExistsError):  # of a file: opening it as a folder says what is wrong
            self.path.mkdir(parents=True)
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(
                    f"{printable(self.address)}: another process is packing here; wait for it, or give another folder"
                ) from None
            except OSError:  # a file system without locks
                pass
            yield
        finally:
            os.close(folder)

    def write(self, name: str, content: bytes) -> None:
        """Write a file in one piece."""
        with self.replacing(name) as file:
            file.write(content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            if self.path is None:
                self._tried(lambda system, root: system.rm_file(f"{root}/{name}"))
            else:
                (self.path / name).unlink()

    def remove_partial(self) -> None:
        """Remove the temporary files of a killed process."""
        if self.path is not None:
            for path in self.path.glob(".*.partial"):
                path.unlink(missing_ok=True)

    def _tried(self, action: Callable[[Any, str], Result]) -> Result:
        """The result of an action, which is tried again after errors of the network."""
        for pause in (*RETRY_SECONDS, None):
            try:
                return action(*self._connected())
            except (FileNotFoundError, PermissionError):
                raise
            except Exception as error:  # every kind of storage has errors of its own
                if pause is None:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise DatasetError(
                        f"{printable(self.address)} cannot be reached ({reason}): tried {len(RETRY_SECONDS) + 1} "
                        "times; check the address and the network, and run the command again"
                    ) from error
                time.sleep(pause)
        raise AssertionError  # the last try returns or raises

    def _connected(self) -> tuple[Any, str]:
        """The file system of the address, made by this process: connections do not survive a fork."""
        if self._remote is None or self._process != os.getpid():
            try:
                from fsspec.core import url_to_fs
            except ImportError as error:
                address = printable(self.address)
                raise Unavailable(how_to_install(f"the address {address}", "fsspec", "shards")) from error
            try:
                self._remote = url_to_fs(self.address)
            except ImportError as error:  # fsspec says which package this kind of address needs
                raise Unavailable(f"{printable(self.address)}: {error}") from error
            except ValueError as error:
                raise DatasetError(f"{printable(self.address)}: {error}; give a folder or another address") from error
            self._process = os.getpid()
        return self._remote


def _last(name: str) -> str:
    """The last part of the name of a file."""
    return name.rstrip("/").rpartition("/")[2]
