"""Frame coding: loudness, voicing, pitch and shape of log-mel frames, and back."""

from __future__ import annotations

import numpy as np
import pytest
from frame_data import MEL, syllables
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.features import mel_spectrogram
from wavenet.frame_coding import COVERED, LEAST_DEVIATION, FrameCoding, loudness
from wavenet.nn.linear_prediction import voicing_and_pitch

Frames = NDArray[np.float32]
RECORDING = syllables(8)
CODING = FrameCoding.fit([RECORDING], MEL, 48)
ALL_BANDS = FrameCoding.fit([RECORDING], MEL, MEL.bands)


def tone(hertz: float, level: float = 0.1, harmonics: int = 25) -> Frames:
    """Log-mel frames [N, 80] of the harmonics of a pitch, from within half a second of them."""
    time = np.arange(8_000) / MEL.sample_rate
    audio = sum(level / k * np.cos(2 * np.pi * hertz * k * time + k * k) for k in range(1, harmonics + 1))
    return mel_spectrogram(audio, MEL).T[5:-5]


def test_loudness_is_half_the_logarithm_of_the_energy() -> None:
    frames = np.log([[3.0, 4.0], [1e-5, 1e-5]])  # magnitudes 3 and 4: energy 25
    np.testing.assert_allclose(loudness(frames), [np.log(5.0), np.log(1e-5 * np.sqrt(2))])
    assert loudness(np.full((1, 80), 2_000.0)) == pytest.approx(2_000 + np.log(80) / 2)  # without an overflow


def test_decoding_restores_the_loudness_and_the_frame_up_to_what_is_left_out() -> None:
    heard = RECORDING[RECORDING.min(1) > MEL.silence + 1]  # silence limits nothing
    assert len(heard) > 400
    decoded = CODING.decode(CODING.encode(heard))
    np.testing.assert_allclose(loudness(decoded), loudness(heard), atol=2e-5)
    error = np.sqrt(np.square(decoded - heard).mean())
    assert 0.001 < error < 0.25 * heard.std(0).mean()
    fewer = FrameCoding.fit([RECORDING], MEL, 12)
    assert np.sqrt(np.square(fewer.decode(fewer.encode(heard)) - heard).mean()) > 1.5 * error
    np.testing.assert_allclose(ALL_BANDS.decode(ALL_BANDS.encode(heard)), heard, atol=1e-3)


def test_the_shape_is_white_and_so_are_its_changes() -> None:
    shape = CODING.encode(RECORDING)[:, 3:].astype(np.float64)
    np.testing.assert_allclose(shape.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(shape.T, bias=True), np.eye(48), atol=2e-3)
    changes = np.diff(shape, axis=0)
    products = changes.T @ changes / len(changes)
    speeds = products.diagonal()
    assert (np.abs(products - np.diag(speeds)) < 2e-3 * speeds.max()).all()
    assert (np.diff(speeds) > -1e-6).all() and speeds[0] < 0.3 * speeds[-1]  # the slowest first


def test_the_rotation_preserves_volumes_and_so_likelihoods() -> None:
    shapes = RECORDING - loudness(RECORDING)[:, None]
    variance = np.linalg.eigvalsh(np.cov(shapes.T, bias=True))
    deviations = np.sqrt(np.maximum(variance, LEAST_DEVIATION**2))
    assert np.linalg.slogdet(ALL_BANDS.analysis)[1] == pytest.approx(-np.log(deviations).sum(), abs=1e-3)


def test_the_shape_does_not_depend_on_the_level() -> None:
    louder = CODING.encode(RECORDING + np.float32(0.7))
    expected = CODING.encode(RECORDING)
    np.testing.assert_allclose(louder[:, 3:], expected[:, 3:], atol=2e-4)
    np.testing.assert_allclose((louder - expected)[:, 0], 0.7 / CODING.loudness[0, 1], atol=1e-4)


@pytest.mark.parametrize("hertz", [90.0, 131.3, 200.0, 263.7, 350.0])
def test_voicing_and_pitch_of_tones(hertz: float) -> None:
    encoded = CODING.encode(tone(hertz))
    mean, deviation = CODING.pitch[0]
    assert encoded[:, 1].mean() == 1
    semitones = 12 / np.log(2) * (encoded[:, 2] * deviation + mean - np.log(hertz))
    assert np.abs(semitones).max() < 0.7 and np.abs(semitones.mean()) < 0.5
    has_pitch, _ = voicing_and_pitch(tone(hertz), MEL)
    assert has_pitch.all()


def test_noise_and_silence_have_no_pitch_and_silence_stays_silent() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    encoded = CODING.encode(mel_spectrogram(noise, MEL).T)
    assert encoded[:, 1].mean() < 0.05
    assert (encoded[encoded[:, 1] == 0, 2] == 0).all()
    silent = np.full((3, 80), MEL.silence, np.float32)
    decoded = CODING.decode(CODING.encode(silent))
    assert CODING.encode(silent)[:, 1].max() == 0
    assert decoded.min() >= np.float32(MEL.silence) and decoded.max() < MEL.silence + 1
    np.testing.assert_allclose(ALL_BANDS.decode(ALL_BANDS.encode(silent)), silent, atol=1e-3)


def test_frames_are_periodic_at_their_own_pitch_only() -> None:
    encoded = np.repeat(CODING.encode(tone(200.0)[:1]), 3, axis=0)
    own = encoded[0, 2]
    encoded[1, 2] = CODING.encoded_pitch(np.array(206.0))  # within a semitone
    encoded[2, 2] = CODING.encoded_pitch(np.array(270.0))
    exact, near, other = CODING.periodicity(encoded)
    assert CODING.encoded_pitch(np.array(200.0)) == pytest.approx(own, abs=0.05)
    assert exact == near > 0.3 and other < 0.5 * exact


