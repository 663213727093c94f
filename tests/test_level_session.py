"""Streams of models without features keep the levels of the recordings at every temperature."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_model
from recordings import SAMPLE_RATE, clips_of

from wavenet.checkpoint import read_model, save_model, update_config
from wavenet.config import ConfigError, MelConfig, ModelConfig, RecordedLevels, from_dict
from wavenet.data.clips import Clips
from wavenet.data.levels import recorded_levels
from wavenet.engine.native import NativeEngine
from wavenet.generate import Generator
from wavenet.level_session import Levels, LevelSession, RunningLevels
from wavenet.training.recipe import Recipe

LEVELS = RecordedLevels((-12.0,), (0.1,))
CONFIG = ModelConfig(2, 3, 2, 8, skip_channels=16, sample_rate=8_000, recorded_levels=LEVELS)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_model(random_model(CONFIG, seed=3))


def running(loud_db: float = -12.0, silent: float = 0.1, paused: bool = False) -> RunningLevels:
    values = np.array([10 ** (loud_db / 10)]), np.array([silent]), np.array([paused])
    return RunningLevels(*values, np.zeros(1, np.int64), 0)


@pytest.mark.parametrize(
    ("temperature", "state", "expected"),
    [
        (0.7, running(), 0.7),
        (0.7, running(loud_db=-13.0), 0.8),  # a tenth for each dB
        (0.7, running(loud_db=-6.0), 0.7),  # too loud is left to the network
        (0.7, running(loud_db=-30.0), 1.0),
        (1.1, running(loud_db=-30.0), 1.1),
        (0.7, running(paused=True), 1.0),
        (0.7, running(paused=True, silent=0.15), 1.1),  # twice the difference
        (1.1, running(paused=True, silent=0.05), 0.9),
        (1.1, running(paused=True, silent=0.9), 1.2),
    ],
)
def test_the_temperature_follows_level_and_silence(temperature: float, state: RunningLevels, expected: float) -> None:
    kept = Levels(np.array([10**-1.2]), np.array([0.1]))
    np.testing.assert_allclose(kept.temperatures(temperature, state), [expected], rtol=1e-9)


def test_running_levels_are_exponential_averages_of_whole_frames() -> None:
    kept, audio = Levels(np.array([0.25]), np.array([0.1])), np.full((1, 40), 0.5, np.float32)
    start = kept.start()
    assert start.paused.all() and start.silent == 0.1
    half = kept.after(start, audio, ends=False)
    assert (half.loud, half.length) == (start.loud, 40)
    loud = kept.after(half, audio, ends=True)
    np.testing.assert_allclose([loud.loud[0], loud.silent[0]], [0.25, 0.1 * np.exp(-0.01)], rtol=1e-9)
    assert not loud.paused.any() and loud.length == 0
    pause = kept.after(loud, 0 * audio, ends=True)
    assert pause.paused.all() and pause.loud == loud.loud
    np.testing.assert_allclose(1 - pause.silent, (1 - loud.silent) * np.exp(-0.01), rtol=1e-9)


def test_a_temperature_of_one_and_of_zero_is_that_of_a_model_without_levels(generator: Generator) -> None:
    plain = Generator.from_model(random_model(dataclasses.replace(CONFIG, recorded_levels=None), seed=3))
    assert not isinstance(plain.session(), LevelSession)
    for temperature in (1.0, 0.0):
        given = {"seed": 4, "temperature": temperature}
        np.testing.assert_array_equal(generator.render(0.1, **given), plain.render(0.1, **given))
    assert not np.array_equal(generator.render(0.1, temperature=0.7), plain.render(0.1, temperature=0.7))


def test_the_audio_does_not_depend_on_blocks_copies_batches_or_the_engine(generator: Generator) -> None:
    options: dict[str, Any] = {"seed": 9, "temperature": 0.8, "prime": np.linspace(-0.5, 0.5, 33)}
    whole = generator.render(0.1, **options)
    session = generator.session(**options)
    first = [session.next(samples) for samples in (1, 150, 49, 7)]
    branch = session.copy()
    for continued in (session, branch):
        np.testing.assert_array_equal(np.concatenate([*first, continued.next(593)]), whole)
    np.testing.assert_array_equal(generator.render(0.1, count=2, **(options | {"seed": 8}))[1], whole)
    naive = Generator.from_model(random_model(CONFIG, seed=3), engine="naive")
    np.testing.assert_array_equal(naive.render(0.1, **options), whole)


def test_after_an_interrupted_call_the_stream_is_the_same(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = generator.render(0.1, seed=2, temperature=0.7)
    session, calls, generate = generator.session(seed=2, temperature=0.7), [0], NativeEngine.generate

    def interrupted(self: NativeEngine, state: Any, uniforms: Any, *others: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            generate(self, state, uniforms[:, :5], others[0], others[1][:, :5])
            raise KeyboardInterrupt
        return generate(self, state, uniforms, *others)

    monkeypatch.setattr(NativeEngine, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.next(500)
    assert session.position == 160  # two frames of 10 ms
    np.testing.assert_array_equal(session.next(640), whole[160:])


def test_the_temperature_may_change_at_any_time(generator: Generator) -> None:
    session = generator.session(seed=1)
    session.next(100)
    session.temperature = 0.7
    session.next(100)
    session.temperature = 1.0
    np.testing.assert_array_equal(session.copy().next(50), session.next(50))
    assert session._progress.running is None  # type: ignore[attr-defined]


def test_levels_of_recordings() -> None:
    tone = np.tile(np.array([8_192, -8_192], np.int16), SAMPLE_RATE // 2)  # a second at -12.04 dBFS
    quiet = np.concatenate([tone // 2, np.zeros(SAMPLE_RATE // 2, np.int16)])  # -18.06 dBFS, a third is silent
    offsets, lengths = np.array([0, len(tone)]), np.array([len(tone), len(quiet)])
    clips = Clips(np.concatenate([tone, quiet]), offsets, lengths, SAMPLE_RATE, ["ann", "bob"])
    expected = RecordedLevels((-9.0, -15.1, -11.1), (0.0, 0.333, 0.2))  # the last: of all
    assert recorded_levels(clips, ("ann", "bob", "eve"), gain_db=3.0) == expected
    assert recorded_levels(clips) == RecordedLevels((-14.1,), (0.2,))
    assert recorded_levels(clips_of(SAMPLE_RATE, values=np.zeros(SAMPLE_RATE, np.int16))) is None


def test_levels_are_stored_in_the_model_file_beside_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, random_model(CONFIG))
    assert read_model(path)[0] == CONFIG
    other = RecordedLevels((-20.0,), (0.5,))
    update_config(path, recorded_levels=other)
    assert read_model(path)[0].recorded_levels == other
    assert "[model.recorded_levels]\nloud = [-12.0]" in Recipe(model=CONFIG).to_toml()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loud": [-12], "silent": [1.5]}, r"recorded_levels.silent = \[1.5\]: expected numbers from 0 to 1"),
        ({"loud": [3], "silent": [0]}, r"recorded_levels.loud = \[3\]: expected numbers from -50 to 0"),
        ({"loud": [-12, -13], "silent": [0]}, "recorded_levels.loud: has 2 values for 1 voices"),
    ],
)
def test_levels_that_are_not_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, {"recorded_levels": values})


def test_a_model_with_features_has_no_recorded_levels() -> None:
    with pytest.raises(ConfigError, match="only for a model without features"):
        ModelConfig(features=MelConfig(), recorded_levels=LEVELS)
