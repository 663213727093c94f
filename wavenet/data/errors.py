"""Errors of audio files, and names and paths as they are printed in messages. Standard library only."""

from __future__ import annotations

import os

AnyPath = str | os.PathLike[str]


class AudioError(ValueError):
    """An audio file cannot be read or written: `path`, and the `reason`, "kind" or "kind: detail", on one line."""

    def __init__(self, path: AnyPath, reason: str) -> None:
        super().__init__(f"{printable(path)}: {reason}")
        self.path = path
        self.reason = reason


def printable(text: AnyPath, longest: int | None = None) -> str:
    """A path or name that fits on one line of any terminal: control characters and undecodable bytes are escaped.

    longest: a longer text is shortened to its beginning and end, with " ... " between them; None: not shortened.
    """
    text = os.fspath(text)
    if longest is not None and len(text) > longest:
        end = longest // 3
        text = f"{text[: longest - end]} ... {text[-end:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason_of(error: OSError, path: AnyPath) -> str:
    """The reason why the operating system cannot open `path`, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "dangling link" if os.path.islink(path) else "no such file"
    if isinstance(error, PermissionError):
        return "no permission"
    return (error.strerror or str(error)).lower()
