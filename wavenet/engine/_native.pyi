"""The compiled extension, from `binding.cpp`, which binds libwavenet."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

class State:
    def copy(self) -> State: ...
    @property
    def position(self) -> int: ...
    def last_codes(self, codes: NDArray[np.int64]) -> None: ...
    def assign(self, other: State) -> None: ...

class ConditioningFrames: ...

class Engine:
    def new_state(self, streams: int) -> State: ...
    def conditioning_frames(
        self, biases: NDArray[np.float32], predictors: NDArray[np.float64] | None
    ) -> ConditioningFrames: ...
    def generate(
        self,
        state: State,
        first: int,
        last: int,
        conditioning: ConditioningFrames | None,
        offset: int,
        uniforms: NDArray[np.float64],
        temperature: float,
        temperatures: NDArray[np.float64] | None,
        top_k: int,
        top_p: float,
        codes: NDArray[np.int64],
        interruptible: bool,
    ) -> None: ...
    def feed(
        self,
        state: State,
        first: int,
        last: int,
        conditioning: ConditioningFrames | None,
        offset: int,
        codes: NDArray[np.int64],
        interruptible: bool,
    ) -> None: ...
    def logits(
        self,
        state: State,
        first: int,
        last: int,
        conditioning: ConditioningFrames | None,
        offset: int,
        codes: NDArray[np.int64],
        outputs: NDArray[np.float32],
        interruptible: bool,
    ) -> None: ...
    def peak(self) -> float: ...
    @property
    def kernels(self) -> str: ...

class FrameSampler:
    def copy(self) -> FrameSampler: ...
    def next(self, pitch: NDArray[np.float64], loudness: NDArray[np.float64], frames: NDArray[np.float32]) -> None: ...
    def prime(self, frames: NDArray[np.float32]) -> None: ...
    def restart(self) -> None: ...
    def start(self) -> None: ...
    def reseed(self, seed: int) -> None: ...
    def set_temperature(self, temperature: float) -> None: ...
    def speak(self, shares: NDArray[np.float32]) -> None: ...

def create_frame_sampler(config: str, weights: Mapping[str, NDArray[np.float32]], seed: int) -> FrameSampler: ...
def create(
    dimensions: Mapping[str, int | str | list[int] | list[float]],
    weights: Mapping[str, NDArray[np.float32]],
    precision: str,
    threads: int,
) -> Engine: ...
def kernels() -> list[str]: ...
def draw(
    logits: NDArray[np.float32],
    uniforms: NDArray[np.float64],
    temperature: float,
    top_k: int,
    top_p: float,
    codes: NDArray[np.int64],
) -> None: ...
def draw_continuous(
    output: str,
    parameters: NDArray[np.float32],
    uniforms: NDArray[np.float64],
    temperature: float,
    top_p: float,
    codes: NDArray[np.int64],
) -> None: ...
