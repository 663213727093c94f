"""What a network's samples are: whole numbers, 8-bit mu-law or 16-bit linear, and the way from sound and back.

Everything between the network and sound files works on codes, int64, whatever they stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import mulaw
from wavenet.data.pcm import FULL_SCALE, to_int16


@dataclass(frozen=True)
class Quantizer:
    """An alphabet of samples: the codes from `low` to `high`."""

    low: int
    high: int
    silence: int  # the code of 0.0, and the first input of every clip
    encode: Callable[[ArrayLike], NDArray[np.int64]]  # samples in [-1, 1] of any shape -> codes; louder ones clipped
    decode: Callable[[ArrayLike], NDArray[np.float32]]  # and back

    def check(self, codes: NDArray[np.integer[Any]]) -> None:
        """Raises `ValueError` for a code that does not exist."""
        if codes.size and (codes.min() < self.low or codes.max() > self.high):
            raise ValueError(f"codes must lie between {self.low} and {self.high}")


def _encode_linear(audio: ArrayLike) -> NDArray[np.int64]:
    return to_int16(audio).astype(np.int64)


def _decode_linear(codes: ArrayLike) -> NDArray[np.float32]:
    return (np.asarray(codes) / np.float32(FULL_SCALE)).astype(np.float32)


MU_LAW = Quantizer(0, mulaw.MU, mulaw.SILENCE, mulaw.encode, mulaw.decode)
LINEAR = Quantizer(-FULL_SCALE, FULL_SCALE - 1, 0, _encode_linear, _decode_linear)


def quantizer_for(output: str) -> Quantizer:
    """The codes of a configuration's `output`."""
    return MU_LAW if output == "mulaw" else LINEAR
