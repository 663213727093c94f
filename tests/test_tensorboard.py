"""Curves and clips for TensorBoard: what it reads is what training reported, each step once also in a continued run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from interrupted_runs import Killed, interrupt
from training_runs import TWO_TIERS, at_step, trainer_for, write_tones, write_voices

from wavenet import cli
from wavenet.training import tensorboard
from wavenet.training.events import Event, Progress, Validation
from wavenet.training.labelling_trainer import LabelProgress, LabelValidation
from wavenet.training.labelling_validation import HeldOutFigures, LabelReference
from wavenet.training.rollback import Rollback
from wavenet.training.run_directory import RunDirectory
from wavenet.training.stability import Jump
from wavenet.training.tensorboard import TensorBoard
from wavenet.training.trainer import Trainer

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs TensorBoard")
BUDGET = ["training.steps=24", "training.validate_steps=12", "training.clip_seconds=0.2"]
HELD_OUT, TRAINING = "bits per sample/held out", "bits per sample/training"


@pytest.fixture(autouse=True)
def _every_second_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "EVERY", 2)


def train(trainer: Trainer, *reports: Any) -> list[Event]:
    """Train with TensorBoard; the events."""
    events: list[Event] = []
    board = TensorBoard(trainer, pytest.fail)

    def report(event: Event) -> None:
        for each in (board, events.append, *reports):
            each(event)

    try:
        trainer.train(report)
    finally:
        board.close()
    return events


def read(run: RunDirectory) -> Any:
    """What TensorBoard reads of a run."""
    found = accumulator.EventAccumulator(str(run.tensorboard), size_guidance={"audio": 0, "images": 0, "scalars": 0})
    found.Reload()
    return found


def curve(found: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in found.Scalars(name)]


def test_it_shows_what_training_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "_measure_temperatures", lambda *_: None)  # that would take seconds
    trainer = trainer_for(write_voices(tmp_path / "voices"), tmp_path / "run", *TWO_TIERS, *BUDGET)
    events = train(trainer)
    found = read(trainer.run)
    steps = [event for event in events if isinstance(event, Progress) and event.step % 2 == 0]
    validations = [event for event in events if isinstance(event, Validation)]
    assert len(steps) == 12
    for name, values in {
        TRAINING: [event.bits for event in steps],
        "nats per frame/training": [event.nats for event in steps],
        "optimizer/learning rate": [event.learning_rate for event in steps],
        "optimizer/gradient norm": [event.gradient_norm for event in steps],
        "speed/samples per second": [event.samples_per_second for event in steps],
    }.items():
        assert curve(found, name) == [
            (event.step, pytest.approx(value)) for event, value in zip(steps, values, strict=True)
        ], name
    assert curve(found, HELD_OUT) == [(event.step, pytest.approx(event.bits)) for event in validations]
    level = validations[0].references.histogram
    assert curve(found, "bits per sample/a histogram of codes") == [
        (12, pytest.approx(level)),
        (24, pytest.approx(level)),
    ]
    (_, clip) = found.Audio("clip")
    assert (clip.step, clip.sample_rate, clip.length_frames) == (24, 8_000.0, 1_600)
    (tmp_path / "clip.wav").write_bytes(clip.encoded_audio_string)
    written, expected = (soundfile.read(path)[0] for path in (tmp_path / "clip.wav", trainer.run.sample(24)))
    np.testing.assert_allclose(written, expected, atol=1e-4)  # 16 bits each
    (_, picture) = found.Images("clip")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert (picture.height, picture.width) == tensorboard.spectrogram(expected, 8_000).shape[:2]


def test_the_loudest_point_of_a_spectrogram_is_bright_at_its_frequency() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(4_000) / 8_000).astype(np.float32)
    picture = tensorboard.spectrogram(tone, 8_000)
    brightest = picture.sum((1, 2), dtype=np.int64).argmax()
    assert 1 - brightest / (len(picture) - 1) == pytest.approx(1_000 / 4_000, abs=0.01)  # from the bottom


def test_a_run_that_was_killed_has_every_point_once(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        train(trainer_for(folder, tmp_path / "run", *BUDGET), at_step(18, die))
    resumed = trainer_for(folder, tmp_path / "run", *BUDGET)
    assert resumed.state.step == 12
    with pytest.raises(KeyboardInterrupt):
        train(resumed, at_step(20, interrupt))
    events = train(trainer_for(folder, tmp_path / "run", *BUDGET))
    found = read(resumed.run)
    assert [step for step, _ in curve(found, TRAINING)] == list(range(2, 25, 2))
    assert [step for step, _ in curve(found, HELD_OUT)] == [12, 24]
    assert isinstance(events[-1], Validation)
    assert curve(found, HELD_OUT)[-1][1] == pytest.approx(events[-1].bits)
    train(trainer_for(folder, tmp_path / "run", *BUDGET, fresh=True))
    assert [step for step, _ in curve(read(resumed.run), HELD_OUT)] == [12, 24]
    assert len(list(resumed.run.tensorboard.iterdir())) == 1


def test_it_does_not_end_a_training_that_it_cannot_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_for(write_tones(tmp_path / "clips"), tmp_path / "run", "training.steps=4")
    warnings: list[str] = []
    trainer.run.create()
    trainer.run.recipe.touch()
    trainer.run.tensorboard.write_text("a file")
    board = TensorBoard(trainer, warnings.append)
    assert trainer.train(board) is not None
    board.close()
    (warning,) = warnings
    assert warning.startswith("TensorBoard: nothing more is written (") and "\n" not in warning


def test_without_the_package_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert (
        cli.main(["train", str(write_tones(tmp_path / "clips")), "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("needs tensorboard: pip install 'wavenet-toolkit[tensorboard]'")
    assert not (tmp_path / "run").exists()


def test_the_curves_of_a_labeller(tmp_path: Path) -> None:
    trainer = trainer_for(write_tones(tmp_path / "clips"), tmp_path / "run", *BUDGET)
    trainer.run.create()
    board = TensorBoard(trainer, pytest.fail)
    board(LabelProgress(4, 0.5, loss=0.75, learning_rate=0.002))
    board(LabelProgress(4, 0.5, loss=0.75, phase="validating"))
    board(LabelProgress(5, 0.6, loss=0.5))  # only every second step is shown
    reference = LabelReference("talk", HeldOutFigures(0.5, 0.25))
    board(LabelValidation(6, 10.0, HeldOutFigures(0.875, 0.625, 0.25), 0.625, True, reference, 0.5, 0))
    board.close()
    found = read(trainer.run)
    assert curve(found, "labels/training loss, nats per frame") == [(4, 0.75)]
    assert curve(found, "labels/macro F1") == [(6, 0.625)]
    assert curve(found, "labels/accuracy") == [(6, 0.875)]
    assert curve(found, "labels/held-out loss, nats per frame") == [(6, 0.25)]
    assert curve(found, "optimizer/learning rate") == [(4, pytest.approx(0.002))]


def test_a_rollback_hides_the_steps_that_are_repeated(tmp_path: Path) -> None:
    trainer = trainer_for(write_tones(tmp_path / "clips"), tmp_path / "run", *BUDGET)
    trainer.run.create()
    board = TensorBoard(trainer, pytest.fail)
    jump = Jump("training", "bits per sample", 3.0, 9.0)
    for step in (2, 4, 6):
        board(progress(step, bits=3.0 if step < 4 else 9.0))
    board(Rollback(2, 6, jump, 0.005, 1, 60.0))
    for step in (4, 6):
        board(progress(step, bits=2.5))
    board.close()
    found = read(trainer.run)
    assert curve(found, TRAINING) == [(2, 3.0), (4, 2.5), (6, 2.5)]
    (note,) = found.Tensors("rollbacks/text_summary")
    assert b"jumped from 3.00 to 9.00" in note.tensor_proto.string_val[0]


def progress(step: int, bits: float) -> Progress:
    return Progress(step, 0.5, bits, 1e-3, 1e4, 10.0, 10.0, 0)
