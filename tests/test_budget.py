"""Recipes that are fitted to a budget of memory, by arithmetic and in a process that trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from commands import error_of, run
from test_training_cost import LONG, trained
from training_runs import SMALL, write_tones

from wavenet.checks import ConfigError
from wavenet.training import budget, recipe
from wavenet.training.budget import MARGIN, fit_to_memory
from wavenet.training.distributed import Processes
from wavenet.training.recipe import Recipe
from wavenet.training.training_memory import training_memory

Capture = pytest.CaptureFixture[str]
PROGRAM: dict[str, Any] = {"process": 100e6, "threads": 4}  # bytes of the program
LARGE = [
    "model.cycles=4",
    "model.layers_per_cycle=6",
    "training.batch=4",
    "training.crop=40000",
]


@pytest.fixture(autouse=True)
def _a_thread_for_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that parts of a batch need less memory than all of it."""
    monkeypatch.setattr("wavenet.training.training_memory.most_threads", lambda processes: 64)


def needed(chosen: Recipe) -> float:
    """The smallest budget that the recipe fits into."""
    return MARGIN * training_memory(chosen, **PROGRAM).peak


def test_a_recipe_that_fits_is_unchanged() -> None:
    chosen = recipe.load(None, LARGE)
    fit = fit_to_memory(chosen, needed(chosen), **PROGRAM)
    assert fit.recipe == chosen
    assert fit.changes == ()
    assert MARGIN * fit.memory.peak <= needed(chosen)


def test_the_batch_is_computed_in_parts_before_crops_are_shortened() -> None:
    chosen = recipe.load(None, LARGE)
    halves = recipe.load(None, [*LARGE, "training.accumulation=2"])
    fit = fit_to_memory(chosen, needed(chosen) - 1, **PROGRAM)
    assert fit.recipe == halves
    assert "training.accumulation = 2 instead of 1" in fit.changes[0]
    assert fit_to_memory(chosen, needed(halves) - 1, **PROGRAM).recipe == recipe.load(
        None, [*LARGE, "training.accumulation=4"]
    )


def test_activations_are_computed_again_before_crops_are_shortened() -> None:
    chosen = recipe.load(None, LARGE)
    quarters = recipe.load(None, [*LARGE, "training.accumulation=4"])
    again = recipe.load(None, [*LARGE, "training.activation_checkpointing=true"])
    assert needed(again) < needed(quarters) or fit_to_memory(chosen, needed(again), **PROGRAM).recipe == quarters
    fit = fit_to_memory(chosen, needed(quarters) - 1, **PROGRAM)
    assert fit.recipe.training.crop == chosen.training.crop
    assert fit.recipe.training.activation_checkpointing
    assert any("training.activation_checkpointing = true" in change for change in fit.changes)


def test_crops_are_as_long_as_the_budget_allows() -> None:
    chosen = recipe.load(None, LARGE)
    smallest = ["training.accumulation=4", "training.activation_checkpointing=true"]
    shorter = recipe.load(None, [*LARGE, *smallest, "training.crop=30000"])
    fit = fit_to_memory(chosen, needed(shorter), **PROGRAM)
    assert fit.recipe == shorter
    assert any("training.crop = 30,000 instead of 40,000" in change for change in fit.changes)
    assert fit_to_memory(chosen, needed(shorter) - 1, **PROGRAM).recipe.training.crop == 29_900


def test_what_cannot_fit_says_how_much_is_needed() -> None:
    chosen = recipe.load(None, LARGE)
    with pytest.raises(ConfigError, match="are not enough") as caught:
        fit_to_memory(chosen, 50e6, **PROGRAM)
    message = str(caught.value)
    assert "100 MB the program" in message
    assert "\n" not in message
    least = float(message.partition("training needs ")[2].partition(" MB")[0].replace(",", "")) * 1e6
    assert fit_to_memory(chosen, least + 1e6, **PROGRAM).recipe.training.crop < 40_000
    with pytest.raises(ConfigError, match="are not enough"):
        fit_to_memory(chosen, least - 1e6, **PROGRAM)


def test_short_crops_are_never_made_longer() -> None:
    chosen = recipe.load("tiny", ["training.crop=300"])
    assert budget.least_crop(chosen) == 300
    assert fit_to_memory(chosen, 1e12, **PROGRAM).recipe == chosen


def test_each_process_fits_its_own_rows() -> None:
    chosen = recipe.load(None, LARGE)
    halves = recipe.load(None, [*LARGE, "training.batch=2"])
    fit = fit_to_memory(chosen, needed(halves) + 1e7, processes=Processes(0, 2, 0, 2), **PROGRAM)
    assert fit.recipe == chosen


@pytest.mark.skipif(sys.platform == "win32", reason="the peak memory of a process is not reported")
def test_a_process_stays_within_its_budget(tmp_path: Path) -> None:
    out = tmp_path / "run"
    predicted, peak = trained(write_tones(tmp_path / "tones"), out, *LONG, share=0.9)
    assert peak < 0.9 * predicted
    chosen = recipe.load(out / "recipe.toml").training
    assert chosen.accumulation > 1 or chosen.activation_checkpointing or chosen.crop < 50_000


def settings_of(*values: str) -> list[str]:
    """The options that set these keys."""
    return [part for value in (*SMALL, *values) for part in ("--set", value)]


def test_a_run_keeps_its_crops(tmp_path: Path, capsys: Capture) -> None:
    folder, out = write_tones(tmp_path / "tones"), tmp_path / "run"
    given = ["train", folder, "--out", out, *settings_of("training.validate_steps=1000")]
    assert run(*given, "--steps", 1) == 0
    stored = recipe.load(out / "recipe.toml")
    capsys.readouterr()
    message = error_of(capsys, *given, "--steps", 2, "--memory", "1M")
    assert "a run that is continued keeps its crops" in message
    assert recipe.load(out / "recipe.toml") == stored
    assert run(*given, "--steps", 2, "--memory", "100G") == 0
    assert "the recipe fits as it is" in capsys.readouterr().err
    assert recipe.load(out / "recipe.toml").training.crop == stored.training.crop


def test_a_number_without_a_unit_is_refused(tmp_path: Path, capsys: Capture) -> None:
    message = error_of(capsys, "train", write_tones(tmp_path / "tones"), "--out", tmp_path / "run", "--memory", "8000")
    assert "expected a number with a unit" in message
    assert not (tmp_path / "run").exists()
