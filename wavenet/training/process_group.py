"""Several processes of a training run, on one host or on many: joining them, and what they exchange.

torchrun starts the processes, and says in the environment of each which one it is (RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE) and where the first one can be reached (MASTER_ADDR, MASTER_PORT). Tensors on the CPU are exchanged by
gloo, those on GPUs by NCCL.

A process that fails ends; the others notice it at their next exchange, because its connections are closed, or, where it
hangs or its host is lost, after WAVENET_TIMEOUT seconds. A key in the store of the group decides which of them reports:
the one that failed or, if it could not, the one that noticed it first.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from wavenet.config import ConfigError
from wavenet.training.distributed import SINGLE, EndedElsewhere, Processes, started_by_torchrun
from wavenet.training.process_start import store_of_this_start

TIMEOUT_VARIABLE = "WAVENET_TIMEOUT"
DEFAULT_TIMEOUT = 600.0  # seconds
BEATS_PER_TIMEOUT = 6  # signs of life of a process that others wait for
MOST_SECONDS_BETWEEN_BEATS = 5.0  # also the longest that Ctrl-C takes where a process waits for another
STORE_SECONDS = 5.0  # for an answer of the store, when a failure is reported
FAILURE = "failure"  # key of the store: the failure that is reported, as JSON
INTERRUPTED = 130  # exit code

T = TypeVar("T")


class LostProcess(RuntimeError):
    """Another process of the training has ended, or does not answer; the message says what was waited for."""


@dataclass
class _Work:
    """What other processes wait for, if they wait for this one."""

    doing: str = ""  # empty: they do not wait
    last_beat: float = 0.0


@dataclass(frozen=True)
class ProcessGroup(Processes):
    """Several processes, see `Processes`.

    timeout: seconds that are waited for a process that gives no sign of life. group: for tensors on the CPU.
    """

    timeout: float
    store: Store
    group: dist.ProcessGroup
    work: _Work = field(default_factory=_Work)

    def first(self, function: Callable[[], T], doing: str) -> T:
        result = self._stage(function if self.is_first else None, doing)
        with self.waiting(doing):
            content = [result]
            dist.broadcast_object_list(content, src=0, group=self.group, device=torch.device("cpu"))
        return content[0]  # type: ignore[return-value]

    def hosts_first(self, function: Callable[[], T], doing: str) -> T:
        early = self._stage(function if self.is_first_of_host else None, doing)
        late = self._stage(None if self.is_first_of_host else function, doing)
        return early if self.is_first_of_host else late  # type: ignore[return-value]

    def _stage(self, function: Callable[[], T] | None, doing: str) -> T | None:
        """Call a function, or none, and wait for those processes that call one, as long as they beat."""
        result = None
        if function is not None:
            self.work.doing, self.work.last_beat = doing, time.monotonic()
            try:
                result = function()
            finally:
                self.work.doing = ""
        while self._working(False, doing):
            pass
        return result

    def beat(self) -> None:
        interval = min(self.timeout / BEATS_PER_TIMEOUT, MOST_SECONDS_BETWEEN_BEATS)
        if self.work.doing and time.monotonic() - self.work.last_beat >= interval:
            self._working(True, self.work.doing)
            self.work.last_beat = time.monotonic()

    def _working(self, own: bool, doing: str) -> bool:
        """Whether any process is working. Waits until all have said whether they are."""
        return self.sums([float(own)], doing)[0] > 0

    def sums(self, values: Sequence[float], doing: str) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64)
        with self.waiting(doing):
            dist.all_reduce(total, group=self.group)
        found: list[float] = total.tolist()
        return found

    def sum_tensors(self, tensors: Sequence[Tensor], doing: str) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self.waiting(doing):
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def broadcast(self, tensors: Iterable[Tensor], doing: str) -> None:
        with self.waiting(doing):
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def check_same(self, fingerprint: str, what: str) -> None:
        found: list[Any] = [None] * self.count
        with self.waiting(what):
            dist.all_gather_object(found, (fingerprint, socket.gethostname()), group=self.group)
        expected, first_host = found[0]
        for rank, (other, host) in enumerate(found):
            if other != expected:
                raise ConfigError(
                    f"{what} of rank {rank} on {host} are not those of rank 0 on {first_host}: {other} instead of "
                    f"{expected}; every host needs the same files and the same options"
                )

    @contextlib.contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except RuntimeError as error:
            if not _is_lost_connection(error):
                raise
            seconds = time.monotonic() - started
            raise LostProcess(_lost_message(self, doing, seconds)) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error is that of the connections between processes: of gloo, of NCCL, of the store."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "ProcessGroup"))


def _lost_message(processes: ProcessGroup, doing: str, seconds: float) -> str:
    which = f"rank {processes.rank} on {socket.gethostname()} waited {seconds:.0f} s for {doing}"
    again = "the same command continues at the last saved state; torchrun --max-restarts N does so by itself"
    if seconds >= 0.9 * processes.timeout:
        return (
            f"{which}, and another process gave no sign of life: look for a host that is lost or a process that hangs, "
            f"or set {TIMEOUT_VARIABLE} to more seconds (now {processes.timeout:g}); {again}"
        )
    return f"{which}, and another process ended: its own message, or torchrun's, says why; {again}"


def timeout_seconds() -> float:
    """The seconds of WAVENET_TIMEOUT. Raises `ConfigError`."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text or DEFAULT_TIMEOUT)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 1e6:
        raise ConfigError(f"{TIMEOUT_VARIABLE}={text!r}: must be a number of seconds, at least 1")
    return seconds


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the other processes of the environment; `SINGLE` if there are none. device: "cpu" or "cuda".

    On GPUs each process uses that of its local rank. Raises `ConfigError` for an environment that cannot be used,
    `LostProcess` if others do not join; and `EndedElsewhere` for an error that another process has reported.
    """
    if not started_by_torchrun():
        yield SINGLE
        return
    ranks = _ranks()
    if ranks.count == 1:
        yield ranks
        return
    if device == "cuda":
        if ranks.local_count > torch.cuda.device_count():
            raise ConfigError(
                f"{ranks.local_count} processes on {socket.gethostname()}, which has {torch.cuda.device_count()} GPUs: "
                "give torchrun as many --nproc-per-node, or use --device cpu"
            )
        torch.cuda.set_device(ranks.local_rank)
    processes = _join(ranks, device, timeout_seconds())
    try:
        yield processes
    except BaseException as error:
        _report_once(processes, error)
        raise
    dist.destroy_process_group()


def _ranks() -> Processes:
    """The processes that the environment describes. Raises `ConfigError`."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    missing = [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"RANK and WORLD_SIZE are set, but not {', '.join(missing)}: start with torchrun, or unset them"
        )
    try:
        rank, count, local_rank, local_count = (int(os.environ[name]) for name in names)
    except ValueError as error:
        raise ConfigError(f"{', '.join(names)}: must be integers ({error})") from None
    return Processes(rank, count, local_rank, local_count)


