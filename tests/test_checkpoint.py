"""Model files: what is written is read back, and everything else is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

import wavenet
from wavenet.checkpoint import (
    CheckpointError,
    load_model,
    read_header,
    read_model,
    save_model,
    update_config,
    write_bytes,
)
from wavenet.config import ModelConfig, SamplingConfig

Change = Callable[[dict[str, Any], dict[str, str]], object]
CONFIG = ModelConfig(cycles=1, layers_per_cycle=3, kernel_size=3, residual_channels=5, gate_channels=4, skip_channels=6)


@pytest.fixture
def model() -> wavenet.WaveNet:
    torch.manual_seed(0)
    return wavenet.WaveNet(CONFIG)


@pytest.fixture
def file(model: wavenet.WaveNet, tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    save_model(path, model)
    return path


def rewrite(file: Path, change: Change) -> None:
    """The same file with its tensors and metadata changed by hand."""
    with safetensors.safe_open(file, "np") as content:
        metadata = content.metadata()
    tensors = safetensors.numpy.load_file(file)
    change(tensors, metadata)
    file.write_bytes(safetensors.numpy.save(tensors, metadata))


def test_a_model_is_read_back_with_its_configuration(model: wavenet.WaveNet, file: Path) -> None:
    loaded = load_model(file)
    assert loaded.config == CONFIG
    assert not loaded.training
    codes = torch.randint(0, 256, (2, 30))
    assert torch.equal(loaded(codes), model(codes))
    assert all(weight.requires_grad for weight in loaded.parameters())


def test_the_format_is_the_documented_one(file: Path) -> None:
    with safetensors.safe_open(file, "np") as content:
        assert content.metadata()["wavenet.format"] == "1"
        assert json.loads(content.metadata()["wavenet.config"])["residual_channels"] == 5
        assert set(content.keys()) == set(wavenet.WaveNet(CONFIG).state_dict())


def test_a_model_is_read_without_torch(file: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from wavenet.checkpoint import read_model; read_model(sys.argv[1]); print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_a_file_in_float16_is_half_as_large_and_read_as_float32(model: wavenet.WaveNet, file: Path) -> None:
    half = file.with_name("half.safetensors")
    save_model(half, model, half=True)
    assert half.stat().st_size < 0.75 * file.stat().st_size  # the header is long beside so few weights
    config, tensors = read_model(half)
    assert config == CONFIG
    for name, tensor in read_model(file)[1].items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], tensor.astype(np.float16))
    update_config(half, sampling=SamplingConfig(0.5))
    assert read_header(half).tensors["skip.weight"].dtype == "F16"


def test_a_run_directory_means_its_best_model(file: Path, tmp_path: Path) -> None:
    os.rename(file, tmp_path / "model.safetensors")
    assert read_model(tmp_path)[0] == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, meta: tensors.pop("skip.bias"), "'skip.bias' is missing"),
        (lambda tensors, meta: tensors.update(extra=np.zeros(1, np.float32)), "'extra' does not belong"),
        (lambda tensors, meta: tensors.update({"skip.bias": np.zeros(7, np.float32)}), r"'skip.bias' is F32 \[7\]"),
        (lambda tensors, meta: tensors.update({"skip.bias": np.zeros(6)}), "'skip.bias' is F64"),
        (lambda tensors, meta: tensors["skip.bias"].fill(np.nan), "'skip.bias' contains NaN"),
        (lambda tensors, meta: meta.update({"wavenet.format": "2"}), "file format '2'"),
        (lambda tensors, meta: meta.pop("wavenet.config"), "not a model of this toolkit"),
        (lambda tensors, meta: meta.update({"wavenet.config": "{"}), "its configuration cannot be used"),
        (lambda tensors, meta: meta.update({"wavenet.config": "[" * 100_000}), "its configuration cannot be used"),
        (lambda tensors, meta: meta.update({"wavenet.config": "[]"}), "its configuration cannot be used"),
        (lambda tensors, meta: meta.update({"wavenet.config": '{"cycles": 1e9}'}), "cycles"),
        (lambda tensors, meta: meta.update({"wavenet.config": '{"skip_channels": 1000000000}'}), "skip_channels"),
        (lambda tensors, meta: meta.update({"wavenet.config": '{"speakers": 3}'}), "speakers"),
        (lambda tensors, meta: meta.update({"wavenet.config": '{"surprise": 3}'}), "surprise"),
        (lambda tensors, meta: meta.update({"wavenet.config": f'{{"sample_rate": 1{"0" * 400}}}'}), "sample_rate"),
        (lambda tensors, meta: meta.update({"wavenet.config": f'{{"sample_rate": 1{"0" * 9_999}}}'}), "cannot be used"),
        (lambda tensors, meta: meta.update({"wavenet.config": f'{{"{"x" * 99_999}": 1}}'}), "unknown key"),
        (lambda tensors, meta: meta.update({"wavenet.format": "\x1b[31m" + "x" * 99_999}), "file format"),
        (lambda tensors, meta: tensors.update({"\x1b[31m" + "x" * 99_999: np.zeros(1, np.float32)}), "does not belong"),
    ],
)
def test_contents_that_do_not_agree_are_named_in_one_line(file: Path, change: Change, message: str) -> None:
    rewrite(file, change)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(file)
    assert str(error.value).startswith(str(file))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1_000


class Harmful:
    def __reduce__(self) -> Any:
        return os._exit, (1,)  # ends the tests if it is ever run


@pytest.mark.parametrize("kind", ["torch", "pickle", "short", "empty", "text", "huge header"])
def test_other_files_are_refused(file: Path, kind: str) -> None:
    whole = file.read_bytes()
    if kind == "torch":
        torch.save(Harmful(), file)
    else:
        content = {
            "pickle": pickle.dumps(Harmful()),
            "short": whole[:-1],
            "empty": b"",
            "text": b"this is no model, it is a text that somebody wrote",
            "huge header": (2**62).to_bytes(8, "little") + b"{}",
        }
        file.write_bytes(content[kind])
    expected = {"torch": "pickle", "pickle": "pickle", "empty": "empty"}.get(kind, "not a complete")
    with pytest.raises(CheckpointError, match=expected) as error:
        load_model(file)
    assert "\n" not in str(error.value)


def test_every_shortened_file_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for length in [*range(0, 64), *range(64, len(whole), 997)]:
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_model(file)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="no model.safetensors"):
        load_model(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept"
    write_bytes(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_a_missing_folder_is_one_line(model: wavenet.WaveNet, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_model(tmp_path / "none" / "m.safetensors", model)
