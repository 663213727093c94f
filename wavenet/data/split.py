"""The split of recordings into training and validation: by whole files, or by time where files are few and long."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig

FEW_FILES = 10  # held-out files; fewer may be much easier or harder to predict than the others
SHORT_SECONDS = 1.0  # held-out stretches below this on average are too short to validate on
STRETCH_SECONDS = 10.0  # length of held-out stretches, roughly
GAP_SECONDS = 1.0  # beside a held-out stretch, used for neither: its neighbours are too similar to train on
TAIL_SHARE, TAIL_SECONDS = 10, 60  # of a single short recording the last tenth is held out, at most a minute


class Windows(NamedTuple):
    """Parts of recordings: samples `starts` to `stops` of the recordings `indices`; int64 [n] each."""

    indices: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


class Sides(Protocol):
    """Clips whose side of the split was set, for a share of validation: a cache."""

    def sides(self, validation: float) -> dict[bytes, bool]:
        """Whether each of them is held out, by content hash."""

    def set_side(self, validation: float, key: bytes, held_out: bool) -> None:
        """Set a clip's side, permanently."""


class NoSides:
    """Stores no side: of datasets that are read only."""

    def sides(self, validation: float) -> dict[bytes, bool]:
        """None is set."""
        return {}

    def set_side(self, validation: float, key: bytes, held_out: bool) -> None:
        """It follows from the same recordings again."""


@dataclass(frozen=True)
class Split:
    """What is trained on and what is held out.

    kind: "files": whole files are held out, or the end of a single one (`is_tail`). "time": stretches of every file.
    """

    kind: str
    train: Windows
    validation: Windows
    is_tail: bool = False


def split(
    stored: Sides, keys: NDArray[np.void], lengths: NDArray[np.int64], sample_rate: int, data: DataConfig
) -> Split:
    """Split recordings as `data.split` and `data.validation` say.

    stored: the sides that were set earlier. keys: content hashes, bytes [n]. lengths: int64 [n], in samples.
    It depends on the content of each recording only, except for the choice that "auto" stands for.
    """
    if kind_of_split(keys, lengths, sample_rate, data) == "time":
        return _by_time(keys, lengths, sample_rate, data.validation)
    if (keys == keys[0]).all() and data.validation > 0 and lengths[0] >= TAIL_SHARE:
        return _tail(lengths, sample_rate)
    held_out = _held_out_files(stored, keys, data.validation)
    return Split("files", _whole(np.flatnonzero(~held_out), lengths), _whole(np.flatnonzero(held_out), lengths))


def kind_of_split(keys: NDArray[np.void], lengths: NDArray[np.int64], sample_rate: int, data: DataConfig) -> str:
    """'files' or 'time': `data.split`, or what "auto" stands for with these recordings."""
    if data.split != "auto":
        return data.split
    _, each = np.unique(keys, return_index=True)  # of equal content one
    stretch = data.validation * float(lengths[each].sum()) / sample_rate / len(each)  # held out of each, on average
    return "time" if data.validation * len(each) < FEW_FILES and stretch >= SHORT_SECONDS else "files"


def _by_time(keys: NDArray[np.void], lengths: NDArray[np.int64], sample_rate: int, share: float) -> Split:
    """Hold out the same share of every recording."""
    train, validation = array("q"), array("q")  # index, start and stop of each window
    for index in range(len(keys)):
        length = int(lengths[index])
        starts, size, gap = stretches(keys[index].tobytes(), length, sample_rate, share)
        ends = [0, *(end for start in starts for end in (start - gap, start + size + gap)), length]
        for start in starts:
            validation.extend((index, start, start + size))
        for begin, end in zip(ends[::2], ends[1::2], strict=True):
            if begin < min(end, length):
                train.extend((index, max(begin, 0), min(end, length)))
    return Split("time", _windows(train), _windows(validation))


def stretches(key: bytes, length: int, sample_rate: int, share: float) -> tuple[list[int], int, int]:
    """First samples of the held-out stretches of one recording, their length, and that of the gaps beside them.

    The recording is divided into equal sections with a stretch in each, all at the same place in their section. The
    place comes from the content hash: in some recordings the start is held out, in others the middle or the end.
    """
    held = int(share * length)
    if not held:
        return [], 0, 0
    count = max(1, round(held / (STRETCH_SECONDS * sample_rate)))
    size, section = held // count, length / count
    gap = min(int(GAP_SECONDS * sample_rate), size, int(section - size) // 4)  # at least half of the rest is kept
    place = int.from_bytes(key[4:8], "big") / 2**32
    return [int(i * section + place * (section - size)) for i in range(count)], size, gap


def _tail(lengths: NDArray[np.int64], sample_rate: int) -> Split:
    """Hold out the end of the only recording, once for all copies."""
    tail = min(int(lengths[0]) // TAIL_SHARE, TAIL_SECONDS * sample_rate)
    train = _whole(np.arange(len(lengths)), lengths)
    validation = _windows([0, int(lengths[0]) - tail, int(lengths[0])])
    return Split("files", train._replace(stops=train.stops - tail), validation, is_tail=True)


def _held_out_files(stored: Sides, keys: NDArray[np.void], validation: float) -> NDArray[np.bool_]:
    """Which files are held out, bool [n]. It depends on their content only: renamed or added files change nothing.

    If all files are on one side, the one nearest to the threshold changes sides, and that is stored.
    """
    if not validation:
        return np.zeros(len(keys), np.bool_)
    held: NDArray[np.bool_] = _fractions(keys) < validation
    for key, held_out in stored.sides(validation).items():
        held[keys == np.void(key)] = held_out
    if held.all() == held.any() and len(contents := np.unique(keys)) > 1:
        nearest, held_out = (contents[-1], False) if held[0] else (contents[0], True)
        held[keys == nearest] = held_out
        stored.set_side(validation, nearest.tobytes(), held_out)
    return held


def _fractions(keys: NDArray[np.void]) -> NDArray[np.float64]:
    """A number of each content, evenly distributed from 0 to 1: the first four bytes of its hash."""
    first = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), -1)[:, :4]
    return np.ascontiguousarray(first).view(">u4")[:, 0].astype(np.float64) / 2**32


def _whole(indices: NDArray[np.int64], lengths: NDArray[np.int64]) -> Windows:
    return Windows(indices, np.zeros_like(indices), lengths[indices])


def _windows(numbers: Sequence[int] | array[int]) -> Windows:
    """Windows whose index, start and stop follow one another."""
    return Windows(*np.array(numbers, np.int64).reshape(-1, 3).T)
