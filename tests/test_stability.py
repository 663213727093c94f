"""A loss that jumps is noticed, undone with a lower learning rate, and ends a run in which it comes again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupted_runs import content, interrupt
from process_groups import together
from training_runs import TWO_TIERS, at_step, trainer_for, write_tones, write_voices

from wavenet import checkpoint
from wavenet.training import rollback, stability
from wavenet.training.distributed import Processes
from wavenet.training.events import Event, Progress
from wavenet.training.rollback import Rollback
from wavenet.training.run_directory import RunDirectory
from wavenet.training.run_loop import TrainingError
from wavenet.training.stability import BITS, BLOCK, Stability
from wavenet.training.trainer import Trainer


def watching(losses: list[float | None]) -> Stability:
    found = Stability({"training": BITS})
    for loss in losses:
        found.record("training", loss)
    return found


def noise(mean: float, spread: float, steps: int, seed: int = 0) -> list[float | None]:
    return list(np.random.default_rng(seed).normal(mean, spread, steps))


def test_two_blocks_that_are_high_are_a_jump() -> None:
    before, after = noise(3.0, 0.8, 20 * BLOCK), noise(5.0, 0.8, 2 * BLOCK, seed=1)
    assert watching([*before, *after[:-1]]).jump is None
    jump = watching([*before, *after]).jump
    assert jump is not None
    assert jump.before == pytest.approx(3.0, abs=0.4)
    assert jump.after == pytest.approx(np.mean(after[BLOCK:]))
    assert jump.text.endswith(f"to {jump.after:.2f} bits per sample")


def test_steps_that_are_not_finite_are_a_jump() -> None:
    assert watching([*noise(3.0, 0.8, BLOCK), *[None] * BLOCK, *noise(3.0, 0.8, BLOCK), *[None] * BLOCK]).jump is None
    jump = watching([None] * 2 * BLOCK).jump
    assert jump is not None
    assert "not finite" in jump.text


@pytest.mark.parametrize(
    "losses",
    [
        noise(3.0, 0.8, 2_000 * BLOCK),  # the lowest of 2,000 means is 3.3 standard errors below the mean
        [*noise(3.0, 0.8, 20 * BLOCK), *noise(3.4, 0.8, 20 * BLOCK)],  # less than the least rise
        [10.0 if index % 20 == 0 else 0.1 for index in range(50 * BLOCK)],
        [*[0.0] * 10 * BLOCK, *(10.0 if index % 3 == 0 else 0.0 for index in range(10 * BLOCK))],  # few crops are loud
        [1e300 if index % BLOCK == 7 else 3.0 for index in range(10 * BLOCK)],
        list(np.linspace(8, 1, 50 * BLOCK)),
        [math.nan] * 10 * BLOCK,  # a network without a frame model
    ],
)
def test_no_jump(losses: list[float | None]) -> None:
    found = Stability({"training": BITS})
    for loss in losses:
        found.record("training", loss)
        assert found.jump is None


def test_it_decides_alike_after_it_was_saved() -> None:
    losses = [*noise(3.0, 0.8, 3 * BLOCK), *noise(8.0, 0.8, 2 * BLOCK)]
    found = Stability({"training": BITS})
    for index, loss in enumerate(losses):
        found.record("training", loss)
        found = found.restored(found.counters())
        assert (found.jump is not None) == (index == 5 * BLOCK - 1)
    other = found.restored(found.counters())
    other.watch("other recordings")
    assert other.jump is not None  # it did not know which ones the losses were of
    other.watch("yet others")
    assert other.jump is None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 8 steps, and good states every 16."""
    monkeypatch.setattr(stability, "BLOCK", 8)
    monkeypatch.setattr(rollback, "SUSPECT_STEPS", 24)
    monkeypatch.setattr(rollback, "GOOD_STEPS", 16)


BUDGET = ["training.steps=100", "training.validate_steps=30", "training.warmup=0", "training.learning_rate=0.01"]


def damage(trainer: Trainer, step: int = 48, times: int = 1) -> Callable[[Event], None]:
    """A report that multiplies weights after a step, in a run that was rolled back fewer times."""

    def report(event: Event) -> None:
        if isinstance(event, Progress) and event.step == step and trainer.state.stability.rollbacks < times:
            with torch.no_grad():
                trainer.state.model.head.output.weight.mul_(300)
                trainer.state.model.head.output.bias.normal_(std=30, generator=torch.Generator().manual_seed(0))

    return report


def both(*reports: Callable[[Event], None]) -> Callable[[Event], None]:
    def report(event: Event) -> None:
        for each in reports:
            each(event)

    return report


