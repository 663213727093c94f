"""The reference engine: every sample is computed by `WaveNet.forward` over the whole receptive field.

Van den Oord et al. 2016, section 2.1, generate this way; the cost of a sample grows with the receptive field. With
queues (Le Paine et al., "Fast Wavenet Generation Algorithm", 2016) it grows with the number of layers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from wavenet.engine.conditioning import ConditioningInputs
from wavenet.engine.stepped import Snapshot, SteppedEngine, SteppedState, conditioning_tensors, input_codes


class NaiveState(SteppedState[NDArray[np.int64]]):
    """Its memory: the inputs so far [B, n], of which only the last `config.context` are kept."""


class NaiveEngine(SteppedEngine[NaiveState]):
    """Simple and slow: the reference for tests of the other engines."""

    name = "naive"
    states = NaiveState

    def new_state(self, streams: int = 1, inputs: ConditioningInputs | None = None) -> NaiveState:
        history = np.empty((max(streams, 0), 0), dtype=np.int64)
        return NaiveState(self, streams, history, self.conditioning_state(streams, inputs))

    def step(self, state: NaiveState) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        position, codes, history = state.snapshot
        history = self._extended(history, codes[:, None])  # [B, n]
        inputs = None if state.conditioning is None else state.conditioning.inputs
        speaker, local = conditioning_tensors(inputs, self.device)
        first = position + 1 - history.shape[1]
        if inputs is not None and inputs.first_frame:
            first -= inputs.first_frame * self.config.hop
        outputs = self.model(torch.from_numpy(history).to(self.device), speaker, local, first)[:, -1]  # [B, A]
        return outputs.cpu().numpy(), history

    def prime(self, state: NaiveState, codes: ArrayLike) -> None:
        codes = self.checked_codes(state, codes)
        self.check_features(state, codes.shape[1])
        if codes.shape[1]:
            position, last, history = state.snapshot
            history = self._extended(history, input_codes(last, codes))
            state.snapshot = Snapshot(position + codes.shape[1], codes[:, -1].copy(), history)

    def _extended(self, history: NDArray[np.int64], inputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """History and inputs [B, T], without those that no further prediction depends on."""
        joined = np.concatenate([history, inputs], axis=1)
        return np.ascontiguousarray(joined[:, -self.config.context :])
