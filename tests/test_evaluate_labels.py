"""`wavenet evaluate` with a labeller: figures, tables and pictures, and what is reported."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import soundfile
from commands import Capture, error_of, run
from labellers import SAMPLE_RATE, noise_of, small_labeller

from wavenet import checkpoint
from wavenet.data.cached_samples import DatasetError
from wavenet.data.label_tracks import Segment, write_labels
from wavenet.evaluation.labelled_folder import evaluate_folder
from wavenet.labelling import LabellingOptions

SECONDS = 1.5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a labeller with random weights and the classes "a" and "b"."""
    path = tmp_path_factory.mktemp("model") / "labeller.safetensors"
    checkpoint.save_model(path, small_labeller().network)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording with the labels that the model finds, one with a label it does not know, one without labels."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for seed, name in enumerate(("found", "unknown", "unlabelled")):
        soundfile.write(recordings / f"{name}.wav", noise_of(round(SECONDS * SAMPLE_RATE), seed), SAMPLE_RATE, "FLOAT")
    labels = small_labeller()(noise_of(round(SECONDS * SAMPLE_RATE)))
    write_labels(recordings / "found.txt", labels.segments)
    write_labels(recordings / "unknown.txt", [Segment(0, SECONDS, "c")])
    return recordings


def test_figures_of_a_folder(folder: Path) -> None:
    evaluation = evaluate_folder(small_labeller(), folder)
    assert [recording.path.name for recording in evaluation.recordings] == ["found.wav", "unknown.wav"]
    first = evaluation.recordings[0]
    assert first.seconds == SECONDS and first.found == first.reference
    frames = round(SECONDS * 100)
    found = evaluation.figures.confusion
    assert found.sum() == 2 * frames and found[1:, 1:].sum() == found[1:, 1:].trace() > 0
    assert "labels that the model does not have count as none: c" in evaluation.problems
    assert any("1 of 3 recordings without labels" in problem for problem in evaluation.problems)


def test_command(model: Path, folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "unknown.txt").unlink()
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", model, "recordings", "--csv", tmp_path / "classes.csv", "--save", tmp_path / "made") == 0
    output = capsys.readouterr()
    assert output.out.startswith("frame accuracy  100.00%\nmacro F1        1.000\nboundary F1     1.000 at 20 ms")
    assert "1 recording with labels, 0.0 minutes" in output.err
    with open(tmp_path / "classes.csv", newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["(none)", "a", "b"]
    written = sorted(path.name for path in (tmp_path / "made").iterdir())
    assert written == ["confusion.csv", "confusion.svg", "found.wav.svg"]


def test_options_of_generators_are_refused(model: Path, folder: Path, capsys: Capture) -> None:
    message = error_of(capsys, "evaluate", model, folder, "--seed", 1, "--words")
    assert "--seed, --words: not for a labeller" in message


def test_labels_of_another_model_are_refused(model: Path, folder: Path, capsys: Capture) -> None:
    (folder / "found.txt").unlink()
    message = error_of(capsys, "evaluate", model, folder)
    assert "none of its labels is one of the model: c; the model has a, b" in message


def test_labels_found_in_a_recording_with_an_empty_label_track_are_wrong(folder: Path) -> None:
    (folder / "unlabelled.txt").touch()
    evaluation = evaluate_folder(small_labeller(), folder)
    empty = evaluation.recordings[-1]
    assert empty.path.name == "unlabelled.wav" and not empty.reference and empty.found
    assert evaluation.figures.confusion.sum() == 3 * round(SECONDS * 100)
    assert "1 of 3 recordings with an empty label track: nothing happens there (the first: unlabelled.wav)" in (
        evaluation.problems
    )


def test_segments_are_made_with_the_given_options(model: Path, folder: Path, capsys: Capture) -> None:
    whole = evaluate_folder(small_labeller(), folder, options=LabellingOptions(min_duration=0.3))
    (segments,) = (recording.found for recording in whole.recordings if recording.path.name == "found.wav")
    assert segments == small_labeller()(noise_of(round(SECONDS * SAMPLE_RATE)), min_duration=0.3).segments
    assert run("evaluate", model, folder, "--min-duration", 0.3, "--smoothing", 0.1) == 0
    assert "100.00%" not in capsys.readouterr().out
    assert "min_duration = -1.0" in error_of(capsys, "evaluate", model, folder, "--min-duration", -1)


def test_folders_without_labels(model: Path, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    for path in folder.glob("*.txt"):
        path.unlink()
    with pytest.raises(DatasetError, match="recordings: no labels beside its recordings"):
        evaluate_folder(small_labeller(), folder)
    assert "no labels" in error_of(capsys, "evaluate", model, folder)
    assert "give a folder" in error_of(capsys, "evaluate", model, tmp_path / "missing")
