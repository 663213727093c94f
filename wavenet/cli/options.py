"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from wavenet.data.errors import printable
from wavenet.data.storage import is_address

LONGEST_SIZE = 40  # characters of a size in a message
MAX_LAYERS = 10_000  # of --mute; more than a model has
OF_THE_MODEL = "  [default: the model's]"  # which `wavenet info` shows
OUTPUT = click.option("-o", "--output", help="A .wav, .flac or .ogg file, or - for raw 16-bit samples.")
PICTURE = click.option("-o", "--output", metavar="PICTURE", required=True, help="A .png or .svg file.")
TOP_P = click.option(
    "--top-p",
    type=float,
    help=f"Draw from the most probable values with this total probability only; 1: from all.{OF_THE_MODEL}",
)
TEMPERATURE = click.option(
    "--temperature",
    type=float,
    help=f"Below 1: more probable values are drawn more often; above 1: less often.{OF_THE_MODEL}",
)
VOICED_TEMPERATURE = click.option(
    "--voiced-temperature",
    type=float,
    help="Temperature in voiced frames.  [default: the model's, or --temperature if it has none]",
)
REFINE = click.option(
    "--refine",
    type=int,
    help=f"Iterations that adapt the audio to its spectrogram; 0: none.{OF_THE_MODEL}",
)
PARTICLES = click.option(
    "--particles",
    type=int,
    help=f"Continuations of which every frame is chosen, corrected towards the spectrogram; 1: corrected only; 0: "
    f"none.{OF_THE_MODEL}",
)
SAMPLING = (
    click.option("--play", is_flag=True, help="Play the audio while it is generated."),
    click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same audio."),
    TEMPERATURE,
    TOP_P,
    click.option("--speaker", help="A speaker of the model, or a mixture such as ann=0.3,bob=0.7."),
    click.option("--mute", metavar="LAYERS", help="Layers to leave out, from 0, such as 3,4 or 10-19."),
    click.option("--engine", default="auto", show_default=True, help="auto, native, torch or naive."),
    click.option(
        "--precision",
        default="auto",
        show_default=True,
        help="auto, f32 or int8; auto: f32, or int8 where that is needed to play.",
    ),
    click.option("--threads", type=click.IntRange(1), help="CPU threads."),
)


def size_in_bytes(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """The bytes of an option such as 8G, 500MB or 7.5GiB. K, M, G, T: powers of 1,000; KiB, ...: of 1,024.

    None for an option that is not given. Raises `UsageError`.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT])(IB|B)?\s*", text.upper())
    if found is None or not float(found[1]):
        shown = printable(text, LONGEST_SIZE)
        raise click.UsageError(
            f"{parameter.opts[0]} {shown}: expected a number with a unit, such as 8G, 500M or 7.5GiB"
        )
    return int(float(found[1]) * (1024 if found[3] == "IB" else 1000) ** " KMGT".index(found[2]))


def name_of_folder(folder: str) -> str:
    """The last part of a path or address; of the current folder its own name."""
    last = folder.rstrip("/").rpartition("/")[2] if is_address(folder) else Path(folder).resolve().name
    return last or "all"


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that generates audio."""
    for option in reversed(SAMPLING):
        command = option(command)
    return command


def parse_speaker(text: str | None, names: Sequence[str]) -> str | dict[str, float] | None:
    """Parse --speaker: one of the model's `names`, or shares of several, such as ann=0.3,bob=0.7."""
    if text is None or text in names or "=" not in text:
        return text
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.rpartition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise click.UsageError(f"--speaker {text}: expected a name, or shares such as ann=0.3,bob=0.7") from None
    return shares


def parse_layers(text: str | None) -> tuple[int, ...]:
    """Parse --mute: indices and ranges, such as 3,10-19."""
    layers: list[int] = []
    for part in [] if text is None else text.split(","):
        first, dash, last = part.partition("-")
        try:
            begin, end = int(first), int(last if dash else first)
        except ValueError:
            raise click.UsageError(f"--mute {text}: expected layers, such as 3,4 or 10-19") from None
        if end - begin not in range(MAX_LAYERS):
            raise click.UsageError(f"--mute {text}: {part} is not a range of layers from low to high")
        layers.extend(range(begin, end + 1))
    return tuple(layers)


SMOOTHING = click.option(
    "--smoothing", type=float, default=0.0, help="Labellers: seconds over which probabilities are averaged."
)
MIN_DURATION = click.option(
    "--min-duration",
    type=float,
    default=0.0,
    help="Labellers: seconds; shorter segments and gaps become part of the segment before them.",
)
