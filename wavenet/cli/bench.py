"""wavenet bench."""

from __future__ import annotations

import click

from wavenet.cli.console import print_message, print_result
from wavenet.cli.models import load_network, parts_text


@click.command()
@click.argument("what", metavar="[MODEL|RECIPE]", required=False)
@click.option(
    "--streams", type=click.IntRange(1, 1024), default=1, show_default=True, help="Streams generated together."
)
def command(what: str | None, streams: int) -> None:
    """Measure the speed of MODEL or RECIPE on this machine, per engine, precision and thread count.

    Without an argument the default network is measured. A recipe's network has random weights. MMAC are millions of
    multiply-adds. The last column is the share of this machine's peak, measured in the same run and precision. For a
    model that draws frames or refines its audio, "in all" is x real time with both.

    \b
    wavenet bench runs/speech
    wavenet bench large --streams 8
    """
    from wavenet.engine import how_to_get_native, native_installed
    from wavenet.evaluation.bench import generation_speeds, other_parts

    model, _ = load_network(what)
    config = model.config
    if not native_installed():
        print_message(f"the native engine is not installed: {how_to_get_native()}")
    parts = other_parts(model)
    more = bool(parts.frames or parts.refinement)
    titles = ("samples/s", "x real time", *["in all"] * more, "us/sample", "MMAC/s", "of peak")
    print_result(f"{'engine':8} {'precision':9} {'threads':>7}" + "".join(f"{title:>12}" for title in titles))
    for row in generation_speeds(model, streams=streams):
        speed = row.samples_per_second
        whole = f"{parts.with_network(row.times_real_time):11.3f} " if more else ""
        share = "" if row.peak_share is None else f"{row.peak_share:11.0%}"
        print_result(
            f"{row.engine:8} {row.precision:9} {row.threads:7} {speed:11,.0f} {row.times_real_time:11.3f} "
            f"{whole}{1e6 / speed:11,.1f} {row.macs_per_second / 1e6:11,.0f} {share}"
        )
    if more:
        print_result(f"in all: with {parts_text(parts, config.sampling.refine)}, on one core")
    print_result(f"{config.macs_per_sample:,} multiply-adds per sample; {config.sample_rate:,} Hz")
