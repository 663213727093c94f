"""wavenet label."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from wavenet.cli.console import ProgressLine, print_message
from wavenet.cli.options import MIN_DURATION, SMOOTHING
from wavenet.data.errors import AudioError, printable

if TYPE_CHECKING:
    from wavenet.data.label_tracks import Segment
    from wavenet.labelling import Labeller, LabellingOptions, Labels

FORMATS = ("txt", "TextGrid", "csv", "npz")


class _Recording(NamedTuple):
    """A recording, and its path below the folder that was given."""

    path: Path
    name: Path


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
    length of a recording.

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
        _check_output(output, found)
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
                labels[os.fspath(recording.name)], _ = _segments(labeller, recording.path, options)
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
    """Raises `UsageError` for a file that cannot be written, or that contains labels of recordings."""
    from wavenet.data.label_tracks import check_label_file

    check_label_file(output)
    if not output.parent.is_dir():
        raise click.UsageError(f"{printable(output.parent)}: no such folder; make it first")
    _check_not_replaced(output, recordings)


def _check_not_replaced(output: Path, recordings: Sequence[_Recording]) -> None:
    """Raises `UsageError` for an existing file that training reads: a label track beside a recording, or the table.

    It may have been made by hand.
    """
    from wavenet.data.audio import AUDIO_EXTENSIONS
    from wavenet.data.label_tracks import TABLE, TEXT_GRIDS

    if not output.exists():
        return
    if output.suffix in (".txt", *TEXT_GRIDS):
        extensions = (name for extension in AUDIO_EXTENSIONS for name in (extension, extension.upper()))
        is_read = any(output.with_suffix(extension).exists() for extension in extensions)
    else:
        folder = output.parent.resolve()
        is_read = output.name == TABLE and any(folder in recording.path.resolve().parents for recording in recordings)
    if is_read:
        raise click.UsageError(
            f"{printable(output)}: exists, and would be replaced; give another place with -o, or move it away first"
        )


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
        _check_not_replaced(output, recordings)
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
    """Label a recording, and write the labels as they are found where the format allows it; None: to standard output.

    progress: drawn while a file is labelled.
    """
    from wavenet.data import files
    from wavenet.data.label_archive import label_archive
    from wavenet.data.label_tracks import write_labels
    from wavenet.data.label_writer import label_track

    path, suffix = recording.path, "" if output is None else output.suffix.lower()
    if output is None:
        _label(labeller, path, options, _print)
    elif suffix == ".txt":
        with files.replacing(output) as file:
            _label(labeller, path, options, lambda found: file.write(label_track(found.segments).encode()), progress)
    elif suffix == ".npz":
        with label_archive(output, labeller.classes, labeller.frame_seconds) as archive:
            _label(labeller, path, options, lambda found: archive.add(found.segments, found.probabilities), progress)
    else:
        segments, seconds = _segments(labeller, path, options, progress)
        write_labels(output, segments, recording=recording.name, seconds=seconds)


def _segments(
    labeller: Labeller, path: Path, options: LabellingOptions, progress: ProgressLine | None = None
) -> tuple[list[Segment], float]:
    """All segments of a recording, and its duration in seconds."""
    segments: list[Segment] = []
    seconds = _label(labeller, path, options, lambda found: segments.extend(found.segments), progress)
    return segments, seconds


def _print(labels: Labels) -> None:
    """Print segments as lines of a label track."""
    for start, end, label in labels.segments:
        click.echo(f"{start:.6f}\t{end:.6f}\t{printable(' '.join(label.split()))}")


def _label(
    labeller: Labeller,
    path: Path,
    options: LabellingOptions,
    take: Callable[[Labels], object],
    progress: ProgressLine | None = None,
) -> float:
    """Label a recording block by block; returns its duration in seconds. take: gets the labels as they are found."""
    from wavenet.data import audio

    session = labeller.session(options.smoothing, options.min_duration)
    samples, total = 0, _stated_seconds(path) if progress else 0
    for block in audio.blocks(path, labeller.sample_rate):
        take(session.push(block))
        samples += len(block)
        if progress and total:
            progress(min(samples // labeller.sample_rate, total), total)
    if not samples:
        raise AudioError(path, "no samples")
    take(session.finish())
    return samples / labeller.sample_rate


def _stated_seconds(path: Path) -> int:
    """The duration that the file states; 0 if it states none. It is good enough for a progress line."""
    import soundfile

    try:
        return math.ceil(soundfile.info(os.fspath(path)).duration)
    except (soundfile.SoundFileError, ValueError, OverflowError):
        return 0
