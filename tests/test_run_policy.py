"""Decisions of a run: budget, learning rate, validations, and which recipe and speakers it continues with."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import CONDITIONED, FEATURES, SMALL, trainer_for, write_tones, write_voices

from wavenet.config import ConfigError, DataConfig, SamplingConfig, TrainingConfig
from wavenet.data import dataset
from wavenet.training import recipe, run_policy, schedule
from wavenet.training.run_directory import RunDirectory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "clips")


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return write_voices(tmp_path / "voices")


def test_the_learning_rate_warms_up_and_follows_a_cosine_to_the_budget() -> None:
    config = TrainingConfig(learning_rate=1.0, warmup=3, final_rate=0.1, steps=100)
    rates = [schedule.learning_rate(config, step, 0.0) for step in range(4)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert schedule.learning_rate(config, 50, 0.5) == pytest.approx(0.55)  # half-way between 1 and 0.1
    assert schedule.learning_rate(config, 100, 1.0) == pytest.approx(0.1)
    assert schedule.learning_rate(config, 120, 1.2) == pytest.approx(0.1)


def test_the_budget_is_steps_or_minutes() -> None:
    assert schedule.budget_spent(TrainingConfig(steps=10), 5, 1e9) == 0.5
    assert schedule.budget_spent(TrainingConfig(minutes=2), 10**9, 30) == 0.25


def test_the_time_left_is_known_after_the_first_step() -> None:
    assert math.isnan(schedule.seconds_left(TrainingConfig(steps=10), 0, 0.0))
    assert schedule.seconds_left(TrainingConfig(steps=10), 1, 3.0) == 27.0
    assert schedule.seconds_left(TrainingConfig(steps=10), 12, 3.0) == 0.0
    assert schedule.seconds_left(TrainingConfig(minutes=2), 0, 0.0) == 120.0
    assert schedule.seconds_left(TrainingConfig(minutes=2), 9, 130.0) == 0.0


@pytest.mark.parametrize(
    ("config", "step", "seconds", "validated", "due"),
    [
        (TrainingConfig(steps=100, validate_steps=10), 10, 9e9, (0, 0.0), True),
        (TrainingConfig(steps=100, validate_steps=10), 19, 9e9, (10, 0.0), False),
        (TrainingConfig(steps=100, validate_steps=10), 20, 9e9, (20, 0.0), False),  # just validated
        (TrainingConfig(steps=100, validate_steps=10), 100, 9e9, (99, 0.0), True),  # the end of the budget
        (TrainingConfig(steps=100, validate_steps=10), 100, 9e9, (100, 0.0), False),
        (TrainingConfig(steps=100, validate_steps=10), 9, 9e9, (0, 0.0), False),
        (TrainingConfig(minutes=60, validate_minutes=5), 7, 59.0, (0, 0.0), False),
        (TrainingConfig(minutes=60, validate_minutes=5), 7, 61.0, (0, 0.0), True),  # the first after a minute
        (TrainingConfig(steps=10**6, validate_minutes=5), 7, 61.0, (0, 0.0), True),
        (TrainingConfig(minutes=60, validate_minutes=0.5), 7, 31.0, (0, 0.0), True),
        (TrainingConfig(minutes=60, validate_minutes=5), 9, 360.0, (7, 61.0), False),
        (TrainingConfig(minutes=60, validate_minutes=5), 9, 362.0, (7, 61.0), True),
        (TrainingConfig(minutes=60, validate_minutes=5), 7, 3600.0, (6, 3590.0), True),
    ],
)
def test_validations_are_due_regularly_and_at_the_end(
    config: TrainingConfig, step: int, seconds: float, validated: tuple[int, float], due: bool
) -> None:
    assert schedule.validation_is_due(config, step, seconds, *validated) is due


def test_a_run_is_continued_with_its_own_recipe_and_no_other(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    continued = run_policy.recipe_for(trainer.run, None, ["training.steps=5"])
    assert continued.model == trainer.recipe.model
    assert continued.training.steps == 5
    with pytest.raises(ConfigError, match="model.skip_channels"):
        run_policy.recipe_for(trainer.run, None, ["model.skip_channels=17"])
    with pytest.raises(ConfigError, match="data.join"):
        run_policy.recipe_for(trainer.run, None, ["data.join=true"])
    fresh = run_policy.recipe_for(trainer.run, None, ["model.skip_channels=17"], fresh=True)
    assert fresh.model.skip_channels == 17


def test_a_continued_run_keeps_its_sampling_options(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2", "model.sampling.temperature=0.8")
    trainer.train()
    mine = tmp_path / "mine.toml"
    mine.write_text(trainer.recipe.to_toml().replace("temperature = 0.8", "temperature = 0.5"))
    assert run_policy.recipe_for(trainer.run, str(mine), []).model == trainer.recipe.model
    changed = run_policy.recipe_for(trainer.run, None, ["model.sampling.top_k=9"])
    assert changed.model == dataclasses.replace(trainer.recipe.model, sampling=SamplingConfig(0.8, top_k=9))


def test_speakers_of_recipe_and_recordings_must_agree(voices: Path) -> None:
    recordings = dataset.open_folder(voices, 8_000, DataConfig(speakers="folders"))
    without = dataset.open_folder(voices, 8_000, DataConfig())
    plain = recipe.load(None)
    assert run_policy.with_speakers(plain, without) == plain
    assert run_policy.with_speakers(plain, recordings).model.speakers == ("high", "low")
    more = recipe.load(None, ["model.speakers=['low', 'middle', 'high']"])
    assert run_policy.with_speakers(more, recordings) == more
    with pytest.raises(ConfigError, match="set data.speakers to 'folders'"):
        run_policy.with_speakers(more, without)
    with pytest.raises(ConfigError, match="speaker 'high': the model has low"):
        run_policy.with_speakers(recipe.load(None, ["model.speakers=['low']"]), recordings)


def test_names_in_messages_are_short_and_printable(voices: Path) -> None:
    recordings = dataset.open_folder(voices, 8_000, DataConfig(speakers="folders"))
    names = ["\x1b[31m" + "x" * 100_000, "y" * 100_000]
    with pytest.raises(ConfigError) as caught:
        run_policy.with_speakers(recipe.load(None, [f"model.speakers={names!r}"]), recordings)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_a_run_with_speakers_is_continued_without_naming_them(voices: Path, tmp_path: Path) -> None:
    trainer = trainer_for(voices, tmp_path / "run", *CONDITIONED["speakers"], "training.steps=2")
    trainer.train()
    continued = run_policy.recipe_for(trainer.run, None, ["training.steps=5"])
    assert continued.model.speakers == ("high", "low")
    with pytest.raises(ConfigError, match="model.features = None"):
        run_policy.recipe_for(trainer.run, None, [FEATURES])


def test_a_run_keeps_its_speakers(voices: Path, tmp_path: Path) -> None:
    """Their order is that of the embedding's rows: folders with other names must not change it."""
    run, overrides = RunDirectory(tmp_path / "run"), ["data.validation=0.3", *CONDITIONED["speakers"]]
    trainer_for(voices, run.path, *overrides, "training.steps=2").train()
    (voices / "high").rename(voices / "zed")
    again = run_policy.recipe_for(run, None, [*SMALL, *overrides, "training.steps=4"])
    assert again.model.speakers == ("high", "low")
    recordings = dataset.open_folder(voices, again.model.sample_rate, again.data)
    with pytest.raises(ConfigError, match="'zed'.*high, low"):
        run_policy.with_speakers(again, recordings)
    (voices / "zed").rename(tmp_path / "gone")  # fewer speakers are accepted
    recordings = dataset.open_folder(voices, again.model.sample_rate, again.data)
    assert run_policy.with_speakers(again, recordings).model == again.model


