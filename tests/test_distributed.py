"""Training in several processes: the weights of one process, and what they do when one of them is slow or lost."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interrupted_runs import content, interrupt
from labellers import write_labelled
from process_groups import DEAD, forked, new_store, together
from test_labelling_training import trainer_for as labelling_trainer_for
from training_runs import CONDITIONED, SMALL, TWO_TIERS, at_step, trainer_for, write_tones, write_voices

from wavenet import checkpoint, cli
from wavenet.data.tensor_file import Tensors
from wavenet.training.batches import Batches
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.events import Event, Progress
from wavenet.training.process_group import LostProcess, joined
from wavenet.training.run_directory import RunDirectory
from wavenet.training.trainer import Trainer

CUT = ["training.batch=5", "training.steps=12", "training.validate_steps=6", "training.ema=0.9"]
KINDS = {"network": [], "all": CONDITIONED["all"], "two tiers": TWO_TIERS}

# Two processes add the same terms in another order. A gradient, the sum of 1,000 terms, then differs by some 2^-24 of
# its largest terms; Adam divides by the root of the mean square, so that a weight differs by some 1e-6 of the learning
# rate per step, or by more where its gradient is close to zero. Weights move by 4e-3 per step.
TOLERANCE = 2e-5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "clips")


def weights_of(run: Path) -> Tensors:
    tensors, _ = checkpoint.read_tensors(RunDirectory(run).state)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")}


def assert_close(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        np.testing.assert_allclose(other[name], tensor, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(Trainer, "_measure_temperatures", lambda *arguments: None)  # takes seconds, and is no step
    folder, settings = write_voices(tmp_path / "voices"), [*CUT, *KINDS[kind], "data.validation=0.3"]

    def train(processes: Processes, out: str = "two") -> list[Progress]:
        events: list[Event] = []
        trainer_for(folder, tmp_path / out, *settings, processes=processes).train(events.append)
        return [event for event in events if isinstance(event, Progress)]

    expected = train(SINGLE, "one")
    start = {f"model.{name}": weight.numpy() for name, weight in first_weights(folder, tmp_path, settings).items()}
    found, silent = together(2, train)
    assert silent == []  # only the first process reports
    for one, other in zip(expected, found, strict=True):
        assert (one.step, one.learning_rate, one.fraction) == (other.step, other.learning_rate, other.fraction)
        assert other.bits == pytest.approx(one.bits, abs=1e-5)
        assert other.nats == pytest.approx(one.nats, abs=1e-4, nan_ok=True)
    trained = weights_of(tmp_path / "two")
    assert_close(weights_of(tmp_path / "one"), trained)
    moved = [np.abs(trained[name] - start[name]).max() for name in start if not name.startswith("model.frame_model.")]
    assert min(moved) > 100 * TOLERANCE


def test_two_processes_train_a_labeller_like_one(tmp_path: Path) -> None:
    settings = ["training.batch=3", "training.steps=4", "training.labels.dropout=0"]
    folder = write_labelled(tmp_path / "tones")

    def train(processes: Processes, out: str = "two") -> float:
        trainer = labelling_trainer_for(folder, tmp_path / out, *settings, processes=processes)
        trainer.train()
        return trainer.state.loss

    expected = train(SINGLE, "one")
    assert together(2, train) == [pytest.approx(expected, abs=1e-5)] * 2
    assert_close(weights_of(tmp_path / "one"), weights_of(tmp_path / "two"))


def test_losses_that_are_read_a_step_later_are_all_in_the_saved_state(folder: Path, tmp_path: Path) -> None:
    """As on a GPU. Validations and interruptions come between a step and the reading of its loss."""
    for out, delay in ("one", 0), ("two", 1), ("cut", 1):
        with contextlib.suppress(KeyboardInterrupt):
            trainer = trainer_for(folder, tmp_path / out, *CUT)
            trainer.readout.delay = delay
            trainer.train(at_step(7, interrupt) if out == "cut" else lambda event: None)
    trainer = trainer_for(folder, tmp_path / "cut", *CUT)
    assert trainer.state.step == 7
    trainer.readout.delay = 1
    trainer.train()
    expected = content(RunDirectory(tmp_path / "one"))
    assert content(RunDirectory(tmp_path / "two")) == expected
    assert content(RunDirectory(tmp_path / "cut")) == expected


def first_weights(folder: Path, tmp_path: Path, settings: Sequence[str]) -> dict[str, torch.Tensor]:
    return trainer_for(folder, tmp_path / "unused", *settings).state.model.state_dict()


def test_a_run_is_continued_by_any_number_of_processes(folder: Path, tmp_path: Path) -> None:
    trainer_for(folder, tmp_path / "whole", *CUT).train()

    def until(step: int | None) -> Any:
        def train(processes: Processes) -> int:
            trainer = trainer_for(folder, tmp_path / "cut", *CUT, processes=processes)
            report = at_step(step, interrupt) if step is not None and processes.is_first else lambda event: None
            try:
                trainer.train(report)
            except KeyboardInterrupt:
                assert trainer.saved_step == trainer.state.step or not processes.is_first
            return trainer.state.step

        return train

    assert together(3, until(2)) == [3, 3, 3]  # all learn of Ctrl-C at the next exchange, and stop at the same step
    assert until(7)(SINGLE) == 7
    assert together(2, until(None)) == [12, 12]
    assert_close(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))
    assert [line["step"] for line in RunDirectory(tmp_path / "cut").read_log()] == [6, 12]


def test_only_the_first_process_opens_the_run_directory(folder: Path, tmp_path: Path) -> None:
    def train(processes: Processes) -> list[str]:
        opened: list[str] = []

        def hook(event: str, arguments: Any) -> None:
            if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(tmp_path / "run") in str(arguments[0]):
                opened.append(str(arguments[0]))

        sys.addaudithook(hook)
        trainer_for(folder, tmp_path / "run", *CUT, processes=processes).train()
        return opened

    first, other = together(2, train)
    assert any("state.safetensors" in path for path in first)
    assert other == []


def test_all_processes_end_a_budget_in_minutes_at_the_same_step(folder: Path, tmp_path: Path) -> None:
    budget = ["training.minutes=0.01", "training.validate_minutes=0.01", "training.batch=2"]

    def train(processes: Processes) -> tuple[int, float]:
        clock = time.perf_counter
        time.perf_counter = lambda: (1 + 9 * processes.rank) * clock()  # that of the second process runs fast
        trainer = trainer_for(folder, tmp_path / "run", *budget, processes=processes)
        trainer.train()
        return trainer.state.step, trainer.state.seconds

    first, other = together(2, train)
    assert first == other
    assert first[1] >= 0.6


def test_a_process_that_works_beats_and_one_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVENET_TIMEOUT", "3")
    noticed = multiprocessing.get_context("fork").Event()

    def work(processes: Processes) -> str:
        def beating() -> str:  # for longer than the timeout
            for _ in range(40):
                time.sleep(0.1)
                processes.beat()
            return f"by rank {processes.rank}"

        def hanging() -> None:
            noticed.wait(60)

        assert processes.first(beating, "the validation") == "by rank 0"
        assert processes.hosts_first(lambda: processes.rank, "the recordings") == processes.rank
        with pytest.raises(LostProcess) as caught:
            processes.first(hanging, "the validation")
        noticed.set()
        return str(caught.value)

    first, other = together(2, work)
    assert "rank 1 on " in other
    assert " s for the validation, and another process gave no sign of life" in other
    assert "WAVENET_TIMEOUT to more seconds (now 3)" in other
    assert "rank 0 on " in first and "another process ended" in first


def messages(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The errors and warnings that commands have printed."""
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("wavenet: ")]


