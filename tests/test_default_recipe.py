"""`wavenet train` without --recipe: the recipe follows from the recordings."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from training_runs import write_tones

from wavenet import cli
from wavenet.config import DataConfig
from wavenet.data import dataset
from wavenet.training import recipe, run_policy
from wavenet.training.recipe import Recipe
from wavenet.training.run_directory import RunDirectory
from wavenet.training.trainer import Trainer

Capture = pytest.CaptureFixture[str]
SPEECH = Path(__file__).parents[1] / "samples" / "speech"
CHOSEN = "the recordings are like speech: using the recipe voice; --recipe NAME chooses another\n"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    for name in ("conf-full", "conf-kicked", "conf-now-muted", "if-correct-press"):
        shutil.copy(SPEECH / f"{name}.flac", folder)
    return folder


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes of runs that would be trained, and are only prepared."""
    found: list[Recipe] = []

    def train(trainer: Trainer, report: object) -> None:
        trainer.run.create()
        trainer._prepare_run()
        trainer._save()
        found.append(trainer.recipe)

    monkeypatch.setattr(Trainer, "train", train)
    monkeypatch.setattr(Trainer, "seconds_per_step", lambda trainer: 0.5)
    return found


def test_speech_is_trained_with_voice_from_its_base(
    speech: Path, tmp_path: Path, chosen: list[Recipe], capsys: Capture
) -> None:
    command = ["train", str(speech), "--out", str(tmp_path / "run"), "--steps", "700", "--set", "training.batch=1"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().err
    assert CHOSEN in printed and "with the settings of the recipe voice" in printed
    assert "expect sounds like speech in this voice" in printed
    assert "note: the recordings are like" not in printed
    assert chosen[0].model.frame_model is not None and chosen[0].training.batch == 1
    assert cli.main([*command[:4], "--steps", "900", *command[-2:]]) == 0  # it is continued with its own recipe
    assert CHOSEN not in capsys.readouterr().err
    assert chosen[1].model == chosen[0].model and chosen[1].training.steps == 900


def test_what_is_not_like_speech_is_trained_without_a_recipe(
    tmp_path: Path, chosen: list[Recipe], capsys: Capture
) -> None:
    tones = write_tones(tmp_path / "tones")
    assert cli.main(["train", str(tones), "--out", str(tmp_path / "run"), "--steps", "1"]) == 0
    assert replace(chosen[0].model, recorded_levels=None) == Recipe().model  # without what is measured
    assert CHOSEN not in capsys.readouterr().err


def test_a_network_of_its_own_is_kept(speech: Path, tmp_path: Path, chosen: list[Recipe], capsys: Capture) -> None:
    options = ["--steps", "1", "--set", "model.residual_channels=8"]
    assert cli.main(["train", str(speech), "--out", str(tmp_path / "run"), *options]) == 0
    assert chosen[0].model.residual_channels == 8 and chosen[0].model.frame_model is None
    printed = capsys.readouterr().err
    assert CHOSEN not in printed
    assert "--recipe voice starts from a model that already speaks" in printed


def test_from_none_starts_voice_from_random_weights(
    speech: Path, tmp_path: Path, chosen: list[Recipe], capsys: Capture
) -> None:
    assert cli.main(["train", str(speech), "--out", str(tmp_path / "run"), "--steps", "1", "--from", "none"]) == 0
    assert chosen[0].model.frame_model is not None and chosen[0].training.learning_rate == 4e-3
    printed = capsys.readouterr().err
    assert CHOSEN in printed and "starting from" not in printed


def test_a_recipe_or_a_run_is_not_changed(speech: Path, tmp_path: Path) -> None:
    recordings = dataset.open_folder(speech, 16_000, DataConfig())
    new, old = RunDirectory(tmp_path / "new"), RunDirectory(tmp_path / "old")
    old.create()
    old.recipe.write_text(Recipe().to_toml())

    def found(run: RunDirectory, name: str | None, overrides: list[str], fresh: bool = False) -> str | None:
        return run_policy.recipe_for_speech(run, name, overrides, recordings, fresh)

    sampling = ["training.batch=1", " model.sampling.temperature=0.9", "data.speakers=folders"]
    assert found(new, None, sampling) == found(old, None, [], fresh=True) == "voice"
    assert found(new, "speech", []) is None
    assert found(old, None, []) is None
    assert found(new, None, ["model.cycles=1"]) is None


def test_the_recipe_of_speech_reads_recordings_as_the_default_does() -> None:
    """They are read before it is chosen."""
    voice = recipe.load(run_policy.SPEECH_RECIPE)
    assert (voice.data, voice.model.sample_rate) == (Recipe().data, Recipe().model.sample_rate)


def test_a_run_that_ended_before_its_first_step_starts_from_its_base(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.recipe.write_text(recipe.load("voice").to_toml())
    assert run_policy.start_of(run, None, None, []) == run_policy.start_of(run, None, "voice", []) is not None
