"""wavenet evaluate with a labeller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wavenet.cli.console import ProgressLine, print_message, print_result
from wavenet.data import files
from wavenet.data.errors import printable
from wavenet.data.segments import counted

if TYPE_CHECKING:
    from wavenet.evaluation.labelled_folder import LabelEvaluation

MOST_PROBLEMS = 20  # that are printed
PICTURES = 10  # of recordings, at most


def evaluate_labels(
    model: Path, folder: Path, table: Path | None, save: Path | None, smoothing: float, min_duration: float
) -> None:
    """Print the figures of a labeller on a folder of recordings with labels beside them.

    table: where to write the figures of each class, CSV. save: folder for the confusion matrix and for pictures. Both
    can be written, as `wavenet.cli.evaluate` has checked. smoothing, min_duration: see `LabellingOptions`.
    """
    from wavenet.evaluation.labelled_folder import evaluate_folder
    from wavenet.labelling import Labeller, LabellingOptions

    options = LabellingOptions(smoothing, min_duration)
    labeller = Labeller.load(model)
    reading, labelling = ProgressLine("reading", "files"), ProgressLine("labelling", "recordings")
    try:
        evaluation = evaluate_folder(labeller, folder, reading, labelling, options)
    finally:
        for line in (reading, labelling):
            line.clear()
    for problem in evaluation.problems[:MOST_PROBLEMS]:
        print_message(problem)
    if (more := len(evaluation.problems) - MOST_PROBLEMS) > 0:
        print_message(f"... and {more:,} more")
    seconds = sum(recording.seconds for recording in evaluation.recordings)
    print_message(f"{counted(len(evaluation.recordings), 'recording')} with labels, {seconds / 60:.1f} minutes")
    for text in evaluation.figures.lines():
        print_result(text)
    if table is not None:
        evaluation.figures.write_csv(table)
        print_message(f"figures of each class: {printable(table)}")
    if save is not None:
        _save(save, evaluation, labeller.sample_rate)


def _save(folder: Path, evaluation: LabelEvaluation, sample_rate: int) -> None:
    """Write the confusion matrix as a picture and as a table, and pictures of recordings."""
    from wavenet.evaluation.label_pictures import confusion_picture

    figures = evaluation.figures
    folder.mkdir(parents=True, exist_ok=True)
    figures.write_confusion(folder / "confusion.csv")
    files.replace(folder / "confusion.svg", confusion_picture(figures.confusion, figures.names).encode())
    for recording in evaluation.recordings[:PICTURES]:
        files.replace(folder / f"{recording.path.name}.svg", recording.picture(sample_rate).encode())
    print_message(f"confusion matrix, and pictures of recordings: {printable(folder)}")
