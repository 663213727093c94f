"""The temperatures of a frame model: figures of frames, trials, and what is chosen from them."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from frame_data import SMALL, random_coding, random_frame_model, random_frames

from wavenet.config import SamplingConfig
from wavenet.frame_model import FrameModel
from wavenet.training import frame_temperature
from wavenet.training.frame_batches import FrameClips
from wavenet.training.frame_temperature import (
    TEMPERATURES,
    Trial,
    figures_of,
    frames_at,
    measured_temperatures,
    with_temperatures,
)


def test_figures_of_frames() -> None:
    coding = dataclasses.replace(random_coding(), loudness=np.array([[2.0, 3.0]]))  # mean and deviation, in nepers
    frames = np.zeros((4, SMALL.dimensions), np.float32)
    frames[1::2, 3:] = 1.0  # changes of 1, -1, 1
    frames = coding.with_level(frames, np.array([-20.0, -20.0, -20.0, -51.0]))  # dBFS
    figures = figures_of([frames], coding)
    assert figures.level == pytest.approx(-20 + 10 * math.log10(0.75), abs=0.01)
    assert figures.silent == 0.0  # the last one is 29.7 dB below the level
    np.testing.assert_allclose(figures.movement, math.sqrt(8 / 9), rtol=1e-6)
    assert figures_of([frames], coding, level=-20.0).silent == 0.25
    twice = figures_of([frames, frames], coding)  # the step between two recordings is no change
    np.testing.assert_allclose(twice.movement, figures.movement)
    assert twice[:2] == pytest.approx(figures[:2])


def test_a_single_frame_does_not_move() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = figures_of([np.zeros((1, SMALL.dimensions), np.float32)], random_coding())
    assert math.isfinite(figures.level) and np.isnan(figures.movement).all()


def voices_of(count: int) -> FrameModel:
    model = random_frame_model(speakers=count)
    model.set_coding(random_coding(voices=count))
    with torch.no_grad():
        model.prediction.zero_()
    return model


def test_deviations_and_movement_grow_with_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_temperature, "STREAM_SECONDS", 0.5)
    model = voices_of(3)
    clips = FrameClips(model.frame_coding, [random_frames(SMALL, 100, seed)[0] for seed in range(2)], [0, 2])
    calls: list[tuple[int, int]] = []
    trials = measured_temperatures(model, clips, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 2), (1, 2)]
    assert [trial.temperature for trial in trials] == list(TEMPERATURES)
    assert trials == measured_temperatures(model, clips)
    movements = [frame_temperature.sampler_of(model, 1, 0, t, 0).draw(200)[0, :, 3:].std() for t in (0.0, 0.7, 1.1)]
    assert movements == sorted(movements)


def test_two_draws_give_the_frames_of_every_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_temperature, "STREAM_SECONDS", 0.2)
    model = voices_of(2)
    found = frames_at(TEMPERATURES, model, 2, 7, 1)
    for frames, temperature in zip(found, TEMPERATURES, strict=True):
        drawn = frame_temperature.sampler_of(model, 2, 7, temperature, 1).draw(frames.shape[1])
        assert np.isclose(frames, drawn, atol=1e-5).mean() > 0.99  # others are clamped at temperature 0 or 1
    assert not np.allclose(found[0], found[-1], atol=1e-3)


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
