"""The C++ engine (libwavenet): cached queues in float32, or with int8 weights, on the processor's vector instructions.

This module is its Python interface and needs NumPy only. The extension `_native` is built by `pip install .` if there
is a C++ compiler; without it, `wavenet.engine.create` explains how to install it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import _native
from wavenet.engine.base import Engine, Exclusive, State, cores
from wavenet.engine.conditioning import ChunkConditioner, ConditioningInputs, ConditioningState
from wavenet.engine.sampling import Sampling
from wavenet.nn.linear_prediction import adaptation_weights

KERNELS_VARIABLE = "WAVENET_KERNELS"  # an environment variable that forces one of `kernels()`
MAX_DEFAULT_THREADS = 4  # more do not make one stream faster


class NativeState(State):
    """State with queues in the extension's memory: about receptive field x residual channels values."""

    def __init__(self, engine: NativeEngine, streams: int, conditioning: ConditioningState | None) -> None:
        super().__init__(streams, conditioning)
        self.engine = engine
        self.native = engine.native.new_state(streams)
        self._position = 0  # the one last read
        self.skipped = 0  # primed samples that were not passed to the extension, being older than the receptive field
        self.lock = Exclusive("state")  # held by the call that advances or copies the state

    @property
    def config(self) -> ModelConfig:
        return self.engine.config

    @property
    def codes(self) -> NDArray[np.int64]:
        codes = np.empty(self.streams, dtype=np.int64)
        self.native.last_codes(codes)
        return codes

    @property
    def position(self) -> int:
        with suppress(RuntimeError):  # another thread is advancing it: the position before that call
            self._position = self.native.position + self.skipped
        return self._position

    def copy(self) -> Self:
        other = object.__new__(type(self))
        with self.lock:
            other.engine, other.streams, other.native = self.engine, self.streams, self.native.copy()
            other.skipped, other._position = self.skipped, self._position
            other.conditioning = self.conditioning and self.conditioning.copy()
            other._mute = self.mute
        other.lock = Exclusive("state")
        return other

    def assign(self, other: Self) -> None:
        self.check_same(other)
        with self.lock, other.lock:
            self.native.assign(other.native)
            self.skipped, self._position = other.skipped, other._position
            self.conditioning = other.conditioning and other.conditioning.copy()
            self._mute = other.mute

    def pieces(self, position: int, samples: int) -> Iterator[tuple[int, int, _native.ConditioningFrames | None, int]]:
        """Split the samples from `position` on at the ends of chunks: (first, last + 1, chunk, offset in the chunk)."""
        if self.conditioning is None:
            yield 0, samples, None, 0
            return
        for first, last, offset in self.conditioning.pieces(position, samples):
            yield first, last, self.conditioning.frames(position + first), offset


