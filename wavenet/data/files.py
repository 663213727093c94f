"""Write files so that an interruption leaves the old or the new file, never a part of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def replace(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, flush to the disk, rename. Raises `OSError` with `path`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `path` when the block ends without an error, as of `replace`."""
    partial = temporary_name(path)
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
    finally:
        with suppress(OSError):  # it exists only after an error
            partial.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raises the `OSError` of writing `path`: in a missing folder, without permission, on a full or read-only disk."""
    try:
        with temporary(path):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """An empty new file in the same folder, which is removed after the block. Raises `OSError`."""
    name = temporary_name(path)
    with open(name, "xb"):
        pass
    try:
        yield name
    finally:
        name.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A new name in the same folder, for a file that is renamed to `path` once it is complete."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")
