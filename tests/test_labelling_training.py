"""Training of labellers: data, figures, the loop, and runs that are continued."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted_runs import Killed, interrupt
from labellers import HOP, SAMPLE_RATE, SETTINGS, write_labelled

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.config import ConfigError, LabelTrainingConfig
from wavenet.labelling import Labeller
from wavenet.training import recipe as recipes
from wavenet.training import run_policy
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.labelling_data import LabelBatches, LabelledRecordings, augmented, open_labelled
from wavenet.training.labelling_trainer import LabellingTrainer, LabelProgress, LabelValidation, class_weights
from wavenet.training.recipe import Recipe
from wavenet.training.run_directory import RunDirectory
from wavenet.training.trainer import TrainingError

CPU = torch.device("cpu")
PLAIN = [f"training.labels.{name}=0" for name in ("dropout", "noise", "band_masks", "frame_masks")]


def opened(folder: Path, *settings: str) -> tuple[LabelledRecordings, Recipe]:
    """Labelled recordings, and the recipe of a small labeller; with input = "samples" it has no features."""
    samples = "labeller.input=samples" in settings
    chosen = [setting for setting in SETTINGS if not (samples and setting.startswith("labeller.features"))]
    return open_labelled(folder, recipes.load("labels", [*chosen, *settings]))


def trainer_for(
    folder: Path, out: Path, *settings: str, fresh: bool = False, processes: Processes = SINGLE
) -> LabellingTrainer:
    """A trainer of a small labeller; it continues the run in `out` if there is one."""
    run = RunDirectory(out)
    recordings, recipe = open_labelled(folder, run_policy.recipe_for(run, "labels", [*SETTINGS, *settings], fresh))
    return LabellingTrainer(run, recipe, recordings, "cpu", fresh, processes)


def test_a_recipe_of_a_labeller_is_read_back(tmp_path: Path) -> None:
    recipe = recipes.load("labels", ["labeller.classes=['a','b']", "training.labels.noise=0.5"])
    (tmp_path / "copy.toml").write_text(recipe.to_toml())
    assert recipes.load(tmp_path / "copy.toml") == recipe
    assert recipe.training.labels.noise == 0.5 and "[model]" not in recipe.to_toml()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.cycles=1", r"\[model\] and \[labeller\]"),
        ("data.trim_db=40", "move the audio"),
        ("data.pitch_shift=[0.5,2.0]", "move the audio"),
        ("data.speakers=folders", "no speakers"),
        ("training.crop=10", "training.crop = 10: must be a frame, 160, or more"),
        ("training.labels.dropout=1.5", "training.labels.dropout = 1.5"),
    ],
)
def test_settings_that_do_not_suit_labels_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.load("labels", [setting])


def test_batches_have_the_labels_of_their_audio(tmp_path: Path) -> None:
    recordings, recipe = opened(write_labelled(tmp_path / "tones"), *PLAIN, "labeller.input=samples")
    assert recipe.labeller is not None and recipe.labeller.classes == ("high", "low")
    batches = LabelBatches(recordings.train, recipe, CPU)
    seen = set()
    for step in range(3):
        batch = batches.batch(step)
        assert batch.inputs.shape == (4, 4_000) and batch.classes.shape == (4, 50)
        for audio, classes in zip(batch.inputs.unflatten(1, (50, HOP)), batch.classes, strict=True):
            # frames of pure tones: 300 Hz has 6 changes of sign in 10 ms, 2,000 Hz has 40
            changes = (audio[:, 1:].sign() != audio[:, :-1].sign()).sum(1)
            silent = audio.abs().amax(1) < 0.02
            expected = torch.where(silent, 0, torch.where(changes > 20, 1, 2))
            assert (expected == classes).float().mean() > 0.95  # joints of recordings cut a frame
            seen |= set(classes.tolist())
    assert seen == {0, 1, 2}
    assert torch.equal(batches.batch(1).inputs, LabelBatches(recordings.train, recipe, CPU).batch(1).inputs)


def test_labels_of_held_out_stretches_are_where_their_audio_is(tmp_path: Path) -> None:
    settings = ("data.split=time", "data.validation=0.4", "training.validation_seconds=2.0")
    recordings, _ = opened(write_labelled(tmp_path / "tones"), *settings)
    assert recordings.validation.clips.starts.any()
    for data in (recordings.train, recordings.validation):
        assert len(data.clips) == len(data.classes) > 0
        for samples, classes in zip(data.clips, data.classes, strict=True):
            assert len(classes) == math.ceil(len(samples) / HOP)
            frames = samples[: len(samples) // HOP * HOP].reshape(-1, HOP).astype(np.float64)
            loud = np.abs(frames).max(1) > 1_000
            assert np.mean(loud == (classes[: len(loud)] > 0)) > 0.9


def test_recordings_without_labels_are_skipped(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    (folder / "03.txt").unlink()
    (folder / "04.txt").write_text("0.5\t0.2\tlow\nnonsense\n0.1\t0.2\trare\n")
    recordings, recipe = opened(folder)
    assert recordings.summary.skipped == [("03.wav", "no labels")]
    assert recipe.labeller is not None and recipe.labeller.classes == ("high", "low", "rare")
    assert any("04.txt" in problem for problem in recordings.problems)
    _, some = opened(folder, "labeller.classes=['low']")
    assert some.labeller is not None and some.labeller.classes == ("low",)


def test_labels_of_other_classes_are_none(tmp_path: Path) -> None:
    recordings, _ = opened(write_labelled(tmp_path / "tones"), "labeller.classes=['low', 'never']")
    assert "labels that the labeller does not have count as none: high" in recordings.problems
    assert any("not learned: never" in problem for problem in recordings.problems)
    assert set(np.concatenate(recordings.train.classes).tolist()) == {0, 1}


def test_an_empty_label_track_is_an_example_without_labels(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    (folder / "03.txt").write_text("")
    (folder / "04.txt").unlink()
    recordings, _ = opened(folder, "data.validation=0")
    names = [str(name) for name in recordings.train.clips.names]
    assert "03.wav" in names and recordings.summary.skipped == [("04.wav", "no labels")]
    frames = {name: set(classes.tolist()) for name, classes in zip(names, recordings.train.classes, strict=True)}
    assert frames["03.wav"] == {0} and frames["02.wav"] == {0, 1, 2}
    assert recordings.problems[:2] == [
        "1 of 12 recordings without labels: not used (the first: 04.wav)",
        "1 of 12 recordings with an empty label track: nothing happens there (the first: 03.wav)",
    ]


def test_classes_that_are_not_held_out_or_alone_are_reported(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    assert not any("held-out" in problem or "one class" in problem for problem in opened(folder)[0].problems)
    trained = {str(name) for name in opened(folder)[0].train.clips.names}
    for path in folder.glob("*.txt"):
        path.write_text("0\t0.1\tlow\n" + "0.1\t0.2\trare\n" * (f"{path.stem}.wav" in trained))
    recordings, _ = opened(folder)
    assert recordings.problems[0] == (
        "in no held-out recording, so that the best model is chosen without them: rare; raise data.validation, or add "
        "recordings"
    )
    for path in folder.glob("*.txt"):
        path.write_text("0\t9\tall\n")
    recordings, _ = opened(folder)
    assert recordings.problems[0] == (
        "all frames to train on have one class, all: there is nothing to tell apart; label other sounds, too, or leave "
        "the rest without a label"
    )


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    for path in folder.glob("*.txt"):
        path.unlink()
    (folder / "00.txt").touch()
    with pytest.raises(ConfigError, match=r"no labels beside the recordings"):
        opened(folder)


def test_masks_and_noise() -> None:
    features = np.zeros((2, 12, 100), np.float32)
    masks = LabelTrainingConfig(noise=0.0, band_mask=3, frame_mask=5)
    masked = augmented(features, masks, -5.0, np.random.default_rng(3))
    assert set(np.unique(masked).tolist()) == {0.0, -5.0}
    assert ((masked == -5).all(2).sum(1) <= 6).all() and ((masked == -5).all(1).sum(1) <= 10).all()
    off = LabelTrainingConfig(noise=0.5, band_masks=0, frame_masks=0)
    assert augmented(features, off, -5.0, np.random.default_rng(0)).std() == pytest.approx(0.5, rel=0.1)
    assert not features.any()


def test_class_weights_by_hand() -> None:
    assert class_weights(np.array([6, 2, 0]), 0.0).tolist() == [1.0, 1.0, 0.0]
    weights = class_weights(np.array([6, 2, 0]), 1.0)  # every class counts alike: 0.75 w0 = 0.25 w1
    assert weights[2] == 0 and weights[0] * 6 == pytest.approx(weights[1] * 2)
    assert weights[0] * 0.75 + weights[1] * 0.25 == pytest.approx(1)


STATES = {"last/state.safetensors", "last/good_0.safetensors"}
LOGS = {"log.jsonl", "skipped.csv"}
PAGE = {"index.html", "samples/step_60.svg"}
STEPS = ["training.steps=60", "training.validate_steps=60"]
JOINT = ["labeller.input=samples", "labeller.causal=true", "labeller.joint_loss=0.1", "training.learning_rate=5e-3"]


@pytest.mark.parametrize("settings", [[], JOINT])
def test_a_labeller_learns_two_tones(settings: list[str], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    recordings, recipe = opened(write_labelled(tmp_path / "tones"), *STEPS, *settings)
    events: list[Any] = []
    result = LabellingTrainer(run, recipe, recordings, "cpu").train(events.append)
    assert result is not None and result.is_best
    assert result.figures.accuracy > 0.9 and result.figures.macro_f1 > 0.9
    assert result.reference.figures.accuracy < 0.7
    assert [type(event) for event in events if isinstance(event, LabelValidation)] == [LabelValidation]
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert files == {"recipe.toml", "model.safetensors", *STATES, "last/.lock", *LOGS, *PAGE}
    page = run.page.read_text()
    assert 'src="samples/step_60.svg"' in page and f"macro F1 {result.figures.macro_f1:.3f} held out" in page
    labels = Labeller.load(run.path)(np.sin(2 * np.pi * 300 * np.arange(4_000) / SAMPLE_RATE) * 0.3)
    assert max(labels.segments, key=lambda segment: segment.end - segment.start).label == "low"
    assert run.summary().step == 60 and run.read_log()[-1]["figures"]["accuracy"] == result.figures.accuracy


def weights_of(run: RunDirectory) -> dict[str, bytes]:
    tensors, _ = checkpoint.read_tensors(run.state)
    return {name: tensor.tobytes() for name, tensor in tensors.items()}


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    settings = ("training.steps=8", "training.validate_steps=4")
    whole = trainer_for(folder, tmp_path / "whole", *settings)
    whole.train()

    def stop(event: LabelProgress | LabelValidation) -> None:
        if isinstance(event, LabelProgress) and event.step == 3 and event.phase == "training":
            interrupt()
        if isinstance(event, LabelProgress) and event.step == 6:
            raise Killed

    with pytest.raises(KeyboardInterrupt):
        trainer_for(folder, tmp_path / "run", *settings).train(stop)
    with pytest.raises(Killed):
        trainer_for(folder, tmp_path / "run", *settings).train(stop)
    last = trainer_for(folder, tmp_path / "run", *settings)
    assert last.state.step == 4  # that of the validation
    last.train()
    assert last.finished and weights_of(last.run) == weights_of(whole.run)
    assert [line["step"] for line in last.run.read_log()] == [4, 8]
    assert last.run.recipe.read_text() == whole.run.recipe.read_text()
    assert trainer_for(folder, tmp_path / "run", *settings).train() is None


def test_a_run_keeps_its_network_and_its_classes(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    trainer_for(folder, tmp_path / "run", "training.steps=1").train()
    with pytest.raises(ConfigError, match="was started with labeller.cycles = 1, not 2"):
        trainer_for(folder, tmp_path / "run", "labeller.cycles=2")
    with pytest.raises(ConfigError, match="another kind of network"):
        run_policy.recipe_for(RunDirectory(tmp_path / "run"), "speech", [])
    (folder / "00.txt").write_text("0.1\t0.2\tother\n")
    continued = trainer_for(folder, tmp_path / "run", "training.steps=2")
    assert continued.config.classes == ("high", "low") and any(
        "other" in text for text in continued.recordings.problems
    )


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=1")
    trainer.train()
    tensors, metadata = checkpoint.read_tensors(trainer.run.state)
    checkpoint.write_tensors(trainer.run.state, {**tensors, "model.output.bias": np.zeros(9, np.float32)}, metadata)
    with pytest.raises(CheckpointError, match="not those of the recipe; --fresh"):
        trainer_for(folder, tmp_path / "run", "training.steps=1")
    checkpoint.write_tensors(trainer.run.state, tensors, {"wavenet.state": "{}"})
    with pytest.raises(CheckpointError, match="cannot be used"):
        trainer_for(folder, tmp_path / "run", "training.steps=1")
    assert trainer_for(folder, tmp_path / "run", "training.steps=1", fresh=True).state.step == 0


def test_a_state_with_the_counters_of_earlier_versions_is_read(tmp_path: Path) -> None:
    folder = write_labelled(tmp_path / "tones")
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=1")
    trainer.train()
    tensors, metadata = checkpoint.read_tensors(trainer.run.state)
    counters = json.loads(metadata["wavenet.state"])
    step, seconds = counters.pop("validated")
    earlier = {**counters, "validated_step": step, "validated_seconds": seconds}
    checkpoint.write_tensors(trainer.run.state, tensors, {"wavenet.state": json.dumps(earlier)})
    state = trainer_for(folder, tmp_path / "run", "training.steps=1").state
    assert (state.step, state.validated_step, state.validated_seconds) == (1, 1, seconds)


def test_a_base_is_refused_for_labellers() -> None:
    base: Any = object()
    with pytest.raises(ConfigError, match="--from: a labeller starts from random weights"):
        run_policy.recipe_for(RunDirectory(Path("none")), "labels", [], base=base)


def test_memory_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_for(write_labelled(tmp_path / "tones"), tmp_path / "run", "training.steps=1")

    def fail(batch: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")

    monkeypatch.setattr(trainer, "_update", fail)
    with pytest.raises(TrainingError, match=r"^out of memory: lower training.batch \(now 4\)[^\n]*$"):
        trainer.train()


def test_steps_that_are_not_finite_are_skipped_and_end_the_training(tmp_path: Path) -> None:
    trainer = trainer_for(write_labelled(tmp_path / "tones"), tmp_path / "run", "training.steps=200")
    trainer.weights.fill_(float("nan"))
    before = [weight.clone() for weight in trainer.state.model.parameters()]
    with pytest.raises(TrainingError, match=r"not finite in most of the last 128 steps.*lower training.learning_rate"):
        trainer.train()
    rollbacks = [line for line in trainer.run.read_log() if line["event"] == "rollback"]
    assert [(line["from_step"], line["step"]) for line in rollbacks] == [(128, 0)] * 4
    assert all(torch.equal(*pair) for pair in zip(before, trainer.state.model.parameters(), strict=True))
