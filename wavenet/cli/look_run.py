"""wavenet look run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.console import print_result
from wavenet.cli.options import PICTURE
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.plots.runs import Run

MOST_RUNS = 12  # in one picture


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@PICTURE
def run(runs: tuple[Path, ...], output: str) -> None:
    """Draw the curves of runs: held-out and training losses against minutes and steps, with the reference levels.

    RUN is a run directory, or the log.jsonl of one. The best validation of each is printed.

    \b
    wavenet look run runs/speech runs/other -o runs.png
    """
    from wavenet.plots import canvas
    from wavenet.plots.runs import runs_figure

    if len(runs) > MOST_RUNS:
        raise click.UsageError(f"{len(runs)} runs: at most {MOST_RUNS} fit into one picture")
    canvas.check_picture(output)
    found = [_read(path) for path in runs]
    for item in found:
        print_result(f"{printable(item.name)}: {item.text}")
    canvas.save(output, runs_figure(found))


def _read(path: Path) -> Run:
    """A run by its folder or its log. Raises `UsageError` where there is none, or nothing in it."""
    from wavenet.plots.runs import Run
    from wavenet.training.run_directory import RunDirectory, read_log

    log = RunDirectory(path).log if path.is_dir() else path
    if not log.exists():
        what = "no log.jsonl in this folder" if path.is_dir() else "no such run"
        raise click.UsageError(f"{printable(path)}: {what}; RUN is a run directory of wavenet train")
    named = log.absolute().parent.name if log.name == "log.jsonl" else log.stem
    item = Run(named, read_log(log))
    if not item.losses:
        raise click.UsageError(f"{printable(path)}: no losses in this log yet")
    return item
