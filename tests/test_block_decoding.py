"""Recordings of any length are decoded in blocks: the result is that of the whole clip, and memory does not grow."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from recordings import ALL_TRAINING, SAMPLE_RATE, contents, write_noise

from wavenet.config import DataConfig
from wavenet.data import audio, decoding, spool
from wavenet.data.dataset import DatasetError, open_folder
from wavenet.data.silence import SilentEdges, loud_span, silent_edges, trim

FRAME = SAMPLE_RATE // 100


def edges_of_whole(clip: NDArray[np.float32]) -> tuple[int, int]:
    """Silence at the ends, from the powers of all frames."""
    power = np.array(
        [np.square(clip[i : i + FRAME], dtype=np.float64).mean() for i in range(0, len(clip), FRAME)] or [0.0]
    )
    loud = np.flatnonzero(power >= power.max() * 10**-4.5)
    return int(loud[0]) * FRAME, max(len(clip) - (int(loud[-1]) + 1) * FRAME, 0)


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(-7, 0)), max_size=8), st.lists(st.integers(1, 700)))
def test_blocks_have_the_silence_of_the_whole_clip(parts: list[tuple[int, float]], sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    clip = np.concatenate([np.zeros(0), *(10**level * rng.uniform(-1, 1, size) for size, level in parts)])
    clip = clip.astype(np.float32)
    blocks = np.split(clip, np.minimum(np.cumsum(sizes, dtype=int), len(clip)))
    edges = SilentEdges(SAMPLE_RATE)
    for block in blocks:
        edges.add(block)
    assert edges.lengths() == silent_edges(clip, SAMPLE_RATE) == edges_of_whole(clip)
    start, stop = loud_span(lambda: blocks, len(clip), 40.0)
    np.testing.assert_array_equal(clip[start:stop], trim(clip, 40.0))
    loud = np.flatnonzero(np.abs(clip) >= np.abs(clip).max(initial=0.0) * 0.01)
    assert (start, stop) == ((int(loud[0]), int(loud[-1]) + 1) if clip.any() else (0, len(clip)))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("trim_db", [0.0, 30.0])
def test_a_clip_beyond_the_memory_has_the_same_samples(
    folder: Path, suffix: str, trim_db: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fade = np.concatenate([np.zeros(500), np.linspace(0, 1, 20_000), np.linspace(1, 0, 30_000) ** 3, np.zeros(999)])
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, len(fade)) * fade
    audio.write(folder / f"a{suffix}", noise, 2 * SAMPLE_RATE)
    monkeypatch.setattr(spool, "BYTES_IN_MEMORY", 1_000)
    monkeypatch.setattr(spool, "BLOCK", 777)
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.0, trim_db=trim_db, edge_silence=0.0))
    whole = audio.read(folder / f"a{suffix}", SAMPLE_RATE)
    trimmed = trim(whole, trim_db)
    lead, trail = silent_edges(trimmed, SAMPLE_RATE)
    expected = audio.to_int16(trimmed)[lead : len(trimmed) - trail]
    np.testing.assert_array_equal(recordings.train.clip(0), expected)
    assert recordings.summary.trimmed_seconds == (len(whole) - len(trimmed)) / SAMPLE_RATE
    assert len(expected) < len(whole) - 500  # something was silent


def test_the_memory_does_not_grow_with_the_length(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BYTES_IN_MEMORY", 2**19)
    peaks = []
    for seed, samples in enumerate([60 * SAMPLE_RATE, 600 * SAMPLE_RATE]):
        write_noise(folder / f"{seed}.wav", samples, seed)
        tracemalloc.start()
        open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2**19  # of 9.6 MB of audio


def test_an_interruption_does_not_wait_for_a_long_recording(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(folder / "a.wav")
    write_noise(folder / "b.wav", seed=1)
    blocks = audio.blocks

    def endless(path: Path, *options: int, **named: audio.Downmix) -> Iterator[NDArray[np.float32]]:
        yield from blocks(path, *options, **named)
        while path.name == "b.wav":
            yield np.zeros(8, np.float32)

    def interrupt(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(audio, "blocks", endless)
        patch.setattr(decoding, "PROGRESS_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            open_folder(folder, SAMPLE_RATE, ALL_TRAINING, interrupt)
    assert len(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # the traceback of the error may hold files open


@pytest.mark.parametrize("in_memory", [1_000, 2**20])
def test_a_full_disk_loses_nothing_and_decoding_continues(
    folder: Path, small_disk: Path, decoded: list[str], in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVENET_CACHE", os.fspath(small_disk))
    monkeypatch.setattr(decoding, "BATCH_SAMPLES", 1)
    monkeypatch.setattr(spool, "BYTES_IN_MEMORY", in_memory)
    expected = {write_noise(folder / f"{seed:02}.wav", 20_000, seed).tobytes() for seed in range(12)}
    with pytest.raises(DatasetError, match=r"(full|No space left).*WAVENET_CACHE") as caught:
        open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(str(caught.value).splitlines()) == 1
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    decoded.clear()
    assert contents(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == expected
    assert len(decoded) < 12
