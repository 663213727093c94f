"""Training in several processes: which of them this one is, and its share of every batch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """The processes of a training run, and which of them this one is.

    rank: of this process, from 0. count: of all processes. local_rank, local_count: the same on this host.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes the run directory."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """This process's share of the rows of a batch: consecutive ones, as equal in number as possible."""
        return slice(batch * self.rank // self.count, batch * (self.rank + 1) // self.count)


SINGLE = Processes(0, 1, 0, 1)
