"""Cached queues in PyTorch: every layer runs once per sample (Le Paine et al. 2016, "Fast Wavenet Generation").

`wavenet.engine.torch_step` is the step itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional as F

from wavenet.config import ModelConfig
from wavenet.data.pcm import FULL_SCALE
from wavenet.engine.conditioning import ConditioningInputs
from wavenet.engine.stepped import Snapshot, SteppedEngine, SteppedState, input_codes
from wavenet.engine.torch_step import PackedWeights, RingLayout, StepProgram
from wavenet.nn.linear_prediction import Prediction, PredictorState


class TorchMemory(NamedTuple):
    """The queues, and the state of the linear predictor of a network that has one."""

    program: StepProgram  # a step writes only to slots that it does not read
    predictor: PredictorState | None


class TorchState(SteppedState[TorchMemory]):
    """A state of the torch engine."""


class TorchEngine(SteppedEngine[TorchState]):
    """Cached queues with a minimal number of PyTorch calls per sample, and nothing compiled."""

    name = "torch"
    states = TorchState
    # The matrix products of a step take microseconds. A second thread hardly speeds them up, and if another process
    # uses its core, every product waits for it: batches become a hundred times slower.
    default_threads = 1

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(config, weights, threads)
        self.packed = PackedWeights(config, self.model.state_dict())
        self.layout = RingLayout(config, self.device)

    def new_state(self, streams: int = 1, inputs: ConditioningInputs | None = None) -> TorchState:
        if self.device.type == "cpu":
            self.check_memory(streams, self.state_bytes)
        conditioning = self.conditioning_state(streams, inputs)
        with self.running():
            program = StepProgram(self.model, self.packed, self.layout, streams)
        predictor = None if program.predictor is None else program.predictor.state
        return TorchState(self, streams, TorchMemory(program, predictor), conditioning)

    @property
    def state_bytes(self) -> int:
        """Memory of one stream's queues, and of the buffers of a step."""
        config = self.config
        work = config.layers * (2 * config.gate + config.residual_channels)
        past = (config.kernel_size - 1) * config.layers * config.residual_channels
        queues = self.layout.total * config.residual_channels
        return 4 * (queues + past + work + config.layers * config.gate) + 8 * config.pitch_reach

    def copied_memory(self, memory: TorchMemory) -> TorchMemory:
        with self.running():
            return TorchMemory(memory.program.copy(), memory.predictor)

    def step(self, state: TorchState) -> tuple[NDArray[np.float32], TorchMemory]:
        position, codes, memory = state.snapshot
        program = memory.program
        program.mute(state.mute)
        if state.conditioning is not None:
            frames = state.conditioning.frames(position)
            program.set_gate_bias(frames, *state.conditioning.neighbours(position))
        if self.config.output == "mulaw":
            program.codes[:] = codes
            return program.run(position), memory
        prediction = self._predict(state, memory, codes[:, None], position)
        inputs = codes[:, None] / FULL_SCALE if prediction is None else prediction.inputs[:, 0]
        program.samples.copy_(torch.from_numpy(inputs))  # [B, input channels], as float32
        outputs = program.run(position)  # [B, A]
        if prediction is None or program.predictor is None:
            return outputs, memory
        factors, offsets = prediction.transform(self.config, np.float32)  # [B, 1, A]
        return outputs * factors[:, 0] + offsets[:, 0], TorchMemory(program, program.predictor.state)

    def prime(self, state: TorchState, codes: ArrayLike) -> None:
        """One parallel pass through the model's layers, each of which continues from the inputs in its queue.

        Inputs older than the receptive field are left out, as they would not be in any queue, so that a clip of any
        length takes the time and memory of one receptive field.
        """
        codes = self.checked_codes(state, codes)
        samples = codes.shape[1]
        self.check_features(state, samples)
        if not samples:
            return
        position, last, memory = state.snapshot
        inputs = input_codes(last, codes)[:, -self.config.context :]  # [B, N]
        end = position + samples
        start = end - inputs.shape[1]
        with self.running():
            program = memory.program.copy()
            prediction = self._predict(state, TorchMemory(program, memory.predictor), inputs, start)
            predicted = None if prediction is None else torch.from_numpy(prediction.inputs).float().to(self.device)
            x = self.model.embed(torch.from_numpy(inputs).to(self.device), predicted)  # [B, N, R]
            gate_bias = None
            if state.conditioning is not None:
                gate_bias = torch.from_numpy(state.conditioning.gate_biases(start, inputs.shape[1])).to(self.device)
            for index, layer in enumerate(self.model.typed_layers):
                queue = program.ring[self.layout.newest(index, start), : state.streams].transpose(0, 1)  # [B, n, R]
                joined = torch.cat([queue, x], dim=1)  # [B, n + N, R]
                newest = joined[:, -queue.shape[1] :].transpose(0, 1)  # [n, B, R]
                program.ring[self.layout.newest(index, end), : state.streams] = newest
                bias = None
                if gate_bias is not None:  # zeros for the queue, whose outputs are not used
                    bias = F.pad(gate_bias[index], (0, 0, queue.shape[1], 0))  # [B, n + N, 2G]
                following = layer.bypass(joined) if index in state.mute else layer(joined, bias)[0]
                x = following[:, queue.shape[1] :]  # [B, N, R]
        predictor = None if program.predictor is None else program.predictor.state
        state.snapshot = Snapshot(end, codes[:, -1].copy(), TorchMemory(program, predictor))

    def _predict(
        self, state: TorchState, memory: TorchMemory, codes: NDArray[np.int64], position: int
    ) -> Prediction | None:
        """Linear predictions from input codes [B, T]; the first one predicts the sample at `position`.

        The predictor's next state is stored in the program. None for a network without a predictor.
        """
        predictor = memory.program.predictor
        if predictor is None or memory.predictor is None:
            return None
        predictor.state = memory.predictor
        rows = None
        if state.conditioning is not None and not self.config.backward_adaptive:
            rows = state.conditioning.predictors(position, codes.shape[1])
        return predictor.advance(codes / FULL_SCALE, rows, position)
