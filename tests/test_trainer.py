"""The training loop: it learns, reports, survives what goes wrong, and leaves a complete run directory."""

from __future__ import annotations

import math
import signal
import threading
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from training_runs import CONDITIONED, SMALL, trainer_for, write_tones, write_voices

from wavenet.checkpoint import load_model, read_model
from wavenet.config import ConfigError
from wavenet.evaluation import likelihood
from wavenet.training import recipe, trainer, training_cost
from wavenet.training.batches import Batch
from wavenet.training.events import Event, Progress
from wavenet.training.trainer import TrainingError
from wavenet.training.training_memory import training_memory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "clips")


def test_it_learns_and_leaves_a_complete_run_directory(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.wav").write_bytes(b"nothing")
    training = trainer_for(folder, tmp_path / "run", "training.steps=60", "training.validate_steps=30")
    events: list[Event] = []
    result = training.train(events.append)
    assert result is not None
    assert result.bits < 6 < 8  # from 8 bits
    run = training.run
    assert load_model(run.path).config == training.recipe.model
    assert recipe.load(run.recipe) == training.recipe
    assert soundfile.info(run.sample(60)).frames == 160
    assert soundfile.info(run.sample(30)).samplerate == 8_000
    assert run.picture(60).read_text().count("<image ") == 2
    assert 'src="samples/step_30.wav"' in run.page.read_text()
    assert run.skipped.read_text().splitlines()[1].startswith("broken.wav,")
    log = run.read_log()
    assert [line["step"] for line in log if line["event"] == "validation"] == [30, 60]
    assert log[-1]["references"]["histogram"] > log[-1]["bits"]
    steps = [event for event in events if isinstance(event, Progress)]
    assert [event.step for event in steps] == list(range(1, 61))
    assert steps[0].seconds > 0
    assert steps[0].seconds_left == pytest.approx(59 * steps[0].seconds)  # from the first step on
    assert not list(run.path.rglob("*.partial"))
    summary = run.summary()
    assert (summary.step, summary.best, summary.folder) == (60, result.best, str(folder))


# bits per sample that some steps save; few where linear prediction predicts a tone before the network does
LEARNED = {"speakers": 1.0, "features": 1.0, "causal": 1.0, "16 bits": 0.1, "adaptive": 0.1, "all": 2.0}


@pytest.mark.parametrize("name", CONDITIONED)
@pytest.mark.filterwarnings("error::UserWarning")
def test_it_learns_with_conditioning(tmp_path: Path, name: str) -> None:
    folder = write_voices(tmp_path / "voices")
    budget = ["data.validation=0.3", "training.steps=40", "training.batch=4", "training.ema=0.9"]
    training = trainer_for(folder, tmp_path / "run", *CONDITIONED[name], *budget)
    before = likelihood.bits_per_sample(training.state.average, training.recordings.validation)
    result = training.train()
    assert result is not None
    assert result.skipped == 0
    assert result.bits < before - LEARNED[name]
    assert soundfile.info(training.run.sample(40)).frames == 160
    assert soundfile.read(training.run.sample(40))[0].any()
    assert load_model(training.run.path).config == training.recipe.model
    if training.recipe.data.speakers:
        assert training.recipe.model.speakers == ("high", "low")
    for weight_name, weight in training.state.model.named_parameters():
        assert weight.grad is None or weight.grad.abs().max() > 0, weight_name  # all of them learn


def test_the_same_seed_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    weights = []
    for out in ("one", "two"):
        training = trainer_for(folder, tmp_path / out, "training.steps=5", "training.seed=3")
        training.train()
        weights.append(read_model(training.run.model)[1])
    for name, tensor in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], tensor, err_msg=name)


def test_steps_that_are_not_finite_are_skipped_and_counted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainer_for(folder, tmp_path / "run", "training.steps=10")
    gradients, calls = training.gradients, []

    def sometimes_nan(batch: Batch) -> Tensor:
        calls.append(1)
        return gradients(batch) * (math.nan if len(calls) in (3, 4, 8) else 1)

    monkeypatch.setattr(training, "gradients", sometimes_nan)
    result = training.train()
    assert result is not None
    assert result.skipped == 3
    assert math.isfinite(result.bits)
    assert all(torch.isfinite(weight).all() for weight in training.state.model.parameters())


def test_nothing_but_nan_ends_with_advice(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = trainer_for(folder, tmp_path / "run", "training.steps=1000")
    gradients = training.gradients

    def always_nan(batch: Batch) -> Tensor:
        return gradients(batch) * math.nan

    monkeypatch.setattr(training, "gradients", always_nan)
    with pytest.raises(TrainingError, match="lower training.learning_rate"):
        training.train()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 TB")])
def test_out_of_memory_says_what_to_lower(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    training = trainer_for(folder, tmp_path / "run", "training.steps=10")

    def exhausted(*arguments: object) -> NoReturn:
        raise error

    monkeypatch.setattr(training, "gradients", exhausted)
    with pytest.raises(TrainingError, match=r"training.batch \(now 2\) or training.crop \(now 200\)"):
        training.train()


def test_too_little_memory_is_refused_before_the_first_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe.load(None, SMALL)
    needed = training_memory(chosen, process=0).peak / 1e6
    monkeypatch.setattr(training_cost, "memory_megabytes", lambda device: needed)
    with pytest.raises(TrainingError, match=r"lower training.batch \(now 2\) or training.crop \(now 200\)") as caught:
        trainer_for(folder, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(training_cost, "memory_megabytes", lambda device: 1e6)
    trainer_for(folder, tmp_path / "run")


def test_training_without_validation_keeps_the_latest(folder: Path, tmp_path: Path) -> None:
    training = trainer_for(folder, tmp_path / "run", "training.steps=3", "data.validation=0")
    result = training.train()
    assert result is not None
    assert math.isnan(result.bits)
    assert load_model(training.run.path).config == training.recipe.model
    assert "NaN" not in training.run.log.read_text()
    assert training.run.summary().best is None


def test_training_in_another_thread_leaves_signals_alone(folder: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    training = trainer_for(folder, tmp_path / "run", "training.steps=2")
    thread = threading.Thread(target=training.train)
    thread.start()
    thread.join()
    assert training.state.step == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_a_device_that_is_not_available(folder: Path, tmp_path: Path) -> None:
    training = trainer_for(folder, tmp_path / "run")
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        trainer.Trainer(training.run, training.recipe, training.recordings, "tpu")
