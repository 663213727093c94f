"""The C interface of libwavenet: the audio of `Generator` for a seed, controls, features, copies, bad arguments."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from builders import conditioned_config, random_model
from c_library import BAD_FILE, INVALID, NO_FILE, OK, ROOT, STARVED, Library, Model, cmake
from two_tier_data import hum, two_tiers

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator

MADE = ROOT / "samples" / "made"
SHAPE: dict[str, Any] = {"cycles": 2, "layers_per_cycle": 3, "residual_channels": 8, "skip_channels": 12}
CONFIGS = {
    "mulaw": ModelConfig(**SHAPE),
    "logistic": ModelConfig(**SHAPE, output="logistic", mixtures=3),
    "gaussian": ModelConfig(**SHAPE, output="gaussian", kernel_size=3),
    "backward-adaptive": ModelConfig(**SHAPE, output="logistic", linear_prediction=8),
    "speakers": ModelConfig(**SHAPE, speakers=("ann", "bob", "eve")),
}


def save(folder: Path, config: ModelConfig) -> Path:
    path = folder / "a mödel.safetensors"
    checkpoint.save_model(path, random_model(config))
    return path


def generator(path: Path, precision: str = "f32") -> Generator:
    return Generator.load(path, engine="native", precision=precision, threads=1)


def features(config: ModelConfig, frames: int, seed: int = 0) -> np.ndarray:
    assert config.features is not None
    noise = np.random.default_rng(seed).standard_normal(frames * config.features.hop).astype(np.float32)
    return mel_spectrogram(0.1 * noise, config.features)


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_seed_gives_the_audio_of_python(tmp_path: Path, library: Library, name: str, precision: str) -> None:
    path = save(tmp_path, CONFIGS[name])
    speaker = "ann" if CONFIGS[name].speakers else None  # the first one
    expected = generator(path, precision).render(seconds=3000 / 16_000, seed=7, speaker=speaker)
    np.testing.assert_array_equal(library.open(path, precision).stream(7).read(3000), expected)


@pytest.mark.parametrize("temperature", [0.7, 0.9, 1.1])
@pytest.mark.parametrize("name", ["speech", "speakers"])
def test_levels_are_kept_at_every_temperature_as_in_python(library: Library, name: str, temperature: float) -> None:
    path = MADE / f"{name}.safetensors"
    stream = library.open(path, "int8").stream(5)
    stream.call("set_temperature", temperature)
    speaker = {"english": 0.25, "italian": 0.75} if name == "speakers" else None
    if speaker:
        stream.speak([1, 3])
    expected = generator(path, "int8").session(seed=5, speaker=speaker, temperature=temperature).next(20_000)
    np.testing.assert_array_equal(stream.read(20_000, 700), expected)


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_shipped_speech_model_sounds_the_same(library: Library, precision: str) -> None:
    path = MADE / "speech.safetensors"
    expected = generator(path, precision).render(seconds=0.25, seed=3)
    np.testing.assert_array_equal(library.open(path, precision).stream(3).read(4000), expected)


@pytest.mark.parametrize("blocks", [1, 7, 4096])
def test_blocks_do_not_change_the_audio(tmp_path: Path, library: Library, blocks: int) -> None:
    model = library.open(save(tmp_path, CONFIGS["mulaw"]).read_bytes())
    np.testing.assert_array_equal(model.stream(1).read(900, blocks), model.stream(1).read(900))


def test_sampling_options_are_those_of_python(tmp_path: Path, library: Library) -> None:
    path = save(tmp_path, CONFIGS["mulaw"])
    stream = library.open(path).stream(5)
    stream.call("set_temperature", 0.8)
    stream.call("set_top_k", 40)
    stream.call("set_top_p", 0.9)
    expected = generator(path).render(seconds=0.1, seed=5, temperature=0.8, top_k=40, top_p=0.9)
    np.testing.assert_array_equal(stream.read(1600), expected)


def test_speakers_and_blends(tmp_path: Path, library: Library) -> None:
    path = save(tmp_path, CONFIGS["speakers"])
    model = library.open(path)
    names = [library.model_speaker(model.pointer, i) for i in range(library.model_speakers(model.pointer))]
    assert names == [b"ann", b"bob", b"eve"]
    session = generator(path).session(seed=1, speaker="ann")
    stream = model.stream(1)
    for shares in ([1, 0, 0], [0, 0, 1], [1, 3, 0]):  # changed while it plays
        stream.speak(shares)
        session.speaker = {name.decode(): share for name, share in zip(names, shares, strict=True)}
        np.testing.assert_array_equal(stream.read(500), session.next(500))


@pytest.mark.parametrize("network", ["plain", "parallel", "causal"])
@pytest.mark.parametrize("output", ["mulaw", "logistic"])
def test_features(tmp_path: Path, library: Library, network: str, output: str) -> None:
    config = conditioned_config(speakers=False, hop=4, output=output, order=9, taps=5, frame_network=network)
    path, frames = save(tmp_path, config), features(config, 200)
    expected = generator(path).render(features=frames, seed=2, refine=0)
    stream = library.open(path).stream(2)
    parts = []
    for first in range(0, 200, 10):  # as they come
        assert stream.push(frames[:, first : first + 10]) == 10
        before, out = library.stream_position(stream.pointer), np.full(40, np.nan, np.float32)
        status = library.stream_process(stream.pointer, out.ctypes.data, 40)
        count = library.stream_position(stream.pointer) - before
        assert status == (OK if count == 40 else STARVED)
        assert not out[count:].any()
        parts.append(out[:count])
    stream.call("end")
    left = len(expected) - library.stream_position(stream.pointer)
    parts.append(stream.process(left))
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert not stream.process(3, STARVED).any()  # beyond the end


def test_the_look_ahead_is_stated(tmp_path: Path, library: Library) -> None:
    config = conditioned_config(speakers=False, hop=4, output="mulaw")
    model = library.open(save(tmp_path, config))
    ahead, frames = library.model_look_ahead(model.pointer), features(config, 50)
    stream = model.stream()
    stream.push(frames[:, :ahead])
    stream.process(4, STARVED)  # the first half of a frame is interpolated with the frame before
    assert library.stream_position(stream.pointer) == 2
    stream.push(frames[:, ahead : ahead + 1])
    stream.process(4)
    stream.process(1, STARVED)


def test_analysis_feeds_a_stream(tmp_path: Path, library: Library) -> None:
    config = conditioned_config(speakers=False, hop=4, output="mulaw")
    assert config.features is not None
    model = library.open(save(tmp_path, config))
    audio = 0.1 * np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    analysis = library.analysis_new(model.pointer, 64)
    rows, written = np.zeros((library.analysis_room(analysis), 5), np.float32), ctypes.c_size_t()
    found = []
    for first in range(0, 1000, 64):
        block = audio[first : first + 64]
        status = library.analysis_process(
            analysis, block.ctypes.data, len(block), rows.ctypes.data, ctypes.byref(written)
        )
        assert status == OK
        found.append(rows[: written.value].copy())
    assert library.analysis_end(analysis, rows.ctypes.data, ctypes.byref(written)) == OK
    found.append(rows[: written.value].copy())
    library.analysis_free(analysis)
    np.testing.assert_allclose(np.concatenate(found).T, mel_spectrogram(audio, config.features), rtol=1e-5)


def test_muted_layers(tmp_path: Path, library: Library) -> None:
    path = save(tmp_path, CONFIGS["mulaw"])
    stream, session = library.open(path).stream(6), generator(path).session(seed=6)
    for layers in ([3, 4], [], [0]):
        stream.mute(layers)
        session.mute = layers
        np.testing.assert_array_equal(stream.read(300), session.next(300))


@pytest.mark.parametrize("name", ["mulaw", "backward-adaptive"])
def test_priming_continues_a_clip(tmp_path: Path, library: Library, name: str) -> None:
    path = save(tmp_path, CONFIGS[name])
    clip = hum(0.1)
    stream = library.open(path).stream(9)
    stream.call("prime", clip.ctypes.data, len(clip))
    expected = generator(path).render(seconds=0.05, seed=9, prime=clip)
    np.testing.assert_array_equal(stream.read(800), expected)


@pytest.mark.parametrize("name", [*CONFIGS, "features", "two tiers"])
def test_a_copy_continues_and_a_reset_starts_again(tmp_path: Path, library: Library, name: str) -> None:
    path = tmp_path / "model.safetensors"
    if name == "two tiers":
        checkpoint.save_model(path, two_tiers(output="logistic", mixtures=2))
    else:
        config = conditioned_config(hop=4, output="logistic", order=9, taps=5) if name == "features" else CONFIGS[name]
        checkpoint.save_model(path, random_model(config))
    stream = library.open(path, "int8").stream(3)

    def pushed() -> None:
        if name == "features":
            stream.push(features(config, 250))

    pushed()
    first = stream.read(300)
    branch = stream.copy()
    second = stream.read(300)
    np.testing.assert_array_equal(branch.read(300), second)
    stream.call("reset", 3)
    pushed()
    np.testing.assert_array_equal(stream.read(600), np.concatenate([first, second]))


def test_streams_survive_their_model(tmp_path: Path, library: Library) -> None:
    path = save(tmp_path, CONFIGS["mulaw"])
    model = library.open(path)
    pointer = library.stream_new(model.pointer, 0, 64)
    del model
    out = np.zeros(64, np.float32)
    assert library.stream_process(pointer, out.ctypes.data, 64) == OK
    assert out.any()
    library.stream_free(pointer)


def stream_of(library: Library, path: Path) -> tuple[Model, int]:
    model = library.open(path)
    return model, library.stream_new(model.pointer, 0, 64)


def test_bad_arguments_are_refused_with_a_reason(tmp_path: Path, library: Library) -> None:
    model, stream = stream_of(library, save(tmp_path, CONFIGS["mulaw"]))
    out = np.ones(100, np.float32)
    for name, arguments, reason in [
        ("stream_process", (None, out.ctypes.data, 4), "NULL"),
        ("stream_process", (stream, out.ctypes.data, 65), "max_block"),
        ("stream_set_temperature", (stream, -1.0), "temperature"),
        ("stream_set_temperature", (stream, float("nan")), "temperature"),
        ("stream_set_voiced_temperature", (stream, 0.5), "no features"),
        ("stream_set_top_k", (stream, -1), "top k"),
        ("stream_set_top_p", (stream, 0.0), "top p"),
        ("stream_set_speakers", (stream, out.ctypes.data, 1), "speakers"),
        ("stream_set_mute", (stream, np.array([6], np.intc).ctypes.data, 1), "mute"),
        ("stream_set_pitch", (stream, 100.0), "draws no frames"),
        ("stream_push", (stream, out.ctypes.data, 1, None), "needs no features"),
        ("stream_refine", (stream, 10), "features"),
        ("stream_prepare", (stream, -1), "threads"),
    ]:
        assert getattr(library, name)(*arguments) == INVALID, name
        assert reason in library.reason and "\n" not in library.reason, library.reason
    assert not out[:65].any()  # too large a block is silent
    library.stream_free(stream)
    assert not library.stream_new(None, 0, 64) and not library.stream_new(model.pointer, 0, 0)


def test_files_are_refused_with_a_reason(tmp_path: Path, library: Library) -> None:
    pointer = ctypes.c_void_p()
    target = ctypes.byref(pointer)
    whole = save(tmp_path, CONFIGS["mulaw"]).read_bytes()
    assert library.model_open(str(tmp_path / "none").encode(), None, target) == NO_FILE
    assert library.model_open(str(tmp_path).encode(), None, target) == NO_FILE
    other = whole.replace(b'cycles\\": 2', b'cycles\\": 3')
    for content in (b"", b"RIFF" + bytes(100), whole[:-1], whole + b"x", other):
        assert library.model_open_bytes(content, len(content), None, target) == BAD_FILE
        assert library.reason
        assert not pointer.value
    assert library.model_open_bytes(whole, len(whole), b"f64", target) == INVALID
    assert library.model_open_bytes(whole, len(whole), None, target) == OK  # f32
    library.model_close(pointer)


def test_what_a_model_is(library: Library) -> None:
    model = library.open(MADE / "vocoder.safetensors")
    config, _ = checkpoint.read_model(MADE / "vocoder.safetensors")
    assert config.features is not None
    assert library.model_sample_rate(model.pointer) == config.sample_rate
    assert library.model_layers(model.pointer) == config.layers
    assert library.model_receptive_field(model.pointer) == config.receptive_field
    assert library.model_bands(model.pointer) == config.features.bands
    assert library.model_hop(model.pointer) == config.features.hop
    assert library.model_look_ahead(model.pointer) == config.frame_context[1] + 1
    assert library.model_bands(library.open(MADE / "voice-base.safetensors").pointer) == 0  # it draws its own


def test_the_examples(tmp_path: Path, installed_library: Path) -> None:
    build, speech = tmp_path / "build", MADE / "speech.safetensors"
    cmake("-S", ROOT / "examples", "-B", build, f"-DCMAKE_PREFIX_PATH={installed_library}")
    cmake("--build", build)
    expected = generator(speech, "int8").render(seconds=0.25, seed=7)
    subprocess.run([build / "render", speech, tmp_path / "c.wav", "0.25", "7"], check=True)
    audio, sample_rate = soundfile.read(tmp_path / "c.wav", dtype="float32")
    assert sample_rate == 16_000
    np.testing.assert_array_equal(audio, expected)
    (shared,) = (installed_library / "lib").glob("libwavenet.dylib" if sys.platform == "darwin" else "libwavenet.so")
    script = ROOT / "examples" / "python" / "render.py"
    command: list[str | Path] = [sys.executable, "-I", "-S", script, speech, tmp_path / "py.wav", "0.25", "7"]
    subprocess.run(command, check=True, env={**os.environ, "WAVENET_LIBRARY": str(shared)})
    with wave.open(str(tmp_path / "py.wav")) as file:
        found = np.frombuffer(file.readframes(4000), "<i2")
    np.testing.assert_allclose(found / 32_767, expected, atol=1 / 32_767)


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="pkg-config is not installed")
def test_pkg_config_finds_the_library(installed_library: Path) -> None:
    environment = {**os.environ, "PKG_CONFIG_PATH": str(installed_library / "lib" / "pkgconfig")}
    command = ["pkg-config", "--cflags", "--libs", "wavenet"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    folders = [Path(word[2:]).resolve() for word in found if word[:2] in ("-I", "-L")]
    assert folders == [installed_library / "include", installed_library / "lib"]
    assert "-lwavenet" in found


def test_the_library_is_small_and_exports_only_its_interface(installed_library: Path) -> None:
    for path in (installed_library / "lib").glob("libwavenet.*"):
        assert path.stat().st_size < 2_000_000, path
    nm = shutil.which("nm")
    if nm is None or sys.platform != "linux":
        pytest.skip("no nm for shared libraries of Linux")
    shared = installed_library / "lib" / "libwavenet.so"
    listed = subprocess.run([nm, "-D", "--defined-only", shared], capture_output=True, text=True, check=True).stdout
    names = [line.split()[-1] for line in listed.splitlines()]
    assert [name for name in names if not name.startswith("wavenet_")] == []
