"""wavenet page."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("models", metavar="MODEL...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), required=True, help="Folder of the page.")
@click.option("--clip", type=click.Path(path_type=Path), help="Recording that vocoders resynthesise at first.")
def command(models: tuple[Path, ...], folder: Path, clip: Path | None) -> None:
    """Write a web page that plays each MODEL in the browser: a model file, or a run directory (its best model).

    The page is a folder of plain files for any web server: it needs no special headers, and loads nothing from
    elsewhere. A folder with an older page is replaced; one with other things is refused.

    \b
    wavenet page runs/speech -o page
    wavenet page runs/speech runs/vocoder -o page --clip recording.wav
    python -m http.server -d page
    """
    from wavenet.web import site

    site.build(models, folder, clip)
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    click.echo(f"{folder}: {megabytes:.1f} MB; to see it here: python -m http.server -d {folder}")
