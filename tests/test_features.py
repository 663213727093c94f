"""The mel spectrogram: alignment of frames with samples, and its values against torchaudio, NumPy and librosa."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from types import ModuleType

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

from wavenet import features
from wavenet.config import MelConfig
from wavenet.features import mel_filters, mel_spectrogram, one_thread_product

SMALL = MelConfig(sample_rate=8_000, window=96, fft=128, hop=32, bands=10, high=4_000.0)
ODD = MelConfig(sample_rate=8_000, window=51, fft=65, hop=15, bands=4, low=100.0, high=3_900.0, scale="htk", area=False)
MIXED = MelConfig(sample_rate=8_000, window=96, fft=128, hop=33, bands=10, high=4_000.0)
ENERGY = MelConfig(sample_rate=8_000, high=4_000.0, power=2.0)
FORMS = pytest.mark.parametrize("config", [SMALL, ODD, MIXED], ids=["even", "odd", "mixed"])
HTK = MelConfig(
    sample_rate=8_000, window=50, fft=64, hop=16, bands=4, low=100.0, high=3_900.0, scale="htk", area=False, power=2.0
)


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.2 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@FORMS
def test_an_impulse_is_strongest_in_the_frame_of_its_sample(config: MelConfig) -> None:
    for at in range(5 * config.hop, 7 * config.hop):
        audio = np.zeros(12 * config.hop, np.float32)
        audio[at] = 1
        strength = mel_spectrogram(audio, config).mean(0)
        assert strength[at // config.hop] >= strength.max() - 1e-5  # the first sample is as near to the frame before
        assert at % config.hop == 0 or strength.argmax() == at // config.hop


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (31, 1), (32, 1), (33, 2), (64, 2), (3_201, 101)])
def test_there_is_a_frame_for_every_hop_begun(samples: int, frames: int) -> None:
    mel = mel_spectrogram(noise(samples), SMALL)
    assert mel.shape == (10, frames)
    assert mel.dtype == np.float32


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        ODD,
        MIXED,
        ENERGY,
        HTK,
        dataclasses.replace(SMALL, window=128),
        dataclasses.replace(SMALL, window=95),
        dataclasses.replace(SMALL, fft=129),
        dataclasses.replace(ODD, fft=66),
        dataclasses.replace(SMALL, power=1.5, floor=1e-8),
    ],
)
def test_values_are_those_of_torchaudio(config: MelConfig, torchaudio: ModuleType) -> None:
    audio = noise(2, 20 * config.hop + 7)
    transform = torchaudio.transforms.MelSpectrogram(
        config.sample_rate,
        config.fft,
        config.window,
        config.hop,
        config.low,
        config.high,
        n_mels=config.bands,
        power=config.power,
        center=False,
        norm="slaney" if config.area else None,
        mel_scale=config.scale,
    )
    before = (config.fft - config.hop + 1) // 2  # centres the first hop samples in the first transform
    padded = np.pad(audio, ((0, 0), (before, config.fft)))
    expected = transform(torch.from_numpy(padded)).clamp(min=config.floor).log()[..., :21]
    np.testing.assert_allclose(mel_spectrogram(audio, config), expected, atol=1e-5)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("area", [True, False])
@pytest.mark.parametrize(("sample_rate", "fft", "bands"), [(16_000, 1_024, 80), (22_050, 1_024, 40), (8_000, 65, 4)])
def test_filters_are_those_of_torchaudio(
    scale: str, area: bool, sample_rate: int, fft: int, bands: int, torchaudio: ModuleType
) -> None:
    config = MelConfig(
        sample_rate, fft, fft, fft // 2, bands, low=50.0, high=sample_rate / 2 - 500, scale=scale, area=area
    )
    expected = torchaudio.functional.melscale_fbanks(
        fft // 2 + 1, config.low, config.high, bands, sample_rate, "slaney" if area else None, scale
    )
    peak = expected.max().item()
    assert peak > 1e-3
    np.testing.assert_allclose(mel_filters(config), expected.numpy().T, atol=1e-5 * peak)  # torchaudio's are float32


# The bins of an odd transform are elsewhere in librosa; here they run to half the sample rate in equal steps, as in
# torchaudio.
@pytest.mark.parametrize("config", [SMALL, HTK], ids=["slaney", "htk"])
def test_values_are_those_of_plain_numpy_and_librosa(config: MelConfig) -> None:
    audio = noise(10 * config.hop, seed=1).astype(np.float64)
    padded = np.pad(audio, ((config.fft - config.hop) // 2, config.fft))
    window = np.zeros(config.fft)
    start, position = (config.fft - config.window) // 2, np.arange(config.window)
    window[start : start + config.window] = 0.5 - 0.5 * np.cos(2 * np.pi * position / config.window)  # Hann
    rows = np.stack([padded[n * config.hop :][: config.fft] * window for n in range(10)])
    magnitudes = np.abs(np.fft.rfft(rows)) ** config.power  # [frames, bins]
    filters = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.fft,
        n_mels=config.bands,
        fmin=config.low,
        fmax=config.high,
        htk=config.scale == "htk",
        norm="slaney" if config.area else None,
    )
    expected = np.log(np.maximum(filters @ magnitudes.T, config.floor))
    np.testing.assert_allclose(mel_spectrogram(audio, config), expected, atol=1e-4)


def test_silence_is_at_the_floor() -> None:
    assert np.all(mel_spectrogram(np.zeros(99), SMALL) == np.float32(np.log(1e-5)))
    assert SMALL.silence == np.log(1e-5)


def test_chunks_do_not_change_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(2, 50 * 32 - 5)
    whole = mel_spectrogram(audio, SMALL)
    for chunk in (1, 7, 49, 50, 51):
        monkeypatch.setattr(features, "CHUNK", chunk)
        np.testing.assert_allclose(mel_spectrogram(audio, SMALL), whole, atol=1e-6)


def test_leading_dimensions_are_independent() -> None:
    audio = noise(3, 2, 300)
    mel = mel_spectrogram(audio, SMALL)
    assert mel.shape == (3, 2, 10, 10)
    np.testing.assert_allclose(mel[2, 1], mel_spectrogram(audio[2, 1], SMALL), atol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_every_floating_point_type_is_accepted(kind: type[np.floating]) -> None:
    audio = noise(300).astype(np.float16)  # exact in all of them
    np.testing.assert_allclose(mel_spectrogram(audio.astype(kind), SMALL), mel_spectrogram(audio, SMALL), atol=1e-6)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0), "empty"),
        (np.float32(1), "empty"),
        (np.zeros(9, np.int16), "divide 16-bit samples by 32,768"),
        (np.array([0.0, np.nan]), "NaN or infinity"),
        (np.array([0.0, np.inf]), "NaN or infinity"),
    ],
)
def test_audio_without_features_is_refused(audio: ArrayLike, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mel_spectrogram(audio, SMALL)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(0, 5, 3), (1, 5, 3), (40, 513, 80), (3, 1_000, 300)])
def test_a_product_in_pieces_is_the_product(rows: int, inputs: int, outputs: int) -> None:
    left, right = noise(rows, inputs).astype(np.float64), noise(inputs, outputs, seed=1).astype(np.float64)
    np.testing.assert_allclose(one_thread_product(left, right), left @ right, atol=1e-12)


def test_features_need_neither_torch_nor_scipy() -> None:
    code = "import sys, wavenet.data.crop_features; sys.exit(bool({'torch', 'scipy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("project", ["HiFi-GAN", "Tacotron 2"])
def test_features_of_other_projects(project: str) -> None:
    """As in meldataset.py of HiFi-GAN and layers.py of NVIDIA's Tacotron 2, except at the ends, which those reflect."""
    config = MelConfig(sample_rate=22_050, window=1_024, fft=1_024, hop=256)
    audio = noise(22_050)
    basis = librosa.filters.mel(sr=22_050, n_fft=1_024, n_mels=80, fmin=0.0, fmax=8_000.0)  # [80, bins]
    window = torch.hann_window(1_024)
    margin = (1_024 - 256) // 2
    if project == "HiFi-GAN":
        padded = np.pad(audio, margin, mode="reflect")
        spectrum = torch.stft(torch.from_numpy(padded), 1_024, 256, window=window, center=False, return_complex=True)
        own = mel_spectrogram(audio, config)
    else:
        spectrum = torch.stft(torch.from_numpy(audio), 1_024, 256, window=window, center=True, return_complex=True)
        own = mel_spectrogram(np.pad(audio, (128, 0)), config)
    expected = np.log(np.maximum(basis @ spectrum.abs().numpy(), 1e-5))  # [80, frames]
    frames = expected.shape[1]
    assert frames in (own.shape[1] - 1, own.shape[1])
    np.testing.assert_allclose(own[:, 2 : frames - 2], expected[:, 2:-2], atol=1e-4)
