"""Validation of a labeller: figures of held-out recordings, beside those of always choosing the most frequent class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavenet.data.pcm import to_float32
from wavenet.evaluation.labelling import LabelFigures
from wavenet.labelling import Labeller
from wavenet.training.labelling_data import LabelledClips

SMALLEST = 1e-12  # probability, in the loss


@dataclass(frozen=True)
class HeldOutFigures:
    """Figures of the frames of held-out recordings, see `LabelFigures`; NaN if there are none."""

    accuracy: float
    macro_f1: float
    loss: float = math.nan  # nats per frame


@dataclass(frozen=True)
class LabelReference:
    """What choosing the most frequent class of the training recordings gives on the held-out ones."""

    name: str  # of the class
    figures: HeldOutFigures


def held_out_figures(
    labeller: Labeller, data: LabelledClips, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[HeldOutFigures, NDArray[np.int64]]:
    """The figures of a labeller on clips, each as a recording of its own, and its confusion matrix [C, C].

    progress: clips done, and of all.
    """
    figures, nats = LabelFigures(labeller.config.classes), 0.0
    for index, (samples, true) in enumerate(zip(data.clips, data.classes, strict=True)):
        progress(index, len(data.clips))
        found = labeller(to_float32(samples)).probabilities  # [frames, classes]
        np.add.at(figures.confusion, (true, found.argmax(1)), 1)
        nats -= float(np.log(np.maximum(found[np.arange(len(true)), true], SMALLEST)).sum(dtype=np.float64))
    frames = int(figures.frames.sum())
    loss = nats / frames if frames else math.nan
    return HeldOutFigures(figures.accuracy, figures.macro_f1, loss), figures.confusion


def reference_of(train: LabelledClips, validation: LabelledClips, classes: tuple[str, ...]) -> LabelReference:
    """The figures of always choosing the most frequent class. classes: names of the labels, without that of none."""
    figures = LabelFigures(classes)
    frequent = int(train.counts(len(figures.names)).argmax())
    figures.confusion[:, frequent] = validation.counts(len(figures.names))
    name = classes[frequent - 1] if frequent else ""
    return LabelReference(name, HeldOutFigures(figures.accuracy, figures.macro_f1))
