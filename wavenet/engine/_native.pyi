"""The compiled extension, from `src/binding.cpp`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

class State:
    def copy(self) -> State: ...
    @property
    def position(self) -> int: ...
    def last_codes(self, codes: NDArray[np.int64]) -> None: ...

class Told: ...

class Engine:
    def new_state(self, streams: int) -> State: ...
    def told(self, rows: NDArray[np.float32], predictors: NDArray[np.float64] | None) -> Told: ...
    def generate(
        self,
        state: State,
        first: int,
        last: int,
        told: Told | None,
        offset: int,
        coins: NDArray[np.float64],
        temperature: float,
        greedy: bool,
        top_k: int,
        top_p: float,
        drawn: NDArray[np.int64],
    ) -> None: ...
    def feed(
        self, state: State, first: int, last: int, told: Told | None, offset: int, codes: NDArray[np.int64]
    ) -> None: ...
    def logits(
        self,
        state: State,
        first: int,
        last: int,
        told: Told | None,
        offset: int,
        codes: NDArray[np.int64],
        logits: NDArray[np.float32],
    ) -> None: ...
    def peak(self) -> float: ...
    @property
    def kernels(self) -> str: ...

def create(
    shape: Mapping[str, int | str | list[int]], weights: Mapping[str, NDArray[np.float32]], precision: str, threads: int
) -> Engine: ...
def kernels() -> list[str]: ...
def draw(
    logits: NDArray[np.float32],
    coins: NDArray[np.float64],
    temperature: float,
    greedy: bool,
    top_k: int,
    top_p: float,
    drawn: NDArray[np.int64],
) -> None: ...
def draw_linear(
    output: str,
    numbers: NDArray[np.float32],
    coins: NDArray[np.float64],
    temperature: float,
    greedy: bool,
    top_p: float,
    drawn: NDArray[np.int64],
) -> None: ...
