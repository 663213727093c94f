"""The batches of a training run, prepared ahead by worker processes and brought to the device.

Of n workers each prepares every n-th batch and sends it through a pipe. A thread of the trainer receives it during a
step, so that it is there when it is used; meanwhile the worker prepares its next one. The batch of a step is the same
with any number of workers.

`torch.utils.data.DataLoader` is not used. Its workers hand over tensors in shared memory, of which containers have as
little as 64 MB, and stop at Ctrl-C, at which the trainer finishes its step and a validation. Pipes have no such limit,
and their ends tell both sides at once that the other process has ended, in whatever way.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from wavenet.engine.base import cores
from wavenet.training.batches import Batch, Batches
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.recipe import Recipe

MOST_WORKERS = 4  # that are chosen for a GPU
# A forked worker starts in milliseconds and shares the memory of the recordings' table; only Linux forks safely.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
STOPS = (signal.SIGINT, signal.SIGTERM)  # from a terminal, or a scheduler, also to the workers: the trainer decides


class FeedError(RuntimeError):
    """A process that prepares batches ended. The message is one line with what to do."""


def chosen_workers(recipe: Recipe, device: torch.device, processes: Processes = SINGLE) -> int:
    """The number of worker processes: `training.workers`, or a choice for this machine if that is -1.

    On the processor one, if there are features to compute: with linear prediction they take 3% of a step of the recipe
    `vocoder`. Batches without them take 0.2%.
    """
    workers, own_cores = recipe.training.workers, cores() // processes.local_count
    if workers >= 0:
        return workers
    if device.type == "cpu":
        return int(own_cores > 1 and (recipe.model.features is not None or recipe.model.linear_prediction > 0))
    return max(1, min(MOST_WORKERS, own_cores - 1))


class Feed:
    """The batches of consecutive steps, on the device: `next`, then `close`.

    step: of the next batch.
    """

    def __init__(self, batches: Batches, first_step: int, workers: int, device: torch.device) -> None:
        """Start with the batch of `first_step`. workers: processes that prepare batches; 0: `next` does it."""
        self.step, self.device, self._first_step = first_step, device, first_step
        self._batches, self._workers, self._received = batches, list[_Worker](), 0
        self.close = Finalize(self, _close, (self._workers,), exitpriority=0)  # called once: also when Python ends
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._upcoming: Batch | None = None  # on its way to the device
        with _stops_blocked():
            for index in range(workers):
                self._workers.append(_Worker(batches, itertools.count(first_step + index, workers), self._workers))

    def next(self) -> Batch:
        """The batch of `step`, on the device.

        Raises what the preparation of a batch raises, such as `DatasetError`, and `FeedError` if a worker has ended.
        """
        if self._stream is None:
            batch = self._receive()
        else:
            batch = self._copied(self._receive()) if self._upcoming is None else self._upcoming
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self._stream)  # no wait on the host
            batch.map(lambda tensor: _used_on(tensor, current))
            self._upcoming = self._copied(self._receive())  # during the step that uses this one
        self.step += 1
        return batch

    def _receive(self) -> Batch:
        """The next batch, on the CPU."""
        index, self._received = self._received, self._received + 1
        if not self._workers:
            return self._batches.batch(self._first_step + index)
        return self._workers[index % len(self._workers)].receive()

    def _copied(self, batch: Batch) -> Batch:
        """A copy of a batch on the device, which the device makes beside its other work."""
        with torch.cuda.stream(self._stream):
            return batch.map(lambda tensor: tensor.pin_memory().to(self.device, non_blocking=True))


class _Failure(NamedTuple):
    """What a worker sends instead of a batch."""

    error: Exception
    cause: BaseException | None


class _Receiving(threading.Thread):
    """Receives a batch in a thread: `result` returns or raises what `receive` does.

    The threads of an executor would be waited for when Python ends, before the workers are.
    """

    def __init__(self, receive: Callable[[], Batch]) -> None:
        super().__init__(name="receives a batch", daemon=True)
        self._receive, self._future = receive, Future[Batch]()
        self.start()

    def run(self) -> None:
        try:
            self._future.set_result(self._receive())
        except BaseException as error:
            self._future.set_exception(error)

    def result(self) -> Batch:
        """The batch, as soon as it is there."""
        return self._future.result()


class _Worker:
    """A process that prepares the batches of some steps, and the end of the pipe from which they are received."""

    def __init__(self, batches: Batches, steps: Iterable[int], earlier: list[_Worker]) -> None:
        context: Any = multiprocessing.get_context(START_METHOD)
        self.connection, sending = context.Pipe(duplex=False)
        # A forked process has copies of these. An open copy would hide that the trainer has ended.
        copies = [self.connection, *(worker.connection for worker in earlier)] if START_METHOD == "fork" else []
        self.process: BaseProcess = context.Process(target=_work, args=(batches, steps, sending, copies), daemon=True)
        self.process.start()
        sending.close()
        self._ahead: _Receiving | None = None

    def receive(self) -> Batch:
        """The next batch, on the CPU. A thread receives the one after it."""
        batch = self._receive() if self._ahead is None else self._ahead.result()
        self._ahead = _Receiving(self._receive)
        return batch

    def close(self) -> None:
        """Free the pipe of a process that has ended."""
        if self._ahead is not None:
            self._ahead.join()  # it reads from the connection
        self.connection.close()

    def _receive(self) -> Batch:
        try:
            content = self.connection.recv_bytes()
        except (EOFError, OSError):
            raise FeedError(self._end()) from None
        result = pickle.loads(content)
        if isinstance(result, _Failure):
            raise result.error from result.cause
        return cast(Batch, result).map(torch.from_numpy)

    def _end(self) -> str:
        """How the process ended, and what to do."""
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return (
            f"a process that prepares batches {how}, perhaps because the memory of the machine is full: lower "
            "training.workers, or training.batch; the same command continues the run"
        )


def _work(batches: Batches, steps: Iterable[int], sending: Connection, copies: list[Connection]) -> None:
    """In a worker: prepare the batches of `steps` and send them, until the trainer closes its end or has ended."""
    for connection in copies:
        connection.close()
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # a collection would write to, and so copy, the memory that is shared with the trainer
    torch.set_num_threads(1)  # the threads of the trainer do not exist in a forked process
    with contextlib.suppress(OSError):  # the pipe is broken
        for step in steps:
            sending.send_bytes(_prepared(batches, step))


def _prepared(batches: Batches, step: int) -> bytes:
    """The batch of a step as arrays, or the error that its preparation raised, pickled."""
    try:
        return pickle.dumps(batches.batch(step).map(Tensor.numpy), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        error.add_note(f"in a process that prepares batches:\n{traceback.format_exc()}")
        failure = pickle.dumps(_Failure(error, error.__cause__))
        try:
            pickle.loads(failure)
        except Exception:  # an exception with other arguments than its message
            return pickle.dumps(_Failure(RuntimeError(f"{type(error).__name__}: {error}"), None))
        return failure


def _close(workers: list[_Worker]) -> None:
    """End the workers. They write nothing, so that they can be killed at any time."""
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
        worker.close()


@contextlib.contextmanager
def _stops_blocked() -> Iterator[None]:
    """Processes that are started meanwhile never receive `STOPS`; this one receives them afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _used_on(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    """The tensor, whose memory is not used again before the work on a stream is done."""
    tensor.record_stream(stream)
    return tensor
