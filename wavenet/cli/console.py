"""Terminal output of the commands. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence

import click

from wavenet.data.errors import printable

REDRAW_SECONDS = 0.1
ESTIMATE_SECONDS = 0.5  # of work before its speed and the time left are estimated
BAR_WIDTHS = range(8, 25)  # of the bar, in characters
DEFAULT_COLUMNS = 80
LONGEST_MESSAGE = 2_000  # characters of a line on standard error
LONGEST_NAME = 60  # characters of a speaker's name


@contextlib.contextmanager
def silenced(when: bool) -> Iterator[None]:
    """A block in which nothing is printed to standard error, if `when`; errors are printed behind it."""
    if not when:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def print_message(text: str) -> None:
    """Print a message to standard error; control characters are escaped, and very long lines shortened."""
    for line in text.split("\n"):
        click.echo(printable(line, LONGEST_MESSAGE), err=True)


def print_result(line: str) -> None:
    """Print a line of results to standard output; control characters are escaped. Raises `OSError` that names it."""
    try:
        click.echo(printable(line))
    except OSError as error:
        error.filename = "standard output"
        raise


def short_name(name: str) -> str:
    """A name from a model file in printable form: on one line, and of bounded length."""
    return printable(name, LONGEST_NAME)


def duration(seconds: float | None) -> str:
    """Format a duration: 45 s, 12:05 or 3:07:00; "?" for None and NaN."""
    if seconds is None or math.isnan(seconds):
        return "?"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressLine:
    """One line of progress, redrawn in place: label, bar, share done, time left, details.

    Nothing is drawn if standard error is not a terminal. If the terminal is too narrow, the bar is left out first, then
    the details from the last to the first.
    """

    def __init__(self, label: str, unit: str = "") -> None:
        self.label, self.unit = label, unit
        self.enabled = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.started = time.monotonic()
        self.done_before: int | None = None  # of the work, before this line was made; None: not known yet
        self.drawn_at = -math.inf
        self.drawn_characters = 0  # on the screen now

    def __call__(self, done: int, total: int) -> None:
        """Draw progress by count; speed and time left are estimated from the time since this object was created.

        What is done at a first call before any time has passed was done earlier, and does not count.
        """
        elapsed = self.elapsed
        if self.done_before is None:
            self.done_before = done if elapsed < ESTIMATE_SECONDS and done < total else 0
        new = done - self.done_before
        measurable = new > 0 and (elapsed >= ESTIMATE_SECONDS or done >= total)
        speed = f"{new / max(elapsed, 1e-3):,.0f} {self.unit}/s" if measurable else f"? {self.unit}/s"
        self.draw(done / max(total, 1), elapsed * (total - done) / new if measurable else None, [speed])

    def draw(
        self, fraction: float, seconds_left: float | None, details: Sequence[str] = (), label: str | None = None
    ) -> None:
        """Draw progress as a share of the work, 0 to 1.

        seconds_left: None or NaN while unknown. details: texts after it, the most important first. label: of this phase
        of the work, instead of the usual one.
        """
        now = time.monotonic()
        if not self.enabled or (now - self.drawn_at < REDRAW_SECONDS and fraction < 1):
            return
        columns = _columns()
        line = progress_text(label or self.label, fraction, duration(seconds_left), details, columns - 1)
        sys.stderr.write(self._erase(columns) + line)
        sys.stderr.flush()
        self.drawn_at, self.drawn_characters = now, len(line)

    @property
    def elapsed(self) -> float:
        """Seconds since this object was created."""
        return time.monotonic() - self.started

    def clear(self) -> None:
        """Remove the line, so that other lines can be printed."""
        if self.enabled and self.drawn_characters:
            sys.stderr.write(self._erase(_columns()))
            sys.stderr.flush()
            self.drawn_characters, self.drawn_at = 0, -math.inf

    def _erase(self, columns: int) -> str:
        """Control codes that erase the line, also if the terminal was made narrower and has wrapped it."""
        wrapped = max(0, self.drawn_characters - 1) // max(1, columns)  # rows above that of the cursor
        return (f"\033[{wrapped}A" if wrapped else "") + "\r\033[J"


def progress_text(label: str, fraction: float, left: str, details: Sequence[str], width: int) -> str:
    """A progress line of at most `width` characters; parts that do not fit are left out, the least important first."""
    share = min(max(fraction, 0.0), 1.0)
    figures = f"{math.floor(100 * share):3}%  {left} left"  # 100% only when all is done
    for detail in details:
        longer = f"{figures}  {detail}"
        if len(label) + 1 + len(longer) > width:
            break
        figures = longer
    room = width - len(label) - 1 - len(figures) - 3  # of the bar, within brackets and a space
    if room >= BAR_WIDTHS[0]:
        size = min(room, BAR_WIDTHS[-1])
        filled = math.floor(size * share)
        figures = f"[{'#' * filled}{'.' * (size - filled)}] {figures}"
    return f"{label} {figures}"[-width:] if width > 0 else ""


def _columns() -> int:
    """Current width of the terminal of standard error; the user may change it at any time."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_COLUMNS
    except (OSError, ValueError):
        return DEFAULT_COLUMNS
