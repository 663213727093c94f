"""Datasets in shards: what is packed, what is read, and what is left of it when files are missing or damaged."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE, contents, write_noise
from shard_data import SHARD_SIZE, assert_same, int16, pack_noise, tars, write_recordings

from wavenet.config import DataConfig
from wavenet.data import audio, listing, packing, shard_samples, shards, storage
from wavenet.data.dataset import DatasetError, open_folder

webdataset = pytest.importorskip("webdataset", reason="the extra shards is not installed")


@pytest.mark.parametrize(
    "data",
    [
        DataConfig(validation=0.3, split="files"),
        DataConfig(validation=0.3, split="time", speakers="folders", edge_silence=0.0),
        DataConfig(validation=0.2, loudness=-30.0),
    ],
)
def test_shards_are_opened_as_their_folder_is(folder: Path, packed: Path, data: DataConfig) -> None:
    (folder / "zero.flac").unlink()  # it is in no speaker's folder
    assert_same(open_folder(packed, SAMPLE_RATE, data), open_folder(folder, SAMPLE_RATE, data))


def test_the_library_reads_what_is_written(folder: Path, packed: Path) -> None:
    urls = [os.fspath(path) for path in sorted(packed.glob("*.tar"))]
    assert len(urls) > 3
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"])["name"] for sample in samples] == [
        path.relative_to(folder).as_posix() for path in sorted(folder.glob("*/*[0-9].wav"))
    ]
    for sample in samples:
        record = json.loads(sample["json"])
        whole = audio.to_int16(audio.read(folder / record["name"], SAMPLE_RATE))
        np.testing.assert_array_equal(int16(sample["wav"]), whole)
        assert (record["length"], record["sample_rate"]) == (len(whole), SAMPLE_RATE)
        assert record["peak"] == np.abs(whole.astype(int)).max()
    assert len({sample["__key__"] for sample in samples}) == 12


def test_a_long_recording_is_several_pieces(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PIECE", 500)
    write_noise(folder / "a.wav", 1_234, seed=1)
    write_noise(folder / "b.wav", 400, seed=2)
    pack_noise(folder, tmp_path / "shards")
    expected = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    found = open_folder(tmp_path / "shards", SAMPLE_RATE, ALL_TRAINING)
    assert_same(found, expected)
    for start, stop in ((0, 1), (499, 501), (100, 1_100), (1_000, 1_000), (1_233, 1_234)):
        np.testing.assert_array_equal(found.train.clip(0, start, stop), expected.train.clip(0)[start:stop])
    for path in (tmp_path / "shards").glob("*.jsonl"):
        path.unlink()
    assert_same(open_folder(tmp_path / "shards", SAMPLE_RATE, ALL_TRAINING), expected)


def test_packing_is_deterministic_and_writes_what_was_skipped(folder: Path, packed: Path, tmp_path: Path) -> None:
    summary = pack_noise(folder, tmp_path / "again")
    assert tars(tmp_path / "again") == tars(packed)
    assert (summary.found, summary.recordings, summary.shards) == (14, 12, len(tars(packed)))
    assert summary.seconds == sum(700 + 200 * (i % 5) for i in range(12)) / SAMPLE_RATE
    assert (packed / "skipped.csv").read_text().splitlines()[:2] == [
        "path,reason",
        "zero.flac," + summary.skipped[0][1],
    ]
    assert summary.skipped[1] == (os.path.join("änn", "empty.wav"), "empty file")
    assert all(path.stat().st_size < 2 * SHARD_SIZE for path in packed.glob("*.tar"))


@pytest.mark.parametrize("kills", range(1, 8))
def test_packing_continues_after_the_last_complete_shard(
    folder: Path, packed: Path, tmp_path: Path, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 0

    def killed(descriptor: int) -> None:
        nonlocal done
        done += 1
        if done == kills:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            pack_noise(folder, tmp_path / "new")
    if kills > 1:
        with pytest.raises(DatasetError, match="not complete: run wavenet data pack again"):
            open_folder(tmp_path / "new", SAMPLE_RATE, ALL_TRAINING)
    (tmp_path / "new" / ".shard-000003.tar.0123.partial").touch()  # as `kill -9` leaves it
    summary = pack_noise(folder, tmp_path / "new")
    assert not list((tmp_path / "new").glob(".*"))
    assert summary.kept_shards == max(0, kills - 2) // 2  # the index, then a tar file and its listing in turn
    assert tars(tmp_path / "new") == tars(packed)


@pytest.mark.parametrize("damage", [lambda text: text.splitlines()[0] + "\n", lambda text: "", lambda text: text[:-9]])
def test_a_shard_whose_listing_is_damaged_is_packed_again(
    folder: Path, packed: Path, damage: Callable[[str], str]
) -> None:
    before, listed = tars(packed), packed / "shard-000001.jsonl"
    expected = listed.read_text()
    listed.write_text(damage(expected))
    summary = pack_noise(folder, packed)
    assert (summary.kept_shards, summary.recordings) == (1, 12)
    assert tars(packed) == before
    assert listed.read_text() == expected


def test_a_listing_of_impossible_numbers_is_not_used(packed: Path) -> None:
    expected = open_folder(packed, SAMPLE_RATE, ALL_TRAINING)
    listed = packed / "shard-000001.jsonl"
    listed.write_text(listed.read_text().replace('"channels": 1', '"channels": 9999999999'))
    assert_same(open_folder(packed, SAMPLE_RATE, ALL_TRAINING), expected)


def test_new_and_changed_recordings_are_packed(folder: Path, packed: Path, tmp_path: Path, decoded: list[str]) -> None:
    before = tars(packed)
    assert pack_noise(folder, packed).kept_shards == len(before)
    assert decoded == []
    write_noise(folder / "änn" / "zz.wav", 3_000, seed=99)
    write_noise(folder / "änn" / "010.wav", 2_000, seed=98)
    summary = pack_noise(folder, packed)
    pack_noise(folder, tmp_path / "new")
    assert 0 < summary.kept_shards < len(before)
    assert tars(packed) == tars(tmp_path / "new")
    for path in list(folder.glob("änn/*.wav"))[:-1]:
        path.unlink()
    pack_noise(folder, packed)
    assert len(tars(packed)) < len(before)
    assert_same(open_folder(packed, SAMPLE_RATE, ALL_TRAINING), open_folder(folder, SAMPLE_RATE, ALL_TRAINING))


def test_missing_and_truncated_shards_are_reported_and_the_rest_is_used(folder: Path, packed: Path) -> None:
    expected = contents(open_folder(packed, SAMPLE_RATE, ALL_TRAINING).train)
    names = sorted(tars(packed))
    lost = [line["length"] for line in recordings_in(packed, names[1])]
    (packed / names[1]).unlink()
    pieces = recordings_in(packed, names[2])[0]["pieces"][0]
    kept = pieces[0] + 2 * pieces[1]
    size = (packed / names[2]).stat().st_size
    cut = len(recordings_in(packed, names[2])) - 1
    os.truncate(packed / names[2], kept)
    recordings = open_folder(packed, SAMPLE_RATE, ALL_TRAINING)
    assert recordings.summary.skipped == [
        (names[1], f"missing: {len(lost)} recordings are lost"),
        (names[2], f"truncated: holds {kept:,} of {size:,} bytes, {cut} recording{'s are' if cut > 1 else ' is'} lost"),
    ]
    assert contents(recordings.train) < expected
    assert len(recordings.train) == 12 - len(lost) - cut
    os.truncate(packed / names[2], kept - 2)
    assert len(open_folder(packed, SAMPLE_RATE, ALL_TRAINING).train) == 12 - len(lost) - cut - 1


def recordings_in(packed: Path, name: str) -> list[dict[str, Any]]:
    """The lines of the recordings of a shard."""
    lines = (packed / name).with_suffix(".jsonl").read_text().splitlines()[1:]
    return [line for line in map(json.loads, lines) if "length" in line]


def test_lost_indices_are_read_from_the_tar_files(folder: Path, packed: Path) -> None:
    expected = open_folder(packed, SAMPLE_RATE, ALL_TRAINING)
    names = sorted(tars(packed))
    (packed / names[0]).with_suffix(".jsonl").unlink()
    (packed / names[1]).with_suffix(".jsonl").write_text("damaged")
    assert_same(open_folder(packed, SAMPLE_RATE, ALL_TRAINING), expected)
    (packed / "index.json").unlink()
    assert_same(open_folder(packed, SAMPLE_RATE, ALL_TRAINING), expected)
    os.truncate(packed / names[0], 1_700)  # within the first recording
    found = open_folder(packed, SAMPLE_RATE, ALL_TRAINING)
    assert 0 < len(found.train) < len(expected.train)


def test_a_shard_that_is_truncated_in_use_is_an_error(packed: Path) -> None:
    train = open_folder(packed, SAMPLE_RATE, ALL_TRAINING).train
    assert isinstance(train.samples, shard_samples.ShardSamples)
    os.truncate(packed / "shard-000000.tar", 1_600)
    with pytest.raises(DatasetError, match="shard-000000.tar was truncated while it was in use: run the"):
        train.clip(0)
    (packed / "shard-000001.tar").unlink()
    first = len(recordings_in(packed, "shard-000000.tar"))
    with pytest.raises(DatasetError, match=r"shard-000001.tar cannot be read \(No such file"):
        train.clip(first)


def test_any_number_of_shards_may_be_open(folder: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_samples, "MAX_OPEN", 2)
    train = open_folder(packed, SAMPLE_RATE, ALL_TRAINING).train
    expected = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train
    for i in [*range(12), *reversed(range(12))]:
        np.testing.assert_array_equal(train.clip(i), expected.clip(i))
    assert len(train.samples._open) == 2  # type: ignore[union-attr]


def test_clips_are_pickled_and_read_by_another_process(packed: Path, tmp_path: Path) -> None:
    train = open_folder(packed, SAMPLE_RATE, ALL_TRAINING).train
    train.clip(0)
    (tmp_path / "clips").write_bytes(pickle.dumps(train))
    code = (
        "import pickle, sys; from pathlib import Path\n"
        "train = pickle.loads(Path(sys.argv[1]).read_bytes())\n"
        "sys.stdout.buffer.write(b''.join(clip.tobytes() for clip in train))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "clips"], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"".join(clip.tobytes() for clip in train)


@pytest.mark.parametrize(
    ("rate", "data", "words"),
    [
        (
            16_000,
            ALL_TRAINING,
            "sample_rate = 8000, not 16000: train with --set model.sample_rate=8000, or pack",
        ),
        (
            SAMPLE_RATE,
            DataConfig(trim_db=30.0),
            "trim_db = 0, not 30: train with --set data.trim_db=0, or pack",
        ),
    ],
)
def test_other_settings_than_it_was_packed_with(packed: Path, rate: int, data: DataConfig, words: str) -> None:
    with pytest.raises(DatasetError, match=words) as caught:
        open_folder(packed, rate, data)
    assert len(str(caught.value).splitlines()) == 1


def test_speakers_are_those_that_were_packed(folder: Path, tmp_path: Path) -> None:
    write_recordings(folder, 4)
    write_noise(folder / "nobody.wav", seed=50)
    (folder / "who.csv").write_text("bob/000.wav,cy\nänn/001.wav,dan\nänn/002.wav,dan\nbob/003.wav,cy\n")
    pack_noise(folder, tmp_path / "shards", speakers="who.csv")
    data = DataConfig(validation=0.0, speakers="who.csv")
    found, expected = open_folder(tmp_path / "shards", SAMPLE_RATE, data), open_folder(folder, SAMPLE_RATE, data)
    assert_same(found, expected)
    assert ("nobody.wav", "packed without a speaker") in found.summary.skipped
    assert found.summary.speakers == expected.summary.speakers


def test_what_is_no_index(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"wavenet_shards": 2}', '{"wavenet_shards": 1, "sample_rate": "x"}', "[" * 5_000):
        assert shards.Index.from_json(text.encode()) is None
        with pytest.raises(listing.DamagedListing):
            list(listing.Listing.from_json(text.encode()).files)
    (tmp_path / "index.json").write_text("{}")
    assert not shards.are_shards(tmp_path)


def test_a_damaged_index_is_made_again(folder: Path, packed: Path) -> None:
    expected = open_folder(packed, SAMPLE_RATE, DataConfig(validation=0.3))
    (packed / "index.json").write_text("{")
    assert_same(open_folder(packed, SAMPLE_RATE, DataConfig(validation=0.3)), expected)


@pytest.mark.parametrize("record", [b"{}", b"[1]", b'{"sample_rate": 8000, "trim_db": "x", "speakers": ""}'])
def test_shards_of_other_programs_are_refused_and_stay(folder: Path, tmp_path: Path, record: bytes) -> None:
    write_recordings(folder)
    other = tmp_path / "other" / "shard-000000.tar"
    other.parent.mkdir()
    with webdataset.TarWriter(str(other), encoder=False) as archive:
        archive.write({"__key__": "a", "json": record, "wav": bytes(100)})
    before = other.read_bytes()
    with pytest.raises(DatasetError, match="has no shards"):
        open_folder(other.parent, SAMPLE_RATE, DataConfig())
    with pytest.raises(DatasetError, match="holds other files"):
        pack_noise(folder, other.parent)
    assert other.read_bytes() == before and len(list(other.parent.iterdir())) == 1


def test_one_process_packs_at_a_time(folder: Path, packed: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no locks of files")
    with storage.Storage(packed).locked(), pytest.raises(DatasetError, match="another process is packing here"):
        pack_noise(folder, packed)
    pack_noise(folder, packed)