@pytest.mark.usefixtures("quick")
def test_a_jump_is_undone_with_a_lower_learning_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from wavenet.cli.train import _Reporter

    trainer = trainer_for(write_tones(tmp_path / "clips"), tmp_path / "run", *BUDGET)
    events: list[Event] = []
    result = trainer.train(both(damage(trainer), events.append, _Reporter()))
    assert result is not None
    (event,) = (event for event in events if isinstance(event, Rollback))
    assert event.from_step == 64  # the end of the second block that is high
    assert event.step == 32  # the newest good state that is 24 steps older
    assert event.learning_rate == 0.005
    assert event.text in capsys.readouterr().err
    rates = {event.step: event.learning_rate for event in events if isinstance(event, Progress)}  # the later ones
    assert rates[33] == pytest.approx(0.005, rel=0.3)
    assert rates[32] == pytest.approx(0.01, rel=0.3)
    log = trainer.run.read_log()
    assert [(line["event"], line["step"]) for line in log if line["event"] != "train"] == [
        ("validation", 30),
        ("rollback", 32),
        ("validation", 60),
        ("validation", 90),
        ("validation", 100),
    ]
    assert result.bits < log[0]["bits"]
    assert trainer.run.good_states() == [80, 96]


@pytest.mark.usefixtures("quick")
def test_an_interrupted_run_with_a_jump_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")
    whole = trainer_for(folder, tmp_path / "whole", *BUDGET)
    whole.train(damage(whole))
    expected = content(whole.run)
    cut = trainer_for(folder, tmp_path / "cut", *BUDGET)
    for step in (20, 48, 55, 40, 90):  # 55: between the jump and its end; 40: after it was undone
        with pytest.raises(KeyboardInterrupt):
            cut.train(both(damage(cut), at_step(step, interrupt)))
        assert cut.state.stability.rollbacks == (step in (40, 90))
        cut = trainer_for(folder, tmp_path / "cut", *BUDGET)
    cut.train()
    assert content(cut.run) == expected


@pytest.mark.usefixtures("quick")
def test_training_stops_where_lower_rates_do_not_help(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")
    trainer = trainer_for(folder, tmp_path / "run", *BUDGET)
    with pytest.raises(TrainingError, match="lower training.learning_rate .now 0.01.*damaged recordings") as caught:
        trainer.train(damage(trainer, times=1_000))
    assert "3 times" in str(caught.value) and "\n" not in str(caught.value)
    assert [line["learning_rate"] for line in trainer.run.read_log() if line["event"] == "rollback"] == [
        0.005,
        0.0025,
        0.00125,
        0.000625,
    ]
    resumed = trainer_for(folder, tmp_path / "run", *BUDGET)
    good = checkpoint.read_tensors(resumed.run.good_state(32))[0]
    assert resumed.state.step == 32
    for name, weight in resumed.state.model.state_dict().items():
        np.testing.assert_array_equal(weight, good[f"model.{name}"])
    resumed.train()  # which goes on with the lowered rate
    assert resumed.finished


@pytest.mark.usefixtures("quick")
def test_a_jump_of_the_frame_model_lowers_its_own_rate(tmp_path: Path) -> None:
    budget = [*TWO_TIERS, "training.steps=60", "training.validate_steps=100", "data.validation=0.3"]
    trainer = trainer_for(write_voices(tmp_path / "voices"), tmp_path / "run", *budget)
    frames = trainer.frames
    assert frames is not None

    def report(event: Event) -> None:
        if isinstance(event, Progress) and event.step == 33 and not trainer.state.stability.rollbacks:
            with torch.no_grad():
                for weight in frames.trainer.model.parameters():
                    weight.mul_(30)
        if isinstance(event, Rollback):
            interrupt()  # the rest of the run shows nothing more

    events: list[Event] = []
    with pytest.raises(KeyboardInterrupt):
        trainer.train(both(report, events.append))
    (event,) = (event for event in events if isinstance(event, Rollback))
    assert event.jump.table == "training.frames"
    assert trainer.state.stability.share("training", 1e-3) == 1
    assert trainer.state.stability.share("training.frames", 5e-3) == 0.5


@pytest.mark.usefixtures("quick")
def test_two_processes_go_back_together(tmp_path: Path) -> None:
    folder, batch = write_tones(tmp_path / "clips"), "training.batch=2"
    one = trainer_for(folder, tmp_path / "one", *BUDGET, batch)
    one.train(damage(one))

    def train(processes: Processes) -> list[float]:
        trainer = trainer_for(folder, tmp_path / "two", *BUDGET, batch, processes=processes)
        step, broken = trainer._step, damage(trainer)

        def damaged_step() -> Progress:
            progress = step()
            broken(progress)
            return progress

        trainer._step = damaged_step  # type: ignore[method-assign]
        trainer.train()
        stability = trainer.state.stability
        weights = [weight.double().sum().item() for weight in trainer.state.model.parameters()]
        return [stability.rollbacks, stability.share("training", 0.01), *weights]

    first, second = together(2, train)
    assert first == second
    assert first[:2] == [1, 0.5]
    records = [
        [(line["event"], line["step"]) for line in RunDirectory(tmp_path / name).read_log() if line["event"] != "train"]
        for name in ("one", "two")
    ]
    assert records[0] == records[1]


def test_losses_are_forgotten_only_where_what_is_learned_has_changed(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")

    def data(*overrides: str) -> str:
        return trainer_for(folder, tmp_path / "run", *overrides).state.stability.data

    computed_otherwise = "training.workers=1", "training.accumulation=2", "training.activation_checkpointing=true"
    assert data(*computed_otherwise, "training.clip_seconds=0") == data()
    assert data("training.batch=3") != data()
