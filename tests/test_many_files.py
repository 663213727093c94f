"""Folders of many files: what is kept of each in memory, and in a temporary table."""

from __future__ import annotations

import os
import pickle
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE, cache_folder_in, contents, write_files, write_noise

from wavenet.config import DataConfig
from wavenet.data import found_files
from wavenet.data.cache import CHANGED, Decoded
from wavenet.data.dataset import DatasetError, open_folder
from wavenet.data.decoding import Decoder
from wavenet.data.found_files import FoundFiles
from wavenet.data.scan import FoundFile, scan
from wavenet.data.table import NOT_MEASURED, Names, RecordingTable, TableBuilder, encode_name


def table_of(*names: str) -> RecordingTable:
    builder = TableBuilder()
    for i, name in enumerate(names):
        builder.add(encode_name(name), (bytes([i] * 20), 10 * i, 10, 0, 0, 0, 1, 0.0, -20.0, NOT_MEASURED))
    return builder.table()


@pytest.mark.parametrize("data", [DataConfig(), DataConfig(split="time"), DataConfig(speakers="folders", loudness=-30)])
def test_a_file_takes_little_memory(folder: Path, data: DataConfig) -> None:
    write_noise(folder / "ann" / "000000.wav", 8)
    content = (folder / "ann" / "000000.wav").read_bytes()
    peaks, made = [], 1
    for number in (1_500, 3_500):  # more than are read from a table at a time
        for i in range(made, number):
            path = folder / ("ann", "bob")[i % 2] / f"{i:06}.wav"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content[:-4] + i.to_bytes(4, "little"))
        made = number
        assert open_folder(folder, SAMPLE_RATE, data).summary.kept == number
        tracemalloc.start()
        open_folder(folder, SAMPLE_RATE, data)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 2_000 < 450  # bytes; a file took a thousand as objects


def test_files_of_a_temporary_table_are_those_of_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_files, "PAGE", 3)
    write_files(folder, range(10))
    write_noise(folder / "sub" / "Ünï 𝄞.flac")
    write_noise(folder / ".hidden.wav")
    found, (expected, skipped) = FoundFiles(folder), scan(folder)
    assert list(found.files()) == expected
    assert (len(found), found.hashed, found.skipped) == (11, 0, skipped)
    assert list(found.files(expected[4].name)) == expected[5:]
    assert list(found.names()) == [file.name for file in expected]
    seen = []
    for file in found.unhashed():  # whose hashes are set meanwhile
        seen.append(file)
        found.set_hashes((other, b"key") for other in seen[-1:])
    assert seen == expected
    assert found.hashed == 11
    assert not list(found.unhashed())


def test_a_full_disk_is_reported(folder: Path) -> None:
    for i in range(200):
        (folder / f"{i:0100}.wav").touch()
    database = sqlite3.connect("", isolation_level=None)
    database.execute("PRAGMA temp.max_page_count = 4")
    with pytest.raises(
        DatasetError, match=r"cannot be stored \(database or disk is full\): make room in the folder of te"
    ):
        FoundFiles(folder, database)


def test_names_are_a_sequence() -> None:
    names = table_of("a.wav", "", "ünï.wav", "z").names
    assert list(names) == ["a.wav", "", "ünï.wav", "z"]
    assert (names[-1], names[-2], len(names)) == ("z", "ünï.wav", 4)
    assert list(names[1:3]) == ["", "ünï.wav"]
    assert list(names.take(np.array([3, 0, 3]))) == ["z", "a.wav", "z"]
    assert list(names[::-1].take(np.array([0, 3]))) == ["z", "a.wav"]
    assert list(pickle.loads(pickle.dumps(names[2:]))) == ["ünï.wav", "z"]
    assert "ünï.wav" in names
    with pytest.raises(IndexError):
        names[4]
    assert not Names(b"", np.zeros(0, np.int64))


def test_tables_are_chosen_from_extended_and_sorted() -> None:
    table = table_of("b", "a", "c")
    order = table.order_by_name()
    assert order is not None
    assert list(table.take(order).names) == ["a", "b", "c"]
    assert table.take(order).rows["offset"].tolist() == [10, 0, 20]
    assert table.take(order).order_by_name() is None
    builder = TableBuilder()
    for part in (table.take(order), table):
        builder.extend(part)
    together = builder.table()
    assert list(together.names) == ["a", "b", "c", "b", "a", "c"]
    assert together.rows["offset"].tolist() == [10, 0, 20, 0, 10, 20]
    assert len(TableBuilder().table()) == 0


def test_a_copy_that_is_found_later_is_not_decoded_again(folder: Path) -> None:
    write_files(folder, range(3))
    first = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    write_noise(folder / "a copy.wav", seed=1)
    second = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert second.train.offsets.tolist() == [*first.train.offsets, first.train.offsets[1]]
    assert contents(first.train) == contents(second.train)


def test_a_changed_copy_of_a_recording_of_an_older_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(folder, range(2))
    open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    with closing(sqlite3.connect(cache_folder_in(tmp_path) / "index.sqlite")) as index:
        index.execute("DROP TABLE channels")  # as earlier versions had it
    (folder / "copy.wav").write_bytes((folder / "000.wav").read_bytes())
    decode = Decoder._decode

    def changing(self: Decoder, file: FoundFile, key: bytes, path: Path) -> Decoded:
        decoded = decode(self, file, key, path)
        if file.name != "001.wav":
            os.utime(path, (1, 1))
        return decoded

    monkeypatch.setattr(Decoder, "_decode", changing)
    summary = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    assert summary.skipped == [("000.wav", CHANGED), ("copy.wav", CHANGED)]
    monkeypatch.undo()
    monkeypatch.setenv("WAVENET_CACHE", os.fspath(tmp_path / "cache"))
    assert open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary.kept == 3


def test_a_file_that_the_system_lists_twice_counts_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(folder, range(2))
    found = [*scan(folder)[0], scan(folder)[0][0]]
    monkeypatch.setattr(found_files, "walk", lambda root, skipped: iter(found))
    assert open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary.kept == 2


def test_clips_have_the_order_of_their_names(folder: Path) -> None:
    names = ["z.wav", "é.wav", "\udc80z.wav", "\ue000.wav", "𝄞.wav"]
    for i, name in enumerate(names):
        write_noise(folder / name, seed=i)
    assert list(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train.names) == names == sorted(names)
