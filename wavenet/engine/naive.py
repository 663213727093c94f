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
from wavenet.engine.conditioning import ConditioningInputs, ConditioningState
from wavenet.engine.stepped import SteppedEngine, conditioning_tensors, fed_codes


class HistoryState(State):
    """The inputs so far, at most those that matter; fewer stand for a clip that began with empty queues."""

    def __init__(self, streams: int, silence: int, conditioning: ConditioningState | None) -> None:
        super().__init__(streams, silence, conditioning)
        self.silence = silence
        self.history: NDArray[np.int64] = np.empty((streams, 0), dtype=np.int64)

    def copy(self) -> Self:
        other = type(self)(self.streams, self.silence, self.conditioning and self.conditioning.copy())
        other.codes[:] = self.codes
        other.position, other.history = self.position, self.history.copy()
        return other


class NaiveEngine(SteppedEngine[HistoryState]):
    """Correct by construction and slow: for tests, and for whoever doubts the queues."""

    name = "naive"
    states = HistoryState

    def new_state(self, streams: int = 1, conditions: ConditioningInputs | None = None) -> HistoryState:
        return HistoryState(streams, self.silence, self.conditioning_state(streams, conditions))

    def step(self, state: HistoryState) -> NDArray[np.float32]:
        self._remember(state, state.codes[:, None])
        inputs = None if state.conditioning is None else state.conditioning.conditions
        speaker, local = conditioning_tensors(inputs, self.device)
        first = state.position - state.history.shape[1]
        logits = self.model(torch.from_numpy(state.history).to(self.device), speaker, local, first)[:, -1]  # [B, A]
        return logits.cpu().numpy()

    def prime(self, state: HistoryState, codes: ArrayLike) -> None:
        codes = self.checked_codes(state, codes)
        self.check_features(state, codes.shape[1])
        if codes.shape[1]:
            self._remember(state, fed_codes(state.codes, codes))
            state.codes[:] = codes[:, -1]

    def _remember(self, state: HistoryState, inputs: NDArray[np.int64]) -> None:
        """Append inputs [B, T]; older than the network can see is forgotten."""
        joined = np.concatenate([state.history, inputs], axis=1)
        state.history = np.ascontiguousarray(joined[:, -self.config.context :])
        state.position += inputs.shape[1]
