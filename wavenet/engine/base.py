"""The interface of every engine: a network with fixed weights, and states that it advances.

Configuration, weights (in the engine) and running state (`State`) are separate: one engine advances any number of
states, and a state can be copied at any time. NumPy only: the native engine does not load PyTorch.
"""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Generic, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.checks import is_integer, shown
from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine.conditioning import ChunkConditioner, ConditioningInputs, ConditioningState
from wavenet.engine.sampling import Sampling, check_continuous
from wavenet.extras import Unavailable

# Files in which Linux states how much memory a container may use: control groups, version 2 and 1.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
MOST_MEMORY = 0.8  # share of the memory that one call may take
UNCHECKED_BYTES = 2**26  # so much is always there, and reading the limits takes longer than a short call


class EngineUnavailable(Unavailable):
    """The requested engine or precision is not installed. The message includes what to use instead."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of memory that this process may use: the machine's, or its container's; None where unknown."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        return None
    for file in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # "max" is not a number
            limits.append(int(Path(file).read_text()))
    return min(limits)


def check_memory(what: str, size: int, advice: str) -> None:
    """Raises `ValueError`, in one line, if `size` bytes do not fit into memory. what: the subject of the message."""
    available = memory() if size > UNCHECKED_BYTES else None
    if available is not None and size > MOST_MEMORY * available:
        raise ValueError(
            f"{what} need {size / 1e9:,.1f} GB of memory and this machine has {available / 1e9:,.1f}: {advice}"
        )


class Exclusive:
    """A `with` block for one thread at a time; in another thread it raises `RuntimeError` instead of waiting.

    `dict.setdefault` tests and sets the owner in one operation. The owner is a thread, so that a thread whose `with`
    statement was interrupted while entering or leaving can enter again. It does not exclude signal handlers.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._owner: dict[str, int] = {}

    def locked(self) -> bool:
        """Whether a thread is inside."""
        return bool(self._owner)

    def __enter__(self) -> None:
        thread = threading.get_ident()
        if self._owner.setdefault("thread", thread) != thread:
            raise RuntimeError(f"another thread is advancing this {self.what}")

    def __exit__(self, *_: object) -> None:
        self._owner.pop("thread", None)


class State(ABC):
    """The state of B streams: the last code of each, their conditioning, muted layers, and the engine's queues."""

    def __init__(self, streams: int, conditioning: ConditioningState | None) -> None:
        if streams < 1:
            raise ValueError(f"streams = {streams}: at least one is needed")
        self.streams = streams  # B, fixed
        self.conditioning = conditioning  # of a conditioned network
        self._mute: tuple[int, ...] = ()

    @property
    @abstractmethod
    def config(self) -> ModelConfig:
        """The configuration of the engine's network."""

    @property
    def mute(self) -> tuple[int, ...]:
        """The muted layers, whose z is zero from the next sample on. Assigning others raises `ValueError`."""
        return self._mute

    @mute.setter
    def mute(self, layers: Iterable[int]) -> None:
        if layers is not self._mute:
            self._mute = checked_mute(self.config, layers)

    @property
    def muted(self) -> NDArray[np.bool_] | None:
        """Of every layer whether it is muted, [L]; None: no layer is."""
        return np.isin(np.arange(self.config.layers), self._mute) if self._mute else None

    @property
    @abstractmethod
    def codes(self) -> NDArray[np.int64]:
        """The last code [B] of every stream, the network's next input; silence before the first. Do not write to it."""

    @property
    @abstractmethod
    def position(self) -> int:
        """Samples generated or primed so far, the same number for all streams."""

    @abstractmethod
    def copy(self) -> Self:
        """An independent state that continues from the same sample."""

    @abstractmethod
    def assign(self, other: Self) -> None:
        """Continue from the same sample as `other`, independently of it; the native engine allocates nothing.

        Raises `ValueError` unless `other` is a state of the same engine with as many streams.
        """

    def check_same(self, other: State) -> None:
        """Raises `ValueError` unless `other` is a state of the same engine with as many streams."""
        if type(other) is not type(self) or getattr(other, "engine", None) is not getattr(self, "engine", None):
            raise ValueError("the states belong to different engines")
        if other.streams != self.streams:
            raise ValueError(f"the state is of {other.streams} streams, not {self.streams}")

    def __deepcopy__(self, memo: object) -> Self:
        return self.copy()

    def __reduce__(self) -> NoReturn:
        raise TypeError("the state of an engine cannot be pickled; it can be copied within its process")


def checked_mute(config: ModelConfig, layers: Iterable[int] | None) -> tuple[int, ...]:
    """The layers to mute, sorted; None: none. Raises `ValueError`, in one line, for what is not a layer's index."""
    given = tuple(layers) if isinstance(layers, Iterable) else None if layers is not None else ()
    if given is None or not all(is_integer(layer) and 0 <= layer < config.layers for layer in given):
        raise ValueError(f"mute = {shown(layers)}: must be layers of the model, from 0 to {config.layers - 1}")
    return tuple(sorted({int(layer) for layer in given}))


S = TypeVar("S", bound=State)


