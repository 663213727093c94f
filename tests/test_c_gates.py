"""A look inside a stream of the C interface: the gates of its layers; and other random numbers from some sample on."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import conditioned_config, definition_outputs, random_model
from c_library import INVALID, Library, Stream
from numpy.typing import NDArray
from two_tier_data import two_tiers

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine.conditioning import ConditioningInputs
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.model import WaveNet

Array = NDArray[np.float32]
SAMPLES = 120
SHAPES = {
    "mulaw": ModelConfig(2, 3, 2, 8, gate_channels=7, skip_channels=12),
    "logistic": ModelConfig(2, 3, 3, 8, gate_channels=7, skip_channels=12, output="logistic", mixtures=3),
    "features": conditioned_config(speakers=False, hop=4, output="mulaw", gate_channels=7),
}
TOLERANCE = {"f32": 1e-4, "int8": 0.05}  # int8 rounds weights to two digits


def gates_of(stream: Stream) -> Array:
    """`wavenet_stream_gates`: [layers, G]."""
    library, model = stream.library, stream.model.pointer
    z = np.full((library.model_layers(model), library.model_gate_channels(model)), np.nan, np.float32)
    stream.call("gates", z.ctypes.data)
    return z


def watched_of(stream: Stream) -> Array:
    """`wavenet_stream_watched`: [2, G]."""
    ab = np.full((2, stream.library.model_gate_channels(stream.model.pointer)), np.nan, np.float32)
    stream.call("watched", ab.ctypes.data)
    return ab


def features(config: ModelConfig) -> Array:
    assert config.features is not None
    noise = np.random.default_rng(0).standard_normal(2 * SAMPLES).astype(np.float32)
    return mel_spectrogram(0.1 * noise, config.features)


def definition_gates(model: WaveNet, audio: Array) -> tuple[Array, Array]:
    """z [layers, G], and a and b [layers, 2, G], for the last sample of audio, by the definition."""
    found: list[tuple[Array, Array]] = []

    def keep(layer: Any, arguments: tuple[Any, ...], outputs: tuple[Any, Any]) -> None:
        bias = arguments[1] if len(arguments) > 1 and arguments[1] is not None else 0
        ab = (layer.dilated(arguments[0]) + bias)[0, -1].reshape(2, -1)
        found.append((outputs[1][0, -1].detach().numpy(), ab.detach().numpy()))

    config = model.config
    inputs = ConditioningInputs(None, features(config)[None]) if config.features else None
    hooks = [layer.register_forward_hook(keep) for layer in model.layers]
    definition_outputs(model, quantizer_for(config.output).encode(audio)[None], inputs)
    for hook in hooks:
        hook.remove()
    z, ab = zip(*found, strict=True)
    return np.stack(z), np.stack(ab)


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", SHAPES)
def test_gates_are_those_of_the_definition(
    tmp_path: Path, library: Library, name: str, precision: str, threads: int
) -> None:
    config, path = SHAPES[name], tmp_path / "model.safetensors"
    model = random_model(config)
    checkpoint.save_model(path, model)
    stream = library.open(path, precision).stream(3)
    assert library.model_gate_channels(stream.model.pointer) == config.gate
    assert not gates_of(stream).any() and not watched_of(stream).any()
    stream.call("prepare", threads)
    if config.features:
        stream.push(features(config))
    audio = stream.read(50, 7)
    for layer in (0, 2, config.layers - 1):
        stream.call("watch", layer)
        assert not watched_of(stream).any()  # from the next sample on
        audio = np.concatenate([audio, stream.read(11, 4)])
        z, ab = definition_gates(model, audio)
        np.testing.assert_allclose(gates_of(stream), z, atol=TOLERANCE[precision])
        scale = max(1.0, float(np.abs(ab).max()))
        np.testing.assert_allclose(watched_of(stream), ab[layer], atol=TOLERANCE[precision] * scale)
        assert np.abs(z).max() > 0.2
    branch = stream.copy()
    assert not gates_of(branch).any()
    np.testing.assert_array_equal(branch.read(30), stream.read(30))
    np.testing.assert_array_equal(watched_of(branch), watched_of(stream))  # a copy watches the same layer
    stream.call("watch", -1)
    stream.read(1)
    assert not watched_of(stream).any()


def test_a_muted_layer_has_no_gate(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, random_model(SHAPES["mulaw"]))
    stream = library.open(path).stream(3)
    stream.call("watch", 2)
    stream.read(20)
    assert watched_of(stream).any() and gates_of(stream).all()
    stream.mute([2])
    stream.read(1)
    assert not watched_of(stream).any() and not gates_of(stream)[2].any() and gates_of(stream)[3].all()


def test_watching_does_not_change_the_audio(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, random_model(SHAPES["mulaw"]))
    model = library.open(path, "int8")
    stream = model.stream(3)
    stream.call("watch", 1)
    np.testing.assert_array_equal(stream.read(500), model.stream(3).read(500))


def test_another_seed_draws_with_the_numbers_of_a_session_with_it(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, random_model(SHAPES["mulaw"]))
    stream = library.open(path).stream(3)
    session = Generator.load(path, engine="native", precision="f32", threads=1).session(seed=3)
    np.testing.assert_array_equal(stream.read(300), session.next(300))
    branch, other = stream.copy(), session.copy(seed=2**40 + 1)
    branch.call("seed", 2**40 + 1)
    expected = other.next(400)
    np.testing.assert_array_equal(branch.read(400), expected)
    same = stream.read(400)
    np.testing.assert_array_equal(same, session.next(400))
    assert not np.array_equal(same, expected)


def test_another_seed_draws_other_frames(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "voice.safetensors"
    checkpoint.save_model(path, two_tiers())
    stream = library.open(path).stream(3)
    stream.read(500)
    branches = stream.copy(), stream.copy(), stream.copy()
    branches[1].call("seed", 5)
    branches[2].call("seed", 5)
    same, other, again = (branch.read(4000) for branch in branches)
    np.testing.assert_array_equal(other, again)
    assert not np.array_equal(same, other)


def test_bad_arguments_are_refused(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(path, random_model(SHAPES["mulaw"]))
    stream = library.open(path).stream()
    pointer = ctypes.c_void_p(stream.pointer)
    for name, arguments, reason in [
        ("watch", (pointer, 6), "layer"),
        ("watch", (pointer, -2), "layer"),
        ("watch", (None, 0), "NULL"),
        ("watched", (pointer, None), "NULL"),
        ("gates", (None, None), "NULL"),
        ("seed", (None, 1), "NULL"),
    ]:
        assert getattr(library, f"stream_{name}")(*arguments) == INVALID, name
        assert reason in library.reason
