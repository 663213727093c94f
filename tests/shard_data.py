"""A folder of recordings packed into shards, which several test modules share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from recordings import SAMPLE_RATE, write_noise

from wavenet.data.clips import Clips
from wavenet.data.dataset import Recordings
from wavenet.data.packing import PackSummary, pack
from wavenet.data.shards import Settings

SHARD_SIZE = 8_000  # bytes: two to five of the recordings


def write_recordings(folder: Path, count: int = 12) -> None:
    """Recordings of different lengths, of two speakers, two in German, and two files that cannot be used."""
    for i in range(count):
        write_noise(folder / ("änn" if i % 3 else "bob") / f"{i:03}.wav", 700 + 200 * (i % 5), seed=i)
    (folder / "änn" / "empty.wav").touch()
    (folder / "zero.flac").write_text("text " * 50)


def pack_noise(folder: Path, shards: Path | str, size: int = SHARD_SIZE, speakers: str = "") -> PackSummary:
    """Pack a folder at the sample rate of `write_noise`."""
    return pack(folder, shards, Settings(SAMPLE_RATE, 0.0, speakers), size)


def tars(shards: Path) -> dict[str, bytes]:
    """The content of all tar files by name."""
    return {path.name: path.read_bytes() for path in sorted(shards.glob("*.tar"))}


def int16(content: bytes) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """The samples of a WAV file with a header of 44 bytes."""
    return np.frombuffer(content[44:], "<i2").astype(np.int16)


def assert_same_clips(found: Clips, expected: Clips) -> None:
    assert [clip.tobytes() for clip in found] == [clip.tobytes() for clip in expected]
    assert list(found.names) == list(expected.names)
    assert found.speakers == expected.speakers
    for name in ("lengths", "starts", "gains"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def assert_same(found: Recordings, expected: Recordings) -> None:
    """The same clips on both sides of the split."""
    assert_same_clips(found.train, expected.train)
    assert_same_clips(found.validation, expected.validation)
