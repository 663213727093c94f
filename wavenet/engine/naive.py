"""The slow way, kept as the oracle: every sample runs the whole receptive field through `WaveNet.forward`.

Van den Oord et al. 2016, section 2.1, generate like this; the cost of a sample grows with the receptive field, where
queues (Le Paine et al., "Fast Wavenet Generation Algorithm", 2016) make it grow with the number of layers.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from wavenet.engine.base import State
from wavenet.engine.stepped import SteppedEngine, fed_codes


class HistoryState(State):
    """The inputs so far, at most a receptive field of them; fewer stand for a clip that began with empty queues."""

    def __init__(self, streams: int) -> None:
        super().__init__(streams)
        self.history: NDArray[np.int64] = np.empty((streams, 0), dtype=np.int64)

    def copy(self) -> Self:
        other = type(self)(self.streams)
        other.codes[:] = self.codes
        other.position, other.history = self.position, self.history.copy()
        return other


class NaiveEngine(SteppedEngine[HistoryState]):
    """Correct by construction and slow: for tests, and for whoever doubts the queues."""

    name = "naive"
    states = HistoryState

    def new_state(self, streams: int = 1) -> HistoryState:
        return HistoryState(streams)

    def step(self, state: HistoryState) -> NDArray[np.float32]:
        self._remember(state, state.codes[:, None])
        logits = self.model(torch.from_numpy(state.history).to(self.device))[:, -1]  # [B, A]
        return logits.cpu().numpy()

    def prime(self, state: HistoryState, codes: ArrayLike) -> None:
        codes = self.checked_codes(state, codes)
        if codes.shape[1]:
            self._remember(state, fed_codes(state.codes, codes))
            state.codes[:] = codes[:, -1]

    def _remember(self, state: HistoryState, inputs: NDArray[np.int64]) -> None:
        """Append inputs [B, T]; older than the receptive field is forgotten."""
        joined = np.concatenate([state.history, inputs], axis=1)
        state.history = np.ascontiguousarray(joined[:, -self.config.receptive_field :])
        state.position += inputs.shape[1]