class Engine(ABC, Generic[S]):
    """A network that generates samples: the same state, uniforms and sampling give the same codes in every engine.

    That holds exactly up to rounding: mu-law codes until a uniform number falls between probabilities that differ in
    the last bits of a float32; 16-bit codes only on the same engine and instruction set. Within one engine the codes do
    not depend on block sizes or the number of threads.
    """

    name: str
    precision = "f32"
    states: type[State]  # the type of this engine's states
    config: ModelConfig
    threads: int | None  # largest number; None: PyTorch's setting
    conditioner: ChunkConditioner | None  # of a conditioned network

    @property
    def state_bytes(self) -> int:
        """Memory of one stream's state, about; 0 where it is not known."""
        return 0

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine cannot be pickled: save its model instead")

    @abstractmethod
    def new_state(self, streams: int = 1, inputs: ConditioningInputs | None = None) -> S:
        """The state before the first sample: queues of zeros, and silence as the first input.

        inputs: for a conditioned network (`conditioning_inputs`); `state.conditioning.change` replaces them later.
        Raises `ValueError` if they are missing, or for another number of streams.
        """

    @abstractmethod
    def generate(
        self,
        state: S,
        uniforms: NDArray[np.float64],
        sampling: Sampling,
        temperatures: NDArray[np.float64] | None = None,
    ) -> NDArray[np.int64]:
        """Draw the next codes [B, n] with the uniform numbers [B, n] and advance the state by n samples.

        temperatures: [B, n], instead of `sampling.temperature`; None: that one for all samples.
        If it is interrupted, for example by Ctrl-C, the state has advanced by a whole number of samples. Like `logits`
        and `prime` it raises `ValueError`, and changes nothing, if the features end too early.
        """

    @abstractmethod
    def logits(self, state: S, codes: ArrayLike) -> NDArray[np.float32]:
        """Feed the given codes [B, T] and return the output parameters [B, T, A] that predict them (mu-law: logits).

        Those at t predict codes[:, t] from the samples before it, beginning with those in the state. The state advances
        by T samples; if it is interrupted, by a whole number of samples.
        """

    @abstractmethod
    def prime(self, state: S, codes: ArrayLike) -> None:
        """Feed the given codes [B, T]: the same state as after `logits`, at a lower cost."""

    def conditioning_state(self, streams: int, inputs: ConditioningInputs | None) -> ConditioningState | None:
        """The conditioning of a new state. Raises `ValueError` as `new_state` does."""
        if self.conditioner is None:
            if inputs is not None and (inputs.speaker is not None or inputs.features is not None):
                raise ValueError("this model is not conditioned: leave speaker and features out")
            return None
        given = inputs or ConditioningInputs()
        for name, array, needed in (
            ("speaker", given.speaker, bool(self.config.speakers)),
            ("features", given.features, self.config.features is not None),
        ):
            if (array is not None) != needed:
                raise ValueError(f"{name}: {'needed' if needed else 'not used'} by this model")
            if array is not None and len(array) != streams:
                raise ValueError(f"{name}: for {len(array)} streams, not {streams}")
        return self.conditioner.state(given)

    def check_memory(self, streams: int, size: int) -> None:
        """Raises `ValueError` if a state of `streams` streams, of `size` bytes each, would not fit into memory."""
        most = int(MOST_MEMORY * (memory() or 0) / size)
        advice = f"generate at most {most:,} at a time" if most else "this model is too large for this machine"
        check_memory(f"{streams:,} streams in a batch", streams * size, advice)

    def check_own(self, state: State) -> None:
        """Raises `ValueError` for a state of another engine."""
        if not isinstance(state, self.states) or getattr(state, "engine", self) is not self:
            raise ValueError("this state belongs to another engine; create one with this engine's new_state")

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises `ValueError` for options that the model's output does not have."""
        if self.config.output != "mulaw":
            check_continuous(sampling)

    def check_features(self, state: State, samples: int) -> None:
        """Raises `ValueError` if the features end before the next `samples` samples."""
        if state.conditioning is not None:
            state.conditioning.check(state.position, samples)

    def checked_uniforms(self, state: State, uniforms: ArrayLike) -> NDArray[np.float64]:
        """Uniform numbers as float64 [B, n].

        Raises `ValueError` for a state of another engine, a wrong shape, or a number outside [0, 1).
        """
        self.check_own(state)
        array = np.asarray(uniforms, dtype=np.float64)
        if array.ndim != 2 or len(array) != state.streams:
            raise ValueError(f"uniforms must be [{state.streams}, n], one row per stream, not {list(array.shape)}")
        if array.size and not (array.min() >= 0 and array.max() < 1):
            raise ValueError("uniforms must be in [0, 1)")
        return array

    def checked_temperatures(self, uniforms: ArrayLike, temperatures: ArrayLike | None) -> NDArray[np.float64] | None:
        """Temperatures as float64 [B, n], the shape of the uniform numbers; None for None.

        Raises `ValueError` for another shape, a negative number, NaN or infinity.
        """
        if temperatures is None:
            return None
        array, shape = np.asarray(temperatures, dtype=np.float64), np.shape(uniforms)
        if array.shape != shape:
            raise ValueError(f"temperatures must be {list(shape)}, as the uniforms, not {list(array.shape)}")
        if array.size and not (array.min() >= 0 and array.max() < math.inf):
            raise ValueError("temperatures must be finite numbers from 0")
        return array

    def checked_codes(self, state: State, codes: ArrayLike) -> NDArray[np.int64]:
        """Codes as int64 [B, T], a copy.

        Raises `ValueError` for a state of another engine, a wrong shape, fractions, or codes out of range.
        """
        self.check_own(state)
        array = np.asarray(codes)
        if array.ndim != 2 or len(array) != state.streams:
            raise ValueError(f"codes must be [{state.streams}, T], one row per stream, not {list(array.shape)}")
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"codes must be whole numbers, not {array.dtype}")
        quantizer_for(self.config.output).check(array)
        return array.astype(np.int64)
