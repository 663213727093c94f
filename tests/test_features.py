"""The mel spectrogram: frames against samples, other programs' arithmetic, crops, and files."""

import dataclasses
import json
import pickle

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from wavenet import features
from wavenet.config import ConfigError, MelConfig, ModelConfig
from wavenet.data import feature_file
from wavenet.data.clips import Clips
from wavenet.data.crops import random_crops
from wavenet.data.feature_file import FeatureError
from wavenet.features import CropFeatures, mel_spectrogram

SMALL = MelConfig(sample_rate=8_000, window=96, fft=128, hop=32, bands=10, high=4_000.0)
ODD = MelConfig(sample_rate=8_000, window=51, fft=65, hop=15, bands=4, low=100.0, high=3_900.0, scale="htk", area=False)
MIXED = MelConfig(sample_rate=8_000, window=96, fft=128, hop=33, bands=10, high=4_000.0)
FORMS = pytest.mark.parametrize("config", [SMALL, ODD, MIXED], ids=["even", "odd", "mixed"])

PLAIN = MelConfig(
    sample_rate=8_000, window=50, fft=64, hop=16, bands=4, low=100.0, high=3_900.0, scale="htk", area=False, power=2.0
)


def noise(*shape, seed=0):
    return (0.2 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


@FORMS
def test_an_impulse_is_loudest_in_the_frame_of_its_sample(config):
    for at in range(5 * config.hop, 7 * config.hop):
        sound = np.zeros(12 * config.hop, np.float32)
        sound[at] = 1
        loudness = mel_spectrogram(sound, config).mean(0)
        assert loudness[at // config.hop] >= loudness.max() - 1e-5  # the first sample lies as near to the frame before
        assert at % config.hop == 0 or loudness.argmax() == at // config.hop


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (31, 1), (32, 1), (33, 2), (64, 2), (3_201, 101)])
def test_a_sound_has_a_frame_for_every_hop_begun(samples, frames):
    given = mel_spectrogram(noise(samples), SMALL)
    assert given.shape == (10, frames)
    assert given.dtype == np.float32


@pytest.mark.parametrize("config", [SMALL, ODD, MIXED, MelConfig(sample_rate=8_000, high=4_000.0, power=2.0)])
def test_it_is_torchaudios_of_the_sound_with_silence_around(config):
    sound = noise(2, 20 * config.hop + 7)
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
    before = (config.fft - config.hop + 1) // 2  # so that hop samples lie in the middle of the first transform
    padded = np.pad(sound, ((0, 0), (before, config.fft)))
    expected = transform(torch.from_numpy(padded)).clamp(min=config.floor).log()[..., :21]
    np.testing.assert_allclose(mel_spectrogram(sound, config), expected, atol=1e-5)


# an odd transform's bins lie elsewhere in librosa: here they run to half the rate in equal steps, as in torchaudio
@pytest.mark.parametrize("config", [SMALL, PLAIN], ids=["slaney", "htk"])
def test_it_is_what_numpy_and_librosa_say(config):
    sound = noise(10 * config.hop, seed=1).astype(np.float64)
    before = (config.fft - config.hop) // 2
    padded = np.pad(sound, (before, config.fft))
    window = np.zeros(config.fft)
    start = (config.fft - config.window) // 2
    place = np.arange(config.window)
    window[start : start + config.window] = 0.5 - 0.5 * np.cos(2 * np.pi * place / config.window)  # Hann
    rows = np.stack([padded[n * config.hop :][: config.fft] * window for n in range(10)])
    magnitude = np.abs(np.fft.rfft(rows)) ** config.power  # [frames, bins]
    filters = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.fft,
        n_mels=config.bands,
        fmin=config.low,
        fmax=config.high,
        htk=config.scale == "htk",
        norm="slaney" if config.area else None,
    )
    expected = np.log(np.maximum(filters @ magnitude.T, config.floor))
    np.testing.assert_allclose(mel_spectrogram(sound, config), expected, atol=1e-4)


def test_nothing_is_below_the_floor():
    assert np.all(mel_spectrogram(np.zeros(99), SMALL) == np.float32(np.log(1e-5)))
    assert SMALL.silence == np.log(1e-5)


def test_pieces_are_the_whole(monkeypatch):
    sound = noise(2, 50 * 32 - 5)
    whole = mel_spectrogram(sound, SMALL)
    for piece in (1, 7, 49, 50, 51):
        monkeypatch.setattr(features, "PIECE", piece)
        np.testing.assert_allclose(mel_spectrogram(sound, SMALL), whole, atol=1e-5)


