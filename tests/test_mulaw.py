"""Mu-law against its definition, its inverse and torchaudio."""

import numpy as np
import pytest
import torch
from torchaudio.functional import mu_law_decoding, mu_law_encoding

from wavenet import mulaw


def test_every_code_survives_decoding_and_encoding():
    codes = np.arange(256)
    assert np.array_equal(mulaw.encode(mulaw.decode(codes)), codes)


def test_known_codes():
    # by hand from the definition: q = floor((f(x) + 1) / 2 * 255 + 1/2)
    assert mulaw.encode([-1.0, 0.0, 1.0]).tolist() == [0, 128, 255]
    assert mulaw.encode([-7.0, 7.0]).tolist() == [0, 255]  # clipped
    assert mulaw.SILENCE == 128
    assert abs(mulaw.decode(128)) < 1e-4


def test_decoding_agrees_with_torchaudio_on_all_codes():
    codes = torch.arange(256)
    assert np.allclose(mulaw.decode(codes), mu_law_decoding(codes, 256), atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_encoding_agrees_with_torchaudio(kind):
    rng = np.random.default_rng(0)
    signal = np.concatenate([rng.uniform(-1, 1, 50_000), rng.laplace(0, 0.05, 50_000).clip(-1, 1)]).astype(kind)
    assert np.array_equal(mulaw.encode(signal), mu_law_encoding(torch.from_numpy(signal), 256).numpy())


def test_shapes_and_kinds_are_kept():
    sound = np.zeros((2, 3, 5))
    assert mulaw.encode(sound).shape == (2, 3, 5)
    assert mulaw.encode(sound).dtype == np.int64
    assert mulaw.decode(np.zeros((2, 3), dtype=np.uint8)).shape == (2, 3)
    assert mulaw.decode(np.zeros(1, dtype=np.uint8)).dtype == np.float32
    assert mulaw.encode(np.empty(0)).shape == (0,)


@pytest.mark.parametrize("codes", [[256], [-1]])
def test_other_codes_are_refused(codes):
    with pytest.raises(ValueError, match="between 0 and 255"):
        mulaw.decode(codes)


def test_samples_on_the_16_bit_scale_are_refused():
    with pytest.raises(ValueError, match="divided by 32,768"):
        mulaw.encode(np.array([0, 1_000], dtype=np.int16))


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        mulaw.encode([0.0, np.nan])
