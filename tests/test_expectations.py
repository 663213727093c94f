"""What is said before a training starts."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from recordings import clips_of
from training_runs import TWO_TIERS, trainer_for, write_voices

from wavenet.data.clips import Clips
from wavenet.data.dataset import Recordings
from wavenet.data.summary import Summary
from wavenet.evaluation.voice_figures import VoiceFigures
from wavenet.training import frame_temperature, recipe
from wavenet.training.expectations import advice, expectation

SPEECH = VoiceFigures(60.0, -20.0, 0.1, 0.6, 200.0, 0.5)
MUSIC = dataclasses.replace(SPEECH, pitch_change=0.1)


def recordings_of(*names: str) -> Recordings:
    """Recordings in these files."""
    found = clips_of(*[100] * len(names))
    clips = Clips(found.samples, found.offsets, found.lengths, found.sample_rate, None, names)
    return Recordings(clips, clips, Summary("clips", found.sample_rate))


def test_the_budget_in_steps_and_what_it_gives() -> None:
    voice = recipe.load("voice")
    assert expectation(voice, "voice", 0.5) == (
        "15 minutes are about 1,400 steps here; expect sounds like speech in this voice, in no language"
    )
    assert "about 9 steps here; expect level, pauses and about the pitch" in expectation(voice, "voice", 78.0)
    assert expectation(recipe.load("tiny"), "tiny", 0.1) == "3 minutes are about 1,400 steps here"
    steps = recipe.load("speech", ["training.steps=5000"])
    assert expectation(steps, "speech", 1.0).startswith("expect a murmur for clean")
    assert expectation(steps, None, 1.0) == ""


@pytest.mark.parametrize(
    ("name", "figures", "files", "words"),
    [
        ("voice", SPEECH, ["a.wav", "b.wav"], ""),
        ("music", MUSIC, ["a.wav"], ""),
        ("vocoder", MUSIC, ["a.wav"], ""),
        ("instruments", SPEECH, ["a.wav"], "--recipe voice suits them better"),
        ("voice", MUSIC, ["a.wav"], "--recipe music may suit"),
        (None, SPEECH, ["a.wav"], "--recipe voice starts from a model"),
        (None, MUSIC, ["a.wav"], ""),
        ("voice", SPEECH, [f"ann{os.sep}a.wav", f"bob{os.sep}b.wav"], "2 sub-folders are trained on as one voice"),
        ("voice", SPEECH, [f"ann{os.sep}a.wav", "b.wav"], ""),
        ("speakers", SPEECH, [f"ann{os.sep}a.wav", f"bob{os.sep}b.wav"], ""),
    ],
)
def test_another_recipe_or_option(name: str | None, figures: VoiceFigures, files: list[str], words: str) -> None:
    found = advice(recordings_of(*files), figures, recipe.load(name), name)
    assert len(found) == bool(words)
    assert words in "".join(found)


def test_measuring_a_step_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_temperature, "STREAM_SECONDS", 0.03)
    folder = write_voices(tmp_path / "voices")
    runs = [trainer_for(folder, tmp_path / out, *TWO_TIERS, "training.steps=2") for out in ("one", "two")]
    assert runs[0].seconds_per_step() > 0
    for run in runs:
        run.train()
    one, two = (run.state.model.state_dict() for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)
