"""The reference engine: every sample is computed by `WaveNet.forward` over the whole receptive field.

Van den Oord et al. 2016, section 2.1, generate this way; the cost of a sample grows with the receptive field. With
queues (Le Paine et al., "Fast Wavenet Generation Algorithm", 2016) it grows with the number of layers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from wavenet.engine.conditioning import ConditioningInputs
from wavenet.engine.stepped import Snapshot, SteppedEngine, SteppedState, conditioning_tensors, input_codes


class NaiveMemory(NamedTuple):
    """The inputs so far, of which only the last `config.context` are kept."""

    inputs: NDArray[np.int64]  # [B, n]
    muted: NDArray[np.bool_]  # [n, L]: which layers were muted at each of them


class NaiveState(SteppedState[NaiveMemory]):
    """A state of the naive engine."""


class NaiveEngine(SteppedEngine[NaiveState]):
    """Simple and slow: the reference for tests of the other engines."""

    name = "naive"
    states = NaiveState

    def new_state(self, streams: int = 1, inputs: ConditioningInputs | None = None) -> NaiveState:
        history = np.empty((max(streams, 0), 0), dtype=np.int64)
        memory = NaiveMemory(history, np.empty((0, self.config.layers), dtype=bool))
        return NaiveState(self, streams, memory, self.conditioning_state(streams, inputs))

    def step(self, state: NaiveState) -> tuple[NDArray[np.float32], NaiveMemory]:
        memory = self._extended(state, state.codes[:, None])
        inputs = None if state.conditioning is None else state.conditioning.inputs
        speaker, local = conditioning_tensors(inputs, self.device)
        first = state.position + 1 - memory.inputs.shape[1]
        if inputs is not None and inputs.first_frame:
            first -= inputs.first_frame * self.config.hop
        codes = torch.from_numpy(memory.inputs).to(self.device)
        muted = torch.from_numpy(memory.muted).to(self.device) if memory.muted.any() else None
        outputs = self.model(codes, speaker, local, first, muted)[:, -1]  # [B, A]
        return outputs.cpu().numpy(), memory

    def prime(self, state: NaiveState, codes: ArrayLike) -> None:
        codes = self.checked_codes(state, codes)
        self.check_features(state, codes.shape[1])
        if codes.shape[1]:
            memory = self._extended(state, input_codes(state.codes, codes))
            state.snapshot = Snapshot(state.position + codes.shape[1], codes[:, -1].copy(), memory)

    def _extended(self, state: NaiveState, inputs: NDArray[np.int64]) -> NaiveMemory:
        """The memory of a state and inputs [B, T], without those that no further prediction depends on."""
        memory, context = state.snapshot.memory, self.config.context
        now = np.isin(np.arange(self.config.layers), state.mute)  # [L]
        joined = np.concatenate([memory.inputs, inputs], axis=1)
        muted = np.concatenate([memory.muted, np.broadcast_to(now, (inputs.shape[1], len(now)))])
        return NaiveMemory(np.ascontiguousarray(joined[:, -context:]), muted[-context:])