def test_a_given_pitch_replaces_that_of_the_frames() -> None:
    frames, pitch = tone(200.0)[:4], np.array([np.nan, 100.0, 400.0, 200.0])
    encoded, estimated = CODING.encode(frames, 0, pitch), CODING.encode(frames)
    np.testing.assert_array_equal(encoded[:, 1], [0, 1, 1, 1])
    expected = [0, *(np.log(pitch[1:]) - CODING.pitch[0, 0]) / CODING.pitch[0, 1]]
    np.testing.assert_allclose(encoded[:, 2], expected, atol=1e-5)
    np.testing.assert_array_equal(np.delete(encoded, (1, 2), 1), np.delete(estimated, (1, 2), 1))
    given = FrameCoding.fit([frames], MEL, 4, [pitch])
    assert given.pitch[0] == pytest.approx([np.log(pitch[1:]).mean(), np.log(pitch[1:]).std()])
    assert CODING.renormalised([frames], [pitch]).pitch[0] == pytest.approx(given.pitch[0])


@settings(max_examples=30)
@given(st.integers(0, 99), st.sampled_from([0.1, 3.0, 100.0, 1e6, 1e30]), st.integers(1, 4))
def test_all_frames_give_finite_values(seed: int, scale: float, count: int) -> None:
    values = (scale * np.random.default_rng(seed).standard_normal((2, count, 83))).astype(np.float32)
    encoded = CODING.encode(values[..., :80])
    assert encoded.shape == (2, count, 51) and encoded.dtype == np.float32
    assert np.isfinite(encoded).all()
    decoded = CODING.decode(values[..., :51])
    assert decoded.shape == (2, count, 80) and decoded.dtype == np.float32
    assert np.isfinite(decoded).all() and decoded.min() >= np.float32(MEL.silence)


@pytest.mark.parametrize("frame", [MEL.silence, -3.0])
def test_recordings_without_any_change_can_be_fitted(frame: float) -> None:
    frames = np.full((5, 80), frame, np.float32)
    coding = FrameCoding.fit([frames], MEL, 48)
    assert np.isfinite(coding.encode(RECORDING)).all()
    np.testing.assert_allclose(coding.decode(coding.encode(frames)), frames, atol=1e-4)
    assert (coding.limits[0] <= coding.limits[1]).all()


def test_voices_share_components_and_have_their_own_normalisation() -> None:
    low, high = syllables(6, 1, pitch=120), syllables(6, 2, pitch=240) + np.float32(0.5)
    coding = FrameCoding.fit([low, high], MEL, 20)
    for voice, frames in enumerate((low, high)):
        encoded = coding.encode(frames, voice).astype(np.float64)
        np.testing.assert_allclose(encoded[:, [0, *range(3, 23)]].mean(0), 0, atol=1e-3)
        assert encoded[:, 0].std() == pytest.approx(1, abs=1e-3)
        assert encoded[encoded[:, 1] > 0, 2].mean() == pytest.approx(0, abs=1e-3)
        shares = np.eye(2)[voice]
        np.testing.assert_allclose(coding.encode(frames, shares), encoded, atol=1e-5)
        np.testing.assert_array_equal(coding.decode(encoded, np.tile(shares, (len(encoded), 1))).shape, frames.shape)
    assert np.exp(coding.pitch[1, 0] - coding.pitch[0, 0]) == pytest.approx(2, rel=0.1)
    other = coding.renormalised([RECORDING])
    assert other.mean.shape == (1, 80)
    np.testing.assert_array_equal(other.analysis, coding.analysis)
    assert np.abs(other.encode(RECORDING)[:, 3:].mean(0)).max() < 1e-3


def test_limits_contain_the_covered_share_of_the_frames() -> None:
    encoded = CODING.encode(RECORDING)
    inside = (encoded >= CODING.limits[0] - 1e-6) & (encoded <= CODING.limits[1] + 1e-6)
    assert (inside.mean(0) >= COVERED - 2 / len(encoded)).all()
    np.testing.assert_array_equal(CODING.limits[:, 1], [0, 1])
    assert CODING.limits[0, 2] <= 0 <= CODING.limits[1, 2]


def test_a_coding_is_the_same_after_a_model_file() -> None:
    again = FrameCoding.from_tensors(MEL, CODING.tensors())
    np.testing.assert_array_equal(again.encode(RECORDING), CODING.encode(RECORDING))
    np.testing.assert_array_equal(again.decode(CODING.encode(RECORDING)), CODING.decode(CODING.encode(RECORDING)))
    assert {tensor.dtype for tensor in CODING.tensors().values()} == {np.dtype(np.float32)}


def test_wrong_frames_are_named() -> None:
    with pytest.raises(ValueError, match=r"frames must be \[..., 80\], at least one, not \[3, 79\]"):
        CODING.encode(np.zeros((3, 79)))
    with pytest.raises(ValueError, match=r"not \[0, 80\]"):
        FrameCoding.fit([np.zeros((0, 80))], MEL, 4)
    with pytest.raises(ValueError, match="there are no recordings"):
        FrameCoding.fit([], MEL, 4)
    with pytest.raises(ValueError, match="NaN or infinity"):
        CODING.encode(np.full((1, 80), np.nan))
    with pytest.raises(ValueError, match="components = 81: must be between 1 and the number of bands, 80"):
        FrameCoding.fit([RECORDING], MelConfig(), 81)
