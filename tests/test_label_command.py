"""The commands around labellers: label, train with a recipe of labels, info; and errors in one line."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import Capture, error_of, run, save_model
from labellers import SAMPLE_RATE, SETTINGS, noise_of, small_labeller, write_labelled

from wavenet import checkpoint
from wavenet.cli.console import ProgressLine
from wavenet.data import audio
from wavenet.data.label_tracks import read_track
from wavenet.labelling import Labeller


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "labels.safetensors"
    checkpoint.save_model(path, small_labeller(head="plain").network)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    audio.write(path, noise_of(3 * SAMPLE_RATE + 11), SAMPLE_RATE)
    return path


def lines_of(labeller: Labeller, path: Path, **options: float) -> list[str]:
    """The labels of a recording as lines of an Audacity label track."""
    segments = labeller(audio.read(path, SAMPLE_RATE), **options).segments
    return [f"{start:.6f}\t{end:.6f}\t{label}" for start, end, label in segments]


def test_labels_are_printed(model: Path, clip: Path, capsys: Capture) -> None:
    assert run("label", model, clip, "--min-duration", 0.05, "--smoothing", 0.03) == 0
    output = capsys.readouterr()
    expected = lines_of(Labeller.load(model), clip, min_duration=0.05, smoothing=0.03)
    assert output.out.splitlines() == expected and len(expected) > 2 and not output.err


def test_labels_are_written_in_every_format(model: Path, clip: Path, tmp_path: Path) -> None:
    for suffix in (".txt", ".csv", ".npz"):
        assert run("label", model, clip, "-o", tmp_path / f"out{suffix}") == 0
    labels = Labeller.load(model)(audio.read(clip, SAMPLE_RATE))
    found, problems = read_track(tmp_path / "out.txt", 10.0)
    assert not problems and [segment.label for segment in found] == [segment.label for segment in labels.segments]
    rows = list(csv.reader((tmp_path / "out.csv").open()))
    assert rows[0] == ["path", "start", "end", "label"] and len(rows) == 1 + len(labels.segments)
    with np.load(tmp_path / "out.npz") as content:
        assert np.array_equal(content["probabilities"], labels.probabilities)
        assert content["classes"].tolist() == ["", "a", "b"] and content["frame_seconds"] == 0.01


def test_other_formats_and_sample_rates_are_read(model: Path, tmp_path: Path, capsys: Capture) -> None:
    stereo = np.stack([noise_of(44_100), noise_of(44_100, seed=1)], axis=1)
    soundfile.write(tmp_path / "stereo.flac", stereo, 22_050)
    assert run("label", model, tmp_path / "stereo.flac") == 0
    assert capsys.readouterr().out.splitlines() == lines_of(Labeller.load(model), tmp_path / "stereo.flac")


def test_a_folder_is_labelled(model: Path, tmp_path: Path, capsys: Capture) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("one.wav", "more/two.wav"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        audio.write(folder / name, noise_of(8_000, seed=len(name)), SAMPLE_RATE)
    (folder / "broken.wav").write_bytes(b"no audio")
    assert run("label", model, folder, "-o", out) == 2
    message = capsys.readouterr().err
    assert "broken.wav" in message and "1 of 3 recordings could not be labelled" in message
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.txt")) == [f"more{os.sep}two.txt", "one.txt"]
    (folder / "broken.wav").unlink()
    assert run("label", model, folder, "-o", tmp_path / "all.csv") == 0
    rows = list(csv.reader((tmp_path / "all.csv").open()))
    assert {row[0] for row in rows[1:]} == {"one.wav", f"more{os.sep}two.wav"}


def test_label_tracks_beside_recordings_are_not_replaced(model: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = write_labelled(tmp_path / "tones", 2)
    before = (folder / "00.txt").read_text()
    (folder / "01.txt").unlink()
    assert "would be replaced; give another place" in error_of(capsys, "label", model, folder, "-o", folder)
    for source in (folder / "00.wav", folder / "01.wav"):  # also where it is that of another recording
        message = error_of(capsys, "label", model, source, "-o", folder / "00.txt")
        assert "00.txt: exists, and would be replaced; give another place with -o, or move it away first" in message
    assert (folder / "00.txt").read_text() == before and not (folder / "01.txt").exists()
    for _ in range(2):
        assert run("label", model, folder / "01.wav", "-o", folder / "again.txt") == 0


def test_output_files_are_checked_before_work_starts(model: Path, tmp_path: Path, capsys: Capture) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    audio.write(recordings / "clip.wav", noise_of(8_000), SAMPLE_RATE)
    (recordings / "labels.csv").write_text("clip.wav,0,1,a\n")
    message = error_of(capsys, "label", model, recordings, "-o", recordings / "labels.csv")
    assert "would be replaced; give another place" in message
    message = error_of(capsys, "label", model, recordings / "clip.wav", "-o", recordings / "labels.csv")
    assert "would be replaced; give another place" in message
    assert (recordings / "labels.csv").read_text() == "clip.wav,0,1,a\n"
    for output in ("missing/clip.txt", "missing/all.csv"):
        source = recordings if output.endswith("csv") else recordings / "clip.wav"
        assert "missing: no such folder; make it first" in error_of(
            capsys, "label", model, source, "-o", tmp_path / output
        )
    assert run("label", model, recordings, "-o", tmp_path / "all.csv") == 0
    assert run("label", model, recordings, "-o", tmp_path / "all.csv") == 0  # not the recordings' own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.wav", "-o", "out.mp3"], "out.mp3: labels are written as .txt"),
        (["clip.wav", "--smoothing", "-1"], "smoothing = -1.0: must be between 0.0 and 60.0"),
        (["clip.wav", "other.wav"], "several recordings: give -o FOLDER"),
        (["clip.wav", "other.wav", "-o", "out.txt"], "several recordings; give a folder"),
        (["clip.wav", "x/clip.wav", "-o", "out"], "both would be written to"),
        (["nothing.wav"], "nothing.wav: no such file"),
        (["empty"], "no recordings in this folder"),
    ],
)
def test_what_cannot_be_labelled_is_refused_in_one_line(
    arguments: list[str], message: str, model: Path, clip: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    (clip.parent / "empty").mkdir()
    assert message in error_of(capsys, "label", model, *arguments)


def test_a_generator_does_not_label_and_a_labeller_does_not_generate(
    model: Path, clip: Path, tmp_path: Path, capsys: Capture
) -> None:
    generator = save_model(tmp_path / "generator.safetensors")
    assert "not a labeller" in error_of(capsys, "label", generator, clip)
    for command in (["generate", model, "-o", tmp_path / "x.wav"], ["vocode", model, clip], ["bench", model]):
        assert "a labeller, which generates no audio" in error_of(capsys, *command)


def test_info_describes_a_labeller(model: Path, capsys: Capture) -> None:
    assert run("info", model) == 0
    text = capsys.readouterr().out
    for part in ("a, b; a frame may have none", "80 samples, 10 ms", "two-sided", "look-ahead 0.10 s", "x real time"):
        assert part in text
    assert run("info", "labels") == 0
    assert "those of the recordings" in capsys.readouterr().out


def test_a_labeller_is_trained_and_used(tmp_path: Path, capsys: Capture) -> None:
    folder, out = write_labelled(tmp_path / "tones"), tmp_path / "run"
    (folder / "00.txt").write_text("0.1\t9.0\tlow\n")
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = ["train", folder, "--recipe", "labels", "--out", out, "--steps", 40, *settings]
    assert run(*command) == 0
    messages = capsys.readouterr().err
    for part in (
        "2 classes: high, low",
        "beyond the recording",
        "a label depends on 0.09 s before its frame and 0.09 s after it",
        "held-out reference: ",
        "step 40, ",
        "; the most frequent class: frame accuracy",
        "try it: wavenet label",
    ):
        assert part in messages
    assert run("label", out, folder / "01.wav", "--min-duration", 0.1) == 0
    assert [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()] == ["low", "high"]
    assert run("info", out) == 0
    assert "frame accuracy" in capsys.readouterr().out
    assert run(*command) == 0
    assert "the budget is spent" in capsys.readouterr().err
    assert "was started with" in error_of(capsys, "train", tmp_path, "--recipe", "speech", "--out", out)


def test_labels_are_escaped_where_they_are_printed(clip: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "named.safetensors"
    checkpoint.save_model(path, small_labeller(head="plain", classes=("a\x1b[2J", "b\u202e")).network)
    assert run("label", path, clip) == 0
    labels = {line.split("\t")[2] for line in capsys.readouterr().out.splitlines()}
    assert labels == {"a\\x1b[2J", "b\\u202e"}


def test_progress_is_drawn_while_a_file_is_labelled(
    model: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int]] = []

    class Line(ProgressLine):
        def __call__(self, done: int, total: int) -> None:
            drawn.append((done, total))

    monkeypatch.setattr("wavenet.cli.label.ProgressLine", Line)
    assert run("label", model, clip, "-o", tmp_path / "out.txt") == 0
    assert drawn == sorted(drawn) and drawn[-1] == (3, 4)  # the recording has 3 seconds and 11 samples
