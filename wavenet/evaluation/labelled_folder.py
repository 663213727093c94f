"""Evaluate a labeller on a folder of recordings with labels beside them, which it was not trained on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wavenet.checks import listed
from wavenet.data import audio
from wavenet.data.cached_samples import DatasetError
from wavenet.data.label_tracks import Recording, Segment, read_labels
from wavenet.data.scan import scan
from wavenet.evaluation.label_pictures import clip_picture
from wavenet.evaluation.labelling import LabelFigures
from wavenet.labelling import Labeller, LabellingOptions

Progress = Callable[[int, int], None]  # recordings done, and of all

PICTURE_SECONDS = 30.0  # of a recording in its picture


@dataclass(frozen=True)
class EvaluatedRecording:
    """A recording, its labels, and those that the labeller found."""

    path: Path
    seconds: float
    reference: list[Segment]
    found: list[Segment]

    def picture(self, sample_rate: int) -> str:
        """An SVG of the spectrogram, with both below it, of the first `PICTURE_SECONDS`."""
        samples = audio.read(self.path, sample_rate)[: round(PICTURE_SECONDS * sample_rate)]
        end = len(samples) / sample_rate
        tracks = []
        for name, segments in (("reference", self.reference), ("found", self.found)):
            shown = [Segment(start, min(stop, end), label) for start, stop, label in segments if start < end]
            tracks.append((name, shown))
        return clip_picture(self.path.name, samples, sample_rate, tracks)


@dataclass
class LabelEvaluation:
    """figures: of all recordings. problems: a line for each file or label that could not be used."""

    figures: LabelFigures
    recordings: list[EvaluatedRecording] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def evaluate_folder(
    labeller: Labeller,
    folder: Path,
    reading: Progress | None = None,
    labelling: Progress | None = None,
    options: LabellingOptions | None = None,
) -> LabelEvaluation:
    """Label the recordings of a folder that have labels, and compare.

    reading, labelling: are called after each recording. options: how probabilities become segments; None: the defaults.
    Raises `DatasetError` for a folder without labels.
    """
    if not folder.is_dir():
        raise DatasetError(f"{audio.printable(folder)}: give a folder of recordings with labels beside them")
    evaluation = LabelEvaluation(LabelFigures(labeller.classes[1:], labeller.frame_seconds))
    found, skipped = scan(folder)
    evaluation.problems += [f"{audio.printable(name)}: {reason}: skipped" for name, reason in skipped]
    durations: list[Recording] = []
    for index, file in enumerate(sorted(found)):
        try:
            samples = sum(map(len, audio.blocks(folder / file.name, labeller.sample_rate)))
        except audio.AudioError as error:
            evaluation.problems.append(f"{error}: skipped")
        else:
            durations.append(Recording(Path(file.name), samples / labeller.sample_rate))
        if reading:
            reading(index + 1, len(found))
    labelled = read_labels(folder, durations)
    evaluation.problems += labelled.problems
    if not labelled.classes:
        raise DatasetError(f"{audio.printable(folder)}: no labels beside its recordings, such as clip.txt for clip.wav")
    if not set(labelled.classes) & set(labeller.classes):
        names = f"{listed(labelled.classes)}; the model has {listed(labeller.classes[1:])}"
        raise DatasetError(f"{audio.printable(folder)}: none of its labels is one of the model: {names}")
    if unknown := sorted(set(labelled.classes) - set(labeller.classes)):
        evaluation.problems.append(f"labels that the model does not have count as none: {', '.join(unknown)}")
    for name, seconds in durations:
        if name not in labelled.segments:
            continue
        segments = label_file(labeller, folder / name, options or LabellingOptions())
        recording = EvaluatedRecording(folder / name, seconds, labelled.segments[name], segments)
        evaluation.figures.add(recording.reference, recording.found, seconds)
        evaluation.recordings.append(recording)
        if labelling:
            labelling(len(evaluation.recordings), len(labelled.segments))
    return evaluation


def label_file(labeller: Labeller, path: str | os.PathLike[str], options: LabellingOptions) -> list[Segment]:
    """The segments of a recording of any length, in constant memory. Raises `AudioError`."""
    session = labeller.session(options.smoothing, options.min_duration)
    segments: list[Segment] = []
    for block in audio.blocks(path, labeller.sample_rate):
        segments += session.push(block).segments
    return segments + session.finish().segments
