"""Clips of validations: what they are generated from and compared with, and what happens when measuring fails."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import soundfile
from training_runs import CONDITIONED, trainer_for, write_tones, write_voices

from wavenet.training import validation_clip
from wavenet.training.events import Event, Validation
from wavenet.training.trainer import Trainer
from wavenet.training.validation_clip import Clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "clips")


def clip_of(trainer: Trainer) -> Clip:
    return trainer.clips.generate(trainer.state.average, lambda done, total: None)


def test_clips_are_the_same_in_blocks_of_any_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.clip_seconds=0.05")
    whole = clip_of(trainer)
    monkeypatch.setattr(validation_clip, "BLOCK", 37)
    calls: list[tuple[int, int]] = []
    parts = trainer.clips.generate(trainer.state.average, lambda done, total: calls.append((done, total)))
    assert np.array_equal(parts.audio, whole.audio)
    assert calls == [(start, 400) for start in range(0, 400, 37)]


def test_a_vocoder_copies_recordings_until_the_clip_is_long_enough(tmp_path: Path) -> None:
    folder = write_voices(tmp_path / "voices")
    settings = [*CONDITIONED["features"], "data.validation=0.3"]
    trainer = trainer_for(folder, tmp_path / "run", *settings, "training.clip_seconds=0.5")
    held_out = trainer.recordings.validation
    clip = clip_of(trainer)
    assert len(clip.audio) == len(clip.recording) == 4_000  # of recordings of 3,011 samples
    expected = np.concatenate([held_out.clip(0), held_out.clip(1)])[:4_000] / np.float32(32_768)
    assert np.array_equal(clip.recording, expected)
    first = trainer_for(folder, tmp_path / "other", *settings, "training.clip_seconds=0.25")
    assert np.array_equal(clip_of(first).audio, clip.audio[:2_000])
    longer = trainer_for(folder, tmp_path / "third", *settings, "training.clip_seconds=60")
    assert len(clip_of(longer).audio) == int(held_out.lengths.sum())


def test_other_clips_are_compared_with_a_fixed_selection(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.clip_seconds=0.1")
    reference = trainer.clips.reference
    assert len(reference) == 16 * 4_000  # all there is, less than a minute
    held_out = {clip.tobytes() for clip in trainer.recordings.validation}
    assert (reference[:4_000] * 32_768).astype(np.int16).tobytes() in held_out
    again = trainer_for(folder, tmp_path / "run", "training.clip_seconds=0.1").clips
    assert np.array_equal(again.reference, reference)
    assert np.array_equal(clip_of(trainer).recording, reference[:800])


def test_speakers_are_compared_with_themselves(tmp_path: Path) -> None:
    trainer = trainer_for(write_voices(tmp_path / "voices"), tmp_path / "run", "data.speakers=folders")
    speaker = trainer.clips.source.speakers
    assert speaker is not None
    spectrum = np.abs(np.fft.rfft(trainer.clips.reference))
    hertz = 8_000 * spectrum.argmax() / len(trainer.clips.reference)
    assert (hertz > 1_000) == (speaker[0] == "high")
    assert len(trainer.clips.reference) == 6 * 3_011


def test_the_verdict_is_reported_logged_and_shown(folder: Path, tmp_path: Path) -> None:
    settings = ["training.clip_seconds=1", "training.steps=2", "training.validate_steps=1"]
    trainer = trainer_for(folder, tmp_path / "run", *settings)
    events: list[Event] = []
    trainer.train(events.append)
    found = [event for event in events if isinstance(event, Validation)]
    verdict = found[-1].verdict
    assert verdict.recordings is not None and verdict.clip is not None and verdict.sound is not None
    assert verdict.recordings.voiced > 0.3  # tones of 200 to 800 Hz; pitches up to 600 Hz are found
    assert verdict.clip.level > -60
    assert verdict.text.startswith("clip: ") and verdict.sound.words in verdict.text
    assert verdict.trend.words and not found[0].verdict.trend.words
    logged = trainer.run.read_log()[-1]
    assert logged["verdict"]["text"] == verdict.text
    assert logged["verdict"]["clip"]["level"] == verdict.clip.level
    assert logged["training_bits"] == found[-1].training_bits > 0
    if math.isnan(verdict.clip.pitch):
        assert logged["verdict"]["clip"]["pitch"] is None
    page = trainer.run.page.read_text()
    assert verdict.text in page
    assert page.count("<audio") == 2


def test_what_cannot_be_measured_is_a_note(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> NoReturn:
        raise MemoryError("no room for\nthe pitch")

    monkeypatch.setattr(validation_clip, "voice_figures", fail)
    trainer = trainer_for(folder, tmp_path / "run", "training.clip_seconds=1", "training.steps=1")
    result = trainer.train()
    assert result is not None
    note = result.verdict.note
    assert note == "the clip of step 1 could not be measured or drawn: no room for\\nthe pitch"
    assert (result.verdict.clip, result.verdict.sound) == (None, None)
    assert soundfile.info(trainer.run.sample(1)).frames == 8_000
    assert not trainer.run.picture(1).exists()
    assert trainer.finished
    assert 'src="samples/step_1.wav"' in trainer.run.page.read_text()


def test_no_clip_if_none_is_wanted(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_for(folder, tmp_path / "run", "training.clip_seconds=0", "training.steps=1")
    trainer.train()
    assert not list(trainer.run.sample(1).parent.iterdir())
    assert "<audio" not in trainer.run.page.read_text()
