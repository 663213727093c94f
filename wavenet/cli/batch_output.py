"""Commands that write a folder of audio: their options, progress and summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wavenet.cli.audio_output import INTERRUPTED
from wavenet.cli.console import ProgressLine, duration, print_message
from wavenet.cli.options import parse_layers, parse_speaker
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.batch.folder import BatchOptions, BatchProgress, BatchResult
    from wavenet.batch.manifest import Entry
    from wavenet.batch.workers import Workers
    from wavenet.generate import RenderOptions

STREAMS = click.option(
    "--streams", type=click.IntRange(1), help="In a folder: files generated side by side.  [default: 8]"
)
FORMAT = click.option(
    "--format",
    "extension",
    type=click.Choice(["wav", "flac", "ogg"]),
    help="In a folder: format of the files.  [default: wav]",
)


def is_folder(output: str | None) -> bool:
    """Whether an output is a folder: one that exists, or a name that ends with a slash."""
    return output is not None and output not in ("", "-") and (output.endswith("/") or Path(output).is_dir())


def refuse_without_folder(streams: int | None, extension: str | None) -> None:
    """Raises `UsageError` for the options of folders where a single file is written."""
    for name, value in {"--streams": streams, "--format": extension}.items():
        if value is not None:
            raise click.UsageError(f"{name}: only for a folder of audio; leave it out")


def batch_options(
    engine: str, precision: str, threads: int | None, streams: int | None, extension: str | None
) -> BatchOptions:
    """The options of a batch from those of the command line."""
    from wavenet.batch.folder import STREAMS, BatchOptions

    return BatchOptions(engine, precision, threads, streams or STREAMS, f".{extension or 'wav'}")


def write_folder(write: Callable[[Workers, Callable[..., None], Callable[..., None]], BatchResult]) -> None:
    """Write a folder in all processes, with a progress line, and print a summary in the first one.

    write: called with the processes, and functions that show progress and report a recording that cannot be read.
    Raises `RuntimeError` if there were such recordings, after everything else is done.
    """
    from wavenet.batch.workers import Workers

    workers, line = Workers.from_environment(), _Line()
    try:
        result = write(workers, line.progress, line.report)
    except KeyboardInterrupt:
        line.clear()
        if workers.is_first:
            print_message("interrupted: complete files are kept; run the same command again to continue")
        raise click.exceptions.Exit(INTERRUPTED) from None
    finally:
        line.clear()
    if workers.is_first:
        _print_summary(result, workers.count)


class _Line:
    """The progress line of a batch."""

    def __init__(self) -> None:
        self._line = ProgressLine("generating")

    def progress(self, done: BatchProgress) -> None:
        elapsed = self._line.elapsed
        speed = done.seconds / elapsed if elapsed else 0.0
        left = max(done.all_seconds - done.seconds, 0.0) / speed if speed else None
        share = min(done.seconds / done.all_seconds, 1.0) if done.all_seconds else 1.0
        self._line.draw(share, left, [f"{done.files:,}/{done.all_files:,} files", f"{speed:.1f} x real time"])

    def report(self, entry: Entry) -> None:
        self._line.clear()
        print_message(f"skipped {printable(entry['input'])}: {entry['error']}")

    def clear(self) -> None:
        self._line.clear()


def _print_summary(result: BatchResult, processes: int) -> None:
    counts = {"made": result.made, "complete already": result.kept, "failed": result.failed}
    files = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count or what == "made")
    print_message(f"{printable(result.manifest.parent)}: files: {files}; manifest: {printable(result.manifest)}")
    if result.made:
        where = f"{result.engine} engine, {result.precision}" + (f", {processes} processes" if processes > 1 else "")
        speed = result.seconds / max(result.elapsed, 1e-9)
        print_message(
            f"{where}: {duration(result.seconds)} of audio, {speed:.2f} x real time, {duration(result.elapsed)}"
        )
    if result.warned:
        print_message(
            f'note: {result.warned:,} recordings are unlike the training data: see "warnings" in the manifest'
        )
    if result.failed:
        recordings = "recording" if result.failed == 1 else "recordings"
        raise RuntimeError(f"{result.failed:,} {recordings} could not be read: see above, or the manifest")


def render_options(model: Path, speaker: str | None, mute: str | None, **others: Any) -> RenderOptions:
    """Options of `Generator.render`: those that are given."""
    from wavenet.checkpoint import read_config
    from wavenet.config import ModelConfig
    from wavenet.generate import RenderOptions

    if speaker is not None:
        config = read_config(model)
        others["speaker"] = parse_speaker(speaker, config.speakers if isinstance(config, ModelConfig) else ())
    if mute is not None:
        others["mute"] = parse_layers(mute)
    return RenderOptions(**{name: value for name, value in others.items() if value is not None})  # type: ignore[typeddict-item]
