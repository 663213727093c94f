"""`wavenet.replay`: a take from its settings, against sessions with the same changes at the same samples."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from builders import conditioned_config, random_model
from commands import Capture, error_of, run
from numpy.typing import NDArray
from two_tier_data import two_tiers

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.engine import _native
from wavenet.generate import Generator
from wavenet.replay import Replay, SettingsError

VOICES = ModelConfig(2, 3, 2, 8, skip_channels=12, speakers=("ann", "bob", "eve"))
VOCODER = conditioned_config(speakers=False, hop=4, output="mulaw")


def save(folder: Path, config: ModelConfig = VOICES) -> Path:
    path = folder / "model.safetensors"
    checkpoint.save_model(path, random_model(config))
    return path


def generator(path: Path, precision: str = "int8") -> Generator:
    return Generator.load(path, engine="native", precision=precision, threads=1)


def settings_of(path: Path, samples: int, **changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "model": "voice",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "precision": "int8",
        "seed": 3,
        "controls": {},
        "events": [],
        "first": 0,
        "samples": samples,
        "clip": None,
        **changes,
    }


def clip_of(use: str, samples: int) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """A clip as settings have it, and its samples."""
    codes = np.random.default_rng(0).integers(-9_000, 9_000, samples).astype("<i2")
    text = base64.b64encode(codes.tobytes()).decode()
    return {"use": use, "name": "clip.wav", "pcm": text}, codes.astype(np.float32) / np.float32(32_768)


def replayed(path: Path, settings: dict[str, Any], block: int = 170) -> NDArray[np.float32]:
    replay = Replay(path.read_bytes(), settings)
    sizes = [min(block, replay.samples - first) for first in range(0, replay.samples, block)]
    return np.concatenate([replay.next(size) for size in sizes])


def test_controls_and_seeds_act_at_their_samples(tmp_path: Path) -> None:
    path = save(tmp_path)
    events = [
        {"position": 100, "set": {"temperature": 0.7, "topK": 20}},
        {"position": 400, "seed": 9},
        {"position": 400, "set": {"speakers": [1, 0, 3], "topP": 0.9}},
        {"position": 401, "set": {"mute": [1, 4]}},
        {"position": 5_000, "set": {"temperature": 1.0, "mute": []}},
    ]
    settings = settings_of(path, 6_000, events=events, controls={"speakers": [0, 1, 0]})
    audio = replayed(path, settings)
    session = generator(path).session(seed=3, speaker="bob")
    expected = [session.next(100)]
    session.temperature, session.top_k = 0.7, 20
    expected.append(session.next(300))
    session = session.copy(seed=9)
    session.speaker, session.top_p = {"ann": 1, "eve": 3}, 0.9
    expected.append(session.next(1))
    session.mute = [1, 4]
    expected.append(session.next(4_599))
    session.temperature, session.mute = 1.0, []
    expected.append(session.next(1_000))
    np.testing.assert_array_equal(audio, np.concatenate(expected))
    later = replayed(path, {**settings, "first": 4_000})
    np.testing.assert_array_equal(later, audio[4_000:])


def test_a_past_is_continued(tmp_path: Path) -> None:
    path, (clip, samples) = save(tmp_path), clip_of("prime", 700)
    audio = replayed(path, settings_of(path, 500, clip=clip))
    expected = generator(path).session(seed=3, speaker="ann", prime=samples).next(500)
    np.testing.assert_array_equal(audio, expected)


def test_a_clip_is_resynthesised_to_its_end(tmp_path: Path) -> None:
    path, (clip, samples) = save(tmp_path, VOCODER), clip_of("features", 6_000)  # more frames than are pushed at once
    analysis = _native.MelAnalysis(dataclasses.asdict(VOCODER.features), len(samples))
    frames = np.empty((2 * analysis.room, VOCODER.features.bands), np.float32)
    count = analysis.process(samples, frames)
    count += analysis.end(frames[count:])
    assert count > 1024
    expected = generator(path).render(features=frames[:count].T, seed=3)
    for block in (170, 10_000):
        np.testing.assert_array_equal(replayed(path, settings_of(path, len(expected), clip=clip), block), expected)
    with pytest.raises(SettingsError, match="the clip ends before sample"):
        replayed(path, settings_of(path, len(expected) + 1, clip=clip))


def test_models_that_draw_frames(tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    checkpoint.save_model(path, two_tiers())
    settings = settings_of(path, 3_000, controls={"pitch": 150.0, "temperature": 0.7})
    expected = generator(path).session(seed=3, pitch=150.0, temperature=0.7).next(3_000)
    np.testing.assert_array_equal(replayed(path, settings), expected)
    freed = {**settings, "events": [{"position": 1_000, "set": {"pitch": None}}]}
    other = replayed(path, freed)
    np.testing.assert_array_equal(other[:1_000], expected[:1_000])
    assert not np.array_equal(other, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "are of another file of the model 'voice'"),
        ({"precision": "f64"}, "precision: must be f32 or int8"),
        ({"seed": -1}, "seed = -1: must be a whole number from 0"),
        ({"samples": 1.5}, "samples = 1.5: must be a whole number"),
        ({"events": {}}, "events: must be a list of objects"),
        ({"events": [{"set": {}}]}, "position = None"),
        ({"events": [{"position": 2, "set": {}}, {"position": 1, "set": {}}]}, "in the order of their positions"),
        ({"events": [{"position": 5, "set": {"temperature": -1}}]}, "temperature: must be a finite number"),
        ({"controls": {"loud": 1}}, "'loud': there is no such control"),
        ({"controls": {"mute": [7]}}, "mute: layers are numbered"),
        ({"controls": {"speakers": 3}}, "not iterable"),
        ({"clip": {"use": "prime", "name": "x", "pcm": "no base64"}}, "base64|padding|characters"),
        ({"clip": {"use": "features", "name": "x", "pcm": ""}}, "needs no features"),
        ({"clip": {"use": "other", "name": "x", "pcm": ""}}, "must be prime or features"),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = save(tmp_path)
    with pytest.raises(SettingsError, match=f"^settings: .*({message})"):
        replayed(path, settings_of(path, 100) | changes)


def test_the_command(tmp_path: Path, capsys: Capture) -> None:
    path, file, out = save(tmp_path), tmp_path / "take.json", tmp_path / "take.wav"
    settings = settings_of(path, 2_000, events=[{"position": 500, "set": {"temperature": 0.5}}])
    file.write_text(json.dumps(settings))
    assert run("generate", path, "-o", out, "--settings", file) == 0
    audio, sample_rate = soundfile.read(out, dtype="float32")
    assert sample_rate == VOICES.sample_rate
    np.testing.assert_allclose(audio, replayed(path, settings), atol=1 / 32_768)
    capsys.readouterr()
    assert "--seed is one of the settings" in error_of(capsys, "generate", path, "--settings", file, "--seed", "1")
    assert "cannot be read" in error_of(capsys, "generate", path, "-o", out, "--settings", tmp_path / "none.json")
    file.write_text("no JSON")
    assert "is not a file of settings" in error_of(capsys, "generate", path, "-o", out, "--settings", file)
    file.write_text(json.dumps({**settings, "sha256": "0"}))
    out.unlink()
    assert "another file" in error_of(capsys, "generate", path, "-o", out, "--settings", file)
    assert not out.exists()
