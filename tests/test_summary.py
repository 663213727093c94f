"""The printed summary of a folder, and the table of all skipped files."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE, write_files, write_noise

from wavenet.config import DataConfig
from wavenet.data.dataset import Summary, open_folder, write_skipped


def opened(folder: Path) -> Summary:
    """The summary of four recordings, two of them the same, and twelve files of text."""
    write_files(folder, range(3), samples=2 * SAMPLE_RATE)
    shutil.copy(folder / "000.wav", folder / "copy.wav")
    for i in range(12):
        (folder / f"bad{i:02}.wav").write_text(f"text {i} " * 20)
    return open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary


def test_the_printed_summary(folder: Path) -> None:
    lines = opened(folder).lines()
    assert lines[0] == f"kept 4 of 16 recordings in {folder} (1 duplicate): 8.0 seconds at 8,000 Hz"
    assert lines[1] == "skipped 12 files of unknown length: 12 unreadable"
    assert lines[2] == "training: 4 files, 8.0 seconds; validation: none"
    assert len(lines) == 3 + 10 + 1
    assert lines[3].startswith("skipped bad00.wav: unreadable: ")
    assert lines[-1] == "... and 2 more"


def test_the_printed_summary_names_the_table_of_skipped_files(folder: Path) -> None:
    summary = opened(folder)
    assert summary.lines(Path("runs") / "x" / "skipped.csv")[-1] == (
        f"... and 2 more, listed in {os.path.join('runs', 'x', 'skipped.csv')}"
    )
    summary.skipped = summary.skipped[:10]
    assert summary.lines("skipped.csv")[-1].startswith("skipped bad09.wav: ")


def test_a_folder_that_is_evaluated_has_neither_training_nor_validation(folder: Path) -> None:
    write_files(folder / "ann", range(3), samples=2 * SAMPLE_RATE)
    data = DataConfig(validation=0.0, speakers="folders")
    assert open_folder(folder, SAMPLE_RATE, data).summary.lines(training=False) == [
        f"kept 3 of 3 recordings in {folder}: 6.0 seconds at 8,000 Hz",
        "1 speaker: ann 6.0 seconds",
    ]


def test_all_skipped_files_are_written(folder: Path, tmp_path: Path) -> None:
    write_noise(folder / "good.wav")
    for i in range(15):
        (folder / f"bad, {i:02}.wav").touch()
    (folder / "esc\x1b[31m\n.wav").touch()
    (folder / os.fsdecode(b"latin-\xe9.wav")).touch()
    (folder / ".hidden").mkdir()
    summary = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    path = tmp_path / "skipped.csv"
    write_skipped(path, summary)
    assert all(line.isprintable() for line in path.read_text(encoding="utf-8").splitlines())
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "reason"]
    assert len(rows) == 1 + 18
    assert rows[1] == [f".hidden{os.sep}", "hidden: its name starts with a dot"]
    assert ["bad, 07.wav", "empty file"] in rows
    assert [r"esc\x1b[31m\n.wav", "empty file"] in rows
    assert [r"latin-\udce9.wav", "empty file"] in rows
    summary.skipped = []
    write_skipped(path, summary)  # replaces what an earlier run has written
    assert path.read_bytes() == b"path,reason\n"


def test_skipped_files_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    write_noise(folder / "good.wav")
    summary = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    with pytest.raises(OSError, match="No such file"):
        write_skipped(tmp_path / "none" / "skipped.csv", summary)
