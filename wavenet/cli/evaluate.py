"""wavenet evaluate."""

from __future__ import annotations

from pathlib import Path

import click

from wavenet.cli.console import Bar, say


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--precision", type=click.Choice(["f32", "int8"]), help="Let the native engine predict, in this precision."
)
def command(model: Path, folder: Path, precision: str | None) -> None:
    """Bits per sample of MODEL on a FOLDER of recordings that it has not seen.

    Lower is better; 8 is guessing. Beside it stand two reference levels of the same recordings: the entropy of a
    histogram of codes, and that of a table of code pairs.

    \b
    wavenet evaluate runs/speech recordings/test
    wavenet evaluate runs/speech recordings/test --precision int8
    """
    from wavenet.checkpoint import load_model
    from wavenet.evaluate import evaluate

    network = load_model(model)
    bar = Bar("listening", "samples")
    result = evaluate(network, folder, Bar("reading", "files"), bar, precision)
    bar.clear()
    for line in result.summary.lines():
        say(line)
    click.echo(f"model                {result.bits:.4f} bits per sample")
    click.echo(f"histogram of codes   {result.references.histogram:.4f}")
    click.echo(f"table of code pairs  {result.references.pairs:.4f}")
