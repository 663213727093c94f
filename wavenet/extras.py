"""Optional packages and devices: one kind of error, and one wording, where something is missing."""

from __future__ import annotations


class Unavailable(RuntimeError):
    """Something optional is missing in this installation or on this machine; the message says how to get it."""


def how_to_install(purpose: str, package: str, extra: str) -> str:
    """The message for a missing optional package, such as "playback needs sounddevice: pip install ...".

    extra: the name of the extra of this distribution that brings the package.
    """
    return f"{purpose} needs {package}: pip install 'wavenet-toolkit[{extra}]'"
