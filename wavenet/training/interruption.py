"""Ctrl-C and SIGTERM as an event that training checks between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

MAX_IGNORED_SIGNALS = 3  # Ctrl-C takes effect at the end of a step; the fourth one immediately


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that neither interrupts a step or a save."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    ignored = 0

    def interrupt(number: int, frame: object) -> None:
        nonlocal ignored
        event.set()
        ignored += 1
        if ignored > MAX_IGNORED_SIGNALS:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
