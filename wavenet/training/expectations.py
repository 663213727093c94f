"""What a training can be expected to give, said before it starts, and which recipe suits the recordings."""

from __future__ import annotations

import os

from wavenet.data.dataset import Recordings
from wavenet.evaluation.voice_figures import VoiceFigures
from wavenet.training.recipe import Recipe

TRAINED_SHARE = 0.8  # of a budget in minutes; the rest is validations and clips
REACHED: dict[str, tuple[tuple[int, str], ...]] = {  # steps, and what a clip was like from there on
    "voice": (
        (0, "level, pauses and about the pitch of the voice, with slurred sounds"),  # the base with the voice's coding
        (600, "sounds like speech in this voice, in no language"),
    ),
    "speech": (
        (0, "noise"),
        (3_000, "a murmur for clean recordings of one voice, noise for others"),
        (10_000, "babble for clean recordings of one voice, a murmur for others"),
    ),
    "instruments": ((0, "a rumble"),),
    "vocoder": ((0, "hoarse copies"), (3_000, "intelligible copies of recordings of the same voice")),
}
SPEECH, MUSIC = ("speech", "voice", "speakers"), ("music", "instruments")  # recipes for sounds of that kind


def expectation(recipe: Recipe, name: str | None, seconds_per_step: float) -> str:
    """What the budget gives: steps, and for some recipes what the clips are then like. name: of the recipe."""
    training = recipe.training
    steps = training.steps or int(TRAINED_SHARE * 60 * training.minutes / seconds_per_step)
    reached = [text for least, text in REACHED.get(name or "", ()) if steps >= least]
    budget = "" if training.steps else f"{training.minutes:g} minutes are about {_rounded(steps):,} steps here; "
    return f"{budget}expect {reached[-1]}" if reached else budget.removesuffix("; ")


def advice(recordings: Recordings, figures: VoiceFigures, recipe: Recipe, name: str | None) -> list[str]:
    """Which recipe or option suits the recordings better; figures: of some of them. name: of the recipe."""
    found = []
    if name in MUSIC and figures.like_speech:
        found.append("the recordings are like speech: --recipe voice suits them better")
    elif name in SPEECH and not figures.like_speech:
        found.append("the recordings are not like speech: --recipe music may suit them better")
    elif name is None and recipe.model.features is None and figures.like_speech:
        found.append("the recordings are like speech: --recipe voice starts from a model that already speaks")
    folders = sorted({file.partition(os.sep)[0] for file in recordings.train.names if os.sep in file})
    if len(folders) > 1 and not recipe.data.speakers and name != "vocoder-universal":
        found.append(
            f"{len(folders)} sub-folders are trained on as one voice: if each is a speaker, add --speakers folders"
        )
    return found


def _rounded(steps: int) -> int:
    """The steps to one or two digits: they are an estimate."""
    unit = 10 ** max(0, len(str(steps)) - 2)
    return steps // unit * unit