def _join(ranks: Processes, device: str, timeout: float) -> ProcessGroup:
    """Join the group. On GPUs a step that hangs is noticed at the exchange on the CPU, before NCCL ends the process."""
    patience = timedelta(seconds=timeout)
    started = time.monotonic()
    try:
        kept, rank, count = next(iter(rendezvous("env://", timeout=patience)))
        store = store_of_this_start(kept, rank, count, timeout)
        backend, longest = ("gloo", patience) if device == "cpu" else ("cpu:gloo,cuda:nccl", 2 * patience)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=longest)
        group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=patience))
    except RuntimeError as error:  # among them all errors of torch.distributed
        seconds = time.monotonic() - started
        raise LostProcess(
            f"rank {ranks.rank} on {socket.gethostname()} waited {seconds:.0f} s for the other processes "
            f"({ranks.count} in all), and they did not come: start torchrun on every host with the same --nnodes, "
            f"--rdzv-id and --rdzv-endpoint ({' '.join(str(error).split())[:200]})"
        ) from error
    return ProcessGroup(ranks.rank, ranks.count, ranks.local_rank, ranks.local_count, timeout, store, group)


def _report_once(processes: ProcessGroup, error: BaseException) -> None:
    """Raises `EndedElsewhere` if another process has reported this error, or what led to it; otherwise names the rank.

    torchrun ends this process soon, and need not hurry: the report comes first.
    """
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupted = isinstance(error, KeyboardInterrupt)
    code = INTERRUPTED if interrupted else 1
    own = {"message": str(error), "rank": processes.rank, "code": code}
    with contextlib.suppress(RuntimeError):  # the host of the store is lost: this process reports, too
        processes.store.set_timeout(timedelta(seconds=STORE_SECONDS))
        told = json.loads(processes.store.compare_set(FAILURE, "", json.dumps(own)))
        elsewhere = told["rank"] != processes.rank
        if elsewhere and (interrupted or isinstance(error, LostProcess)):
            raise EndedElsewhere(told["code"]) from error
        if elsewhere and told["message"] == own["message"]:
            raise EndedElsewhere(None) from error
    if not isinstance(error, LostProcess) and not processes.is_first:
        error.add_note(f"rank {processes.rank} on {socket.gethostname()}")
