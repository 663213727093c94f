"""wavenet data: datasets that are too large for one disk."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from wavenet.cli.console import ProgressLine, print_message
from wavenet.cli.options import size_in_bytes
from wavenet.config import DataConfig, ModelConfig
from wavenet.data.errors import printable


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Prepare datasets that are too large for one disk, or for decoding on every machine.

    \b
    wavenet data pack recordings -o shards
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("pack")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="SHARDS", required=True, help="A new folder, or an address such as s3://bucket/shards."
)
@click.option(
    "--sample-rate",
    type=click.IntRange(1),
    default=ModelConfig().sample_rate,
    show_default=True,
    help="That of the models to train, in Hz.",
)
@click.option(
    "--shard-size", callback=size_in_bytes, default="1GB", show_default=True, help="Size of a new shard, about."
)
@click.option(
    "--trim-db",
    type=click.FloatRange(0),
    default=DataConfig().trim_db,
    show_default=True,
    help="Remove silence at the ends that is so far below the peak, as data.trim_db of a recipe; 0: none.",
)
@click.option(
    "--speakers", metavar="folders|FILE.csv", help="Store the speaker of each: by sub-folder, or by lines path,speaker."
)
def pack(folder: Path, output: str, sample_rate: int, shard_size: int, trim_db: float, speakers: str | None) -> None:
    """Decode a FOLDER of recordings, and write it as shards that are trained on directly.

    Shards are WebDataset tar files of 16-bit audio at one sample rate. The same command continues after an
    interruption, and adds recordings that are new. Files that cannot be used are listed in SHARDS/skipped.csv.
    Needs: pip install 'wavenet-toolkit[shards]', and for addresses what fsspec names, such as s3fs.

    \b
    wavenet data pack recordings -o shards
    wavenet data pack recordings -o s3://bucket/shards --sample-rate 22050 --shard-size 500MB
    wavenet train s3://bucket/shards --out runs/mine
    """
    from wavenet.data.packing import pack as pack_folder
    from wavenet.data.shards import SKIPPED, Settings
    from wavenet.data.summary import LISTED_SKIPS, count, duration

    progress = ProgressLine("packing", "files")
    try:
        packed = pack_folder(folder, output, Settings(sample_rate, trim_db, speakers or ""), shard_size, progress)
    except KeyboardInterrupt:
        progress.clear()
        print_message("stopped; the same command continues after the last complete shard")
        raise
    finally:
        progress.clear()
    kept = f"{count(packed.recordings)} of {count(packed.found, 'recording')} in {printable(folder)}"
    print_message(f"packed {kept}: {duration(packed.seconds)} at {sample_rate:,} Hz")
    there = f", {count(packed.kept_shards)} of them from before" if packed.kept_shards else ""
    print_message(f"{printable(output)}: {count(packed.shards, 'shard')}, {packed.size / 1e6:,.1f} MB{there}")
    for path, reason in packed.skipped[:LISTED_SKIPS]:
        print_message(f"skipped {printable(path)}: {reason}")
    if (more := len(packed.skipped) - LISTED_SKIPS) > 0:
        print_message(f"... and {count(more)} more, listed in {printable(output)}/{SKIPPED}")
    print_message(f"train on it: wavenet train {shlex.quote(output)}")
