"""What every engine is: a fixed network, and states that it advances.

Blueprint (`config`), weights (inside the engine) and running state (`State`) are three things: one engine serves any
number of states, and a state is a value that can be copied at any time. This module and the engine interface need
NumPy only, so that an engine without PyTorch can be used without loading PyTorch.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Generic, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine.conditioning import Conditioner, ConditioningInputs, ConditioningState
from wavenet.engine.sampling import Sampling, check_continuous

# Where Linux says how much memory a container may use: control groups, version 2 and 1.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
MOST_MEMORY = 0.8  # share of the memory that a state may take


class EngineUnavailable(RuntimeError):
    """The engine or precision asked for is not part of this installation; the message says what to use instead."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that this process may use at most: the machine's, or its container's; None where unknown."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for file in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # "max" is no number
            limits.append(int(Path(file).read_text()))
    return min(limits)


def one_thread(lock: threading.Lock, what: str) -> threading.Lock:
    """The lock, for a `with` statement. Raises `RuntimeError` if another thread holds it."""
    if lock.locked():
        raise RuntimeError(f"another thread is advancing this {what}")
    return lock


class State(ABC):
    """Where B streams stand: the last code of each, the network's next input; what they are told; the engine's queues.

    codes: int64 [B], the last sample of every stream; silence before the first. Always the same array, written in
        place, so that an engine may keep its address.
    position: samples made or primed so far, the same for all streams.
    conditioning: what a conditioned network is told, and when; None for another network.
    """

    def __init__(self, streams: int, silence: int, conditioning: ConditioningState | None) -> None:
        if streams < 1:
            raise ValueError(f"streams = {streams}: at least one is needed")
        self.codes: NDArray[np.int64] = np.full(streams, silence, dtype=np.int64)
        self.position = 0
        self.conditioning = conditioning

    @property
    def streams(self) -> int:
        """B, fixed for the life of the state."""
        return len(self.codes)

    @abstractmethod
    def copy(self) -> Self:
        """An independent state that continues from the same sample."""

    def __deepcopy__(self, memo: object) -> Self:
        return self.copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine's state lives in its process: it can be copied, not pickled")


S = TypeVar("S", bound=State)


class Engine(ABC, Generic[S]):
    """A network that makes sound: same state, uniforms and sampling in, same codes out, in every engine."""

    name: str
    precision = "f32"
    states: type[State]  # of this kind of engine
    config: ModelConfig
    threads: int | None  # at most; None: the process's setting
    conditioner: Conditioner | None  # of a conditioned network

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine lives in its process: its model can be saved, it is not pickled")

    @abstractmethod
    def new_state(self, streams: int = 1, conditions: ConditioningInputs | None = None) -> S:
        """The state before the first sample: queues of zeros, and silence as the first input.

        conditions: inputs of a conditioned network (`conditioning_inputs`), see `state.conditioning.change`.
        Raises `ValueError` where they are missing, or are for another number of streams.
        """

    @abstractmethod
    def generate(self, state: S, uniforms: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
        """Draw the next codes [B, n] with the uniforms [B, n] and advance the state by n samples.

        Here, in `logits` and in `prime`: raises `ValueError` where the features end before, and changes nothing.
        """

    @abstractmethod
    def logits(self, state: S, codes: ArrayLike) -> NDArray[np.float32]:
        """Feed the given codes [B, T] and return the logits [B, T, A] that each was predicted with.

        Position t is the prediction of codes[:, t] from all that came before it, the first one from the state. The
        state advances by T samples.
        """

    @abstractmethod
    def prime(self, state: S, codes: ArrayLike) -> None:
        """Feed the given codes [B, T]: the state that `logits` leaves, without the cost of the logits."""

    def conditioning_state(self, streams: int, conditions: ConditioningInputs | None) -> ConditioningState | None:
        """The conditioning of a new state. Raises `ValueError` as `new_state` does."""
        if self.conditioner is None:
            if conditions is not None and (conditions.speaker is not None or conditions.features is not None):
                raise ValueError("this model is not conditioned: leave speaker and features out")
            return None
        given = conditions or ConditioningInputs()
        for name, array, needed in (
            ("speaker", given.speaker, bool(self.config.speakers)),
            ("features", given.features, self.config.features is not None),
        ):
            if (array is not None) != needed:
                raise ValueError(f"{name}: {'needed by' if needed else 'not known to'} this model")
            if array is not None and len(array) != streams:
                raise ValueError(f"{name}: for {len(array)} streams, not {streams}")
        return ConditioningState(self.conditioner, given)

    def check_memory(self, streams: int, size: int) -> None:
        """Raises `ValueError` where a state of so many streams, of so many bytes each, would not fit into memory."""
        there = memory()
        if there is not None and streams * size > MOST_MEMORY * there:
            most = int(MOST_MEMORY * there / size)
            advice = f"make at most {most:,} at a time" if most else "this model is too large for this machine"
            raise ValueError(
                f"{streams:,} streams side by side need {streams * size / 1e9:,.1f} GB of memory and this machine "
                f"has {there / 1e9:,.1f}: {advice}"
            )

    def check_own(self, state: State) -> None:
        """Raises `ValueError` for a state that another engine made."""
        if not isinstance(state, self.states) or getattr(state, "engine", self) is not self:
            raise ValueError("this state belongs to another engine; new_state of this one makes a state for it")

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises `ValueError` for options that the output has not."""
        if self.config.output != "mulaw":
            check_continuous(sampling)

    def check_features(self, state: State, samples: int) -> None:
        """Raises `ValueError` where the features end before these samples do."""
        if state.conditioning is not None:
            state.conditioning.check(state.position, samples)

    def checked_uniforms(self, state: State, uniforms: ArrayLike) -> NDArray[np.float64]:
        """Uniforms as float64 [B, n]. Raises `ValueError` for another engine's state, shape, or one outside [0, 1)."""
        self.check_own(state)
        array = np.asarray(uniforms, dtype=np.float64)
        if array.ndim != 2 or len(array) != state.streams:
            raise ValueError(f"uniforms must be [{state.streams}, n], one row per stream, not {list(array.shape)}")
        if array.size and not (array.min() >= 0 and array.max() < 1):
            raise ValueError("uniforms must lie in [0, 1)")
        return array

    def checked_codes(self, state: State, codes: ArrayLike) -> NDArray[np.int64]:
        """Codes as int64 [B, T].

        Raises `ValueError` for another engine's state, another shape, fractions, or codes that do not exist.
        """
        self.check_own(state)
        array = np.asarray(codes)
        if array.ndim != 2 or len(array) != state.streams:
            raise ValueError(f"codes must be [{state.streams}, T], one row per stream, not {list(array.shape)}")
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"codes must be whole numbers, not {array.dtype}")
        quantizer_for(self.config.output).check(array)
        return array.astype(np.int64)
