"""Speakers of a folder's recordings: from sub-folders and from tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE, write_noise

from wavenet.config import DataConfig
from wavenet.data.clips import Clips
from wavenet.data.dataset import DatasetError, open_folder


def by_speaker(clips: Clips) -> dict[str, set[bytes]]:
    assert clips.speakers is not None
    assert len(clips.speakers) == len(clips)
    return {name: {clips.clip(i).tobytes() for i in clips.of_speaker(name)} for name in set(clips.speakers)}


def test_speakers_are_named_by_folders(folder: Path) -> None:
    ann = [
        write_noise(folder / "Ann" / "a.wav", 800, seed=1),
        write_noise(folder / "Ann" / "deep" / "b.wav", 400, seed=2),
    ]
    bob = write_noise(folder / "böb" / "a.wav", 16_000, seed=3)
    write_noise(folder / "top.wav", seed=4)
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.0, speakers="folders"))
    assert by_speaker(recordings.train) == {"Ann": {noise.tobytes() for noise in ann}, "böb": {bob.tobytes()}}
    assert recordings.summary.skipped == [("top.wav", "in no speaker's folder")]
    assert recordings.summary.speakers == {"Ann": 1_200 / SAMPLE_RATE, "böb": 2.0}
    lines = recordings.summary.lines()
    assert "2 speakers: Ann 0.1 seconds, böb 2.0 seconds" in lines
    assert "skipped top.wav: in no speaker's folder" in lines
    single_voice = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert single_voice.train.speakers is None
    assert single_voice.summary.speakers == {}
    assert not any("speaker" in line for line in single_voice.summary.lines()[1:])  # the first names the folder


def test_held_out_clips_keep_their_speakers(folder: Path) -> None:
    for i in range(40):
        write_noise(
            folder / ("ann" if i % 2 else "bob") / f"{i}.wav", 400 + i % 2, seed=i
        )  # the length identifies the speaker
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.3, speakers="folders"))
    for clips in (recordings.train, recordings.validation):
        assert len(clips) > 5
        assert clips.speakers == ["ann" if length == 401 else "bob" for length in clips.lengths]


def test_the_held_out_end_of_the_only_recording_has_its_speaker(folder: Path) -> None:
    write_noise(folder / "ann" / "a.wav", 4_000)
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(speakers="folders"))
    assert recordings.train.speakers == recordings.validation.speakers == ["ann"]


def test_speakers_are_named_by_a_table(folder: Path, tmp_path: Path) -> None:
    ann, bob = write_noise(folder / "a.wav", seed=1), write_noise(folder / "x y" / "b, c.wav", seed=2)
    write_noise(folder / "d.wav", seed=3)
    table = 'a.wav, Ann \n\n"./x y/b, c.wav",bob\ngone.wav,cid\n'
    (folder / "who.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())  # as spreadsheets begin a file
    (tmp_path / "elsewhere.csv").write_text(table)
    for setting in ("who.csv", str(tmp_path / "elsewhere.csv")):  # in the folder, or a path
        recordings = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.0, speakers=setting))
        assert by_speaker(recordings.train) == {"Ann": {ann.tobytes()}, "bob": {bob.tobytes()}}
        assert recordings.summary.skipped == [("d.wav", f"not listed: {Path(setting).name} names no speaker")]
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
    write_noise(folder / "a.wav")
    (folder / "who.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        open_folder(folder, SAMPLE_RATE, DataConfig(speakers="who.csv"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_table_that_is_not_there(folder: Path) -> None:
    write_noise(folder / "a.wav")
    with pytest.raises(DatasetError, match="data.speakers = 'whom.csv': must be 'folders', or a file"):
        open_folder(folder, SAMPLE_RATE, DataConfig(speakers="whom.csv"))


def test_a_table_is_checked_before_recordings_are_read(folder: Path, decoded: list[str]) -> None:
    write_noise(folder / "a.wav")
    (folder / "who.csv").write_text("a.wav\n")
    with pytest.raises(DatasetError, match="line 1 is not path,speaker"):
        open_folder(folder, SAMPLE_RATE, DataConfig(speakers="who.csv"))
    assert decoded == []


@pytest.mark.parametrize("setting", ["x" * 5_000, "nul\0.csv", "/", "."])
def test_settings_that_are_no_file(folder: Path, setting: str) -> None:
    write_noise(folder / "a.wav")
    with pytest.raises(DatasetError, match="must be 'folders', or a file") as caught:
        open_folder(folder, SAMPLE_RATE, DataConfig(speakers=setting))
    assert len(str(caught.value)) < 200


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode")
def test_a_speakers_folder_must_have_a_name_in_utf8(folder: Path, decoded: list[str]) -> None:
    write_noise(folder / "ann" / "a.wav", seed=1)
    write_noise(folder / os.fsdecode(b"caf\xe9 \x1b") / "deep" / "b.wav", seed=2)
    (folder / os.fsdecode(b"\xff")).mkdir()  # without recordings it does not matter
    with pytest.raises(
        DatasetError, match=r"caf\\udce9 \\x1b: a folder that names a speaker must .* rename it"
    ) as caught:
        open_folder(folder, SAMPLE_RATE, DataConfig(speakers="folders"))
    assert str(caught.value).isprintable()
    assert decoded == []  # before anything is read
    assert len(open_folder(folder, SAMPLE_RATE, ALL_TRAINING).train) == 2  # without speakers it does not matter


def test_a_long_name_is_printed_in_part(folder: Path) -> None:
    write_noise(folder / "a.wav")
    (folder / "who.csv").write_text(f"a.wav,{'x' * 100_000}\n")
    summary = open_folder(folder, SAMPLE_RATE, DataConfig(speakers="who.csv")).summary
    assert list(summary.speakers) == ["x" * 100_000]
    assert max(len(line) for line in summary.lines()) < 200


@pytest.mark.skipif(os.name == "nt", reason="not allowed in file names")
def test_control_characters_in_a_speakers_name_are_printed_escaped(folder: Path) -> None:
    name = "del\x7f esc\x1b[31m"
    write_noise(folder / name / "a.wav")
    write_noise(folder / "bob" / "b.wav", seed=1)
    summary = open_folder(folder, SAMPLE_RATE, DataConfig(validation=0.0, speakers="folders")).summary
    assert list(summary.speakers) == ["bob", name]
    assert r"2 speakers: bob 0.1 seconds, del\x7f esc\x1b[31m 0.1 seconds" in summary.lines()