def test_channels_and_batches_are_their_own():
    sound = noise(3, 2, 300)
    given = mel_spectrogram(sound, SMALL)
    assert given.shape == (3, 2, 10, 10)
    np.testing.assert_allclose(given[2, 1], mel_spectrogram(sound[2, 1], SMALL), atol=1e-5)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(0), "empty"),
        (np.float32(1), "empty"),
        (np.zeros(9, np.int16), "16-bit samples are first divided by 32,768"),
        (np.array([0.0, np.nan]), "NaN or infinity"),
        (np.array([0.0, np.inf]), "NaN or infinity"),
    ],
)
def test_what_has_no_features(sound, message):
    with pytest.raises(ValueError, match=message):
        mel_spectrogram(sound, SMALL)


# ---- crops ----------------------------------------------------------------------------------------------------------


def clips_of(*lengths):
    rng = np.random.default_rng(8)
    samples = rng.integers(-9_000, 9_000, sum(lengths)).astype(np.int16)
    return Clips(samples, np.cumsum(lengths) - lengths, np.array(lengths), 8_000)


@FORMS
@pytest.mark.parametrize("crop", [64, 77, 200])
@pytest.mark.parametrize("join", [False, True])
def test_features_of_crops_are_those_of_the_recording(config, crop, join):
    reach, hop = 2, config.hop
    clips = clips_of(900, 500, 60)
    of_crops = CropFeatures(config, reach, crop)
    drawn = random_crops(clips, 60, crop, np.random.default_rng(0), join, margin=of_crops.margin)
    given = of_crops(drawn.samples, drawn.bounds).numpy()
    assert of_crops.first % hop == 0
    assert of_crops.first // hop >= reach + 1
    assert given.shape[0] == 60
    assert given.shape[2] - of_crops.first // hop - -(-crop // hop) >= reach + 1
    silent = compared = 0
    for row, sound, (begin, end) in zip(given, drawn.samples, drawn.bounds, strict=True):
        recording = sound[begin:end] / np.float32(32_768)
        # silence in front of it, so that a frame of the whole recording begins where the crop does
        into = of_crops.margin - begin  # of the crop's first sample in the recording
        front = -into % hop
        whole = mel_spectrogram(np.concatenate([np.zeros(front, np.float32), recording]), config)
        first = (into + front) // hop - of_crops.first // hop  # of the crop's features in those of the recording
        for frame in range(row.shape[1]):
            if 0 <= first + frame < whole.shape[1]:
                # sound beyond the margin is heard by neither: the margin is all that this recording has
                np.testing.assert_allclose(row[:, frame], whole[:, first + frame], atol=1e-5)
                compared += 1
            else:
                assert np.all(row[:, frame] == np.float32(config.silence))
                silent += 1
    assert compared > 100
    assert silent > 0


def test_a_crop_on_a_frames_border_has_a_slice_of_the_features():
    clips = clips_of(3_200)
    of_crops = CropFeatures(SMALL, 2, 128)
    at, margin = 20 * 32, of_crops.margin
    around = clips.clip(0)[at - margin : at + 128 + margin]
    given = of_crops(around[None], np.array([[0, len(around)]])).numpy()[0]
    lead = of_crops.first // 32
    whole = mel_spectrogram(clips.clip(0) / np.float32(32_768), SMALL)
    np.testing.assert_allclose(given, whole[:, 20 - lead : 20 - lead + given.shape[1]], atol=1e-5)
    assert given.shape[1] == 4 + 2 * lead


# ---- parameters and files -------------------------------------------------------------------------------------------

OTHER = {
    "sample_rate": 16_000,
    "window": 64,
    "fft": 256,
    "hop": 64,
    "bands": 11,
    "low": 50.0,
    "high": 3_000.0,
    "scale": "htk",
    "area": False,
    "power": 2.0,
    "floor": 1e-6,
    "mean": -4.0,
    "deviation": 2.0,
}
VALUES = {name: getattr(SMALL, name) for name in OTHER}


@pytest.mark.parametrize("name", OTHER)
def test_a_parameter_that_differs_is_named(name, tmp_path):
    other = MelConfig(**{**VALUES, name: OTHER[name]})
    SMALL.check_same(VALUES)
    named = f"its features have {name} = {OTHER[name]!r}, the model's have {VALUES[name]!r}"
    with pytest.raises(ConfigError, match=f"^{named}"):
        SMALL.check_same({name: OTHER[name]})
    feature_file.write(tmp_path / "x.npy", np.zeros((other.bands, 3), np.float32), other)
    with pytest.raises(FeatureError, match=named) as error:
        feature_file.read(tmp_path / "x.npy", SMALL)
    assert str(error.value).startswith(str(tmp_path / "x.npy.json"))
    assert "\n" not in str(error.value)


def test_every_parameter_is_tried():
    assert list(OTHER) == [field.name for field in dataclasses.fields(MelConfig)]


