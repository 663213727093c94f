"""wavenet look scales and wavenet look influence: what a model hears on a clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.console import ProgressLine, print_message, print_result
from wavenet.cli.options import parse_speaker
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.evaluation.probe import Probe

LONGEST_CLIP = 60.0  # seconds of a clip that are read
OUTPUT = click.option("-o", "--output", metavar="PICTURE", help="Also draw it: a .png or .svg file.")
SPEAKER = click.option("--speaker", help="A speaker of the model, or a mixture such as ann=0.3,bob=0.7.")
MODEL = click.argument("model", type=click.Path(path_type=Path))
CLIP = click.argument("clip", type=click.Path(path_type=Path))


@click.command()
@MODEL
@CLIP
@OUTPUT
@click.option(
    "--audio", "folder", type=click.Path(path_type=Path), help="Also write audio of MODEL with scales muted here."
)
@SPEAKER
@click.option(
    "--seconds",
    type=click.FloatRange(0, 60, min_open=True),
    default=3.0,
    show_default=True,
    help="Of the clip, and of each audio.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the audio.")
def scales(
    model: Path, clip: Path, output: str | None, folder: Path | None, speaker: str | None, seconds: float, seed: int
) -> None:
    """What each dilation of MODEL responds to on CLIP: strength and spectrum of its gated output, and what it is worth.

    Each sample is predicted from the true ones before it. Each layer, each dilation in all cycles, and each cycle is
    muted in turn: "bits lost" is the increase in bits per sample. "median Hz" halves the power of the gated output z
    around its mean. The last lines say what the figures show. With --audio, nothing, each dilation and each cycle are
    muted while audio is generated from the same random numbers.

    \b
    wavenet look scales runs/speech clip.wav -o scales.png
    wavenet look scales runs/speech clip.wav --audio muted
    """
    from wavenet.evaluation.scales import measure

    _check_picture(output)
    if folder is not None:
        _check_folder(folder)
    probe = _probe(model, clip, seconds, speaker)
    progress = ProgressLine("predicting the clip", "times")
    try:
        found = measure(probe, progress)
    finally:
        progress.clear()
    for line in found.table():
        print_result(line)
    if output is not None:
        from wavenet.plots import canvas
        from wavenet.plots.scales import scales_figure

        canvas.save(output, scales_figure(found))
    if folder is not None:
        _write_audio(probe, folder, seconds, seed, speaker)


@click.command()
@MODEL
@CLIP
@OUTPUT
@SPEAKER
@click.option(
    "--positions",
    type=click.IntRange(1, 100_000),
    default=64,
    show_default=True,
    help="Of the clip that are averaged over.",
)
def influence(model: Path, clip: Path, output: str | None, speaker: str | None, positions: int) -> None:
    """How far back MODEL really listens on CLIP, beside its receptive field.

    The gradient of the log-probability of a sample with respect to each sample before it, RMS over many positions of
    the first minute of the clip. A share of the influence is that share of the sum of its squares: of the variance that
    small independent changes of the past cause.

    \b
    wavenet look influence runs/speech clip.wav -o influence.png
    """
    from wavenet.evaluation.influence import measure

    _check_picture(output)
    probe = _probe(model, clip, LONGEST_CLIP, speaker)
    progress = ProgressLine("computing gradients", "positions")
    try:
        found = measure(probe, positions, progress)
    finally:
        progress.clear()
    for line in found.table():
        print_result(line)
    if output is not None:
        from wavenet.plots import canvas
        from wavenet.plots.influence import influence_figure

        canvas.save(output, influence_figure(found))


def _check_picture(output: str | None) -> None:
    if output is not None:
        from wavenet.plots import canvas

        canvas.check_picture(output)


def _check_folder(folder: Path) -> None:
    """Make the folder for audio. Raises the `OSError` of a path that cannot be one, or cannot be written."""
    from wavenet.data import files

    if folder.exists() and not folder.is_dir():
        raise click.UsageError(f"{printable(folder)}: is a file; give a folder for the audio")
    folder.mkdir(exist_ok=True)
    files.check_writable(folder / "nothing-muted.wav")


def _probe(model: Path, clip: Path, seconds: float, speaker: str | None) -> Probe:
    from wavenet.checkpoint import load_model
    from wavenet.evaluation.probe import read_probe

    network = load_model(model)
    return read_probe(network, clip, seconds, parse_speaker(speaker, network.config.speakers))


def _write_audio(probe: Probe, folder: Path, seconds: float, seed: int, speaker: str | None) -> None:
    """Generate with scales muted, into one file each."""
    from wavenet.data import audio
    from wavenet.evaluation.scales import muted_audio, mutes_of
    from wavenet.generate import Generator

    config = probe.model.config
    features = None if probe.conditioning is None else probe.conditioning.features
    progress = ProgressLine("generating", "files")
    names = mutes_of(config.cycles, config.layers_per_cycle)
    pieces = muted_audio(
        Generator.from_model(probe.model),
        min(seconds, len(probe.codes) / config.sample_rate) if features is not None else seconds,
        seed,
        parse_speaker(speaker, config.speakers),
        None if features is None else features[0],
    )
    for index, (name, samples) in enumerate(pieces):
        audio.write(folder / f"{name}.wav", samples, config.sample_rate)
        progress(index + 1, len(names))
    progress.clear()
    print_message(f"{folder}: {len(names)} files of audio")
