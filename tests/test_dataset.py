"""A folder of recordings: the cache, the split, the summary and the crops."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet import mulaw
from wavenet.config import DataConfig
from wavenet.data import audio, cache
from wavenet.data.dataset import Clips, DatasetError, Recordings, crops, open_folder
from wavenet.data.quantizers import LINEAR, quantizer_for

RATE = 8_000
ALL = DataConfig(validation=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "my söunds"
    path.mkdir()
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that have been decoded, in any order."""
    names: list[str] = []
    read = audio.read

    def counting(path: Path, *args: float) -> NDArray[np.float32]:
        names.append(Path(path).name)
        return read(path, *args)

    monkeypatch.setattr(audio, "read", counting)
    return names


def put(path: Path, samples: int = 400, seed: int = 0) -> NDArray[np.int16]:
    """Write noise of that many 16-bit samples, and return it."""
    sound = np.random.default_rng(seed).integers(-20_000, 20_000, samples).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, sound / np.float32(32_768), RATE)
    return sound


def cache_of(tmp_path: Path) -> Path:
    (cache,) = (tmp_path / "cache").iterdir()
    return cache


def sounds(clips: Clips) -> set[bytes]:
    return {clip.tobytes() for clip in clips}


def clips_of(*lengths: int, values: NDArray[np.int16] | None = None) -> Clips:
    """Clips behind each other whose samples are all different (0, 1, 2, ...), unless given."""
    ends = np.cumsum(lengths)
    samples = np.arange(ends[-1], dtype=np.int16) if values is None else values
    return Clips(samples, ends - lengths, np.array(lengths, np.int64), RATE)


# ---- the folder -----------------------------------------------------------------------------------------------------


def test_clips_are_the_files_in_the_order_of_their_paths(folder: Path) -> None:
    second = put(folder / "b c" / "Ünï.WAV", 300, seed=1)
    first = put(folder / "a.flac", 500, seed=2)
    put(folder / ".hidden.wav")
    put(folder / ".git" / "c.wav")
    (folder / "notes.txt").write_text("not a recording")
    recordings = open_folder(folder, RATE, ALL)
    assert len(recordings.train) == 2
    assert len(recordings.validation) == 0
    np.testing.assert_array_equal(recordings.train.clip(0), first)
    np.testing.assert_array_equal(recordings.train.clip(1), second)
    assert recordings.train.clip(0).dtype == np.int16
    assert recordings.train.seconds == 800 / RATE
    assert recordings.summary.found == recordings.summary.kept == 2
    assert recordings.summary.skipped == []


def test_codes_are_those_of_mu_law(folder: Path) -> None:
    sound = put(folder / "a.wav", 5_000)
    codes = open_folder(folder, RATE, ALL).train.codes(0)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, mulaw.encode(sound / np.float32(32_768)))


def test_every_int16_has_the_code_of_mu_law() -> None:
    every = np.arange(-(2**15), 2**15).astype(np.int16)
    clips = clips_of(len(every), values=every)
    np.testing.assert_array_equal(clips.codes(0), mulaw.encode(every / np.float32(32_768)))


def test_files_are_brought_to_the_rate(folder: Path) -> None:
    put(folder / "a.wav", 8_000)
    assert len(open_folder(folder, 2 * RATE, ALL).train.clip(0)) == 16_000


def test_links_are_followed_and_circles_end(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere / "deep" / "a.wav", seed=1)
    put(elsewhere / "b.wav", seed=2)
    put(folder / "c.wav", seed=3)
    (folder / "link").symlink_to(elsewhere)
    (folder / "d.wav").symlink_to(elsewhere / "b.wav")
    (elsewhere / "up").symlink_to(folder)
    (elsewhere / "self").symlink_to(elsewhere)
    recordings = open_folder(folder, RATE, ALL)
    assert recordings.summary.found == 4  # c, d, link/b, link/deep/a
    assert len(sounds(recordings.train)) == 3


def test_what_looks_like_a_recording_is_skipped_with_the_reason(folder: Path) -> None:
    put(folder / "good.wav")
    put(folder / "folder.wav" / "inside.wav", seed=1)
    (folder / "empty.wav").touch()
    (folder / "text.mp3").write_text("no sound at all " * 50)
    (folder / "link.wav").symlink_to(folder / "gone.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe.wav")
    put(folder / "cut.wav")
    os.truncate(folder / "cut.wav", 400)
    summary = open_folder(folder, RATE, ALL).summary
    reasons = dict(summary.skipped)
    assert list(reasons) == sorted(reasons)
    assert reasons.pop("loop.wav").startswith("too many levels of symbolic links")
    assert reasons.pop("text.mp3").startswith("unreadable: ")
    assert reasons == {
        "folder.wav": "a directory",
        "empty.wav": "empty file",
        "link.wav": "dangling link",
        "pipe.wav": "not a regular file",
        "cut.wav": "truncated: holds 356 of the 800 bytes announced",
    }
    assert summary.kept == 2
    assert summary.found == 9
    assert summary.reasons["unreadable"] == 1
    assert sum(summary.reasons.values()) == 7


