"""Folders of recordings, and clips in memory, that several test modules share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.clips import Clips

SAMPLE_RATE = 8_000
ALL_TRAINING = DataConfig(validation=0.0)


def write_noise(path: Path, samples: int = 400, seed: int = 0) -> NDArray[np.int16]:
    """Write noise of that many 16-bit samples, and return it."""
    noise = np.random.default_rng(seed).integers(-20_000, 20_000, samples).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, noise / np.float32(32_768), SAMPLE_RATE)
    return noise


def write_files(folder: Path, numbers: range, samples: int = 400) -> None:
    """Write 000.wav, 001.wav, ..., each with different noise."""
    for i in numbers:
        write_noise(folder / f"{i:03}.wav", samples, seed=i)


def contents(clips: Clips) -> set[bytes]:
    """The samples of all clips, as bytes."""
    return {clip.tobytes() for clip in clips}


def clips_of(*lengths: int, values: NDArray[np.int16] | None = None) -> Clips:
    """Consecutive clips in memory; by default all samples are different (0, 1, 2, ...)."""
    ends = np.cumsum(lengths, dtype=np.int64)
    samples = np.arange(ends[-1], dtype=np.int16) if values is None else values
    return Clips(samples, ends - lengths, np.array(lengths, np.int64), SAMPLE_RATE)


def cache_folder_in(tmp_path: Path) -> Path:
    """The only folder in the cache of a test."""
    (folder,) = (tmp_path / "cache").iterdir()
    return folder
