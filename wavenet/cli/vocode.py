"""wavenet vocode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.audio_output import check_lengths, output_paths, write_audio
from wavenet.cli.batch_output import FORMAT, STREAMS, batch_options, refuse_without_folder, render_options, write_folder
from wavenet.cli.console import print_message
from wavenet.cli.options import (
    OUTPUT,
    PARTICLES,
    REFINE,
    VOICED_TEMPERATURE,
    parse_layers,
    parse_speaker,
    sampling_options,
)
from wavenet.data.errors import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wavenet.batch.folder import BatchOptions
    from wavenet.config import MelConfig
    from wavenet.generate import RenderOptions, Session
    from wavenet.refined_session import RefinedSession

DEFAULT_OUTPUT = "vocoded.wav"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("recording", metavar="[IN]", type=click.Path(path_type=Path), required=False)
@OUTPUT
@click.option("--mel", type=click.Path(path_type=Path), help="Features [bands, frames] in a .npy file, instead of IN.")
@click.option("--save-mel", type=click.Path(path_type=Path), help="Also write the features of IN to a .npy file.")
@VOICED_TEMPERATURE
@REFINE
@PARTICLES
@STREAMS
@FORMAT
@sampling_options
def command(
    model: Path,
    recording: Path | None,
    output: str | None,
    mel: Path | None,
    save_mel: Path | None,
    voiced_temperature: float | None,
    refine: int | None,
    particles: int | None,
    streams: int | None,
    extension: str | None,
    play: bool,
    seed: int,
    temperature: float | None,
    top_p: float | None,
    speaker: str | None,
    mute: str | None,
    engine: str,
    precision: str,
    threads: int | None,
) -> None:
    """Generate audio from a mel spectrogram: that of the recording IN, or one in a .npy file; or those of a folder IN.

    MODEL must be trained with features, as with --recipe vocoder. Only the spectrogram of IN is used, not its samples.
    Without -o and --play the audio is written to vocoded.wav. Ctrl-C keeps the audio generated so far.

    If IN is a folder, -o is another one: every recording is copied to it, several side by side, with the same audio as
    by itself. Files that are complete are not made again by another call; OUT/manifest.jsonl says how each was made.
    torchrun divides the work between processes.

    Sampling options that are not given are those stored in the model, which `wavenet info MODEL` prints. A given
    --temperature keeps the stored --voiced-temperature; the same value for both is one temperature for all frames.

    \b
    wavenet vocode runs/vocoder in.wav -o out.wav
    wavenet vocode runs/vocoder in.mp3 --play
    wavenet vocode runs/vocoder --mel features.npy -o out.wav
    wavenet vocode runs/vocoder recordings -o copies
    torchrun --nproc-per-node 8 -m wavenet vocode runs/vocoder recordings -o copies
    """
    from wavenet.generate import Generator, total_of
    from wavenet.refined_session import refined

    if (recording is None) == (mel is None):
        raise click.UsageError("give either a recording IN, or --mel FILE.npy")
    if save_mel is not None and recording is None:
        raise click.UsageError("--save-mel writes the features of a recording: give one")
    if recording is not None and recording.is_dir():
        _vocode_folder(
            model,
            recording,
            output,
            render_options(
                model,
                speaker,
                mute,
                seed=seed,
                temperature=temperature,
                voiced_temperature=voiced_temperature,
                top_p=top_p,
                refine=refine,
                particles=particles,
            ),
            batch_options(engine, precision, threads, streams, extension),
            {"--play": play, "--save-mel": save_mel is not None},
        )
        return
    refuse_without_folder(streams, extension)
    if output is None and not play:
        output = DEFAULT_OUTPUT
    paths = output_paths(output, 1)
    generator = Generator.load(model, engine, precision, threads)
    if play or output == "-":
        generator = generator.live()
    config = generator.config.features
    if config is None:
        raise click.UsageError(f"{model}: not conditioned on spectrograms; use wavenet generate")
    iterations = generator.options(refine=refine).refine
    features, samples = _features(recording, mel, config, save_mel)
    session = generator.session(
        seed=seed,
        temperature=temperature,
        voiced_temperature=voiced_temperature,
        top_p=top_p,
        count=1,
        speaker=parse_speaker(speaker, generator.config.speakers),
        mute=parse_layers(mute),
        features=features,
        particles=particles,
    )
    total = total_of(session, samples) or 0
    check_lengths(paths, total, generator.sample_rate)
    source: Session | RefinedSession = session
    if iterations:
        source = refined(session, config, iterations, total, live=play or output == "-")
    write_audio(generator, source, total, output, play)


def _vocode_folder(
    model: Path,
    folder: Path,
    output: str | None,
    options: RenderOptions,
    batch: BatchOptions,
    of_one: dict[str, bool],
) -> None:
    """Copy all recordings of a folder. of_one: whether options were given that are those of one recording."""
    from wavenet.batch.folder import vocode_folder

    for name, given in of_one.items():
        if given:
            raise click.UsageError(f"{name}: for one recording, and {printable(folder)} is a folder; leave it out")
    if output is None or output == "-" or Path(output).is_file():
        raise click.UsageError(f"{printable(folder)} is a folder: give another folder with -o OUT for its copies")
    target = Path(output)
    write_folder(lambda *watch: vocode_folder(model, folder, target, options, batch, *watch))


def _features(
    recording: Path | None, mel: Path | None, config: MelConfig, save_mel: Path | None
) -> tuple[NDArray[np.float32], int | None]:
    """The features [bands, N] in the file `mel`, or those of a recording, and the recording's length in samples."""
    from wavenet.data import feature_file

    if recording is None:
        assert mel is not None
        return feature_file.read(mel, config), None
    from wavenet.data import audio
    from wavenet.features import mel_spectrogram

    original = audio.read(recording, config.sample_rate)
    features = mel_spectrogram(original, config)
    if save_mel is not None:
        feature_file.write(save_mel, features, config)
        print_message(f"{save_mel}: {features.shape[0]} bands x {features.shape[1]:,} frames")
    return features, len(original)
