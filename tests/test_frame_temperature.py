"""The temperatures of a frame model: figures of frames, trials, and what is chosen from them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from frame_data import SMALL, random_coding, random_frame_model, random_frames

from wavenet.config import SamplingConfig
from wavenet.training import frame_temperature
from wavenet.training.frame_batches import FrameClips
from wavenet.training.frame_temperature import (
    TEMPERATURES,
    Trial,
    figures_of,
    measured_temperatures,
    with_temperatures,
)


def test_figures_of_frames() -> None:
    coding = dataclasses.replace(random_coding(), loudness=np.array([[2.0, 3.0]]))  # mean and deviation, in nepers
    frames = np.zeros((4, SMALL.dimensions), np.float32)
    frames[:, 0] = [0, 0, 0, -2]  # 2 nepers, and -4
    frames[1::2, 3:] = 1.0  # changes of 1, -1, 1
    figures = figures_of([frames], coding)
    assert figures.level == pytest.approx(20 * 2 / math.log(10) + 10 * math.log10(0.75), abs=1e-4)
    assert figures.silent == 0.25  # 6 nepers are 52 dB
    np.testing.assert_allclose(figures.movement, math.sqrt(8 / 9))
    assert figures_of([frames], coding, level=figures.level + 40).silent == 1
    twice = figures_of([frames, frames], coding)  # the step between two recordings is no change
    np.testing.assert_allclose(twice.movement, figures.movement)
    assert twice[:2] == figures[:2]


def test_deviations_and_movement_grow_with_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_temperature, "STREAM_SECONDS", 0.5)
    model = random_frame_model(speakers=3)
    model.set_coding(random_coding(voices=3))
    with torch.no_grad():
        model.prediction.zero_()
    clips = FrameClips(model.frame_coding, [random_frames(SMALL, 100, seed)[0] for seed in range(2)], [0, 2])
    calls: list[tuple[int, int]] = []
    trials = measured_temperatures(model, clips, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 5) for done in range(5)]
    assert [trial.temperature for trial in trials] == list(TEMPERATURES)
    assert trials == measured_temperatures(model, clips)
    movements = [frame_temperature.sampler_of(model, 1, 0, t, 0).draw(200)[0, :, 3:].std() for t in (0.0, 0.7, 1.1)]
    assert movements == sorted(movements)


def trials_of(*keeps: bool, best: int = 0) -> list[Trial]:
    """A trial at each temperature; the movement is best at one of them."""
    pairs = zip(TEMPERATURES, keeps, strict=True)
    return [Trial(t, 0.0 if kept else 3.1, 0.0, abs(i - best) + 0.1) for i, (t, kept) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("keeps", "best", "temperature", "limits"),
    [
        ((True, True, True, True, True), 1, 0.8, (0.7, 1.1)),
        ((False, True, True, True, False), 2, 0.9, (0.8, 1.0)),
        ((True, False, True, True, True), 1, 0.7, (0.7, 0.7)),  # around the best one only
        ((True, False, True, True, True), 3, 1.0, (0.9, 1.1)),
        ((False, False, False, False, False), 1, 0.8, None),
    ],
)
def test_the_best_temperature_and_its_range(
    keeps: tuple[bool, ...], best: int, temperature: float, limits: tuple[float, float] | None
) -> None:
    before = SamplingConfig(0.9, refine=40, frame_temperature_range=(0.1, 0.2))
    chosen = with_temperatures(before, trials_of(*keeps, best=best))
    assert chosen == dataclasses.replace(before, frame_temperature=temperature, frame_temperature_range=limits)


def test_level_and_pauses_have_tolerances() -> None:
    assert Trial(1.0, 3.0, -10.0, 9.0).keeps and Trial(1.0, -3.0, 10.0, 9.0).keeps
    assert not Trial(1.0, 3.1, 0.0, 0.0).keeps and not Trial(1.0, 0.0, -10.1, 0.0).keeps
