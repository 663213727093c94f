"""Held-out figures: how well a model predicts recordings that it has not seen."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from wavenet import dataset, likelihood
from wavenet.cache import Progress
from wavenet.config import DataConfig
from wavenet.engine import Engine, create
from wavenet.likelihood import ReferenceLevels
from wavenet.model import WaveNet


@dataclass(frozen=True)
class Evaluation:
    """Bits per sample of a model on a folder, beside what the same data costs without a network."""

    bits: float
    references: ReferenceLevels  # tables counted on the same recordings
    summary: dataset.Summary


def evaluate(
    model: WaveNet,
    folder: str | os.PathLike[str],
    reading: Progress | None = None,
    listening: Progress | None = None,
    precision: str | None = None,
) -> Evaluation:
    """Bits per sample over every recording of a folder, each predicted from its own start (teacher forcing).

    reading, listening: called with what is done and what is in all, in files and then in samples.
    precision: "f32" or "int8" lets the native engine predict, as it does when it makes sound; None: PyTorch.
    Raises `DatasetError` when nothing can be read, `EngineUnavailable` where the native engine is not installed.
    """
    predictor: WaveNet | Engine[Any] = model
    if precision is not None:
        predictor = create("native", model.config, model.state_dict(), precision, threads=1)
    recordings = dataset.open_folder(folder, model.config.sample_rate, DataConfig(validation=0.0), reading)
    bits = likelihood.bits_per_sample(predictor, recordings.train, progress=listening)
    return Evaluation(bits, likelihood.reference_levels(recordings.train), recordings.summary)
