"""wavenet bench."""

from __future__ import annotations

import click

from wavenet.cli.network import network_of


@click.command()
@click.argument("what", metavar="[MODEL|RECIPE]", required=False)
def command(what: str | None) -> None:
    """Samples/s and x real time of MODEL or RECIPE on this machine, per engine, precision and thread count.

    Without either, the network of the default recipe; a recipe is measured with random weights.

    \b
    wavenet bench runs/speech
    wavenet bench large
    """
    from wavenet.bench import generation_speeds

    model, _ = network_of(what)
    config = model.config
    titles = ("samples/s", "x real time", "us/sample", "MMAC/s")
    click.echo(f"{'engine':8} {'precision':9} {'threads':>7}" + "".join(f"{title:>12}" for title in titles))
    for row in generation_speeds(model):
        rate = row.samples_per_second
        click.echo(
            f"{row.engine:8} {row.precision:9} {row.threads:7} {rate:11,.0f} {row.times_real_time:11.3f} "
            f"{1e6 / rate:11,.1f} {row.macs_per_second / 1e6:11,.0f}"
        )
    click.echo(f"{config.macs_per_sample:,} multiply-adds per sample with cached queues; {config.sample_rate:,} Hz")
