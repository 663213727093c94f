"""Whether a training run that is interrupted again and again ends with the weights of an uninterrupted one.

    python benchmarks/interruptions.py FOLDER -o OUT --steps 20000 [--processes 2] [--options "--recipe speech"]
        [--minutes 120]

Trains twice with the same command, in several processes under torchrun: once to the end, and once interrupted at random
moments, by turns with

    kill -9 of all processes              the command is given again
    SIGTERM to torchrun                   the command is given again
    kill -9 of one process of the run     torchrun itself starts all of them again
    a full disk                           training stops at its next save; space is made, and the command is given again

Then all tensors of the last state, of the weights, their average and the optimizer, and those of the best model are
compared bit for bit. Filling a disk needs root, for a small file system in memory; without, the other three take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wavenet.checkpoint import read_tensors

DISK_BYTES = 2**30  # of the file system that is filled
FIRST_SECONDS = 20.0  # before the first interruption: processes start, and the folder is read
RESTARTS = 3  # that torchrun may make; on a full disk it makes all of them in vain
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 3_600.0  # for a full disk to be noticed


class Training:
    """The training command in a session of its own, whose processes can be killed together."""

    def __init__(self, command: list[str], log: Path) -> None:
        with open(log, "a", encoding="utf-8") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it has ended; waits so long, or until then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.ended()

    def kill_all(self) -> None:
        """kill -9 of torchrun and of its processes, which are in sessions of their own."""
        for process in [*self.ranks(), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> None:
        """SIGTERM to torchrun, which passes it on."""
        self.process.terminate()
        self.process.wait()

    def kill_one(self, rng: random.Random) -> None:
        """kill -9 of one process of the run."""
        if ranks := self.ranks():
            os.kill(rng.choice(ranks), signal.SIGKILL)

    def ranks(self) -> list[int]:
        """The processes that torchrun has started."""
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
        return [int(line) for line in listed.stdout.split()]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own at `folder`; False where it cannot be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Write a file there until the disk is full."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(2**20)):
            pass
    return filler


def interrupt(training: Training, kind: str, disk: Path, rng: random.Random) -> str:
    """Interrupt a training; returns what was done, when the training has ended or torchrun continues it by itself."""
    if kind == "kill":
        training.kill_all()
        return "kill -9 of all processes"
    if kind == "terminate":
        training.terminate()
        return "SIGTERM"
    if kind == "lost":
        training.kill_one(rng)
        return "kill -9 of one process"
    filler = fill(disk)
    ended = training.wait(PATIENCE_SECONDS)
    filler.unlink()
    return f"full disk ({'training stopped' if ended else 'not noticed'})"


def train_to_the_end(command: list[str], log: Path) -> float:
    """Seconds of an uninterrupted run."""
    started = time.monotonic()
    if Training(command, log).process.wait():
        sys.exit(f"the training failed; see {log}")
    return time.monotonic() - started


def train_interrupted(
    command: list[str], log: Path, disk: Path, kinds: list[str], rng: random.Random, mean: float
) -> int:
    """Train with an interruption of each of the kinds, and then to the end. mean: seconds between two of them.

    Returns the number of interruptions that were made before the training ended.
    """
    training, made = Training(command, log), 0
    for kind in kinds:
        if training.wait(FIRST_SECONDS + rng.uniform(0, 2 * max(mean - FIRST_SECONDS, 0))):
            break
        print(f"{time.strftime('%H:%M:%S')} {interrupt(training, kind, disk, rng)}", flush=True)
        made += 1
        if training.ended():
            training = Training(command, log)
    while not training.wait(POLL_SECONDS):
        pass
    if training.process.returncode:
        sys.exit(f"the interrupted training failed at the end; see {log}")
    return made


def differences(first: Path, second: Path) -> list[str]:
    """Names of the tensors of two files that are not equal bit for bit."""
    tensors, others = read_tensors(first)[0], read_tensors(second)[0]
    names = sorted(tensors.keys() | others.keys())
    return [
        name
        for name in names
        if name not in tensors or name not in others or not np.array_equal(tensors[name], others[name])
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--interruptions", type=int, default=10)
    parser.add_argument("--minutes", type=float, help="of the interrupted run, about; default: as the other one")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--options", default="", help='of wavenet train, such as "--recipe speech --seed 1"')
    arguments = parser.parse_args()
    output, rng = arguments.output, random.Random(arguments.seed)
    output.mkdir(parents=True)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={arguments.processes}"]
    start += [f"--max-restarts={RESTARTS}", "-m", "wavenet", "train", str(arguments.folder)]
    settings = ["--steps", str(arguments.steps), *shlex.split(arguments.options)]

    whole = output / "whole"
    seconds = train_to_the_end([*start, "--out", str(whole), *settings], output / "whole.log")
    print(f"uninterrupted: {arguments.steps:,} steps in {seconds / 60:.1f} minutes", flush=True)
    with small_disk(output / "disk") as own_disk:
        kinds = ["kill", "terminate", "lost", *(["full"] if own_disk else [])]
        kinds = [kinds[index % len(kinds)] for index in range(arguments.interruptions)]
        run = output / "disk" / "run"
        mean = (60 * arguments.minutes if arguments.minutes else seconds) / (arguments.interruptions + 1)
        started = time.monotonic()
        made = train_interrupted(
            [*start, "--out", str(run), *settings], output / "interrupted.log", output / "disk", kinds, rng, mean
        )
        found = {
            name: differences(whole / name, run / name) for name in ("last/state.safetensors", "model.safetensors")
        }
        minutes = (time.monotonic() - started) / 60
    print(f"{made} interruptions in {minutes:.1f} minutes")
    for name, different in found.items():
        print(
            f"{name}: {'equal bit for bit' if not different else f'{len(different)} tensors differ: {different[:5]}'}"
        )
    sys.exit(any(found.values()) or made < arguments.interruptions)


if __name__ == "__main__":
    main()
