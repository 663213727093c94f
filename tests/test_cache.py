"""The cache: what is decoded again, interruptions, damage, and several processes."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from recordings import ALL_TRAINING, SAMPLE_RATE, cache_folder_in, contents, write_noise

from wavenet.config import DataConfig
from wavenet.data import audio, decoding
from wavenet.data.dataset import DatasetError, open_folder


def test_an_unchanged_folder_is_not_decoded_again(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_noise(folder / "a.wav", seed=1)
    (folder / "bad.wav").write_text("text " * 50)
    first = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert sorted(decoded) == ["a.wav", "bad.wav"]
    monkeypatch.setattr("hashlib.file_digest", None)  # nor is any file opened
    second = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(decoded) == 2
    assert contents(first.train) == contents(second.train)
    assert first.summary == second.summary


def test_new_times_new_names_and_copies_are_not_decoded(folder: Path, decoded: list[str]) -> None:
    write_noise(folder / "a.wav")
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    os.utime(folder / "a.wav", (1, 1))
    shutil.copy(folder / "a.wav", folder / "copy.wav")
    assert len(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == 2
    (folder / "a.wav").rename(folder / "new.wav")
    recordings = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert decoded == ["a.wav"]
    assert list(recordings.train.offsets) == [0, 0]
    assert recordings.summary.duplicates == 1
    assert recordings.summary.kept == 2


def test_copies_in_a_new_folder_are_decoded_once(folder: Path, decoded: list[str]) -> None:
    write_noise(folder / "0.wav")
    for i in range(1, 20):
        shutil.copy(folder / "0.wav", folder / f"{i}.wav")
    assert len(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == 20
    assert len(decoded) == 1


def test_a_change_of_the_same_size_and_time_is_noticed(folder: Path, decoded: list[str]) -> None:
    write_noise(folder / "a.wav", seed=1)
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    before = os.stat(folder / "a.wav")
    content = bytearray((folder / "a.wav").read_bytes())
    content[-1] ^= 1  # the upper byte of the last sample
    with open(folder / "a.wav", "r+b") as file:
        file.write(content)
    os.utime(folder / "a.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(folder / "a.wav").st_size == before.st_size
    clip = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train.clip(0)
    assert clip.tobytes() == bytes(content[44:])
    assert decoded == ["a.wav", "a.wav"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(folder / "a.wav", seed=1)
    write_noise(folder / "b.wav", seed=2)
    blocks = audio.blocks

    def still_recording(path: Path, *options: Any, **named: Any) -> Iterator[NDArray[np.float32]]:
        yield from blocks(path, *options, **named)
        if Path(path).name == "b.wav":
            write_noise(folder / "b.wav", seed=3)

    with monkeypatch.context() as patch:
        patch.setattr(audio, "blocks", still_recording)
        assert open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary.skipped == [
            ("b.wav", "changed while it was read")
        ]
    recordings = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    np.testing.assert_array_equal(recordings.train.clip(1), audio.to_int16(audio.read(folder / "b.wav", SAMPLE_RATE)))


def test_sample_rates_and_trims_have_separate_caches(folder: Path, tmp_path: Path) -> None:
    write_noise(folder / "a.wav")
    for rate, trim_db in ((SAMPLE_RATE, 0.0), (SAMPLE_RATE, 40.0), (4_000, 0.0)):
        open_folder(folder, rate, DataConfig(validation=0.0, trim_db=trim_db))
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(names) == 3
    assert all(name.startswith("my_söunds-") for name in names)
    assert sorted(name.split("-", 2)[2] for name in names) == ["4000", "8000", "8000-trim40"]


def test_interrupted_decoding_continues(folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {write_noise(folder / f"{i:02}.wav", seed=i).tobytes() for i in range(40)}
    monkeypatch.setattr(decoding, "PROGRESS_SECONDS", -1.0)

    def interrupt(done: int, total: int) -> None:
        assert total == 40
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_folder(folder, SAMPLE_RATE, ALL_TRAINING, interrupt)
    decoded.clear()
    recordings = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(decoded) == 40 - 15
    assert contents(recordings.train) == expected


def test_audio_that_an_interruption_left_unindexed_is_overwritten(folder: Path, tmp_path: Path) -> None:
    first = write_noise(folder / "a.wav", seed=1)
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    with open(cache_folder_in(tmp_path) / "audio.i16", "ab") as file:
        file.write(b"half a cl")
    second = write_noise(folder / "b.wav", seed=2)
    recordings = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    np.testing.assert_array_equal(recordings.train.clip(0), first)
    np.testing.assert_array_equal(recordings.train.clip(1), second)


def test_progress_ends_with_all_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "PROGRESS_SECONDS", -1.0)
    for i in range(5):
        write_noise(folder / f"{i}.wav", seed=i)
    calls: list[tuple[int, int]] = []
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING, lambda done, total: calls.append((done, total)))
    assert calls == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (5, 5)]
    calls.clear()
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING, lambda done, total: calls.append((done, total)))
    assert calls == [(5, 5), (5, 5)]


def damage_index(cache: Path) -> None:
    (cache / "index.sqlite").write_bytes(b"not a database, " * 1_000)


def damage_page(cache: Path) -> None:
    with open(cache / "index.sqlite", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


def other_version(cache: Path) -> None:
    with sqlite3.connect(cache / "index.sqlite") as index:
        index.executescript("PRAGMA user_version = 99; DROP TABLE files;")


def truncate_audio(cache: Path) -> None:
    os.truncate(cache / "audio.i16", 900)


def remove_audio(cache: Path) -> None:
    (cache / "audio.i16").unlink()


def remove_index(cache: Path) -> None:
    (cache / "index.sqlite").unlink()


@pytest.mark.parametrize(
    "damage", [damage_index, damage_page, other_version, truncate_audio, remove_audio, remove_index]
)
def test_a_damaged_cache_is_repaired(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], decoded: list[str]
) -> None:
    expected = {write_noise(folder / f"{i}.wav", seed=i).tobytes() for i in range(3)}
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    damage(cache_folder_in(tmp_path))
    decoded.clear()
    for _ in range(2):
        assert contents(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == expected
    assert len(decoded) == (2 if damage is truncate_audio else 3)  # 900 bytes still hold one clip of 800


def test_two_processes_on_one_new_cache(folder: Path) -> None:
    expected = {write_noise(folder / f"{i:03}.wav", seed=i).tobytes() for i in range(60)}
    code = (
        "import sys; from wavenet.data import dataset, decoding; from wavenet.config import DataConfig\n"
        "decoding.BATCH_SECONDS = 0.001\n"
        f"train = dataset.open_folder(sys.argv[1], {SAMPLE_RATE}, DataConfig(validation=0.0)).train\n"
        "sys.stdout.buffer.write(b''.join(sorted(clip.tobytes() for clip in train)))"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) for _ in range(3)]
    for job in jobs:
        output, _ = job.communicate(timeout=60)
        assert job.returncode == 0
        assert output == b"".join(sorted(expected))
    assert contents(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == expected


def test_threads_opening_one_cache_while_files_are_added(folder: Path) -> None:
    write_noise(folder / "first.wav", seed=999)
    wrong: list[str] = []

    def add_and_open(thread: int) -> None:
        for i in range(5):
            own = write_noise(folder / f"{thread}-{i}.wav", seed=10 * thread + i)
            if own.tobytes() not in contents(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train):
                wrong.append(f"{thread}-{i}")

    threads = [threading.Thread(target=add_and_open, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(contents(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train)) == 16


def test_a_cache_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(folder / "a.wav")
    (tmp_path / "file").touch()
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "file"))
    with pytest.raises(DatasetError, match="set WAVENET_CACHE") as caught:
        open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(str(caught.value).splitlines()) == 1


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(folder / "a.wav")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(DatasetError, match=r"No space left.*WAVENET_CACHE"):
            open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == 1


def test_the_location_of_the_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noise(folder / "a.wav")
    monkeypatch.delenv("WAVENET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(list((tmp_path / "xdg" / "wavenet-toolkit").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(list((tmp_path / "home" / ".cache" / "wavenet-toolkit").iterdir())) == 1
