"""Mu-law companding (ITU-T G.711; van den Oord et al. 2016, section 2.2): audio in [-1, 1] <-> 256 codes.

Small amplitudes have finer steps. `encode(decode(q)) == q` for every code q, and silence is code 128. Agrees with
`torchaudio.functional.mu_law_encoding` and `mu_law_decoding`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CODES = 256
MU = CODES - 1
SILENCE = 128  # encode(0.0), and the first input of every clip


def encode(audio: ArrayLike) -> NDArray[np.int64]:
    """Codes 0..255 (int64) of samples in [-1, 1], any shape; samples beyond are clipped.

    With f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu), the code is floor((f(x) + 1) / 2 * mu + 1/2). Computed in the
    precision of the input: float64 stays float64, everything else is float32.
    Raises `ValueError` for NaN, and for integers other than -1, 0 and 1, which are samples on another scale.
    """
    x = np.asarray(audio)
    if x.dtype.kind not in "fiub" or (x.dtype.kind in "iu" and x.size and (x.min() < -1 or x.max() > 1)):
        raise ValueError(f"expected samples in [-1, 1], not {x.dtype}: divide 16-bit samples by 32,768 first")
    x = np.clip(x if x.dtype == np.float64 else x.astype(np.float32), -1.0, 1.0)
    if np.isnan(x).any():
        raise ValueError("the audio has NaN, which has no mu-law code: replace those samples first")
    one, mu = x.dtype.type(1), x.dtype.type(MU)
    companded = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)  # [-1, 1]
    return np.floor((companded + one) / 2 * mu + x.dtype.type(0.5)).astype(np.int64)


def decode(codes: ArrayLike) -> NDArray[np.float32]:
    """Samples (float32 in [-1, 1]) of codes 0..255, any shape. Raises `ValueError` for any other code."""
    q = np.asarray(codes)
    if not q.size:
        return np.empty(q.shape, dtype=np.float32)
    if q.dtype.kind not in "iu":
        raise ValueError(f"mu-law codes are integers, not {q.dtype}")
    if q.min() < 0 or q.max() > MU:
        raise ValueError(f"mu-law codes are between 0 and {MU}; these are between {q.min()} and {q.max()}")
    return _DECODED[q]


def _decode_table() -> NDArray[np.float32]:
    companded = np.arange(CODES) / MU * 2 - 1
    return (np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(MU)) / MU).astype(np.float32)


_DECODED = _decode_table()
