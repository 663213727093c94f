"""Feature files: features that are written are read back, and any other content is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.config import ConfigError, MelConfig, ModelConfig
from wavenet.data import feature_file
from wavenet.data.feature_file import FeatureError
from wavenet.features import mel_spectrogram

SMALL = MelConfig(sample_rate=8_000, window=96, fft=128, hop=32, bands=10, high=4_000.0)

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

HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10, 1000000000000000), }\n"
HUGE = b"\x93NUMPY\x01\x00" + len(HEADER).to_bytes(2, "little") + HEADER  # 40 petabytes are announced


def noise(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.2 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


VALUES = {name: getattr(SMALL, name) for name in OTHER}


@pytest.mark.parametrize("name", OTHER)
def test_a_parameter_that_differs_is_named(name: str, tmp_path: Path) -> None:
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


def test_every_parameter_is_covered() -> None:
    assert list(OTHER) == [field.name for field in dataclasses.fields(MelConfig)]


def test_features_survive_a_file(tmp_path: Path) -> None:
    features = mel_spectrogram(noise(999), SMALL)
    path = tmp_path / "a b.npy"
    feature_file.write(path, features, SMALL)
    back = feature_file.read(path, SMALL)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, features)
    assert json.loads(path.with_suffix(".npy.json").read_text()) == VALUES
    assert {file.name for file in tmp_path.iterdir()} == {"a b.npy", "a b.npy.json"}
    np.save(path, features.astype(np.float64)[None])  # a batch of one, by another program
    path.with_suffix(".npy.json").unlink()
    np.testing.assert_array_equal(feature_file.read(path, SMALL), features)


def test_half_precision_is_read(tmp_path: Path) -> None:
    features = mel_spectrogram(noise(99), SMALL).astype(np.float16)
    np.save(tmp_path / "x.npy", features)
    np.testing.assert_array_equal(feature_file.read(tmp_path / "x.npy", SMALL), features.astype(np.float32))


class Harmful:
    def __reduce__(self) -> tuple[Callable[[int], object], tuple[int]]:
        return os._exit, (1,)  # ends the tests if it is ever run


def as_objects(path: Path) -> None:
    np.save(path, np.array([Harmful()], dtype=object), allow_pickle=True)


def as_zip(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, np.zeros((10, 3), np.float32))


def as_cut_zip(path: Path) -> None:
    as_zip(path)
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: np.save(path, np.zeros((7, 10))),
            r"is \[7, 10\]; the model requires \[10, frames\], with bands = 10; transpose",
        ),
        (
            lambda path: np.save(path, np.zeros((7, 9))),
            r"is \[7, 9\]; .* requires \[10, frames\], with bands = 10$",
        ),
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
def test_other_files_are_refused_in_one_line(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    make(path)
    with pytest.raises(FeatureError, match=message) as error:
        feature_file.read(path, SMALL)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
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
def test_parameters_that_cannot_be_read_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, noise(10, 7))
    path.with_suffix(".npy.json").write_bytes(content)
    with pytest.raises(FeatureError, match=message) as error:
        feature_file.read(path, SMALL)
    assert str(error.value).startswith(str(tmp_path / "x.npy.json"))
    assert "\n" not in str(error.value)


def test_parameters_that_are_not_stated_default_to_those_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, noise(10, 7))
    beside = path.with_suffix(".npy.json")
    beside.write_text('{"hop": 32}')
    assert feature_file.read(path, SMALL).shape == (10, 7)
    beside.write_text('{"hop": 64}')
    with pytest.raises(FeatureError, match="hop = 64, the model's have 32"):
        feature_file.read(path, SMALL)


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    features = noise(10, 7)
    with pytest.raises(FeatureError, match="give a file name that ends in .npy"):
        feature_file.write(tmp_path / "x.json", features, SMALL)
    with pytest.raises(FeatureError, match="cannot be written"):
        feature_file.write(tmp_path / "none" / "x.npy", features, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_reading_them_needs_no_torch() -> None:
    code = "import sys, wavenet.data.feature_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_hop_of_a_model_needs_features() -> None:
    assert ModelConfig(sample_rate=8_000, features=SMALL).hop == 32
    with pytest.raises(ConfigError, match="not conditioned on features"):
        _ = ModelConfig().hop
