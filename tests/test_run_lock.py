"""The lock of a run: one process at a time, others are told which, and what a dead one leaves does not lock."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wavenet.checkpoint import CheckpointError
from wavenet.training import run_lock
from wavenet.training.run_directory import RunDirectory
from wavenet.training.run_lock import STALE_SECONDS, Holder

OTHER = Holder(pid=77, host="elsewhere", boot="another boot", since=1_700_000_000.0)
HOLD = """
import os, sys, time
from pathlib import Path
from wavenet.training.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    reading, writing = os.pipe()
    worker = os.fork() if "fork" in sys.argv else 0
    if "fork" in sys.argv and not worker:
        os.write(writing, b"started")
    else:
        if worker:
            os.read(reading, 7)
        print("locked", worker, flush=True)
    time.sleep(600)
"""
needs_flock = pytest.mark.skipif(run_lock.fcntl is None, reason="this system has no flock")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.create()
    return run


def lock_file(run: RunDirectory) -> Path:
    return run.state.with_name(".lock")


def left_by(run: RunDirectory, holder: Holder, seconds_ago: float) -> None:
    """The lock file of a process that was last alive some seconds ago."""
    lock_file(run).write_text(json.dumps(dataclasses.asdict(holder)))
    os.utime(lock_file(run), (time.time() - seconds_ago,) * 2)


@needs_flock
def test_another_process_is_named_and_its_death_unlocks(run: RunDirectory) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked 0\n"
        with pytest.raises(CheckpointError) as caught, run.lock():
            pytest.fail("locked twice")
        process.send_signal(signal.SIGKILL)
        process.wait()
    host = Holder.this_process().host
    assert f"{run.path}: a training is running here (process {process.pid} on {host} since 20" in str(caught.value)
    assert str(caught.value).endswith("; give another --out")
    assert Holder.of(lock_file(run).read_text()) is not None  # the killed process has left it
    with run.lock() as lock:
        assert lock.holder.pid == os.getpid()
        lock.check()
    assert lock_file(run).read_text() == ""


@needs_flock
def test_a_worker_that_outlives_its_trainer_does_not_keep_the_lock(run: RunDirectory) -> None:
    command = [sys.executable, "-c", HOLD, str(run.path), "fork"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline().removeprefix("locked "))
        try:
            with pytest.raises(CheckpointError, match="running here"):
                run.lock().__enter__()
            process.kill()
            process.wait()
            with run.lock():
                os.kill(worker, 0)  # it is still there
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_process_on_another_machine_is_believed_while_it_refreshes_the_file(run: RunDirectory) -> None:
    left_by(run, OTHER, 20)
    with pytest.raises(CheckpointError, match=r"process 77 on elsewhere.*; if it was killed, try again in \d+ s"):
        run.lock("wait").__enter__()
    assert Holder.of(lock_file(run).read_text()) == OTHER
    left_by(run, OTHER, STALE_SECONDS + 5)
    with run.lock() as lock:
        assert Holder.of(lock_file(run).read_text()) == lock.holder


@needs_flock
@pytest.mark.parametrize("same", ["host", "boot"])  # after a reboot; in another container
def test_on_the_same_machine_only_the_lock_of_the_kernel_counts(run: RunDirectory, same: str) -> None:
    own = dataclasses.replace(Holder.this_process(), boot="this boot")
    left_by(run, dataclasses.replace(OTHER, pid=os.getpid(), **{same: getattr(own, same)}), 1)
    assert Holder.of(lock_file(run).read_text()) != own
    if same == "boot" and not run_lock.BOOT.exists():
        pytest.skip("this system does not tell the boot of its kernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Holder, "this_process", classmethod(lambda cls: own))
        with run.lock() as lock:
            assert lock.holder == own


def test_where_the_kernel_has_no_locks_the_file_decides(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "fcntl", None)
    with run.lock(), pytest.raises(CheckpointError, match=f"process {os.getpid()} on .*try again in 1"):
        run.lock().__enter__()
    with run.lock():  # it ended as it should
        pass


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": "x"}', "\0" * 50, '{"pid": 1, "host": "'])
def test_a_file_that_names_nobody_locks_nothing(run: RunDirectory, content: str) -> None:
    lock_file(run).write_text(content)
    with run.lock():
        pass


def test_the_time_of_the_file_is_refreshed(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.01)
    with run.lock():
        for _ in range(2):
            os.utime(lock_file(run), (0, 0))
            while lock_file(run).stat().st_mtime < time.time() - 3_600:
                time.sleep(0.01)
    assert not any(thread.name.startswith("wavenet run lock") for thread in threading.enumerate())


def test_a_run_that_another_process_took_over_is_not_written(run: RunDirectory) -> None:
    with run.lock() as lock:
        left_by(run, OTHER, 0)
        with pytest.raises(CheckpointError, match="process 77 on elsewhere since .* has taken over this run"):
            lock.check()
        lock_file(run).unlink()
        with pytest.raises(CheckpointError, match="was the run removed?"):
            lock.check()
