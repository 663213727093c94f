"""What the commands print. Everything but sound goes to standard error, so that sound can be piped."""

from __future__ import annotations

import shutil
import sys
import time

import click

REDRAW_SECONDS = 0.1


def say(line: str) -> None:
    """A line for the person at the terminal."""
    click.echo(line, err=True)


def duration(seconds: float) -> str:
    """Such as 45 s, 12:05 or 3:07:00."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Bar:
    """A progress line with share, rate and time left, redrawn in place; silent when nobody watches a terminal."""

    WIDTH = 24

    def __init__(self, label: str, unit: str = "") -> None:
        self.label, self.unit = label, unit
        self.watched = sys.stderr is not None and sys.stderr.isatty()
        self.started = time.monotonic()
        self.drawn = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Progress by count; the rate and the time left follow from the clock."""
        elapsed = max(time.monotonic() - self.started, 1e-6)
        rate = done / elapsed
        left = duration((total - done) / rate) if done else "?"
        self.draw(done / max(total, 1), f"{rate:,.0f} {self.unit}/s  {left} left")

    def draw(self, fraction: float, text: str) -> None:
        """Progress by share, with whatever stands beside it."""
        now = time.monotonic()
        if not self.watched or (now - self.drawn < REDRAW_SECONDS and fraction < 1):
            return
        self.drawn = now
        filled = round(self.WIDTH * min(fraction, 1.0))
        line = f"{self.label} [{'#' * filled}{'.' * (self.WIDTH - filled)}] {min(fraction, 1):4.0%}  {text}"
        sys.stderr.write(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line, so that other lines can be printed."""
        if self.watched and self.drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
