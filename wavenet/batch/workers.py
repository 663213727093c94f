"""The processes that share a batch job: those that torchrun started, or this one alone.

They need no process group: they share torchrun's store, a table of keys and values, from which they claim work, and in
which they leave what the others wait for. So one that is slow takes less of the work, and nobody waits in between.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

POLL_SECONDS = 0.05  # between two looks at the store: Ctrl-C acts meanwhile

T = TypeVar("T")


class Store(Protocol):
    """What is used of a `torch.distributed.Store`."""

    def add(self, key: str, amount: int, /) -> int: ...
    def check(self, keys: list[str], /) -> bool: ...
    def get(self, key: str, /) -> bytes: ...
    def set(self, key: str, value: str, /) -> None: ...


class Workers:
    """The processes of a batch job, and which of them this one is.

    rank: of this process, from 0. count: of all processes. All of them must call `agree` and `exchange` in the same
    order, with values that JSON can represent.
    """

    def __init__(self, rank: int = 0, count: int = 1, store: Store | None = None) -> None:
        """store: shared by the processes; needed if there are several."""
        self.rank, self.count, self._store = rank, count, store
        self._meetings = 0
        self._counters: dict[str, int] = {}  # of a process that is alone

    @classmethod
    def from_environment(cls) -> Self:
        """The processes of torchrun's environment; without it this process alone.

        Raises `ValueError` for an environment that is incomplete.
        """
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            return cls()
        from torch.distributed.rendezvous import rendezvous

        store, rank, count = next(rendezvous("env://"))
        return cls(rank, count, store)

    @property
    def is_first(self) -> bool:
        """Whether this process does what is done once: plans, merges, prints."""
        return self.rank == 0

    def count_up(self, counter: str, amount: int = 1) -> int:
        """Add to a counter that all processes share. Returns its value, this amount included."""
        if self._store is not None:
            return self._store.add(f"counter {counter}", amount)
        self._counters[counter] = self._counters.get(counter, 0) + amount
        return self._counters[counter]

    def agree(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all processes; the others wait for it."""
        if self._store is None:
            return make()
        key = self._meeting()
        if self.is_first:
            value = make()
            self._store.set(key, json.dumps(value))
            return value
        return self._wait(key)

    def exchange(self, value: T) -> list[T]:
        """The value of every process, by rank. The first process returns last, so that it can end the job."""
        if self._store is None:
            return [value]
        key, ranks = self._meeting(), range(self.count)
        self._store.set(f"{key} of {self.rank}", json.dumps(value))
        values = [self._wait(f"{key} of {rank}") for rank in ranks]
        if not self.is_first:
            self._store.set(f"{key} read by {self.rank}", "true")
            return values
        for rank in ranks[1:]:
            self._wait(f"{key} read by {rank}")
        return values

    def _meeting(self) -> str:
        """A key for what all processes do next."""
        self._meetings += 1
        return f"meeting {self._meetings}"

    def _wait(self, key: str) -> Any:
        assert self._store is not None
        while not self._store.check([key]):
            time.sleep(POLL_SECONDS)
        return json.loads(self._store.get(key))
