"""A folder of recordings packed into shards, which several test modules share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from recordings import SAMPLE_RATE, write_noise

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
