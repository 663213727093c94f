"""Figures of a step, such as its loss, read without waiting for the step."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

CUDA_DELAY = 1  # steps


class Readout:
    """Figures that steps have left on a device, in order. On a GPU those of a step are read one step later.

    The host then prepares the next step while the device computes the last one, and waits only for the step before it.
    On the CPU a step has been computed when its figures are added, and they are read at once.
    """

    def __init__(self, device: torch.device, delay: int | None = None) -> None:
        """delay: steps later that figures are read; None: chosen for the device."""
        self.on_gpu = device.type == "cuda"
        self.delay = delay if delay is not None else CUDA_DELAY if self.on_gpu else 0
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def __len__(self) -> int:
        """Steps whose figures have not been read."""
        return len(self._waiting)

    def add(self, figures: Tensor) -> None:
        """Add the figures of a step, [n] on the device."""
        if not self.on_gpu:
            self._waiting.append((figures, None))
            return
        copy = torch.empty(figures.shape, dtype=figures.dtype, pin_memory=True)
        copy.copy_(figures, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._waiting.append((copy, copied))

    def ready(self) -> list[float] | None:
        """The figures of the earliest step that has not been read; None if it is not early enough."""
        return self.next() if len(self) > self.delay else None

    def next(self) -> list[float] | None:
        """The figures of the earliest step that has not been read, for which this waits; None if there is none."""
        if not self._waiting:
            return None
        figures, copied = self._waiting.popleft()
        if copied is not None:
            copied.synchronize()
        found: list[float] = figures.tolist()
        return found
