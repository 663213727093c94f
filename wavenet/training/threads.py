"""The threads of a training step on the CPU: crops side by side, and how many of them by measurement.

The crops of a batch are independent of each other, so each is computed by one thread, and whichever thread is free
takes the next one. No operation is divided among threads: none waits for another within a step, so that a busy
neighbour costs its share of the processor and no more, and results do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch
from torch import Tensor

from wavenet.engine.base import cores
from wavenet.training.distributed import Processes

Item = TypeVar("Item")
Result = TypeVar("Result")

M_ARENA_MAX = -8  # of mallopt, see malloc.h
TRIALS = 3  # steps with each number of threads in a measurement
PERIOD = 300  # steps from one measurement to the next
SOONEST = 100  # the same after a change of the time per step: a measurement may cost 2 per cent
CHANGE = 1.2  # the ratio that is one
RECENT = 7  # steps whose median is compared


class ThreadCount:
    """Chooses the number of threads of the next step from the times of those before.

    A measurement takes TRIALS steps with each number, in turns, so that a neighbour that comes or goes meanwhile
    affects all of them. It is repeated every PERIOD steps, and when the time per step has changed.
    """

    def __init__(self, candidates: Sequence[int]) -> None:
        """candidates: the numbers to choose from; before the first choice it is the last of them."""
        self.candidates = candidates
        self.best = candidates[-1]
        self._times: dict[int, list[float]] = {count: [] for count in candidates}  # of the measurement
        self._usual = 0.0  # seconds per step with the chosen number, when it was chosen
        self._since: list[float] = []  # seconds of the steps since then
        self._started = False

    @property
    def next(self) -> int:
        """The number of threads of the next step."""
        if not self._measuring:
            return self.best
        return min(self.candidates, key=lambda count: len(self._times[count]))

    def record(self, seconds: float) -> None:
        """Record the time of the step with `next` threads."""
        if not self._started:  # the first step also allocates memory
            self._started = True
        elif self._measuring:
            self._times[self.next].append(seconds)
            if not self._measuring:
                self._choose()
        elif len(self.candidates) > 1:
            self._since.append(seconds)
            if len(self._since) >= PERIOD or self._has_changed:
                self._times = {count: [] for count in self.candidates}

    @property
    def _measuring(self) -> bool:
        return len(self.candidates) > 1 and any(len(times) < TRIALS for times in self._times.values())

    def _choose(self) -> None:
        medians = {count: statistics.median(times) for count, times in self._times.items()}
        self.best = min(medians, key=lambda count: medians[count])
        self._usual, self._since = medians[self.best], []

    @property
    def _has_changed(self) -> bool:
        if len(self._since) < SOONEST:
            return False
        ratio = statistics.median(self._since[-RECENT:]) / self._usual
        return not 1 / CHANGE < ratio < CHANGE


def candidates(most: int) -> list[int]:
    """Numbers of threads to choose from: 1, 2, 4, ... and the largest."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


class Threads:
    """Threads that compute items side by side, each of them on one thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        share_heap()
        mine = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(most, "training", initializer=torch.set_num_threads, initargs=(1,))
        for started in [self._pool.submit(threading.get_ident) for _ in range(most)]:
            started.result()
        torch.set_num_threads(mine)  # of threads that PyTorch starts

    def map(
        self, count: int, function: Callable[[Item], Result], items: Sequence[Item], add: Callable[[Result], None]
    ) -> None:
        """Compute the items on `count` threads, and call `add` with their results in order, one call at a time.

        Raises what `function` or `add` raises, when no thread is computing any more.
        """
        queue, lock = iter(enumerate(items)), threading.Lock()
        finished: dict[int, Result] = {}
        expected = iter(range(len(items)))
        waiting = next(expected, None)

        def work() -> None:
            nonlocal waiting
            try:
                for index, item in self._taken(queue, lock):
                    result = function(item)
                    with lock:
                        finished[index] = result
                        while waiting in finished:
                            add(finished.pop(waiting))
                            waiting = next(expected, None)
            except BaseException:
                for _ in self._taken(queue, lock):
                    pass  # no thread starts another item
                raise

        running = [self._pool.submit(work) for _ in range(min(count, len(items)))]
        wait(running)
        for future in running:
            future.result()

    @staticmethod
    def _taken(queue: Iterator[tuple[int, Item]], lock: threading.Lock) -> Iterator[tuple[int, Item]]:
        while True:
            with lock:
                item = next(queue, None)
            if item is None:
                return
            yield item


@contextlib.contextmanager
def sharing(weights: Sequence[Tensor]) -> Iterator[None]:
    """Let several threads build graphs of autograd from the same weights meanwhile.

    All graphs share one node for each weight, which PyTorch makes for the first of them and frees with the last one.
    A thread that makes a node, or finds one that only Python holds, takes the GIL under the weight's lock; if another
    one holds the GIL and waits for that lock, both wait for ever (PyTorch 2.14 and 2.15). Here a view of each weight
    holds its node, so that finding it needs no GIL.
    """
    views = [weight.view_as(weight) for weight in weights]
    try:
        yield
    finally:
        views.clear()


def share_heap() -> None:
    """Let all threads allocate from one heap, where the C library is glibc.

    By default each thread has heaps of its own, of 64 MB each, and keeps what it has freed: activations of tens of
    megabytes leave gaps in them, and a validation on the main thread cannot use them.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def most_threads(processes: Processes) -> int:
    """The threads that this process may use: those of PyTorch (OMP_NUM_THREADS), and its share of the host's cores."""
    mine = torch.get_num_threads()
    return mine if processes.local_count == 1 else min(mine, max(1, cores() // processes.local_count))