def test_restarted_processes_do_not_meet_those_that_have_ended() -> None:
    """torchrun's store still has the addresses of the first ones when the second of the others starts late."""
    store = new_store()

    def add(delay: float) -> list[Any]:
        def join() -> list[float]:
            time.sleep(delay * int(os.environ["RANK"]))
            with joined("cpu") as processes:
                return processes.sums([1.0 + processes.rank], "the test")

        return forked(2, join, store=store)

    assert add(0.0) == add(0.5) == [[3.0], [3.0]]


def train_command(folder: Path, out: Path, *settings: str) -> int:
    options = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    return cli.main(["train", str(folder), "--out", str(out), *options])


def test_a_batch_with_fewer_crops_than_processes_is_refused_once(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert forked(2, lambda: train_command(folder, tmp_path / "run", "training.batch=1", "training.steps=2")) == [2, 2]
    (error,) = messages(capfd)
    assert error.startswith("wavenet: training.batch = 1 with 2 processes: each needs a crop; raise training.batch")


def test_other_recordings_on_another_host_are_named(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    others = write_voices(tmp_path / "others")

    def train() -> int:
        return train_command(folder if os.environ["RANK"] == "0" else others, tmp_path / "run", "training.steps=2")

    assert forked(2, train) == [2, 2]
    (error,) = messages(capfd)
    assert error.startswith("wavenet: the recordings of rank 1 on ")
    assert "12 clips of 4.5 s" in error and "16 clips of 8.0 s" in error


def test_a_failure_of_one_process_is_reported_once(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(trouble: Callable[[], None]) -> list[str]:
        read = Batches.batch

        def batch(batches: Batches, step: int) -> Any:
            if step == 3 and os.environ["RANK"] == "1":
                trouble()
            return read(batches, step)

        with monkeypatch.context() as patch:
            patch.setattr(Batches, "batch", batch)
            settings = ["training.steps=5", "training.batch=2"]
            codes.append(forked(2, lambda: train_command(folder, tmp_path / "run", *settings), DEAD))
        return messages(capfd)

    def fail() -> None:
        raise ValueError("a file cannot be read")

    codes: list[list[Any]] = []
    (error,) = train(fail)
    assert error.startswith("wavenet: a file cannot be read (rank 1 on ")
    (error,) = train(lambda: os._exit(9))
    assert error.startswith("wavenet: rank 0 on ") and "and another process ended" in error
    assert "the same command continues at the last saved state" in error
    assert codes == [[1, 2], [1, DEAD]]
