"""`wavenet train` under torchrun: a killed process, and two hosts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import killed_training
import numpy as np
import pytest
from process_groups import together
from test_distributed import CUT, SMALL, assert_close, weights_of
from training_runs import trainer_for, write_tones

import wavenet
from wavenet.training.distributed import Processes
from wavenet.training.run_directory import RunDirectory

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def settings() -> list[str]:
    return [word for setting in (*SMALL, *CUT) for word in ("--set", setting)]


def environment() -> dict[str, str]:
    """Processes import the package that this one has imported."""
    return {**os.environ, "PYTHONPATH": str(Path(wavenet.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def test_a_run_whose_process_is_killed_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")

    def train(processes: Processes) -> None:
        trainer_for(folder, tmp_path / "whole", *CUT, processes=processes).train()

    together(2, train)
    trainer_for(folder, tmp_path / "run", "training.steps=3", "training.seed=5").train()  # to be started again
    command = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "--max-restarts", "1", killed_training.__file__]
    arguments = ["train", str(folder), "--out", str(tmp_path / "run"), "--fresh", *settings()]
    done = subprocess.run([*command, *arguments], env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert any("budget: 12 steps" in line for line in lines)  # it was cleared once,
    assert any("continuing at step 6 of 12 steps" in line for line in lines)  # and not again
    (error,) = [line for line in lines if line.startswith("wavenet: ")]
    assert error.startswith("wavenet: rank 0 on ") and "another process ended" in error
    expected, found = weights_of(tmp_path / "whole"), weights_of(tmp_path / "run")
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert [line["step"] for line in RunDirectory(tmp_path / "run").read_log()] == [6, 12]


class Hosts:
    """Two network namespaces that only a pair of virtual network interfaces connects: all that two hosts share."""

    def __init__(self) -> None:
        self.names = [f"wavenet-{os.getpid()}-{index}" for index in range(2)]
        self.interfaces = [f"wn{os.getpid() % 10**6}-{index}" for index in range(2)]
        self.addresses = ["192.0.2.1", "192.0.2.2"]  # of a block for documentation: RFC 5737

    def connect(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
        first, second = self.interfaces
        ip("link", "add", first, "netns", self.names[0], "type", "veth", "peer", second, "netns", self.names[1])
        for name, interface, address in zip(self.names, self.interfaces, self.addresses, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", interface)
            for device in (interface, "lo"):
                ip("-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)

    def start(self, host: int, arguments: Sequence[str], variables: dict[str, str]) -> subprocess.Popen[str]:
        """Start torchrun on a host, with the rendezvous on the first one."""
        rendezvous = ["--rdzv-backend", "c10d", "--rdzv-id", "test", "--rdzv-endpoint", f"{self.addresses[0]}:29400"]
        rendezvous += ["--rdzv-conf", f"is_host={int(host == 0)}"]  # namespaces share the name of the machine
        inside = ["ip", "netns", "exec", self.names[host], *TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1"]
        return subprocess.Popen(
            [*inside, *rendezvous, "--local-addr", self.addresses[host], "-m", "wavenet", *arguments],
            env={**environment(), "GLOO_SOCKET_IFNAME": self.interfaces[host], **variables},
            stderr=subprocess.PIPE,
            text=True,
        )


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    pair = Hosts()
    try:
        pair.connect()
    except (OSError, subprocess.CalledProcessError) as error:
        pair.remove()
        reason = getattr(error, "stderr", "") or error
        pytest.skip(f"two network namespaces cannot be connected here, which needs root and ip: {reason}")
    yield pair
    pair.remove()


def test_two_hosts_train_like_one(tmp_path: Path, hosts: Hosts) -> None:
    """Each host has its own copy of the recordings and its own cache; only the first one has the run directory."""
    first = write_tones(tmp_path / "clips")
    second = tmp_path / "second" / "recordings"
    shutil.copytree(first, second)
    started = []
    for host, folder in enumerate((first, second)):
        arguments = ["train", str(folder), "--out", str(tmp_path / f"run {host}"), *settings()]
        started.append(hosts.start(host, arguments, {"WAVENET_CACHE": str(tmp_path / f"cache {host}")}))
    printed = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    first_rank = next(host for host in range(2) if (tmp_path / f"run {host}").exists())  # the agents have agreed on it
    assert not (tmp_path / f"run {1 - first_rank}").exists()
    assert "2 processes" in printed[first_rank] and "held out" not in printed[1 - first_rank]
    trainer_for(first, tmp_path / "whole", *CUT).train()
    assert_close(weights_of(tmp_path / "whole"), weights_of(tmp_path / f"run {first_rank}"))
