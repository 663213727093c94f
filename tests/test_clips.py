"""Clips in memory and in the cache file, and the codes of their samples."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE, cache_folder_in, clips_of, write_files, write_noise

from wavenet import mulaw
from wavenet.config import DataConfig
from wavenet.data import cached_samples
from wavenet.data.cached_samples import CachedSamples
from wavenet.data.crops import random_crops
from wavenet.data.dataset import DatasetError, open_folder
from wavenet.data.quantizers import LINEAR


def test_codes_are_those_of_mu_law(folder: Path) -> None:
    noise = write_noise(folder / "a.wav", 5_000)
    codes = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train.codes(0)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, mulaw.encode(noise / np.float32(32_768)))


def test_every_int16_has_the_code_of_mu_law() -> None:
    every = np.arange(-(2**15), 2**15).astype(np.int16)
    clips = clips_of(len(every), values=every)
    np.testing.assert_array_equal(clips.codes(0), mulaw.encode(every / np.float32(32_768)))


@pytest.mark.parametrize(("start", "stop"), [(0, None), (3, 7), (0, 99), (9, 10), (10, None), (12, 20), (5, 5)])
def test_a_part_of_a_clip(folder: Path, start: int, stop: int | None) -> None:
    write_noise(folder / "a.wav", 20, seed=1)
    noise = write_noise(folder / "b.wav", 10, seed=2)
    cached = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train
    for clips in (cached, clips_of(20, 10, values=np.concatenate([cached.clip(0), noise]))):
        np.testing.assert_array_equal(clips.clip(1, start, stop), noise[start:stop])
        np.testing.assert_array_equal(clips.codes(1, LINEAR, start, stop), noise[start:stop])


def test_a_cache_that_is_truncated_in_use(folder: Path, tmp_path: Path) -> None:
    write_files(folder, range(4), samples=3_000)
    train = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train
    audio_file = cache_folder_in(tmp_path) / "audio.i16"
    for size in (20_001, 0):
        os.truncate(audio_file, size)
        with pytest.raises(DatasetError, match="was truncated while it was in use: run the command again") as caught:
            random_crops(train, 200, 256, np.random.default_rng(0), DataConfig(join=True))
        assert str(audio_file) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    assert len(list(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train)) == 4  # as the message says


def test_a_cache_that_is_deleted_in_use(folder: Path, tmp_path: Path) -> None:
    write_files(folder, range(4), samples=3_000)
    train = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train
    before = [clip.copy() for clip in train]
    shutil.rmtree(cache_folder_in(tmp_path))
    write_files(folder, range(4, 6), samples=100)
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)  # makes another one
    for clip, expected in zip(train, before, strict=True):
        np.testing.assert_array_equal(clip, expected)


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.arange(1_000, dtype="<i2")
    (tmp_path / "x.i16").write_bytes(expected.tobytes())
    samples = CachedSamples(tmp_path / "x.i16")
    read = samples._read
    monkeypatch.setattr(samples, "_read", lambda size, position: read(min(size, 77), position))
    np.testing.assert_array_equal(samples[10:900], expected[10:900])
    assert len(samples) == 1_000


@pytest.mark.parametrize("positioned", [True, False])
def test_threads_read_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, positioned: bool) -> None:
    if not positioned:  # as on Windows
        monkeypatch.setattr(cached_samples, "HAS_PREAD", False)
    expected = np.arange(30_000).astype("<i2")
    (tmp_path / "x.i16").write_bytes(expected.tobytes())
    samples = CachedSamples(tmp_path / "x.i16")
    wrong: list[int] = []

    def read(seed: int) -> None:
        for start in np.random.default_rng(seed).integers(0, 29_000, 300):
            if not np.array_equal(samples[int(start) : int(start) + 1_000], expected[start : start + 1_000]):
                wrong.append(int(start))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
