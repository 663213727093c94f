"""The feed: the same batches with any number of workers, and what happens when one of the processes ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from interrupted_runs import content
from test_batches import same
from training_runs import CONDITIONED, at_step, trainer_for, write_voices

from wavenet.data.cached_samples import CachedSamples, DatasetError
from wavenet.training import feed
from wavenet.training.batches import Batches
from wavenet.training.distributed import Processes
from wavenet.training.events import Event, Progress
from wavenet.training.feed import Feed, FeedError, chosen_workers
from wavenet.training.recipe import load
from wavenet.training.run_directory import RunDirectory

CPU = torch.device("cpu")
PROCESSES = Path("/proc/self").exists()


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return write_voices(tmp_path / "voices")


@pytest.fixture
def batches(voices: Path, tmp_path: Path) -> Batches:
    return trainer_for(voices, tmp_path / "run", *CONDITIONED["all"], "model.linear_prediction=8").batches


def children() -> set[int]:
    """The processes that this one has started."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """All processes that a test starts have ended."""
    before = children() if PROCESSES else set()
    yield
    assert not PROCESSES or children() == before


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(batches: Batches, workers: int, nothing_left: None) -> None:
    prepared = Feed(batches, 3, workers, CPU)
    for step in range(3, 8):
        assert prepared.step == step
        assert same(prepared.next(), batches.batch(step))
    prepared.close()


def test_workers_that_are_not_forked_prepare_the_same(batches: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "START_METHOD", "spawn")
    assert isinstance(batches.clips.samples, CachedSamples)  # opened again in the worker
    prepared = Feed(batches, 0, 1, CPU)
    assert same(prepared.next(), batches.batch(0))
    prepared.close()


def test_a_run_with_workers_is_the_run_without(voices: Path, tmp_path: Path, nothing_left: None) -> None:
    contents = []
    for workers in (0, 2):
        out = tmp_path / f"run-{workers}"
        recipe = *CONDITIONED["16 bits"], "training.steps=6", f"training.workers={workers}", "training.past=30"
        with pytest.raises(KeyboardInterrupt):
            trainer_for(voices, out, *recipe).train(at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT)))
        trainer_for(voices, out, *recipe).train()
        contents.append(content(RunDirectory(out)))
        for table in contents[-1]["log.jsonl"]:
            table.pop("samples_per_second", None)
        for name in ("recipe.toml", "index.html"):  # the number of workers
            contents[-1].pop(name)
    assert {name for name in contents[0] if contents[0][name] != contents[1][name]} == set()


def test_the_share_of_time_spent_waiting_is_reported(voices: Path, tmp_path: Path) -> None:
    shares: list[float] = []

    def report(event: Event) -> None:
        if isinstance(event, Progress):
            shares.append(event.waiting)

    trainer_for(voices, tmp_path / "run", "training.steps=3", "training.workers=0").train(report)
    assert len(shares) == 3
    assert all(0 < share < 1 for share in shares)


def test_an_error_in_a_worker_arrives_as_itself(batches: Batches, nothing_left: None) -> None:
    samples = batches.clips.samples
    assert isinstance(samples, CachedSamples)
    os.truncate(samples.path, 0)
    prepared = Feed(batches, 0, 1, CPU)
    with pytest.raises(DatasetError, match="was truncated while it was in use: run the command again") as raised:
        prepared.next()
    assert "test_feed" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "in _read\n" in raised.value.__notes__[0] or "__getitem__" in raised.value.__notes__[0]  # where it happened
    prepared.close()


class Unpicklable(Exception):
    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def test_an_error_that_cannot_be_sent_arrives_with_its_message(
    batches: Batches, monkeypatch: pytest.MonkeyPatch, nothing_left: None
) -> None:
    def fail(step: int) -> None:
        raise Unpicklable("no", " batch")

    monkeypatch.setattr(batches, "batch", fail)
    prepared = Feed(batches, 0, 1, CPU)
    with pytest.raises(RuntimeError, match="Unpicklable: no batch"):
        prepared.next()
    prepared.close()


@pytest.mark.skipif(not PROCESSES, reason="processes are found in /proc")
def test_a_killed_worker_is_reported_and_the_run_is_saved(voices: Path, tmp_path: Path, nothing_left: None) -> None:
    before = children()
    trainer = trainer_for(voices, tmp_path / "run", "training.steps=50", "training.workers=1")

    def kill() -> None:
        (worker,) = children() - before
        os.kill(worker, signal.SIGKILL)

    with pytest.raises(FeedError, match=r"killed by signal 9, .*lower training.workers"):
        trainer.train(at_step(2, kill))
    assert trainer.saved_step == trainer.state.step >= 2


@pytest.mark.skipif(not PROCESSES, reason="processes are found in /proc")
def test_signals_of_a_terminal_do_not_end_workers(batches: Batches, nothing_left: None) -> None:
    before = children()
    prepared = Feed(batches, 0, 2, CPU)
    for worker in children() - before:
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    for step in range(4):
        assert same(prepared.next(), batches.batch(step))
    prepared.close()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


TRAINER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training_runs import trainer_for
trainer = trainer_for(Path(sys.argv[2]), Path(sys.argv[3]), "training.steps=100000", "training.workers=2")
def report(event):
    if event.step == 2:
        print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
    time.sleep(0.01)
if sys.argv[4] == "closed":
    trainer.train(report)
trainer._step()
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
if sys.argv[4] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not PROCESSES, reason="processes are found in /proc")
@pytest.mark.parametrize("end", ["killed", "ended", "closed"])
def test_workers_end_with_the_trainer(voices: Path, tmp_path: Path, end: str) -> None:
    arguments = [str(Path(__file__).parent), str(voices), str(tmp_path / "run"), end]
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert trainer.stdout is not None
    workers = [int(pid) for pid in trainer.stdout.readline().split()]
    assert len(workers) == 2
    if end == "closed":
        os.killpg(trainer.pid, signal.SIGTERM)  # as a scheduler sends it: to all processes
    _, errors = trainer.communicate(timeout=60)
    if end == "closed":
        assert errors.strip().splitlines()[-1:] == ["KeyboardInterrupt"]  # of the trainer, which the command catches
        assert errors.count("Traceback") == 1
    else:
        assert errors == ""
        assert trainer.returncode == (-signal.SIGKILL if end == "killed" else 0)
    for pid in workers:
        deadline = time.monotonic() + 60
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, speech = torch.device("cuda"), load("speech")
    monkeypatch.setattr(feed, "cores", lambda: 16)
    given = [load("speech", [f"training.workers={workers}"]) for workers in (0, 3, -1)]
    assert [chosen_workers(recipe, gpu) for recipe in given] == [0, 3, 4]
    assert chosen_workers(speech, gpu, Processes(9, 16, 1, 8)) == 1  # two cores for each process
    assert chosen_workers(speech, gpu, Processes(1, 4, 1, 4)) == 3
    assert [chosen_workers(load(name), CPU) for name in ("speech", "vocoder")] == [0, 1]
    assert chosen_workers(load("vocoder"), CPU, Processes(0, 16, 0, 16)) == 0  # a core for each process


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_on_a_device_are_those_of_the_cpu(batches: Batches, workers: int) -> None:
    prepared = Feed(batches, 0, workers, torch.device("cuda"))
    for step in range(5):
        batch = prepared.next()
        assert batch.inputs.is_cuda
        assert same(batch.to(CPU), batches.batch(step))
    prepared.close()
