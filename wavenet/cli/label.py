"""wavenet label."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from wavenet.cli.console import ProgressLine, print_message
from wavenet.cli.options import MIN_DURATION, SMOOTHING
from wavenet.data.errors import AudioError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wavenet.data.label_tracks import Segment
    from wavenet.labelling import Labeller, LabellingOptions

FORMATS = ("txt", "TextGrid", "csv", "npz")


class _Recording(NamedTuple):
    """A recording, and its path below the folder that was given."""

    path: Path
    name: Path


class _Labelled(NamedTuple):
    """The labels of a recording of this duration; probabilities [frames, classes] if they are wanted."""

    segments: list[Segment]
    seconds: float
    probabilities: NDArray[np.float32] | None


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("recordings", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A .txt (Audacity), .TextGrid (Praat), .csv or .npz file (with probabilities). For several recordings a .csv "
    "file, or a folder.  [default: standard output, as in a .txt file]",
)
@click.option(
    "--format",
    "extension",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="Of the files in an output folder.",
)
@SMOOTHING
@MIN_DURATION
def command(
    model: Path,
    recordings: tuple[Path, ...],
    output: Path | None,
    extension: str,
    smoothing: float,
    min_duration: float,
) -> None:
    """Label recordings, in any format and of any length: where each label of MODEL begins and ends.

    MODEL is trained with --recipe labels. IN is a recording, or a folder of recordings. Memory does not grow with the
    length of a recording, except for the probabilities in a .npz file.

    \b
    wavenet label runs/turns talk.mp3
    wavenet label runs/turns talk.mp3 -o talk.txt --min-duration 0.2
    wavenet label runs/turns recordings -o labels --format TextGrid
    wavenet label runs/turns recordings -o labels.csv
    """
    from wavenet.data.label_tracks import write_csv
    from wavenet.labelling import Labeller, LabellingOptions

    options = LabellingOptions(smoothing, min_duration)
    found = _found(recordings)
    several = len(found) > 1 or recordings[0].is_dir()
    table = several and output is not None and output.suffix.lower() == ".csv"
    if output is not None and (table or not several):
        _check_output(output, found if table else [])
    outputs: list[Path | None] = [None if table else output]
    if several and not table:
        outputs = [*_outputs(found, output, extension)]
    labeller = Labeller.load(model)
    if not several:
        line = ProgressLine("labelling", "seconds of audio")
        _write(labeller, found[0], outputs[0], options, line)
        line.clear()
        return
    labels: dict[str, Sequence[Segment]] = {}
    failed, progress = 0, ProgressLine("labelling", "recordings")
    for index, recording in enumerate(found):
        progress(index, len(found))
        try:
            if table:
                labels[os.fspath(recording.name)] = _label(labeller, recording.path, options).segments
            else:
                _write(labeller, recording, outputs[index], options)
        except AudioError as error:
            progress.clear()
            print_message(f"skipped {error}")
            failed += 1
    progress.clear()
    if table and output is not None:
        write_csv(output, labels)
    if failed:
        raise click.ClickException(f"{failed:,} of {len(found):,} recordings could not be labelled: see above")


def _found(paths: Sequence[Path]) -> list[_Recording]:
    """The recordings: the files, and those in the folders."""
    from wavenet.data.scan import scan

    found: list[_Recording] = []
    for path in paths:
        if not path.is_dir():
            found.append(_Recording(path, Path(path.name)))
            continue
        inside, _ = scan(path)
        if not inside:
            raise click.UsageError(f"{printable(path)}: no recordings in this folder")
        found += [_Recording(path / file.name, Path(file.name)) for file in inside]
    return found


def _check_output(output: Path, recordings: Sequence[_Recording]) -> None:
    """Raises `UsageError` for a file that cannot be written, or that may be the labels of the recordings."""
    from wavenet.data.label_tracks import check_label_file

    check_label_file(output)
    if not output.parent.is_dir():
        raise click.UsageError(f"{printable(output.parent)}: no such folder; make it first")
    if output.exists() and output.parent.resolve() in {recording.path.parent.resolve() for recording in recordings}:
        raise click.UsageError(f"{printable(output)}: would be replaced; give another name with -o")


def _outputs(recordings: Sequence[_Recording], folder: Path | None, extension: str) -> list[Path]:
    """The label file of each recording in the output folder, which is created.

    Raises `UsageError` where two would have the same name, or a label track beside a recording would be replaced.
    """
    from wavenet.data.label_tracks import check_label_file

    if folder is None:
        raise click.UsageError("several recordings: give -o FOLDER, or -o LABELS.csv for one table")
    if folder.is_file() or folder.suffix.lstrip(".").lower() in [name.lower() for name in FORMATS]:
        raise click.UsageError(f"{printable(folder)}: several recordings; give a folder, or one table LABELS.csv")
    outputs: dict[Path, _Recording] = {}
    for recording in recordings:
        output = (folder / recording.name).with_suffix(f".{extension}")
        check_label_file(output)
        if output in outputs:
            both = f"{printable(outputs[output].path)} and {printable(recording.path)}"
            raise click.UsageError(f"{both}: both would be written to {printable(output)}; label them one by one")
        if output.exists() and output.parent.resolve() == recording.path.parent.resolve():
            raise click.UsageError(f"{printable(output)}: would be replaced; give another folder with -o")
        outputs[output] = recording
    for parent in {output.parent for output in outputs}:
        parent.mkdir(parents=True, exist_ok=True)
    return list(outputs)


def _write(
    labeller: Labeller,
    recording: _Recording,
    output: Path | None,
    options: LabellingOptions,
    progress: ProgressLine | None = None,
) -> None:
    """Label a recording, and write the labels to a file, or to standard output as soon as they are known.

    progress: drawn while a file is labelled.
    """
    from wavenet.data.label_tracks import write_labels

    if output is None:
        _label(labeller, recording.path, options, show=True)
        return
    keep = output.suffix.lower() == ".npz"
    labelled = _label(labeller, recording.path, options, keep=keep, progress=progress)
    write_labels(
        output,
        labelled.segments,
        recording=recording.name,
        seconds=labelled.seconds,
        probabilities=labelled.probabilities,
        classes=labeller.classes,
        frame_seconds=labeller.frame_seconds,
    )


def _label(
    labeller: Labeller,
    path: Path,
    options: LabellingOptions,
    show: bool = False,
    keep: bool = False,
    progress: ProgressLine | None = None,
) -> _Labelled:
    """Label a recording block by block. show: print the segments. keep: return the probabilities."""
    import numpy as np

    from wavenet.data import audio

    session = labeller.session(options.smoothing, options.min_duration)
    segments: list[Segment] = []
    probabilities = [np.zeros((0, len(labeller.classes)), np.float32)]
    samples, total = 0, _stated_seconds(path) if progress else 0
    blocks = audio.blocks(path, labeller.sample_rate)
    ended = False
    while not ended:
        block = next(blocks, None)
        ended = block is None
        labels = session.finish() if block is None else session.push(block)
        samples += 0 if block is None else len(block)
        if progress and total:
            progress(min(samples // labeller.sample_rate, total), total)
        if show:
            for start, end, label in labels.segments:
                click.echo(f"{start:.6f}\t{end:.6f}\t{' '.join(label.split())}")
        else:
            segments += labels.segments
        if keep:
            probabilities.append(labels.probabilities)
    if not samples:
        raise AudioError(path, "no samples")
    return _Labelled(segments, samples / labeller.sample_rate, np.concatenate(probabilities) if keep else None)


def _stated_seconds(path: Path) -> int:
    """The duration that the file states; 0 if it states none. It is good enough for a progress line."""
    import soundfile

    try:
        return math.ceil(soundfile.info(os.fspath(path)).duration)
    except (soundfile.SoundFileError, ValueError, OverflowError):
        return 0
