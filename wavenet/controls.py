"""Control curves of models of two tiers: the pitch and the loudness that their frames shall have. NumPy only.

A curve is a value for each frame; NaN leaves the frame to the model. Pitch is in Hz, and is that of the frames that the
model makes voiced: whether a frame is voiced remains its own choice. Loudness is the RMS of a frame in dBFS. Values
beyond those of the training data are clamped to them.
"""

from __future__ import annotations

import csv
import math
import numbers
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.checks import shown
from wavenet.config import MelConfig
from wavenet.data.errors import printable
from wavenet.features import mel_spectrogram
from wavenet.frame_coding import decibels
from wavenet.nn.linear_prediction import voicing_and_pitch

UNITS = {"pitch": "Hz", "loudness": "dBFS"}
RANGES = {"pitch": (20.0, 2_000.0), "loudness": (-120.0, 0.0)}  # other values are errors
LONGEST_SECONDS = 86_400  # of a curve in a .csv file; later times are in another unit

Control = float | ArrayLike  # one value for all frames, or a curve [frames]


@dataclass(frozen=True, eq=False)
class Curve:
    """A checked control: values [frames], or a single one for all frames."""

    given: Control  # by the user
    values: NDArray[np.float64]

    def part(self, first: int, count: int) -> NDArray[np.float64]:
        """The values of `count` frames from frame `first` of the curve on; NaN after its end."""
        if self.values.ndim == 0:
            return np.full(count, self.values)
        inside = self.values[first : first + count]
        return np.pad(inside, (0, count - len(inside)), constant_values=np.nan)


def checked(name: str, given: Control | None) -> Curve | None:
    """A control "pitch" or "loudness" as a curve. NaN, and a pitch of 0, leave a frame to the model.

    Raises `ValueError`, in one line, for a value that is no number or out of range.
    """
    if given is None:
        return None
    unit, (low, high) = UNITS[name], RANGES[name]
    allowed = f"must be a number of {unit}, or an array of one for each frame"
    if isinstance(given, (str, bytes, os.PathLike)):
        raise ValueError(f"{name} = {shown(given)}: {allowed}; wavenet.controls.read reads files")
    try:
        values = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    single = isinstance(given, numbers.Real) and not isinstance(given, bool)
    if values.ndim != 1 and not single:
        raise ValueError(f"{name} = {shown(given)}: {allowed}")
    if name == "pitch" and not single:
        values[values == 0] = np.nan  # as programs that measure pitch state it for unvoiced frames
    wrong = values[~(np.isnan(values) | ((values >= low) & (values <= high)))]
    if wrong.size or (single and np.isnan(values)):
        value = wrong.flat[0] if wrong.size else math.nan
        raise ValueError(f"{name} = {value:g}: must be from {low:g} to {high:,g} {unit}")
    return Curve(given, values)


def read(path: str | os.PathLike[str], name: str, mel: MelConfig) -> NDArray[np.float64]:
    """The curve "pitch" or "loudness" [frames] in a file, for frames of these features.

    .csv: rows of a time in seconds and a value, linear between two of them; a row without a value, or with 0 Hz, begins
        a gap. .npy: a value for each frame. Others: a recording, whose curve is measured.
    Raises `ValueError`, in one line, for a file that cannot be used, `OSError` for one that cannot be read, and
    `wavenet.data.errors.AudioError` for a recording.
    """
    path = Path(path)
    values = _read(path, name, mel)
    if not np.isfinite(values).any():
        raise ValueError(f"{printable(path)}: it has no {name} for any frame")
    return values


def _read(path: Path, name: str, mel: MelConfig) -> NDArray[np.float64]:
    """`read`, where all frames may be without a value."""
    if path.suffix.lower() == ".csv":
        rows = list(_rows(path, name))
        _check(name, [value for _, value in rows], path)
        return _interpolated(rows, path, mel)
    if path.suffix.lower() == ".npy":
        try:
            values = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{printable(path)}: not a .npy file of numbers ({error})") from None
        if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "fiu":
            raise ValueError(f"{printable(path)}: must be one array of numbers, a value for each frame")
        _check(name, values, path)
        return values.astype(np.float64)
    from wavenet.data import audio  # loads libsndfile

    return measured(audio.read(path, mel.sample_rate), name, mel)


def measured(audio: ArrayLike, name: str, mel: MelConfig) -> NDArray[np.float64]:
    """The curve "pitch" or "loudness" [frames] of audio [samples] in [-1, 1]; NaN: frames without a pitch."""
    frames = mel_spectrogram(audio, mel).T  # [frames, bands]
    if name == "pitch":
        has_pitch, hertz = voicing_and_pitch(frames, mel)
        return np.where(has_pitch, hertz, np.nan)
    return decibels(frames, mel).clip(*RANGES["loudness"])


def _check(name: str, values: ArrayLike, path: Path) -> None:
    """Raises `ValueError` as `checked`, with the name of the file."""
    try:
        checked(name, values)
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from None


def _rows(path: Path, name: str) -> Iterator[tuple[float, float]]:
    """Time and value of each row of a CSV file. A first row without numbers is a title."""
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not any(row):
                continue
            try:
                value = float(row[1]) if len(row) > 1 and row[1].strip() else math.nan
                yield float(row[0]), math.nan if name == "pitch" and value == 0 else value
            except ValueError:
                if number > 1 or _is_number(row[0]):
                    raise ValueError(
                        f"{printable(path)}, line {number}: expected a time in seconds and a value in {UNITS[name]}"
                    ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _interpolated(rows: list[tuple[float, float]], path: Path, mel: MelConfig) -> NDArray[np.float64]:
    """Values [frames] at the centres of the frames, up to the last of the rows."""
    if not rows:
        raise ValueError(f"{printable(path)}: there are no rows of a time in seconds and a value")
    times, values = np.array(rows).T
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError(f"{printable(path)}: the times must be finite and ascend from row to row")
    if times[-1] > LONGEST_SECONDS:
        raise ValueError(f"{printable(path)}: a time is {times[-1]:g}; times are in seconds, at most a day")
    frame = mel.hop / mel.sample_rate  # seconds
    centres = (np.arange(max(math.ceil(times[-1] / frame), 1)) + 0.5) * frame
    result = np.interp(centres, times, values, left=np.nan, right=np.nan)  # NaN where a neighbour is
    return np.asarray(result)
