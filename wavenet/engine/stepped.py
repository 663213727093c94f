"""Base of the PyTorch engines: a copy of the network, the thread count, and the loop over samples.

Everything that a sample changes is in one `Snapshot`, which is replaced in a single assignment. So a call that is
interrupted at any moment (Ctrl-C, out of memory) has advanced the state by a whole number of samples.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine.base import Engine, State
from wavenet.engine.conditioning import Conditioner, ConditioningInputs, ConditioningState, NumpyConditioningState
from wavenet.engine.sampling import Sampling, sample, sample_continuous
from wavenet.model import WaveNet

M = TypeVar("M")


class Snapshot(NamedTuple, Generic[M]):
    """A state between two samples."""

    position: int
    codes: NDArray[np.int64]  # [B], the last ones: the network's next input
    memory: M  # the engine's representation of earlier samples


class SteppedState(State, Generic[M]):
    """A state whose content is `snapshot`. What the current snapshot refers to is not changed."""

    conditioning: NumpyConditioningState | None

    def __init__(
        self, engine: SteppedEngine[Any], streams: int, memory: M, conditioning: ConditioningState | None
    ) -> None:
        super().__init__(streams, conditioning)
        self.engine = engine
        self.snapshot = Snapshot(0, np.full(streams, engine.silence, dtype=np.int64), memory)

    def copy(self) -> Self:
        other = object.__new__(type(self))
        other.engine, other.streams = self.engine, self.streams
        other.assign(self)
        return other

    def assign(self, other: Self) -> None:
        self.check_same(other)
        position, codes, memory = other.snapshot
        self.snapshot = Snapshot(position, codes, self.engine.copied_memory(memory))
        self.conditioning = other.conditioning and other.conditioning.copy()
        self._mute = other.mute

    @property
    def config(self) -> ModelConfig:
        return self.engine.config

    @property
    def codes(self) -> NDArray[np.int64]:
        return self.snapshot.codes

    @property
    def position(self) -> int:
        return self.snapshot.position


T = TypeVar("T", bound=SteppedState[Any])


class SteppedEngine(Engine[T]):
    """An engine defined by the method `step`, which computes the output parameters of one sample."""

    default_threads: int | None = None  # for threads=None; None: PyTorch's setting

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], threads: int | None = None) -> None:
        """Weights: tensors or arrays under the names of `config.shapes`; copied, and kept on their device.

        Raises `RuntimeError` if a weight is missing, extra or of the wrong shape.
        """
        self.config = config
        self.threads = self.default_threads if threads is None else threads
        with torch.device("meta"):  # no memory and no random initialisation: the weights are replaced below
            self.model = WaveNet(config)
        copies = {name: torch.as_tensor(value).detach().to(torch.float32, copy=True) for name, value in weights.items()}
        self.model.load_state_dict(copies, assign=True)
        self.model.eval().requires_grad_(False)
        self.device = self.model.embedding.weight.device
        self.silence = quantizer_for(config.output).silence
        self.conditioner = None
        if config.conditioned:
            self.conditioner = Conditioner(config, {name: value.numpy(force=True) for name, value in copies.items()})

    @abstractmethod
    def step(self, state: T) -> tuple[NDArray[np.float32], Any]:
        """The output parameters [B, A] of the next code, and the memory of the next snapshot.

        Changes nothing that the current snapshot depends on, so it may be repeated. The array may be overwritten by the
        next step.
        """

    def copied_memory(self, memory: Any) -> Any:
        """The memory of an independent state."""
        return memory

    def generate(
        self,
        state: T,
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        temperatures: NDArray[np.float64] | None = None,
    ) -> NDArray[np.int64]:
        uniforms = self.checked_uniforms(state, uniforms)
        temperatures = self.checked_temperatures(uniforms, temperatures)
        self.check_sampling(sampling)
        self.check_features(state, uniforms.shape[1])
        codes = np.empty(uniforms.shape, dtype=np.int64)
        with self.running():
            for t, position in enumerate(range(state.position + 1, state.position + 1 + uniforms.shape[1])):
                parameters, memory = self.step(state)
                if temperatures is None:
                    drawn = self.draw(parameters, uniforms[:, t], sampling)
                else:
                    drawn = self.draw_each(parameters, uniforms[:, t], sampling, temperatures[:, t])
                codes[:, t] = drawn
                state.snapshot = Snapshot(position, drawn, memory)
        return codes

    def logits(self, state: T, codes: ArrayLike) -> NDArray[np.float32]:
        codes = self.checked_codes(state, codes)
        self.check_features(state, codes.shape[1])
        outputs = np.empty((*codes.shape, self.config.output_channels), dtype=np.float32)
        with self.running():
            for t in range(codes.shape[1]):
                outputs[:, t], memory = self.step(state)
                state.snapshot = Snapshot(state.snapshot.position + 1, codes[:, t].copy(), memory)
        return outputs

    def draw(
        self, parameters: NDArray[np.float32], uniforms: NDArray[np.float64], sampling: Sampling
    ) -> NDArray[np.int64]:
        """Codes [B] for output parameters [B, A] and uniform numbers [B]."""
        if self.config.output == "mulaw":
            return sample(parameters, uniforms, sampling)
        return sample_continuous(self.config.output, parameters, uniforms, sampling)

    def draw_each(
        self,
        parameters: NDArray[np.float32],
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        temperatures: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """As `draw`, with the temperatures [B]."""
        codes = np.empty(len(uniforms), dtype=np.int64)
        for temperature in np.unique(temperatures).tolist():
            rows = temperatures == temperature
            codes[rows] = self.draw(
                parameters[rows], uniforms[rows], dataclasses.replace(sampling, temperature=temperature)
            )
        return codes

    @contextmanager
    def running(self) -> Iterator[None]:
        """Context without gradients and with this engine's thread count."""
        before = torch.get_num_threads()
        try:
            if self.threads is not None:
                torch.set_num_threads(self.threads)
            with torch.inference_mode():
                yield
        finally:
            if self.threads is not None:
                torch.set_num_threads(before)


def conditioning_tensors(
    inputs: ConditioningInputs | None, device: torch.device
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Speaker [B, speakers] and features [B, bands, N] as arguments of `WaveNet.forward`."""
    arrays = (None, None) if inputs is None else (inputs.speaker, inputs.features)
    given = [None if array is None else np.ascontiguousarray(array) for array in arrays]
    speaker, local = (None if array is None else torch.from_numpy(array).to(device) for array in given)
    return speaker, local


def input_codes(last: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The network's inputs [B, T] for codes [B, T]: the input for each sample is the previous one. last: [B]."""
    return np.concatenate([last[:, None], codes], axis=1)[:, :-1]
