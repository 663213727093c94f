"""What the PyTorch engines share: their own copy of the network, the thread count, and the loop over samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine.base import Engine, S
from wavenet.engine.conditioning import Conditioner, ConditioningInputs
from wavenet.engine.sampling import Sampling, sample, sample_continuous
from wavenet.model import WaveNet


class SteppedEngine(Engine[S]):
    """An engine that is one function: `step` feeds the last code of every stream and predicts the next one."""

    default_threads: int | None = None  # with threads=None; None again leaves PyTorch's setting

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], threads: int | None = None) -> None:
        """Weights: tensors or arrays under the names of `config.shapes`; copied, and kept on their device.

        Raises `RuntimeError` if a weight is missing, extra or misshapen.
        """
        self.config = config
        self.threads = self.default_threads if threads is None else threads
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
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
    def step(self, state: S) -> NDArray[np.float32]:
        """Feed `state.codes`, advance the queues, and return the logits [B, A] of the next code.

        The caller puts that code into `state.codes`. The array may be overwritten by the next step.
        """

    def generate(self, state: S, uniforms: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
        uniforms = self.checked_uniforms(state, uniforms)
        self.check_sampling(sampling)
        self.check_features(state, uniforms.shape[1])
        codes = np.empty(uniforms.shape, dtype=np.int64)
        with self.running():
            for t in range(uniforms.shape[1]):
                state.codes[:] = codes[:, t] = self.draw(self.step(state), uniforms[:, t], sampling)
        return codes

    def logits(self, state: S, codes: ArrayLike) -> NDArray[np.float32]:
        codes = self.checked_codes(state, codes)
        self.check_features(state, codes.shape[1])
        logits = np.empty((*codes.shape, self.config.output_channels), dtype=np.float32)
        with self.running():
            for t in range(codes.shape[1]):
                logits[:, t] = self.step(state)
                state.codes[:] = codes[:, t]
        return logits

    def draw(
        self, numbers: NDArray[np.float32], uniforms: NDArray[np.float64], sampling: Sampling
    ) -> NDArray[np.int64]:
        """The codes [B] that uniforms [B] draw from what the network says, [B, A]."""
        if self.config.output == "mulaw":
            return sample(numbers, uniforms, sampling)
        return sample_continuous(self.config.output, numbers, uniforms, sampling)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, nothing is recorded for gradients and PyTorch has this engine's thread count."""
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            if self.threads is not None:
                torch.set_num_threads(before)


def conditioning_tensors(
    inputs: ConditioningInputs | None, device: torch.device
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Speaker and features as `WaveNet.forward` takes them."""
    arrays = (None, None) if inputs is None else (inputs.speaker, inputs.features)
    speaker, local = (None if array is None else torch.from_numpy(array).to(device) for array in arrays)
    return speaker, local


def fed_codes(last: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The network's inputs [B, T] while codes [B, T] are fed: each sample's input is the sample before it."""
    return np.concatenate([last[:, None], codes], axis=1)[:, :-1]
