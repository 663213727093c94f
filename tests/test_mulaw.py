"""Mu-law against its definition, its inverse and torchaudio."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from wavenet import mulaw


def test_every_code_survives_decoding_and_encoding() -> None:
    codes = np.arange(256)
    assert np.array_equal(mulaw.encode(mulaw.decode(codes)), codes)


def test_known_codes() -> None:
    # by hand from the definition: q = floor((f(x) + 1) / 2 * 255 + 1/2)
    assert mulaw.encode([-1.0, 0.0, 1.0]).tolist() == [0, 128, 255]
    assert mulaw.encode([-7.0, 7.0]).tolist() == [0, 255]  # clipped
    assert mulaw.SILENCE == 128
    assert abs(mulaw.decode(128)) < 1e-4


def test_decoding_agrees_with_torchaudio_on_all_codes(torchaudio: ModuleType) -> None:
    codes = torch.arange(256)
    expected = torchaudio.functional.mu_law_decoding(codes, 256)
    assert np.allclose(mulaw.decode(codes.numpy()), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encoding_agrees_with_torchaudio(dtype: type[Any], torchaudio: ModuleType) -> None:
    rng = np.random.default_rng(0)
    signal = np.concatenate([rng.uniform(-1, 1, 50_000), rng.laplace(0, 0.05, 50_000).clip(-1, 1)]).astype(dtype)
    expected = torchaudio.functional.mu_law_encoding(torch.from_numpy(signal), 256).numpy()
    assert np.array_equal(mulaw.encode(signal), expected)


def test_shapes_and_types() -> None:
    audio = np.zeros((2, 3, 5))
    assert mulaw.encode(audio).shape == (2, 3, 5)
    assert mulaw.encode(audio).dtype == np.int64
    assert mulaw.decode(np.zeros((2, 3), dtype=np.uint8)).shape == (2, 3)
    assert mulaw.decode(np.zeros(1, dtype=np.uint8)).dtype == np.float32
    assert mulaw.encode(np.empty(0)).shape == (0,)
    assert mulaw.encode([-1, 0, 1]).tolist() == [0, 128, 255]


@pytest.mark.parametrize("codes", [[256], [-1]])
def test_other_codes_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="between 0 and 255"):
        mulaw.decode(codes)


def test_codes_must_be_integers() -> None:
    with pytest.raises(ValueError, match="mu-law codes are integers, not float64"):
        mulaw.decode([0.5])


@pytest.mark.parametrize("samples", [np.array([0, 1_000], np.int16), np.array([-(2**63)]), np.array([2**64 - 1])])
def test_samples_on_an_integer_scale_are_refused(samples: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ValueError, match="divide 16-bit samples by 32,768"):
        mulaw.encode(samples)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        mulaw.encode([0.0, np.nan])
