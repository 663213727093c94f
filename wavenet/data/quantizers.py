"""Quantizers between audio and the integer codes that a network predicts: 8-bit mu-law or 16-bit linear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import mulaw
from wavenet.data.pcm import FULL_SCALE, to_float32, to_int16


@dataclass(frozen=True)
class Quantizer:
    """The codes of one kind of output: integers from `low` to `high`."""

    low: int
    high: int
    silence: int  # the code of 0.0, and the first input of every clip
    encode: Callable[[ArrayLike], NDArray[np.int64]]  # samples of any shape, clipped to [-1, 1] -> codes
    decode: Callable[[ArrayLike], NDArray[np.float32]]  # codes of any shape -> samples
    encode_int16: Callable[[NDArray[np.int16]], NDArray[Any]]  # 16-bit samples -> codes, uint8 or int16; fast

    def check(self, codes: NDArray[np.integer[Any]]) -> None:
        """Raises `ValueError` for a code outside the range."""
        if codes.size and (codes.min() < self.low or codes.max() > self.high):
            raise ValueError(f"codes must be between {self.low} and {self.high}")


def _encode_mu_law_int16(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    return _mu_law_table()[samples.view(np.uint16)]


@cache
def _mu_law_table() -> NDArray[np.uint8]:
    """The mu-law code of every int16 sample, uint8 [65,536], indexed by the sample's bits as uint16."""
    samples = np.arange(2**16, dtype=np.uint16).view(np.int16)
    return mulaw.encode(to_float32(samples)).astype(np.uint8)


def _encode_linear(audio: ArrayLike) -> NDArray[np.int64]:
    return to_int16(audio).astype(np.int64)


def _encode_linear_int16(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    return samples


MU_LAW = Quantizer(0, mulaw.MU, mulaw.SILENCE, mulaw.encode, mulaw.decode, _encode_mu_law_int16)
LINEAR = Quantizer(-FULL_SCALE, FULL_SCALE - 1, 0, _encode_linear, to_float32, _encode_linear_int16)


def quantizer_for(output: str) -> Quantizer:
    """The quantizer of a configuration's `output`: "mulaw", "logistic" or "gaussian"."""
    return MU_LAW if output == "mulaw" else LINEAR