def test_an_unreadable_folder_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "a.wav")
    put(folder / "closed" / "b.wav")
    scandir = os.scandir

    def refuse(path: Path) -> object:  # whoever runs the tests may be allowed everything
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert open_folder(folder, RATE, ALL).summary.skipped == [("closed/", "no permission")]


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone", "does not exist"), ("a.wav", "is a file: name the folder"), ("empty", "put files there")],
)
def test_a_folder_that_cannot_be_used(folder: Path, name: str, words: str) -> None:
    put(folder / "a.wav")
    (folder / "empty").mkdir()
    with pytest.raises(DatasetError, match=words) as caught:
        open_folder(folder / name, RATE, ALL)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_without_a_usable_file_lists_the_reasons(folder: Path) -> None:
    for i in range(3):
        (folder / f"{i}.wav").write_text(f"text {i} " * 50)
    (folder / "bad\nname.wav").touch()
    with pytest.raises(DatasetError, match=r"no usable recording.*3 unreadable, 1 empty file") as caught:
        open_folder(folder, RATE, ALL)
    assert len(str(caught.value).splitlines()) == 1


def test_names_that_are_no_text(folder: Path, decoded: list[str]) -> None:
    put(folder / "a.wav")
    name = os.fsdecode(b"latin-\xe9.wav")
    shutil.copy(folder / "a.wav", folder / name)
    os.truncate(folder / name, 200)
    for _ in range(2):
        summary = open_folder(folder, RATE, ALL).summary
        assert summary.skipped[0][0] == name
        "\n".join(summary.lines()).encode()
    assert len(decoded) == 2


# ---- the cache ------------------------------------------------------------------------------------------------------


