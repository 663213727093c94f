"""Validation of a labeller: figures of held-out recordings, beside those of always choosing the most frequent class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavenet.data.pcm import to_float32
from wavenet.labelling import Labeller
from wavenet.training.labelling_data import LabelledClips

SMALLEST = 1e-12  # probability, in the loss


@dataclass(frozen=True)
class LabelFigures:
    """Figures of the frames of held-out recordings; NaN if there are none."""

    accuracy: float  # share of the frames with the right class
    macro_f1: float  # mean of the F1 of the classes that occur
    loss: float = math.nan  # nats per frame


@dataclass(frozen=True)
class LabelReference:
    """What choosing the most frequent class of the training recordings gives on the held-out ones."""

    name: str  # of the class
    figures: LabelFigures


def held_out_figures(
    labeller: Labeller, data: LabelledClips, progress: Callable[[int, int], None] = lambda done, total: None
) -> LabelFigures:
    """The figures of a labeller on clips, each as a recording of its own. progress: clips done, and of all."""
    number, nats, frames = len(labeller.classes), 0.0, 0
    confusion = np.zeros((number, number), np.int64)
    for index, (samples, true) in enumerate(zip(data.clips, data.classes, strict=True)):
        progress(index, len(data.clips))
        found = labeller(to_float32(samples)).probabilities  # [frames, classes]
        confusion += confusion_of(true, found.argmax(1), number)
        nats -= float(np.log(np.maximum(found[np.arange(len(true)), true], SMALLEST)).sum(dtype=np.float64))
        frames += len(true)
    accuracy, macro_f1 = figures_of(confusion)
    return LabelFigures(accuracy, macro_f1, nats / frames if frames else math.nan)


def reference_of(train: LabelledClips, validation: LabelledClips, class_names: tuple[str, ...]) -> LabelReference:
    """The figures of always choosing the most frequent class."""
    number = len(class_names)
    frequent = int(train.counts(number).argmax())
    confusion = np.zeros((number, number), np.int64)
    confusion[:, frequent] = validation.counts(number)
    return LabelReference(class_names[frequent], LabelFigures(*figures_of(confusion)))


def confusion_of(true: NDArray[np.integer], found: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Frames by their true class (rows) and the one that was found (columns)."""
    return np.bincount(true.astype(np.int64) * classes + found, minlength=classes**2).reshape(classes, classes)


def figures_of(confusion: NDArray[np.int64]) -> tuple[float, float]:
    """Frame accuracy and macro F1, the mean over the classes that occur: F1 = 2 hits / (frames + found)."""
    hits, frames, found = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    occurs = frames > 0
    if not occurs.any():
        return math.nan, math.nan
    return float(hits.sum() / frames.sum()), float(np.mean(2 * hits[occurs] / (frames + found)[occurs]))