def test_features_survive_a_file(tmp_path):
    given = mel_spectrogram(noise(999), SMALL)
    path = tmp_path / "a b.npy"
    feature_file.write(path, given, SMALL)
    back = feature_file.read(path, SMALL)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, given)
    assert json.loads(path.with_suffix(".npy.json").read_text()) == VALUES
    assert {file.name for file in tmp_path.iterdir()} == {"a b.npy", "a b.npy.json"}
    np.save(path, given.astype(np.float64)[None])  # a batch of one, by another program
    path.with_suffix(".npy.json").unlink()
    np.testing.assert_array_equal(feature_file.read(path, SMALL), given)


def test_half_precision_is_read(tmp_path):
    given = mel_spectrogram(noise(99), SMALL).astype(np.float16)
    np.save(tmp_path / "x.npy", given)
    np.testing.assert_array_equal(feature_file.read(tmp_path / "x.npy", SMALL), given.astype(np.float32))


class Harmful:
    def __reduce__(self):
        import os

        return os._exit, (1,)  # ends the tests if it is ever run


def as_objects(path):
    np.save(path, np.array([Harmful()], dtype=object), allow_pickle=True)


def as_zip(path):
    with open(path, "wb") as file:
        np.savez(file, np.zeros((10, 3), np.float32))


def as_cut_zip(path):
    as_zip(path)
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: np.save(path, np.zeros((7, 10))),
            r"is \[7, 10\]; .* bands = 10 ask for \[10, frames\]; transpose",
        ),
        (lambda path: np.save(path, np.zeros((7, 9))), r"is \[7, 9\]; the model's bands = 10 ask for \[10, frames\]$"),
        (lambda path: np.save(path, np.zeros((2, 10, 7))), r"is \[2, 10, 7\]"),
        (lambda path: np.save(path, np.zeros(10)), r"is \[10\]"),
        (lambda path: np.save(path, np.zeros((10, 0))), r"is \[10, 0\]"),
        (lambda path: np.save(path, np.full((10, 7), np.nan)), "NaN, infinity"),
        (lambda path: np.save(path, np.full((10, 7), -np.inf)), "NaN, infinity"),
        (lambda path: np.save(path, np.zeros((10, 7), np.int16)), "holds no floating-point numbers"),
        (lambda path: np.save(path, np.zeros((10, 7), np.complex64)), "holds no floating-point numbers"),
        (as_zip, "cannot be read as a .npy file"),
        (as_cut_zip, "cannot be read as a .npy file"),
        (as_objects, "cannot be read as a .npy file"),
        (lambda path: path.write_bytes(pickle.dumps(Harmful())), "cannot be read as a .npy file"),
        (lambda path: path.write_bytes(b""), "cannot be read as a .npy file"),
        (lambda path: path.write_text("no features at all\n" * 9), "cannot be read as a .npy file"),
        (lambda path: path.write_bytes(HUGE), "cannot be read as a .npy file"),
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
)
def test_other_files_are_refused_in_one_line(make, message, tmp_path):
    path = tmp_path / "x.npy"
    make(path)
    with pytest.raises(FeatureError, match=message) as error:
        feature_file.read(path, SMALL)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10, 1000000000000000), }\n"
HUGE = b"\x93NUMPY\x01\x00" + len(HEADER).to_bytes(2, "little") + HEADER  # 40 petabytes are announced


def test_every_shortened_file_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, noise(10, 7))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FeatureError, match="cannot be read") as error:
            feature_file.read(path, SMALL)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read"),
        (b"[]", "not a table of parameters"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"hops": 3}', "hops: unknown key, did you mean 'hop'"),
        (b'{"hop": "far"}', "hop = 'far'"),
    ],
)
def test_parameters_that_cannot_be_read_are_named(content, message, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, noise(10, 7))
    path.with_suffix(".npy.json").write_bytes(content)
    with pytest.raises(FeatureError, match=message) as error:
        feature_file.read(path, SMALL)
    assert str(error.value).startswith(str(tmp_path / "x.npy.json"))
    assert "\n" not in str(error.value)


def test_parameters_that_are_not_stated_are_the_models(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, noise(10, 7))
    beside = path.with_suffix(".npy.json")
    beside.write_text('{"hop": 32}')
    assert feature_file.read(path, SMALL).shape == (10, 7)
    beside.write_text('{"hop": 64}')
    with pytest.raises(FeatureError, match="hop = 64, the model's have 32"):
        feature_file.read(path, SMALL)


def test_files_that_cannot_be_written(tmp_path):
    given = noise(10, 7)
    with pytest.raises(FeatureError, match="name a file that ends in .npy"):
        feature_file.write(tmp_path / "x.json", given, SMALL)
    with pytest.raises(FeatureError, match="cannot be written"):
        feature_file.write(tmp_path / "none" / "x.npy", given, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_reading_them_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, wavenet.data.feature_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_models_features_name_their_rate():
    assert ModelConfig(sample_rate=8_000, features=SMALL).hop == 32
    with pytest.raises(ConfigError, match="not conditioned on features"):
        _ = ModelConfig().hop
