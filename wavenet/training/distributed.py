"""Training in several processes: which of them this one is, its share of every batch, and what they tell each other.

`Processes` is that of a run in a single process: it has nobody to wait for. `wavenet.training.process_group` has its
subclass for several, which torchrun starts. Code that trains gets one of them, and does the same in both cases.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Progress = Callable[[int, int], None]  # called with what is done, and with all there is


class EndedElsewhere(Exception):
    """This process ends because another one failed or was interrupted, which has been reported there.

    exit_code: of the command; None: that of the error that is the cause of this one.
    """

    def __init__(self, exit_code: int | None) -> None:
        super().__init__("another process of the training has ended")
        self.exit_code = exit_code


@dataclass(frozen=True)
class Processes:
    """The processes of a training run, and which of them this one is.

    rank: of this process, from 0. count: of all processes. local_rank, local_count: the same on this host.
    Methods that exchange something are called by all processes, in the same order. `doing` says for what the others
    wait meanwhile, for the message if they wait in vain: "the gradients", for example.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes the run directory."""
        return self.rank == 0

    @property
    def is_first_of_host(self) -> bool:
        """Whether this is the process that decodes the recordings into the cache of its host."""
        return self.local_rank == 0

    def rows(self, batch: int) -> slice:
        """This process's share of the rows of a batch: consecutive ones, as equal in number as possible."""
        return slice(batch * self.rank // self.count, batch * (self.rank + 1) // self.count)

    def first(self, function: Callable[[], T], doing: str) -> T:
        """The result of a function that the first process calls; the others wait for it, as long as `beat` is called.

        The result is sent to them, so that it must be something that can be pickled.
        """
        return function()

    def hosts_first(self, function: Callable[[], T], doing: str) -> T:
        """The result of a function that all processes call: the first one of each host, and then the others.

        Each of them may take long, as long as `beat` is called.
        """
        return function()

    def beat(self) -> None:
        """Tell processes that wait for this one that it is still working; for functions that the two above call."""

    def beating(self, progress: Progress) -> Progress:
        """A report of progress that calls `beat`, too."""

        def report(done: int, total: int) -> None:
            self.beat()
            progress(done, total)

        return report

    def sums(self, values: Sequence[float], doing: str) -> list[float]:
        """The sums over the processes of some values; to the bit the same on all of them."""
        return list(values)

    def sum_tensors(self, tensors: Sequence[Tensor], doing: str) -> None:
        """Replace tensors on the training device by their sums over the processes. Does not wait for the device."""

    def broadcast(self, tensors: Iterable[Tensor], doing: str) -> None:
        """Replace tensors on the training device by those of the first process."""

    def check_same(self, fingerprint: str, what: str) -> None:
        """Raises `ConfigError`, a line that names the host, if the text is not the same on all processes."""

    @contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        """A block in which others are waited for by other means: one that is lost is reported as in the methods."""
        yield


SINGLE = Processes(0, 1, 0, 1)


def started_by_torchrun() -> bool:
    """Whether the environment is that of one of several processes: RANK and WORLD_SIZE are set."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch() -> str:
    """What is the same for a process and for those that torchrun starts in its place (`--max-restarts`).

    That is torchrun's own process: its number and start, and its host. The count of restarts in the environment does
    not say enough: it is 0 where the failure was on another host.
    """
    started = ""
    with suppress(OSError, IndexError):  # /proc is Linux's
        status = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="utf-8", errors="replace")
        started = status.rpartition(")")[2].split()[19]  # in ticks since the boot: proc(5), field 22
    return f"{socket.gethostname()} {os.getppid()} {started}"
