"""The progress line on a pseudo-terminal, of any width and resized, and messages with control characters."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from wavenet.cli import console
from wavenet.cli.console import ProgressLine, progress_text
from wavenet.cli.failures import one_line

pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")

END = "\x05"
DETAILS = ["step 12,345", "3.456 bits", "123,456 samples/s", "2 steps skipped"]


class Screen:
    """A pseudo-terminal as standard error, and what a terminal that reflows its text shows of it."""

    def __init__(self, columns: int) -> None:
        self.master, slave = pty.openpty()
        self.stderr = os.fdopen(slave, "w")
        self.rows = [""]  # the last one is empty or wrapped by the one before
        self.row = 0
        self.resize(columns)

    def resize(self, columns: int) -> None:
        """Another width: a row longer than it continues in the next one, with the cursor at the end of the text."""
        self.columns = columns
        fcntl.ioctl(
            self.stderr.fileno(),
            termios.TIOCSWINSZ,
            (24).to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4),
        )
        self.rows = [row[i : i + columns] for row in self.rows for i in range(0, max(1, len(row)), columns)]
        self.row = len(self.rows) - 1

    def update(self) -> list[str]:
        """The rows that are shown, after what was written since the last call."""
        print(END, end="", file=self.stderr, flush=True)  # what was written arrives a moment later
        written = ""
        while not written.endswith(END):
            written += os.read(self.master, 100_000).decode()
        written = written.removesuffix(END)
        for code in re.findall(r"\033\[\d*[AJ]|\r|\n|[^\r\n\033]+", written):
            if code == "\n":
                self.rows.append("")
                self.row += 1
            elif code.endswith("A") and code.startswith("\033"):
                self.row -= int(code[2:-1])
            elif code == "\033[J":
                self.rows[self.row :] = [""]
            elif code != "\r":
                assert self.rows[self.row] == "", "written over other text"
                assert len(code) < self.columns or not code.startswith("training")
                self.rows[self.row] = code
        return [row for row in self.rows if row]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    screen = Screen(80)
    monkeypatch.setattr(console, "sys", SimpleNamespace(stderr=screen.stderr))
    monkeypatch.setattr(console, "REDRAW_SECONDS", 0)
    monkeypatch.setenv("TERM", "xterm")
    yield screen
    screen.stderr.close()
    os.close(screen.master)


@pytest.mark.parametrize("width", range(40, 200))
def test_share_and_time_left_fit_every_width(width: int) -> None:
    line = progress_text("training", 0.375, "1:02:03", DETAILS, width)
    assert len(line) <= width
    assert line.startswith("training ")
    assert " 37%  1:02:03 left" in line
    shown = [detail for detail in DETAILS if detail in line]
    assert shown == DETAILS[: len(shown)]  # the last ones go first
    if shown != DETAILS:  # the bar takes nothing from them
        without_bar = re.sub(r"\[.*\] ", "", line)
        assert len(f"{without_bar}  {DETAILS[len(shown)]}") > width


def test_a_wide_line_has_everything() -> None:
    line = progress_text("training", 0.375, "45 s", DETAILS[:2], 120)
    assert line == "training [#########...............]  37%  45 s left  step 12,345  3.456 bits"


def test_100_percent_only_when_all_is_done() -> None:
    assert " 99%" in progress_text("training", 0.99999, "?", [], 79)
    assert "100%" in progress_text("training", 1.0, "?", [], 79)


def test_unknown_is_a_question_mark(screen: Screen) -> None:
    line = ProgressLine("reading", "files")
    line(1, 1_000)  # no time has passed, so nothing can be estimated
    assert screen.update() == ["reading [........................]   0%  ? left  ? files/s"]
    line.draw(0.5, math.nan)
    assert "50%  ? left" in screen.update()[0]


def test_time_left_follows_from_speed(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ProgressLine("reading", "files")
    monkeypatch.setattr("time.monotonic", lambda: line.started + 10)
    line(100, 400)  # 10 a second
    assert screen.update() == ["reading [######..................]  25%  30 s left  10 files/s"]


def test_what_was_done_earlier_is_no_speed(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ProgressLine("reading", "files")
    line(300, 400)
    assert screen.update() == ["reading [##################......]  75%  ? left  ? files/s"]
    monkeypatch.setattr("time.monotonic", lambda: line.started + 10)
    line(350, 400)  # 50 in 10 s
    assert screen.update() == ["reading [#####################...]  87%  10 s left  5 files/s"]


def test_finished_work_has_no_time_left(screen: Screen) -> None:
    ProgressLine("reading", "files")(3, 3)
    assert "100%  0 s left" in screen.update()[0]


@pytest.mark.parametrize("columns", [40, 41, 60, 79, 100])
def test_no_old_line_remains_after_a_resize(screen: Screen, columns: int) -> None:
    print("kept", file=screen.stderr, flush=True)
    line = ProgressLine("training")
    line.draw(0.25, 60, DETAILS)
    assert len(screen.update()) == 2
    screen.resize(columns)
    line.draw(0.5, 30, DETAILS)
    rows = screen.update()
    assert len(rows) == 2
    assert rows[0] == "kept" and " 50%  30 s left" in rows[1]
    screen.resize(80)
    line.clear()
    assert screen.update() == ["kept"]


def test_the_width_is_that_of_standard_error(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")  # of a shell that was resized since
    line = ProgressLine("training")
    line.draw(0.25, 60, DETAILS)
    assert 40 < len(screen.update()[0]) < 80


def test_nothing_is_drawn_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine("reading", "files")
    line(1, 2)
    line.draw(1, 0)
    line.clear()
    assert capsys.readouterr().err == ""


def test_nothing_is_drawn_on_a_dumb_terminal(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    ProgressLine("reading", "files")(1, 2)
    assert screen.update() == []


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_message("first\nspeaker \033[31mred\a \N{RIGHT-TO-LEFT OVERRIDE}")
    console.print_result("speaker \033]0;title\a")
    printed = capsys.readouterr()
    assert printed.err == "first\nspeaker \\x1b[31mred\\x07 \\u202e\n"
    assert printed.out == "speaker \\x1b]0;title\\x07\n"


def test_long_messages_and_names_are_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_message("start " + "x" * 100_000 + " end")
    error_output = capsys.readouterr().err
    assert len(error_output) < 2_100
    assert error_output.startswith("start x") and error_output.endswith("x end\n")
    assert len(console.short_name("n" * 100_000)) < 70
    assert console.short_name("ann") == "ann"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (3_599.6, "1:00:00"), (None, "?"), (math.nan, "?")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert console.duration(seconds) == text


def test_a_full_disk_behind_standard_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("click.echo", full)
    with pytest.raises(OSError, match="No space") as caught:
        console.print_result("figures")
    assert one_line(caught.value) == "standard output: cannot be written (No space left on device)"
