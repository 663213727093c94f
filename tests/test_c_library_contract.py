"""What wavenet.h promises at its edges: refinement in any blocks, NULL, ends, files that fail, without allocation."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
from builders import conditioned_config, random_model
from c_library import INVALID, NO_FILE, OK, Library, Stream, program_of
from two_tier_data import two_tiers

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.engine.feature_check import largest_feature
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator

CONFIG = conditioned_config(speakers=False, hop=4, output="mulaw")


@pytest.fixture
def vocoder(tmp_path: Path) -> Path:
    path = tmp_path / "vocoder.safetensors"
    checkpoint.save_model(path, random_model(CONFIG))
    return path


def features(frames: int) -> np.ndarray:
    assert CONFIG.features is not None
    noise = np.random.default_rng(0).standard_normal(frames * CONFIG.features.hop).astype(np.float32)
    return mel_spectrogram(0.1 * noise, CONFIG.features)


@pytest.mark.parametrize("block", [1, 64, 4096])
def test_refined_audio_does_not_depend_on_blocks_and_copies(library: Library, vocoder: Path, block: int) -> None:
    model, frames = library.open(vocoder), features(300)

    def stream() -> Stream:
        made = model.stream(1, refine=3)
        made.push(frames)
        made.call("end")
        return made

    expected = stream().read(1200, 7)
    first = stream()
    begun = first.read(401, block)
    for rest in (first.copy(), first):
        np.testing.assert_array_equal(np.concatenate([begun, rest.read(799, block)]), expected)


def test_getters_of_no_model(library: Library) -> None:
    for name in ("sample_rate", "layers", "receptive_field", "gate_channels", "speakers", "bands", "hop", "look_ahead"):
        assert getattr(library, f"model_{name}")(None) == 0
    assert library.model_kernels(None) is None and library.model_speaker(None, 0) is None
    assert library.stream_position(None) == 0 and library.analysis_room(None) == 0
    for name in ("model_close", "stream_free", "analysis_free"):
        getattr(library, name)(None)


def test_a_model_that_cannot_be_opened_is_null(tmp_path: Path, library: Library) -> None:
    pointer = ctypes.c_void_p(1)
    assert library.model_open(str(tmp_path / "none").encode(), None, ctypes.byref(pointer)) == NO_FILE
    assert not pointer.value


def test_messages_of_any_length_stay_text(tmp_path: Path, library: Library) -> None:
    pointer = ctypes.c_void_p()
    for name in ("ü" * 3000, "xü" + "ü" * 3000, "a\nb"):
        assert library.model_open(name.encode(), None, ctypes.byref(pointer)) == NO_FILE
        assert 0 < len(library.last_error()) <= 4000
        assert "\n" not in library.reason


def test_frames_after_the_end_are_refused(library: Library, vocoder: Path) -> None:
    stream = library.open(vocoder).stream()
    stream.call("end")
    frame, taken = np.zeros(5, np.float32), ctypes.c_size_t(7)
    assert library.stream_push(stream.pointer, frame.ctypes.data, 1, ctypes.byref(taken)) == INVALID
    assert "reset" in library.reason and not taken.value


def test_features_that_no_audio_has_are_refused_as_in_python(library: Library, vocoder: Path) -> None:
    model, generator, mel = library.open(vocoder), Generator.load(vocoder), CONFIG.features
    assert mel is not None
    limit = largest_feature(mel) + mel.power * np.log(2)
    other = model.stream(3)
    other.push(features(20))
    expected = other.read(40)
    for value, accepted in [
        *((mel.silence - 0.019, True), (mel.silence - 0.021, False), (limit - 1e-4, True), (limit + 1e-4, False)),
        *((-60.0, False), (np.nan, False), (np.inf, False), (-np.inf, False)),
    ]:
        frames, stream, taken = features(20), model.stream(3), ctypes.c_size_t(7)
        frames[2, 15] = value
        rows = np.ascontiguousarray(frames.T)
        status = library.stream_push(stream.pointer, rows.ctypes.data, 20, ctypes.byref(taken))
        assert (status, taken.value) == ((OK, 20) if accepted else (INVALID, 0)), value
        if accepted:
            generator.session(features=frames)
            continue
        assert ("natural logarithms of mel bands" if np.isfinite(value) else "NaN or infinity") in library.reason
        with pytest.raises(ValueError, match="^features: they"):
            generator.session(features=frames)
        stream.push(features(20))
        np.testing.assert_array_equal(stream.read(40), expected)


def test_a_stream_takes_the_frames_of_any_audio(library: Library, vocoder: Path) -> None:
    model = library.open(vocoder)
    stream, analysis, taken = model.stream(), library.analysis_new(model.pointer, 1000), ctypes.c_size_t()
    frames = np.zeros((library.analysis_room(analysis), 5), np.float32)
    for audio in (np.full(1000, 1e30), 3e38 * np.sin(np.arange(1000)), 1e4 * (-1.0) ** np.arange(1000)):
        samples = audio.astype(np.float32)
        arguments = samples.ctypes.data, 1000, frames.ctypes.data, ctypes.byref(taken)
        assert library.analysis_process(analysis, *arguments) == OK
        stream.push(frames[: taken.value].T)
        stream.process(taken.value * 4 - 200)
    library.analysis_free(analysis)


def test_priming_beyond_the_features_changes_nothing(library: Library, vocoder: Path) -> None:
    model, frames = library.open(vocoder), features(20)
    stream, other = model.stream(3), model.stream(3)
    for each in (stream, other):
        each.push(frames)
        each.call("end")
    clip = np.zeros(81, np.float32)
    assert library.stream_prime(stream.pointer, clip.ctypes.data, 81) == INVALID
    assert "features" in library.reason
    np.testing.assert_array_equal(stream.read(80), other.read(80))


def test_analysis_is_for_models_that_need_features(tmp_path: Path, library: Library, vocoder: Path) -> None:
    path = tmp_path / "voice.safetensors"
    checkpoint.save_model(path, two_tiers(output="logistic", mixtures=2))
    voice, model = library.open(path), library.open(vocoder)
    assert not library.analysis_new(voice.pointer, 64)
    assert "needs no features" in library.reason
    huge = ctypes.c_size_t(-1).value
    analysis = library.analysis_new(model.pointer, huge)
    assert library.analysis_room(analysis) == huge // 4 + 1
    library.analysis_free(analysis)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="calls are counted with glibc only")
@pytest.mark.parametrize("name", ["speakers", "vocoder"])
def test_nothing_is_allocated_without_prepare(tmp_path: Path, installed_library: Path, name: str) -> None:
    """Not by the first block, a copy up to its end, a look at gates, another seed, and calls that are refused."""
    path = tmp_path / "model.safetensors"
    config = ModelConfig(2, 3, 2, 8, skip_channels=12, speakers=("ann", "bob")) if name == "speakers" else CONFIG
    checkpoint.save_model(path, random_model(config))
    command = [program_of(installed_library, "realtime_edges"), path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this system does not let a process count its system calls (seccomp)")
    assert (done.returncode, done.stderr) == (0, "")
