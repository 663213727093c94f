"""Summary of an opened folder: which files are used, and which were skipped and why."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from wavenet.data import audio, files
from wavenet.data.storage import is_address

LISTED_SKIPS = 10  # skipped files that the printed summary lists
MAX_NAME = 60  # characters of a speaker's name that it prints


@dataclass
class Summary:
    """The files of a folder, and how they are used. Durations are in seconds."""

    folder: str
    sample_rate: int  # Hz, of the model
    found: int = 0  # files with the extension of a recording
    kept: int = 0
    duplicates: int = 0  # kept files with the same content as another one
    seconds: float = 0.0  # kept, for training and validation
    stereo: int = 0  # kept files of more than one channel
    cancelling: list[str] = field(default_factory=list)  # those whose channels nearly cancel when they are averaged
    levels: tuple[float, float] | None = None  # lowest and highest, in dBFS; None: not measured, or all silent
    loudness: float = 0.0  # dBFS that each is set to
    limited: int = 0  # files that are set to less, because of their peaks
    trimmed_seconds: float = 0.0  # removed from the ends by trim_db
    edge_seconds: float = 0.0  # silence that edge_silence excludes from training crops
    train_files: int = 0
    train_seconds: float = 0.0
    validation_files: int = 0
    validation_seconds: float = 0.0
    validation_is_tail: bool = False  # the end of the only recording is held out
    split: str = "files"  # or "time": stretches of every file are held out
    validation_share: float = 0.0  # the share of the files or of the time that was asked for
    stretches: int = 0  # parts that are held out
    gap_seconds: float = 0.0  # left out beside held-out stretches
    speakers: dict[str, float] = field(default_factory=dict)  # kept seconds of each; empty for a single voice
    held_out_speakers: list[str] = field(default_factory=list)  # speakers without a training clip
    skipped: list[tuple[str, str]] = field(default_factory=list)  # path below the folder, reason

    @property
    def location(self) -> str:
        """The folder as an absolute path, or its address."""
        return self.folder if is_address(self.folder) else os.path.abspath(self.folder)

    @property
    def reasons(self) -> dict[str, int]:
        """Number of skipped files by kind of reason, the most frequent first."""
        return dict(Counter(reason.partition(":")[0] for _, reason in self.skipped).most_common())

    def lines(self, skipped_file: str | os.PathLike[str] | None = None, training: bool = True) -> list[str]:
        """The summary to print.

        skipped_file: where `write_skipped` writes all skipped files. training: whether the folder is used for training
        and validation; otherwise all of it is evaluated.
        """
        duplicates = f" ({count(self.duplicates, 'duplicate')})" if self.duplicates else ""
        kept = f"{count(self.kept)} of {count(self.found, 'recording')} in {audio.printable(self.folder)}{duplicates}"
        lines = [f"kept {kept}: {duration(self.seconds)} at {self.sample_rate:,} Hz"]
        if self.skipped:
            lines.append(f"skipped {self._skipped_count()} of unknown length: {kinds(self.reasons)}")
        if self.stereo:
            lines.append(f"stereo: {count(self.stereo)} of {count(self.kept, 'recording')}, averaged to one channel")
        if self.cancelling:
            which = f"{count(len(self.cancelling), 'recording')} (the first: {audio.printable(self.cancelling[0])})"
            lines.append(f"opposite phase: averaging nearly cancels {which}; use a file of one channel instead")
        if self.levels:
            lowest, highest = self.levels
            limited = f", {count(self.limited)} of them lower, so that no peak is clipped" if self.limited else ""
            lines.append(f"levels: {lowest:.0f} to {highest:.0f} dBFS; each set to {self.loudness:g}{limited}")
        if self.trimmed_seconds:
            lines.append(f"removed {duration(self.trimmed_seconds)}: silence at the ends of recordings (trim_db)")
        if training:
            lines += self._split_lines()
        if self.speakers:
            each = ", ".join(f"{audio.printable(name, MAX_NAME)} {duration(s)}" for name, s in self.speakers.items())
            lines.append(f"{count(len(self.speakers), 'speaker')}: {each}")
        listed = self.skipped[:LISTED_SKIPS]
        lines += [f"skipped {audio.printable(path)}: {reason}" for path, reason in listed]
        if more := len(self.skipped) - len(listed):
            place = f", listed in {audio.printable(skipped_file)}" if skipped_file is not None else ""
            lines.append(f"... and {count(more)} more{place}")
        return lines

    def _split_lines(self) -> list[str]:
        """Lines on training and validation."""
        lines = []
        if self.edge_seconds:
            lines.append(f"left out {duration(self.edge_seconds)}: silence at the ends in training (edge_silence)")
        if self.gap_seconds:
            lines.append(f"left out {duration(self.gap_seconds)}: up to a second on both sides of held-out stretches")
        held_out = f"{count(self.validation_files, 'file')}, {duration(self.validation_seconds)}"
        if self.validation_is_tail:
            held_out = f"the last {duration(self.validation_seconds)} of the only recording"
        elif not self.validation_files:
            held_out = "none"
        elif self.split == "time":
            part = f"{100 * self.validation_share:g}% of each file"
            held_out = f"{part}, {duration(self.validation_seconds)} in {count(self.stretches, 'stretch', 'stretches')}"
        train = f"{count(self.train_files, 'file')}, {duration(self.train_seconds)}"
        lines.append(f"training: {train}; validation: {held_out}")
        for name in self.held_out_speakers:
            lines.append(
                f"all recordings of {audio.printable(name, MAX_NAME)} are held out for validation: "
                "lower data.validation, or add recordings"
            )
        return lines

    def _skipped_count(self) -> str:
        folders = sum(path.endswith(os.sep) for path, _ in self.skipped)
        counts = [(len(self.skipped) - folders, "file"), (folders, "folder")]
        return " and ".join(count(number, what) for number, what in counts if number)


def write_skipped(path: str | os.PathLike[str], summary: Summary) -> None:
    """Write all skipped files and the reasons as a CSV file, in one piece. Raises `OSError`."""
    files.replace(Path(path), skipped_table(summary.skipped))


def skipped_table(skipped: Iterable[tuple[str, str]]) -> bytes:
    """Skipped files and the reasons, as the content of a CSV file.

    Control characters and undecodable bytes of paths are escaped, as in the printed summary.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows((audio.printable(name), reason) for name, reason in skipped)
    return text.getvalue().encode()


def count(number: int, one: str = "", many: str = "") -> str:
    """'1 file', '1,000 files'; without a noun only the number. many: the plural, if it is not `one` + 's'."""
    return f"{number:,} {one if number == 1 else many or one + 's'}" if one else f"{number:,}"


def kinds(reasons: dict[str, int]) -> str:
    """'2 unreadable, 1 empty file'."""
    return ", ".join(f"{count(number)} {kind}" for kind, number in reasons.items())


def duration(seconds: float) -> str:
    """'12.5 seconds', '3.0 minutes' or '1.25 hours'."""
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:,.2f} hours"
