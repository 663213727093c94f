"""Find the recordings of a folder, and skip what cannot be used, with the reason."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE, contents, write_noise

from wavenet.data.dataset import DatasetError, open_folder


def test_clips_are_the_files_in_the_order_of_their_paths(folder: Path) -> None:
    second = write_noise(folder / "b c" / "Ünï.WAV", 300, seed=1)
    first = write_noise(folder / "a.flac", 500, seed=2)
    write_noise(folder / ".hidden.wav")
    write_noise(folder / "._a.wav")  # macOS writes such files beside others, they are not recordings
    write_noise(folder / ".git" / "c.wav")
    (folder / "notes.txt").write_text("not a recording")
    recordings = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(recordings.train) == 2
    assert len(recordings.validation) == 0
    np.testing.assert_array_equal(recordings.train.clip(0), first)
    np.testing.assert_array_equal(recordings.train.clip(1), second)
    assert recordings.train.clip(0).dtype == np.int16
    assert recordings.train.seconds == 800 / SAMPLE_RATE
    assert (recordings.summary.found, recordings.summary.kept) == (3, 2)
    reason = "hidden: its name starts with a dot"
    assert recordings.summary.skipped == [(f".git{os.sep}", reason), (".hidden.wav", reason)]


def test_files_are_resampled(folder: Path) -> None:
    write_noise(folder / "a.wav", 8_000)
    assert len(open_folder(folder, 2 * SAMPLE_RATE, ALL_TRAINING).train.clip(0)) == 16_000


def test_links_are_followed_and_cycles_end(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_noise(elsewhere / "deep" / "a.wav", seed=1)
    write_noise(elsewhere / "b.wav", seed=2)
    write_noise(folder / "c.wav", seed=3)
    (folder / "link").symlink_to(elsewhere)
    (folder / "d.wav").symlink_to(elsewhere / "b.wav")
    (elsewhere / "up").symlink_to(folder)
    (elsewhere / "self").symlink_to(elsewhere)
    recordings = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert recordings.summary.found == 4  # c, d, link/b, link/deep/a
    assert len(contents(recordings.train)) == 3


def test_unusable_files_are_skipped_with_the_reason(folder: Path) -> None:
    write_noise(folder / "good.wav")
    write_noise(folder / "folder.wav" / "inside.wav", seed=1)
    (folder / "empty.wav").touch()
    (folder / "text.mp3").write_text("not audio at all" * 50)
    (folder / "link.wav").symlink_to(folder / "gone.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe.wav")
    write_noise(folder / "cut.wav")
    os.truncate(folder / "cut.wav", 400)
    summary = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    reasons = dict(summary.skipped)
    assert list(reasons) == sorted(reasons)
    assert reasons.pop("loop.wav").startswith("too many levels of symbolic links")
    assert reasons == {
        "text.mp3": "unreadable: Format not recognised",
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
    write_noise(folder / "a.wav")
    write_noise(folder / "closed" / "b.wav")
    scandir = os.scandir

    def refuse(path: Path) -> object:  # chmod would not keep root out
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary.skipped == [("closed/", "no permission")]


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone", "does not exist"), ("a.wav", "is a file: give the folder"), ("empty", "put files there")],
)
def test_a_folder_that_cannot_be_used(folder: Path, name: str, words: str) -> None:
    write_noise(folder / "a.wav")
    (folder / "empty").mkdir()
    with pytest.raises(DatasetError, match=words) as caught:
        open_folder(folder / name, SAMPLE_RATE, ALL_TRAINING)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_without_a_usable_file_lists_the_reasons(folder: Path) -> None:
    for i in range(3):
        (folder / f"{i}.wav").write_text(f"text {i} " * 50)
    (folder / "bad\nname.wav").touch()
    with pytest.raises(DatasetError, match=r"no usable recording.*3 unreadable, 1 empty file") as caught:
        open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(str(caught.value).splitlines()) == 1


def test_file_names_that_are_not_utf8(folder: Path, decoded: list[str]) -> None:
    write_noise(folder / "a.wav")
    name = os.fsdecode(b"latin-\xe9.wav")
    shutil.copy(folder / "a.wav", folder / name)
    os.truncate(folder / name, 200)
    for _ in range(2):
        summary = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
        assert summary.skipped[0][0] == name
        "\n".join(summary.lines()).encode()
    assert len(decoded) == 2


def test_hidden_folders_and_training_runs_are_reported(folder: Path) -> None:
    write_noise(folder / "a.wav")
    write_noise(folder / "b" / ".takes" / "deep" / "c.wav", seed=1)
    write_noise(folder / "runs" / "first" / "samples" / "step_10.wav", seed=2)
    (folder / "runs" / "first" / "last").mkdir()
    (folder / "runs" / "first" / "recipe.toml").touch()
    summary = open_folder(folder, SAMPLE_RATE, ALL_TRAINING).summary
    hidden, run = os.path.join("b", ".takes", ""), os.path.join("runs", "first", "")
    assert summary.skipped == [
        (hidden, "hidden: its name starts with a dot"),
        (run, "training run: its clips were generated by a model"),
    ]
    assert (summary.found, summary.kept) == (1, 1)
    lines = summary.lines()
    assert "skipped 2 folders of unknown length: 1 hidden, 1 training run" in lines
    assert f"skipped {hidden}: hidden: its name starts with a dot" in lines


def test_a_folder_that_is_a_training_run_is_refused(folder: Path) -> None:
    write_noise(folder / "samples" / "step_10.wav")
    (folder / "last").mkdir()
    (folder / "recipe.toml").touch()
    with pytest.raises(DatasetError, match="no usable recording: .* training run") as caught:
        open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    assert len(str(caught.value).splitlines()) == 1
