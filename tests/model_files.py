"""Model files for tests that compare the reader in C++ with `wavenet.checkpoint.read_model`."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest

from wavenet.checkpoint import CheckpointError, read_model
from wavenet.config import FeatureRange, FrameModelConfig, MelConfig, ModelConfig, SamplingConfig
from wavenet.data.tensor_file import encode
from wavenet.nn.linear_prediction import adaptation_weights

CONFIGURATION = "its configuration"  # begins the message of a file that is refused because of it
MEL = MelConfig(sample_rate=16_000, window=64, fft=128, hop=16, bands=4)
FRAME_MODEL = FrameModelConfig(layers_per_cycle=2, residual_channels=1, skip_channels=2, components=3, mixtures=1)
TINY = {"cycles": 1, "layers_per_cycle": 2, "residual_channels": 1, "skip_channels": 1, "output": "gaussian"}
WHOLE = ModelConfig(
    **TINY,
    speakers=("a", "b"),
    features=MEL,
    frame_channels=4,
    linear_prediction=2,
    pitch_taps=3,
    frame_model=FRAME_MODEL,
    sampling=SamplingConfig(0.9, 0.5, top_p=0.5, refine=1, frame_temperature_range=(0.2, 1.5)),
    training_range=FeatureRange((-60, -20), (80, 300), 1.0, -40.5, (0.5, 0.25)),
)


def native() -> ModuleType:
    """The extension; a test that needs it is skipped without it."""
    return cast(ModuleType, pytest.importorskip("wavenet.engine._native"))


def file_of(config: str | ModelConfig, shapes: dict[str, tuple[int, ...]] | None = None, dtype: str = "f4") -> bytes:
    """A model file with this configuration, as JSON; shapes: of its tensors, those of a ModelConfig by default."""
    if isinstance(config, ModelConfig):
        shapes = config.shapes | config.frame_model_shapes if shapes is None else shapes
        config = json.dumps(config.to_dict())
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(dtype) for name, shape in (shapes or {}).items()}
    return encode(tensors, {"wavenet.format": "1", "wavenet.config": config})


def python_refusal(content: bytes, folder: Path) -> str | None:
    """Why Python refuses a file; None: it does not."""
    file = folder / "m.safetensors"
    file.write_bytes(content)
    try:
        read_model(file)
    except CheckpointError as error:
        return str(error).removeprefix(f"{file}: ")
    return None


def native_refusal(content: bytes) -> str | None:
    """The same for libwavenet, whose messages are one short line."""
    try:
        native().check_model(content)
    except ValueError as error:
        message = str(error)
        assert not {unicodedata.category(character) for character in message} & {"Cc", "Zl", "Zp"}
        assert len(message) < 1_000
        return message.removeprefix("model file: ")
    return None


def assert_agreement(content: bytes, folder: Path, case: object = None, same_part: bool = True) -> str | None:
    """Both accept a file, or both refuse it. Returns the reason of libwavenet.

    same_part: a refused file is refused by both because of its configuration, or by both because of something else.
    """
    python, own = python_refusal(content, folder), native_refusal(content)
    assert (python is None) == (own is None), (case, python, own)
    if same_part and python and own:
        assert python.startswith(CONFIGURATION) == own.startswith(CONFIGURATION), (case, python, own)
    return own


def assert_same(content: bytes, folder: Path) -> None:
    """What is read from a file is the same: configuration, derived quantities, weights."""
    file = folder / "m.safetensors"
    file.write_bytes(content)
    config, weights = read_model(file)
    fields, derived, tensors = native().check_model(content)

    expected = config.to_dict()
    for name in ("sampling", "training_range", "recorded_levels"):
        expected[name] = expected[name] and dict(expected[name])
    expected["sampling"]["top_k"] = min(256, expected["sampling"]["top_k"] or 0)
    expected["sampling"]["top_p"] = expected["sampling"]["top_p"] or 1.0
    if expected["training_range"]:
        fields["training_range"]["voiced"] = tuple(fields["training_range"]["voiced"])
    if expected["recorded_levels"]:
        fields["recorded_levels"] = {name: tuple(values) for name, values in fields["recorded_levels"].items()}
    assert fields == expected

    assert {
        name: tuple(shape) for name, shape in derived["shapes"].items()
    } == config.shapes | config.frame_model_shapes
    assert tuple(derived["dilations"]) == config.dilations
    for name in (
        *("receptive_field", "queue_size", "parameters", "conditioned", "components", "input_channels"),
        *("output_channels", "pitch_reach", "adaptation_hop"),
    ):
        assert derived[name] == getattr(config, name), name
    window = adaptation_weights(config) if config.backward_adaptive else np.zeros(0)
    np.testing.assert_allclose(derived["adaptation_weights"], window, rtol=1e-14)
    if config.features is not None:
        assert derived["pitch_periods"] == config.features.pitch_periods
        assert derived["can_refine"] == config.features.can_refine
        assert np.float32(derived["silence"]) == np.float32(config.features.silence)
    if config.frame_model is not None:
        assert tuple(derived["frame_dilations"]) == config.frame_model.dilations
        assert derived["frame_receptive_field"] == config.frame_model.receptive_field
    assert tensors.keys() == weights.keys()
    for name, weight in weights.items():
        assert tensors[name] == weight.tobytes(), name
