"""Models of two tiers in C: the audio of `Generator` for a seed, sample for sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_library import ROOT, Library, Stream
from numpy.typing import NDArray
from two_tier_data import RATE, hum, two_tiers

from wavenet import checkpoint
from wavenet.config import FeatureRange
from wavenet.generate import Generator
from wavenet.session import Session

VOICE = ROOT / "samples" / "made" / "voice-base.safetensors"
CONFIGS: dict[str, dict[str, Any]] = {
    "mulaw": {},
    "logistic": {"output": "logistic", "mixtures": 2},
    "predicted": {"output": "gaussian", "linear_prediction": 4},
    "parallel": {"output": "logistic", "mixtures": 2, "frame_network": "parallel"},
    "voices": {
        "speakers": ("ann", "bob", "eve"),
        "training_range": FeatureRange(level=(-90, 0), pitch=(50, 500), voiced=(0.2, 0.9, 0.5)),
    },
}


def both(library: Library, path: Path, precision: str, seed: int, **options: Any) -> tuple[Stream, Session]:
    """A stream in C, and a session in Python, of the same model and seed."""
    generator = Generator.load(path, engine="native", precision=precision, threads=1)
    return library.open(path, precision).stream(seed), generator.session(seed=seed, **options)


def saved(folder: Path, name: str) -> Path:
    path = folder / "voice.safetensors"
    checkpoint.save_model(path, two_tiers(**CONFIGS[name]))
    return path


def assert_same(stream: Stream, session: Session, samples: int = RATE) -> NDArray[np.float32]:
    """The next samples of both, which are not silent."""
    expected = session.next(samples)
    np.testing.assert_array_equal(stream.read(samples), expected)
    assert expected.std() > 3e-4
    return expected


@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("name", ["mulaw", "logistic", "predicted", "parallel"])
def test_a_seed_gives_the_audio_of_python(tmp_path: Path, library: Library, name: str, precision: str) -> None:
    assert_same(*both(library, saved(tmp_path, name), precision, seed=4))


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_controls_are_those_of_python(tmp_path: Path, library: Library, precision: str) -> None:
    path = saved(tmp_path, "voices")
    options = {"pitch": 170.0, "loudness": -25.0, "temperature": 0.6, "speaker": {"bob": 1, "eve": 3}}
    stream, session = both(library, path, precision, 5, **options)
    stream.speak([0, 1, 3])
    stream.call("set_pitch", 170.0)
    stream.call("set_loudness", -25.0)
    stream.call("set_temperature", 0.6)
    controlled = assert_same(stream, session)
    stream.call("reset", 5)  # the controls stay
    np.testing.assert_array_equal(stream.read(len(controlled)), controlled)
    plain = assert_same(*both(library, path, precision, 5, speaker="ann"))  # the first one
    assert not np.array_equal(plain, controlled)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seconds", [0.00375, 0.1, 0.3111])  # less than a window, some frames, a part of a frame more
def test_a_primed_stream_continues_as_in_python(tmp_path: Path, library: Library, name: str, seconds: float) -> None:
    clip = hum(seconds)
    speaker = {"speaker": "eve"} if name == "voices" else {}
    stream, session = both(library, saved(tmp_path, name), "f32", 9, prime=clip, **speaker)
    if speaker:
        stream.speak([0, 0, 1])
    stream.call("prime", clip.ctypes.data, len(clip))
    assert_same(stream, session)


def test_copies_continue_as_in_python(tmp_path: Path, library: Library) -> None:
    stream, session = both(library, saved(tmp_path, "logistic"), "f32", 2)
    assert_same(stream, session, 700)
    branches = stream.copy(), session.copy()
    expected = assert_same(stream, session, 4_000)
    np.testing.assert_array_equal(assert_same(*branches, 4_000), expected)


def test_a_seed_of_more_than_32_bits_is_that_of_python(tmp_path: Path, library: Library) -> None:
    assert_same(*both(library, saved(tmp_path, "mulaw"), "int8", seed=2**63 + 5), 2_000)


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_shipped_voice(library: Library, precision: str) -> None:
    stream, session = both(library, VOICE, precision, seed=1)
    assert_same(stream, session, 16_000)


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_shipped_voice_with_controls_and_a_clip(library: Library, precision: str) -> None:
    clip = np.repeat(hum(0.25), 2)
    stream, session = both(library, VOICE, precision, 6, prime=clip, pitch=140.0, loudness=-22.0, temperature=0.8)
    stream.call("set_pitch", 140.0)
    stream.call("set_loudness", -22.0)
    stream.call("set_temperature", 0.8)
    stream.call("prime", clip.ctypes.data, len(clip))
    assert_same(stream, session, 8_000)


@pytest.mark.parametrize("block", [64, 512, 4096])  # below a frame, some frames, many
def test_the_shipped_voice_with_refinement(library: Library, block: int) -> None:
    generator = Generator.load(VOICE, engine="native", precision="int8", threads=1)
    expected = np.concatenate(list(generator.stream(seconds=0.7, seed=1)))[:9600]  # far from its end
    audio = library.open(VOICE, "int8").stream(1, refine=None).read(len(expected), block)
    np.testing.assert_allclose(audio, expected, atol=1e-4)


def test_refinement_with_frames_shorter_than_its_pieces(tmp_path: Path, library: Library) -> None:
    path = saved(tmp_path, "logistic")
    generator = Generator.load(path, engine="native", precision="f32", threads=1)
    expected = np.concatenate(list(generator.stream(seconds=0.3, seed=1, refine=20)))[:2000]
    for block in (7, 4096):
        stream = library.open(path).stream(1, refine=20)
        np.testing.assert_allclose(stream.read(len(expected), block), expected, atol=1e-4)
