"""The C++ engine (`src/`): cached queues at the speed of the processor, in float32 or with int8 weights.

This module is its Python face and needs NumPy only. The extension `_native` is built by `pip install .` where a C++
compiler is found; without it, `create` of `wavenet.engine` says how to get it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import MU_LAW_CODES, ModelConfig
from wavenet.engine import _native
from wavenet.engine.base import Engine, State, cores, one_thread
from wavenet.mulaw import SILENCE
from wavenet.sampling import Sampling

KERNELS_VARIABLE = "WAVENET_KERNELS"  # an environment variable that forces one of `kernels()`
MOST_DEFAULT_THREADS = 4  # one stream's work splits no further


class NativeState(State):
    """Queues in the extension's memory, about the size of the receptive field times the residual channels."""

    def __init__(self, engine: NativeEngine, streams: int) -> None:
        super().__init__(streams)
        self.engine = engine  # whose weights the extension's state refers to
        self.native = engine.native.new_state(streams)
        self.skipped = 0  # samples primed that the extension has not seen, being older than the receptive field
        self.lock = threading.Lock()  # of the call that advances or copies it

    def copy(self) -> Self:
        other = object.__new__(type(self))
        with self.held():
            other.engine, other.native = self.engine, self.native.copy()
            other.codes, other.position, other.skipped = self.codes.copy(), self.position, self.skipped
        other.lock = threading.Lock()
        return other

    def held(self) -> threading.Lock:
        """For a `with` statement around everything that changes this state, so that a refused call changes nothing."""
        return one_thread(self.lock, "state")

    def update(self) -> None:
        """Read the last codes and the position back from the extension."""
        self.native.last_codes(self.codes)
        self.position = self.native.position + self.skipped


class NativeEngine(Engine[NativeState]):
    """Bit for bit the same for any number of threads, block size and batch, on one instruction set."""

    name = "native"
    states = NativeState

    def __init__(
        self, config: ModelConfig, weights: Mapping[str, Any], precision: str = "f32", threads: int | None = None
    ) -> None:
        """Weights: tensors or arrays under the names of `config.shapes`; copied.

        threads: at most so many; fewer where that is measured to be faster. None: one per core, up to four.
        Raises `ValueError` for a weight that is missing, extra, misshapen or not finite, and for kernels forced by
        WAVENET_KERNELS that this machine does not have.
        """
        self.config = config
        self.precision = precision
        self.threads = min(MOST_DEFAULT_THREADS, cores()) if threads is None else threads
        shape: dict[str, int | list[int]] = {
            "kernel": config.kernel_size,
            "residual": config.residual_channels,
            "gate": config.gate,
            "skip": config.skip_channels,
            "head": config.head,
            "codes": MU_LAW_CODES,
            "silence": SILENCE,
            "outputs": config.output_channels,
            "dilations": list(config.dilations),
        }
        self.native = _native.create(shape, _arrays(config, weights), precision, self.threads)

    @property
    def kernels(self) -> str:
        """The instruction set in use: portable, avx2, avx512, avx512vnni or neon."""
        return self.native.kernels

    def peak(self) -> float:
        """Multiply-adds per second of one thread in products whose weights stay in the nearest cache, measured."""
        return self.native.peak()

    def new_state(self, streams: int = 1) -> NativeState:
        self.check_memory(streams, self.state_bytes)
        return NativeState(self, streams)

    @property
    def state_bytes(self) -> int:
        """Memory of one stream's queues, and of the buffers of a step (`src/state.h`)."""
        config = self.config
        residual, gate, skip, head, outputs = (
            -(-width // 16) * 16
            for width in (
                config.residual_channels,
                config.gate,
                config.skip_channels,
                config.head,
                config.output_channels,
            )
        )
        buffers = config.layers * 3 * gate + 2 * (residual + skip + head + outputs)
        return (2 if self.precision == "int8" else 4) * config.queued + 4 * buffers

    def generate(self, state: NativeState, coins: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
        coins = np.ascontiguousarray(self.checked_coins(state, coins))
        codes = np.empty(coins.shape, dtype=np.int64)
        top_k = min(sampling.top_k or 0, self.config.output_channels)
        top_p = 1.0 if sampling.top_p is None else float(sampling.top_p)
        with state.held():
            try:
                self.native.generate(
                    state.native, coins, float(sampling.temperature), sampling.greedy, int(top_k), top_p, codes
                )
            finally:
                state.update()
        return codes

    def logits(self, state: NativeState, codes: ArrayLike) -> NDArray[np.float32]:
        codes = np.ascontiguousarray(self.checked_codes(state, codes))
        logits = np.empty((*codes.shape, self.config.output_channels), dtype=np.float32)
        with state.held():
            try:
                self.native.logits(state.native, codes, logits)
            finally:
                state.update()
        return logits

    def prime(self, state: NativeState, codes: ArrayLike) -> None:
        """Only the last receptive field is run: what is older reaches no queue any more."""
        codes = self.checked_codes(state, codes)
        recent = np.ascontiguousarray(codes[:, -self.config.receptive_field :])
        with state.held():
            try:
                state.skipped += codes.shape[1] - recent.shape[1]
                self.native.feed(state.native, recent)
            finally:
                state.update()


def kernels() -> list[str]:
    """The instruction sets that this machine has kernels for, best first."""
    return _native.kernels()


def _arrays(config: ModelConfig, weights: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The weights as contiguous float32. Raises `ValueError` naming the one that is missing, extra or misshapen."""
    arrays = {name: _array(value) for name, value in weights.items()}
    for name in sorted(config.shapes.keys() | arrays.keys()):
        if name not in arrays:
            raise ValueError(f"the weights {name!r} are missing")
        if name not in config.shapes:
            raise ValueError(f"the weights {name!r} do not belong to this network")
        if arrays[name].shape != config.shapes[name]:
            given, expected = list(arrays[name].shape), list(config.shapes[name])
            raise ValueError(f"the weights {name!r} are {given}; the configuration says {expected}")
    return arrays


def _array(value: Any) -> NDArray[np.float32]:
    if hasattr(value, "detach"):  # a tensor, wherever it lies
        value = value.detach().float().cpu().numpy()
    return np.ascontiguousarray(value, dtype=np.float32)