def test_devices() -> None:
    assert run_policy.pick_device("cpu") == "cpu"
    assert run_policy.pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        run_policy.pick_device("tpu")


def test_cuda_is_refused_where_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cpu"):
        run_policy.pick_device("cuda")


def test_the_training_range_is_that_of_the_crops_as_they_are_played(voices: Path) -> None:
    ranges = []
    for overrides in ([], ["data.gain_shift=[-20.0, -20.0]"], ["data.gain_shift=[-3.0, 2.0]"]):
        chosen = recipe.load(None, [*SMALL, FEATURES, *overrides])
        recordings = dataset.open_folder(voices, chosen.model.sample_rate, chosen.data)
        known = run_policy.with_training_range(chosen, recordings)
        assert run_policy.with_training_range(known, recordings) is known
        assert known.model.training_range is not None
        ranges.append(known.model.training_range)
    assert np.subtract(ranges[1].level, ranges[0].level) == pytest.approx([-20, -20], abs=0.5)
    quietest = [measured.quietest for measured in ranges]
    assert quietest[0] is not None and -120 < quietest[0] < ranges[0].level[1]
    assert quietest == pytest.approx([quietest[0], quietest[0] - 20, quietest[0] - 3])


def test_without_features_there_is_no_training_range(folder: Path) -> None:
    chosen = recipe.load(None, SMALL)
    recordings = dataset.open_folder(folder, chosen.model.sample_rate, chosen.data)
    assert run_policy.with_training_range(chosen, recordings) is chosen