def test_an_unchanged_folder_is_not_decoded_again(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.wav", seed=1)
    (folder / "bad.wav").write_text("text " * 50)
    first = open_folder(folder, RATE, ALL)
    assert sorted(decoded) == ["a.wav", "bad.wav"]
    monkeypatch.setattr("hashlib.file_digest", None)  # nor is any file opened
    second = open_folder(folder, RATE, ALL)
    assert len(decoded) == 2
    assert sounds(first.train) == sounds(second.train)
    assert first.summary == second.summary


def test_new_times_new_names_and_copies_are_not_decoded(folder: Path, decoded: list[str]) -> None:
    put(folder / "a.wav")
    open_folder(folder, RATE, ALL)
    os.utime(folder / "a.wav", (1, 1))
    shutil.copy(folder / "a.wav", folder / "copy.wav")
    assert len(open_folder(folder, RATE, ALL).train) == 2
    (folder / "a.wav").rename(folder / "new.wav")
    recordings = open_folder(folder, RATE, ALL)
    assert decoded == ["a.wav"]
    assert list(recordings.train.offsets) == [0, 0]
    assert recordings.summary.copies == 1
    assert recordings.summary.kept == 2


def test_copies_in_a_new_folder_are_decoded_once(folder: Path, decoded: list[str]) -> None:
    put(folder / "0.wav")
    for i in range(1, 20):
        shutil.copy(folder / "0.wav", folder / f"{i}.wav")
    assert len(open_folder(folder, RATE, ALL).train) == 20
    assert len(decoded) == 1


def test_a_change_of_the_same_size_and_time_is_noticed(folder: Path, decoded: list[str]) -> None:
    put(folder / "a.wav", seed=1)
    open_folder(folder, RATE, ALL)
    before = os.stat(folder / "a.wav")
    content = bytearray((folder / "a.wav").read_bytes())
    content[-1] ^= 1  # the upper byte of the last sample
    with open(folder / "a.wav", "r+b") as file:
        file.write(content)
    os.utime(folder / "a.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(folder / "a.wav").st_size == before.st_size
    clip = open_folder(folder, RATE, ALL).train.clip(0)
    assert clip.tobytes() == bytes(content[44:])
    assert decoded == ["a.wav", "a.wav"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "a.wav", seed=1)
    put(folder / "b.wav", seed=2)
    read = audio.read

    def recording_goes_on(path: Path, *args: float) -> NDArray[np.float32]:
        sound = read(path, *args)
        if Path(path).name == "b.wav":
            put(folder / "b.wav", seed=3)
        return sound

    with monkeypatch.context() as patch:
        patch.setattr(audio, "read", recording_goes_on)
        assert open_folder(folder, RATE, ALL).summary.skipped == [("b.wav", "changed while it was read")]
    recordings = open_folder(folder, RATE, ALL)
    np.testing.assert_array_equal(recordings.train.clip(1), audio.to_int16(read(folder / "b.wav", RATE)))


def test_rates_and_trims_do_not_share_a_cache(folder: Path, tmp_path: Path) -> None:
    put(folder / "a.wav")
    for rate, trim_db in ((RATE, 0.0), (RATE, 40.0), (4_000, 0.0)):
        open_folder(folder, rate, DataConfig(validation=0.0, trim_db=trim_db))
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(names) == 3
    assert all(name.startswith("my_söunds-") for name in names)
    assert sorted(name.split("-", 2)[2] for name in names) == ["4000", "8000", "8000-trim40"]


def test_an_interrupted_decode_goes_on_where_it_was(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {put(folder / f"{i:02}.wav", seed=i).tobytes() for i in range(40)}
    monkeypatch.setattr(cache, "PROGRESS_SECONDS", -1.0)

    def interrupt(done: int, total: int) -> None:
        assert total == 40
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_folder(folder, RATE, ALL, interrupt)
    decoded.clear()
    recordings = open_folder(folder, RATE, ALL)
    assert len(decoded) == 40 - 15
    assert sounds(recordings.train) == expected


def test_what_an_interruption_left_behind_the_index_is_overwritten(folder: Path, tmp_path: Path) -> None:
    first = put(folder / "a.wav", seed=1)
    open_folder(folder, RATE, ALL)
    with open(cache_of(tmp_path) / "audio.i16", "ab") as sound:
        sound.write(b"half a cl")
    second = put(folder / "b.wav", seed=2)
    recordings = open_folder(folder, RATE, ALL)
    np.testing.assert_array_equal(recordings.train.clip(0), first)
    np.testing.assert_array_equal(recordings.train.clip(1), second)


def test_progress_ends_with_all_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PROGRESS_SECONDS", -1.0)
    for i in range(5):
        put(folder / f"{i}.wav", seed=i)
    calls: list[tuple[int, int]] = []
    open_folder(folder, RATE, ALL, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (5, 5)]
    calls.clear()
    open_folder(folder, RATE, ALL, lambda done, total: calls.append((done, total)))
    assert calls == [(5, 5)]


def damage_index(cache: Path) -> None:
    (cache / "index.sqlite").write_bytes(b"not a database, " * 1_000)


def damage_page(cache: Path) -> None:
    with open(cache / "index.sqlite", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


def other_version(cache: Path) -> None:
    with sqlite3.connect(cache / "index.sqlite") as index:
        index.executescript("PRAGMA user_version = 99; DROP TABLE files;")


def shorten_sound(cache: Path) -> None:
    os.truncate(cache / "audio.i16", 900)


def remove_sound(cache: Path) -> None:
    (cache / "audio.i16").unlink()


def remove_index(cache: Path) -> None:
    (cache / "index.sqlite").unlink()


@pytest.mark.parametrize(
    "damage", [damage_index, damage_page, other_version, shorten_sound, remove_sound, remove_index]
)
def test_a_damaged_cache_is_mended(folder: Path, tmp_path: Path, damage, decoded: list[str]) -> None:
    expected = {put(folder / f"{i}.wav", seed=i).tobytes() for i in range(3)}
    open_folder(folder, RATE, ALL)
    damage(cache_of(tmp_path))
    decoded.clear()
    for _ in range(2):
        assert sounds(open_folder(folder, RATE, ALL).train) == expected
    assert len(decoded) == (2 if damage is shorten_sound else 3)  # 900 bytes still hold one clip of 800


def test_two_processes_on_one_new_cache(folder: Path) -> None:
    expected = {put(folder / f"{i:03}.wav", seed=i).tobytes() for i in range(60)}
    code = (
        "import sys; from wavenet.data import cache, dataset; from wavenet.config import DataConfig\n"
        "cache.BATCH_SECONDS = 0.001\n"
        f"train = dataset.open_folder(sys.argv[1], {RATE}, DataConfig(validation=0.0)).train\n"
        "sys.stdout.buffer.write(b''.join(sorted(clip.tobytes() for clip in train)))"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) for _ in range(3)]
    for job in jobs:
        output, _ = job.communicate(timeout=60)
        assert job.returncode == 0
        assert output == b"".join(sorted(expected))
    assert sounds(open_folder(folder, RATE, ALL).train) == expected


def test_threads_opening_one_cache_while_files_are_added(folder: Path) -> None:
    put(folder / "first.wav", seed=999)
    wrong: list[str] = []

    def add_and_open(thread: int) -> None:
        for i in range(5):
            own = put(folder / f"{thread}-{i}.wav", seed=10 * thread + i)
            if own.tobytes() not in sounds(open_folder(folder, RATE, ALL).train):
                wrong.append(f"{thread}-{i}")

    threads = [threading.Thread(target=add_and_open, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(sounds(open_folder(folder, RATE, ALL).train)) == 16


def test_a_cache_that_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "a.wav")
    (tmp_path / "file").touch()
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "file"))
    with pytest.raises(DatasetError, match="set WAVENET_CACHE") as caught:
        open_folder(folder, RATE, ALL)
    assert len(str(caught.value).splitlines()) == 1


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "a.wav")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(DatasetError, match=r"No space left.*WAVENET_CACHE"):
            open_folder(folder, RATE, ALL)
    assert len(open_folder(folder, RATE, ALL).train) == 1


def test_where_the_cache_lies(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "a.wav")
    monkeypatch.delenv("WAVENET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_folder(folder, RATE, ALL)
    assert len(list((tmp_path / "xdg" / "wavenet-toolkit").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    open_folder(folder, RATE, ALL)
    assert len(list((tmp_path / "home" / ".cache" / "wavenet-toolkit").iterdir())) == 1


# ---- training and validation ----------------------------------------------------------------------------------------


def fill(folder: Path, numbers: range, samples: int = 400) -> None:
    for i in numbers:
        put(folder / f"{i:03}.wav", samples, seed=i)


def test_the_split_stays_when_files_are_added_renamed_and_copied(folder: Path) -> None:
    config = DataConfig(validation=0.25)
    fill(folder, range(60))
    first = open_folder(folder, RATE, config)
    assert 5 <= len(first.validation) <= 25
    assert len(first.train) + len(first.validation) == 60
    assert not sounds(first.train) & sounds(first.validation)
    fill(folder, range(60, 90))
    for i in range(0, 60, 2):
        (folder / f"{i:03}.wav").rename(folder / f"renamed {i}.wav")
        shutil.copy(folder / f"{i + 1:03}.wav", folder / f"copy of {i + 1}.wav")
    second = open_folder(folder, RATE, config)
    assert sounds(first.train) <= sounds(second.train)
    assert sounds(first.validation) <= sounds(second.validation)
    assert not sounds(second.train) & sounds(second.validation)


def test_the_split_does_not_depend_on_the_cache(folder: Path, tmp_path: Path) -> None:
    fill(folder, range(30))
    first = open_folder(folder, RATE, DataConfig(validation=0.2))
    shutil.rmtree(tmp_path / "cache")
    second = open_folder(folder, RATE, DataConfig(validation=0.2))
    assert sounds(first.validation) == sounds(second.validation)


def test_two_files_are_one_for_each_side_and_stay_there(folder: Path) -> None:
    config = DataConfig(validation=0.001)
    fill(folder, range(2))
    first = open_folder(folder, RATE, config)
    assert len(first.train) == len(first.validation) == 1
    assert not first.summary.tail
    fill(folder, range(2, 30))
    second = open_folder(folder, RATE, config)
    assert sounds(first.validation) == sounds(second.validation)
    assert len(second.train) == 29


def test_training_is_never_left_empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, range(64))
    held = sounds(open_folder(folder, RATE, DataConfig(validation=0.5)).validation)
    for path in folder.iterdir():  # leave only files whose hash would hold them out
        if audio.to_int16(audio.read(path, RATE)).tobytes() not in held:
            path.unlink()
    recordings = open_folder(folder, RATE, DataConfig(validation=0.5))
    assert len(recordings.train) == 1
    assert len(recordings.validation) == len(held) - 1 >= 1
    again = open_folder(folder, RATE, DataConfig(validation=0.5))
    assert sounds(recordings.train) == sounds(again.train)


def test_of_a_single_file_the_end_is_held_out(folder: Path) -> None:
    sound = put(folder / "a.wav", 4_009)
    shutil.copy(folder / "a.wav", folder / "copy.wav")  # the same sound must not be on both sides
    recordings = open_folder(folder, RATE, DataConfig(validation=0.05))
    assert len(recordings.validation) == 1
    assert len(recordings.train) == 2
    np.testing.assert_array_equal(recordings.validation.clip(0), sound[-400:])
    for clip in recordings.train:
        np.testing.assert_array_equal(clip, sound[:-400])
    assert recordings.summary.tail
    assert any("the last 0.1 seconds of the only recording" in line for line in recordings.summary.lines())


def test_of_a_long_single_file_a_minute_is_held_out(folder: Path) -> None:
    put(folder / "a.wav", 700 * RATE)
    assert open_folder(folder, RATE, DataConfig()).validation.seconds == 60


def test_a_single_tiny_file_and_no_validation(folder: Path) -> None:
    put(folder / "a.wav", 3)
    for config in (DataConfig(), ALL):
        recordings = open_folder(folder, RATE, config)
        assert len(recordings.train.clip(0)) == 3
        assert len(recordings.validation) == 0
        assert recordings.validation.seconds == 0
        assert not recordings.summary.tail


# ---- speakers -------------------------------------------------------------------------------------------------------


def by_speaker(clips: Clips) -> dict[str, set[bytes]]:
    assert clips.speakers is not None
    assert len(clips.speakers) == len(clips)
    return {name: {clips.clip(i).tobytes() for i in clips.of_speaker(name)} for name in set(clips.speakers)}


def test_folders_name_the_speakers(folder: Path) -> None:
    ann = [put(folder / "Ann" / "a.wav", 800, seed=1), put(folder / "Ann" / "deep" / "b.wav", 400, seed=2)]
    bob = put(folder / "böb" / "a.wav", 16_000, seed=3)
    put(folder / "top.wav", seed=4)
    recordings = open_folder(folder, RATE, DataConfig(validation=0.0, speakers="folders"))
    assert by_speaker(recordings.train) == {"Ann": {sound.tobytes() for sound in ann}, "böb": {bob.tobytes()}}
    assert recordings.summary.skipped == [("top.wav", "in no speaker's folder")]
    assert recordings.summary.speakers == {"Ann": 1_200 / RATE, "böb": 2.0}
    lines = recordings.summary.lines()
    assert "2 speakers: Ann 0.1 seconds, böb 2.0 seconds" in lines
    assert "skipped top.wav: in no speaker's folder" in lines
    one_voice = open_folder(folder, RATE, ALL)
    assert one_voice.train.speakers is None
    assert one_voice.summary.speakers == {}
    assert not any("speaker" in line for line in one_voice.summary.lines()[1:])  # the first names the folder


def test_held_out_clips_keep_their_speakers(folder: Path) -> None:
    for i in range(40):
        put(folder / ("ann" if i % 2 else "bob") / f"{i}.wav", 400 + i % 2, seed=i)  # the length tells the speaker
    recordings = open_folder(folder, RATE, DataConfig(validation=0.3, speakers="folders"))
    for clips in (recordings.train, recordings.validation):
        assert len(clips) > 5
        assert clips.speakers == ["ann" if length == 401 else "bob" for length in clips.lengths]


def test_the_held_out_end_of_the_only_recording_has_its_speaker(folder: Path) -> None:
    put(folder / "ann" / "a.wav", 4_000)
    recordings = open_folder(folder, RATE, DataConfig(speakers="folders"))
    assert recordings.train.speakers == recordings.validation.speakers == ["ann"]


def test_a_table_names_the_speakers(folder: Path, tmp_path: Path) -> None:
    ann, bob = put(folder / "a.wav", seed=1), put(folder / "x y" / "b, c.wav", seed=2)
    put(folder / "d.wav", seed=3)
    table = 'a.wav, Ann \n\n"./x y/b, c.wav",bob\ngone.wav,cid\n'
    (folder / "who.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())  # as spreadsheets begin a file
    (tmp_path / "elsewhere.csv").write_text(table)
    for told in ("who.csv", str(tmp_path / "elsewhere.csv")):  # in the folder, or a path
        recordings = open_folder(folder, RATE, DataConfig(validation=0.0, speakers=told))
        assert by_speaker(recordings.train) == {"Ann": {ann.tobytes()}, "bob": {bob.tobytes()}}
        assert recordings.summary.skipped == [("d.wav", f"not listed: {Path(told).name} names no speaker")]
        assert recordings.summary.reasons == {"not listed": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a.wav,ann\n\nb.wav\n", "line 3 is not path,speaker: 'b.wav'"),
        (b"a.wav,ann\nb.wav,bob,loud\n", "line 2 is not path,speaker: 'b.wav,bob,loud'"),
        (b"a.wav, \n", "line 1 is not path,speaker"),
        (b"a.wav,\xff\n", "cannot be read as lines of path,speaker"),
        (b"other.wav,ann\n", "no usable recording.*not listed"),
    ],
)
def test_a_table_that_cannot_be_used(folder: Path, content: bytes, words: str) -> None:
    put(folder / "a.wav")
    (folder / "who.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        open_folder(folder, RATE, DataConfig(speakers="who.csv"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_that_is_not_there(folder: Path) -> None:
    put(folder / "a.wav")
    with pytest.raises(DatasetError, match="data.speakers = 'whom.csv': must be 'folders', or a file"):
        open_folder(folder, RATE, DataConfig(speakers="whom.csv"))


# ---- silence --------------------------------------------------------------------------------------------------------


def quiet_ends(lead: int, sound: int, trail: int) -> NDArray[np.float32]:
    """Frames of 10 ms: silence, sound at 0.5, silence."""
    return np.repeat(np.float32([0.0] * lead + [0.5] * sound + [0.0] * trail), RATE // 100)


def with_edges(folder: Path, **config: float) -> Recordings:
    audio.write(folder / "a.wav", quiet_ends(10, 100, 30), RATE)
    audio.write(folder / "silent.wav", np.zeros(5 * RATE), RATE)
    return open_folder(folder, RATE, DataConfig(**{"validation": 0.0, **config}))


def test_edge_silence_shortens_training_clips(folder: Path) -> None:
    whole = with_edges(folder)
    assert list(whole.train.lengths) == [140 * 80, 5 * RATE]
    assert whole.summary.edge_seconds == 0
    short = with_edges(folder, edge_silence=0.05)  # 5 of 10 and 25 of 30 frames go: 0.3 seconds
    assert list(short.train.lengths) == [110 * 80, 5 * RATE]
    assert short.train.clip(0)[399] == 0
    assert short.train.clip(0)[400] == 2**14
    assert short.summary.edge_seconds == pytest.approx(0.3)
    assert short.summary.seconds == pytest.approx(1.4 + 5)
    assert any("set aside 0.3 seconds" in line for line in short.summary.lines())
    none = with_edges(folder, edge_silence=0.0)
    assert list(none.train.lengths) == [100 * 80, 5 * RATE]
    assert list(with_edges(folder, edge_silence=1.0).train.lengths) == [140 * 80, 5 * RATE]


def test_edge_silence_leaves_validation_alone(folder: Path) -> None:
    for i in range(4):
        audio.write(folder / f"{i}.wav", quiet_ends(10, 100 + i, 30), RATE)
    recordings = open_folder(folder, RATE, DataConfig(validation=0.4, edge_silence=0.0))
    assert len(recordings.validation) >= 1
    assert min(recordings.validation.lengths) >= 140 * 80
    assert len(recordings.train) >= 1
    assert max(recordings.train.lengths) <= 103 * 80


def test_edge_silence_of_a_single_file(folder: Path) -> None:
    audio.write(folder / "a.wav", quiet_ends(10, 60, 30), RATE)  # the last 10 frames are held out
    recordings = open_folder(folder, RATE, DataConfig(edge_silence=0.0))
    assert list(recordings.train.lengths) == [60 * 80]
    assert list(recordings.validation.lengths) == [10 * 80]
    assert recordings.summary.edge_seconds == pytest.approx(0.3)
    audio.write(folder / "a.wav", quiet_ends(95, 5, 0), RATE)  # nothing but silence is left for training
    assert list(open_folder(folder, RATE, DataConfig(edge_silence=0.0)).train.lengths) == [90 * 80]


def test_trim_is_counted(folder: Path) -> None:
    recordings = with_edges(folder, trim_db=40.0)
    assert list(recordings.train.lengths) == [100 * 80, 5 * RATE]
    assert recordings.summary.trimmed_seconds == pytest.approx(0.4)
    assert any("dropped 0.4 seconds" in line and "trim_db" in line for line in recordings.summary.lines())


def test_the_printed_summary(folder: Path) -> None:
    fill(folder, range(3), samples=2 * RATE)
    shutil.copy(folder / "000.wav", folder / "copy.wav")
    for i in range(12):
        (folder / f"bad{i:02}.wav").write_text(f"text {i} " * 20)
    lines = open_folder(folder, RATE, ALL).summary.lines()
    assert lines[0] == f"kept 4 of 16 recordings in {folder} (1 copy of another): 8.0 seconds at 8,000 Hz"
    assert lines[1] == "dropped 12 files of unknown length: 12 unreadable"
    assert lines[2] == "training: 4 files, 8.0 seconds; validation: none"
    assert len(lines) == 3 + 10 + 1
    assert lines[3].startswith("skipped bad00.wav: unreadable: ")
    assert lines[-1] == "... and 2 more"


# ---- crops ----------------------------------------------------------------------------------------------------------


def marked(*lengths: int) -> Clips:
    """Clips in which a code tells the clip and the place: no two samples share a code, and none is silence."""
    codes = np.delete(np.arange(256), mulaw.SILENCE)[: sum(lengths)]
    return clips_of(*lengths, values=audio.to_int16(mulaw.decode(codes)))


def places(clips: Clips) -> dict[int, tuple[int, int]]:
    return {int(code): (i, at) for i in range(len(clips)) for at, code in enumerate(clips.codes(i))}


@pytest.mark.parametrize("join", [False, True])
def test_inputs_are_the_true_previous_samples(join: bool) -> None:
    clips = marked(40, 3, 25, 1)
    where = places(clips)
    assert len(where) == 69
    inputs, targets, mask, *_ = crops(clips, 500, 10, np.random.default_rng(0), join)
    assert inputs.shape == targets.shape == mask.shape == (500, 10)
    assert inputs.dtype == targets.dtype == np.int64
    assert mask.dtype == np.bool_
    seams = starts = 0
    for row in range(500):
        length = int(mask[row].sum())
        assert mask[row, :length].all()
        assert length >= 1
        assert length == 10 or not join
        assert (inputs[row, length:] == mulaw.SILENCE).all()
        assert (targets[row, length:] == mulaw.SILENCE).all()
        np.testing.assert_array_equal(inputs[row, 1:length], targets[row, : length - 1])
        clip, at = where[targets[row, 0]]
        assert inputs[row, 0] == (clips.codes(clip)[at - 1] if at else mulaw.SILENCE)
        starts += at == 0
        for code in targets[row, 1:length]:
            next_clip, next_at = where[code]
            if at + 1 < clips.lengths[clip]:
                assert (next_clip, next_at) == (clip, at + 1)
            else:  # over the end only when joined, and to a first sample
                assert join
                assert next_at == 0
                seams += 1
            clip, at = next_clip, next_at
    assert starts > 0
    assert (seams > 0) == join


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("crop", [1, 7, 10, 60])
def test_every_sample_is_heard_equally_often(join: bool, crop: int) -> None:
    clips = marked(40, 3, 25, 1, 10)
    rng = np.random.default_rng(1)
    counts = np.zeros(256)
    for _ in range(20):
        drawn = crops(clips, 1_000, crop, rng, join)
        counts += np.bincount(drawn.targets[drawn.mask], minlength=256)
    heard = counts[list(places(clips))]
    # Each count is near a Poisson variable: six deviations around the mean hold all 79 of them.
    spread = 6 * np.sqrt(heard.mean() * (3 if join and crop == 60 else 1))  # a clip may come twice in one joined crop
    assert abs(heard - heard.mean()).max() < spread


def test_a_clip_shorter_than_a_crop_is_heard_whole() -> None:
    clips = marked(5)
    inputs, targets, mask, sound, bounds, drawn = crops(clips, 20, 8, np.random.default_rng(0), margin=2)
    codes = list(clips.codes(0))
    for row in range(20):
        assert list(targets[row]) == codes + [mulaw.SILENCE] * 3
        assert list(inputs[row]) == [mulaw.SILENCE, *codes[:4], *[mulaw.SILENCE] * 3]
        assert list(mask[row]) == [True] * 5 + [False] * 3
        assert list(sound[row]) == [0, 0, *clips.clip(0), *[0] * 5]  # the margin, the clip, padding and the margin
        assert list(bounds[row]) == [2, 7]
        assert drawn[row] == 0


def test_a_long_clip_fills_nearly_all_crops() -> None:
    clips = clips_of(30_000)
    mask = crops(clips, 2_000, 100, np.random.default_rng(0)).mask
    assert mask.mean() == pytest.approx(30_000 / 30_099, abs=2e-3)  # 99 of 30,099 windows reach over an end


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("margin", [1, 4, 50])
def test_the_sound_around_a_crop_is_the_clips_own(join: bool, margin: int) -> None:
    lengths = (40, 3, 25, 1, 90)
    clips = clips_of(*lengths, values=np.arange(1, 160, dtype=np.int16))  # a sample tells its place; none is silence
    begins = np.cumsum(lengths) - lengths
    crop = 10
    size = margin + crop + margin
    drawn = crops(clips, 300, crop, np.random.default_rng(2), join, LINEAR, margin)
    assert drawn.sound.shape == (300, size)
    assert drawn.sound.dtype == np.int16
    assert drawn.bounds.shape == (300, 2)
    assert drawn.clips.shape == (300,)
    cut_front = cut_back = seams = 0
    for sound, bounds, inputs, targets, mask, clip in zip(
        drawn.sound, drawn.bounds, drawn.inputs, drawn.targets, drawn.mask, drawn.clips, strict=True
    ):
        begin, end = bounds
        heard = int(mask.sum())
        np.testing.assert_array_equal(targets[:heard], sound[margin : margin + heard])  # 16-bit codes are the sound
        np.testing.assert_array_equal(inputs[:heard], sound[margin - 1 : margin - 1 + heard])
        assert not sound[:begin].any()
        assert not sound[end:].any()
        at = int(targets[0]) - 1 - begins[clip]  # of the first target in its clip
        assert 0 <= at < lengths[clip]
        assert begin == max(0, margin - at)
        first, last = begins[clip] + max(0, at - margin), begins[clip] + lengths[clip]
        own = clips.samples[first:last][: size - begin]
        np.testing.assert_array_equal(sound[begin : begin + len(own)], own)
        rest = [int(sample) for sample in sound[begin + len(own) : end]]
        if not join or begin + len(own) >= margin + crop:
            assert rest == []
        while rest:  # whole clips one after the other, but for the last
            other = list(begins).index(rest[0] - 1)
            whole = list(clips.clip(other))
            assert rest[: len(whole)] == whole[: len(rest)]
            assert end in (size, begin + len(own)) or end >= margin + crop
            rest = rest[len(whole) :]
            seams += 1
        cut_front += begin > 0
        cut_back += end < size
    assert min(cut_front, cut_back) > 0
    assert (seams > 0) == join


@pytest.mark.parametrize("output", ["mulaw", "logistic"])
def test_crops_hold_the_codes_of_the_output(output: str) -> None:
    clips = clips_of(4, values=np.array([-32_768, -5, 0, 32_767], np.int16))
    targets = crops(clips, 1, 4, np.random.default_rng(0), codes=quantizer_for(output)).targets[0]
    assert list(targets) == ([0, 127, 128, 255] if output == "mulaw" else [-32_768, -5, 0, 32_767])


def test_joined_crops_stay_with_one_speaker() -> None:
    lengths, speakers = (5, 5, 7, 3, 20, 4), ["ann", "bob", "ann", "ann", "bob", "cid"]
    places = [100 * clip + place for clip, length in enumerate(lengths) for place in range(length)]
    clips = clips_of(*lengths, values=np.array(places, np.int16))
    clips.speakers = speakers
    followed = np.zeros((6, 6), int)  # [clip, the one behind it]
    drawn = crops(clips, 2_000, 30, np.random.default_rng(3), join=True, codes=LINEAR)
    for row, clip in zip(drawn.targets, drawn.clips, strict=True):
        heard = row // 100
        assert heard[0] == clip
        assert {speakers[one] for one in heard} == {speakers[clip]}
        seams = np.flatnonzero(np.diff(row) != 1)
        np.add.at(followed, (heard[seams], heard[seams + 1]), 1)
    same = np.array(speakers)[:, None] == np.array(speakers)
    assert not followed[~same].any()
    assert followed[5, 5] > 100  # the only clip of a speaker goes on with itself
    for clip in (0, 2, 3):  # three clips of ann: each goes on with any of them in a third of the cases
        share = followed[clip, [0, 2, 3]] / followed[clip].sum()
        assert abs(share - 1 / 3).max() < 5 * np.sqrt(2 / 9 / followed[clip].sum())  # five deviations


def test_crops_are_drawn_by_the_generator_alone() -> None:
    clips = clips_of(3_000, 500)
    first = crops(clips, 4, 100, np.random.default_rng((7, 3)), True)
    crops(clips, 4, 50, np.random.default_rng(1))
    again = crops(clips, 4, 100, np.random.default_rng((7, 3)), True)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[1], crops(clips, 4, 100, np.random.default_rng((7, 4)), True)[1])


def test_there_must_be_clips() -> None:
    with pytest.raises(ValueError, match="no clips"):
        crops(
            Clips(np.zeros(9, np.int16), np.zeros(0, np.int64), np.zeros(0, np.int64), RATE),
            1,
            1,
            np.random.default_rng(),
        )


def test_crops_of_a_folder(folder: Path) -> None:
    fill(folder, range(5), samples=3_000)
    recordings = open_folder(folder, RATE, ALL)
    _, targets, mask, *_ = crops(recordings.train, 8, 256, np.random.default_rng(0), True)
    assert mask.all()
    known = b"".join(recordings.train.codes(i).astype(np.uint8).tobytes() for i in range(5))
    assert sum(row.astype(np.uint8).tobytes() in known for row in targets) >= 5  # but for the rows with a seam


def test_nothing_of_torch_is_imported() -> None:
    code = "import sys, wavenet.data.dataset; sys.exit('torch' in sys.modules or 'librosa' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
