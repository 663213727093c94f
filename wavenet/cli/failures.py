"""Message and exit code of an error: 2 for invalid input, 1 for other failures.

A full or read-only disk and every other failure of the machine is 1, wherever it happens. A path that does not exist or
that the user may not use, an invalid value, and an optional package that is not installed are 2.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import click

from wavenet.data.errors import printable
from wavenet.extras import Unavailable

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # full or read-only
SQLITE = (8, 10, 13)  # SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL: of the cache of recordings
MACHINE = (*DISK, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
PATH = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def exit_code(error: BaseException) -> int:
    """The exit code of an error: 2 for invalid input, 1 for other failures."""
    if any(_of_the_machine(cause) for cause in _causes(error)):
        return 1
    if isinstance(error, OSError):
        return 2 if error.errno in PATH else 1
    return 2 if isinstance(error, (click.ClickException, ValueError, Unavailable)) else 1


def _of_the_machine(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in MACHINE
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, MemoryError) or code & 0xFF in SQLITE  # the low byte of extended codes


def one_line(error: BaseException) -> str:
    """The message of an error on one line, and its notes in parentheses; an unexpected one includes its type."""
    return _message(error) + "".join(f" ({note})" for note in getattr(error, "__notes__", ()))


def _message(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context else ""
        return " ".join(error.format_message().split()) + hint
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        reason = f"cannot be written ({error.strerror})" if error.errno in DISK else error.strerror.lower()
        return f"{printable(error.filename)}: {reason}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    expected = isinstance(error, (ValueError, RuntimeError)) and text
    return text if expected else f"{type(error).__name__}: {text} (--debug shows where)"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the errors that caused it, each once."""
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