class NativeConditioner(ChunkConditioner):
    """Computes the gate biases and linear predictors of a network in C++; see `libwavenet/src/conditioner.h`."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Weights under the names of `config.shapes`; copied. Raises `ValueError` for NaN and infinity."""
        super().__init__(config)
        used = {k: w for k, w in weights.items() if k.startswith("conditioning.") or k.endswith("dilated.bias")}
        for name, values in used.items():
            if not np.isfinite(values).all():
                raise ValueError(f"the weights {name} contain NaN or infinity: their training diverged")
        self.native = _native.Conditioner(json.dumps(config.to_dict()), used)

    def frames(self, inputs: ConditioningInputs, chunk: int) -> _native.ConditioningFrames:
        """Gate biases and predictors of chunk 0, 1, ..., with memory of their own."""
        speaker = None if inputs.speaker is None else np.ascontiguousarray(inputs.speaker)
        return self.native.frames(speaker, None if inputs.features is None else self.context(inputs, chunk))

    def pitches(self, frames: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        voiced, periods = np.empty(len(frames), np.bool_), np.empty(len(frames), np.int64)
        self.native.pitches(np.ascontiguousarray(frames), voiced, periods)
        return voiced, periods


class NativeEngine(Engine[NativeState]):
    """The network in C++.

    Results are the same to the last bit for all thread counts, block sizes and batches. In int8 they are so on all
    instruction sets, too, and in float32 on the vector instruction sets (avx2, avx512, avx512vnni, neon). The portable
    kernels, without fused multiply-adds, round twice in float32 where those round once, and agree to about 1e-5.
    """

    name = "native"
    states = NativeState

    def __init__(
        self, config: ModelConfig, weights: Mapping[str, Any], precision: str = "f32", threads: int | None = None
    ) -> None:
        """Weights: tensors or arrays under the names of `config.shapes`; copied.

        precision: "f32" or "int8".
        threads: the largest number; fewer are used if they are measured to be faster. None: one per core, up to four.
        Raises `ValueError` for a weight that is missing, extra, misshapen or not finite, and for an instruction set in
        the environment variable WAVENET_KERNELS that this machine does not have.
        """
        self.config = config
        self.precision = precision
        self.threads = min(MAX_DEFAULT_THREADS, cores()) if threads is None else threads
        self.silence = quantizer_for(config.output).silence
        arrays = _arrays(config, weights)
        self.conditioner = NativeConditioner(config, arrays) if config.conditioned else None
        dimensions: dict[str, int | str | list[int] | list[float]] = {
            "kernel_size": config.kernel_size,
            "residual": config.residual_channels,
            "gate": config.gate,
            "skip": config.skip_channels,
            "head": config.head,
            "output": config.output,
            "components": config.components,
            "input_channels": config.input_channels,
            "prediction_order": config.linear_prediction,
            "pitch_taps": config.pitch_taps,
            "pitch_reach": config.pitch_reach,
            "adaptation_hop": config.adaptation_hop,
            "adaptation_weights": adaptation_weights(config).tolist() if config.backward_adaptive else [],
            "conditioned": config.conditioned,
            "hop": 0 if config.features is None else config.hop,
            "silence": self.silence,
            "output_channels": config.output_channels,
            "dilations": list(config.dilations),
        }
        self.native = _native.create(dimensions, arrays, precision, self.threads)

    @property
    def kernels(self) -> str:
        """The instruction set in use: portable, avx2, avx512, avx512vnni or neon."""
        return self.native.kernels

    def peak(self) -> float:
        """Peak multiply-adds per second of one core with these instructions, measured on registers."""
        return self.native.peak()

    def new_state(self, streams: int = 1, inputs: ConditioningInputs | None = None) -> NativeState:
        self.check_memory(streams, self.state_bytes)
        return NativeState(self, streams, self.conditioning_state(streams, inputs))

    @property
    def state_bytes(self) -> int:
        """Memory of one stream's queues, and of the buffers of a step (`libwavenet/src/state.h`)."""
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
        return (2 if self.precision == "int8" else 4) * config.queue_size + 4 * buffers + 8 * config.pitch_reach

    def generate(
        self,
        state: NativeState,
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        temperatures: NDArray[np.float64] | None = None,
    ) -> NDArray[np.int64]:
        uniforms = np.ascontiguousarray(self.checked_uniforms(state, uniforms))
        temperatures = self.checked_temperatures(uniforms, temperatures)
        if temperatures is not None:
            temperatures = np.ascontiguousarray(temperatures)
        self.check_sampling(sampling)
        self.check_features(state, uniforms.shape[1])
        codes = np.empty(uniforms.shape, dtype=np.int64)
        top_k = min(sampling.top_k or 0, self.config.output_channels)
        top_p = 1.0 if sampling.top_p is None else float(sampling.top_p)
        with state.lock:
            muted = state.muted
            for piece in state.pieces(state.position, uniforms.shape[1]):
                self.native.generate(
                    state.native,
                    *piece,
                    muted,
                    uniforms,
                    sampling.temperature,
                    temperatures,
                    top_k,
                    top_p,
                    codes,
                    interruptible=_in_main_thread(),
                )
        return codes

    def logits(self, state: NativeState, codes: ArrayLike) -> NDArray[np.float32]:
        codes = np.ascontiguousarray(self.checked_codes(state, codes))
        self.check_features(state, codes.shape[1])
        logits = np.empty((*codes.shape, self.config.output_channels), dtype=np.float32)
        with state.lock:
            muted = state.muted
            for piece in state.pieces(state.position, codes.shape[1]):
                self.native.logits(state.native, *piece, muted, codes, logits, interruptible=_in_main_thread())
        return logits

    def prime(self, state: NativeState, codes: ArrayLike) -> None:
        """Run the last `context` samples only: older ones are no longer in any queue or predictor."""
        codes = self.checked_codes(state, codes)
        self.check_features(state, codes.shape[1])
        skipped = max(0, codes.shape[1] - self.config.context)
        skipped -= skipped % max(1, self.config.adaptation_hop)  # the extension's positions of updates stay the same
        recent = np.ascontiguousarray(codes[:, skipped:])
        with state.lock:
            start = state.position + skipped
            state.skipped += skipped
            muted = state.muted
            for piece in state.pieces(start, recent.shape[1]):
                self.native.feed(state.native, *piece, muted, recent, interruptible=_in_main_thread())


def kernels() -> list[str]:
    """The kernels (instruction sets) that this machine can run, fastest first."""
    return _native.kernels()


def _in_main_thread() -> bool:
    """Whether this is the thread in which Python handles signals: calls check for signals only there."""
    return threading.current_thread() is threading.main_thread()


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
            raise ValueError(f"the weights {name!r} are {given}; the configuration requires {expected}")
    return arrays


def _array(value: Any) -> NDArray[np.float32]:
    if hasattr(value, "detach"):  # a tensor, on any device
        value = value.detach().float().cpu().numpy()
    return np.ascontiguousarray(value, dtype=np.float32)
