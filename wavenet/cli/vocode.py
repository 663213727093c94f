"""wavenet vocode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.audio_output import check_lengths, output_paths, write_audio
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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wavenet.config import MelConfig
    from wavenet.generate import Session
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
    """Generate audio from a mel spectrogram: that of the recording IN, or one in a .npy file.

    MODEL must be trained with features, as with --recipe vocoder. Only the spectrogram of IN is used, not its samples.
    Without -o and --play the audio is written to vocoded.wav. Ctrl-C keeps the audio generated so far.

    Sampling options that are not given are those stored in the model, which `wavenet info MODEL` prints. A given
    --temperature keeps the stored --voiced-temperature; the same value for both is one temperature for all frames.

    \b
    wavenet vocode runs/vocoder in.wav -o out.wav
    wavenet vocode runs/vocoder in.mp3 --play
    wavenet vocode runs/vocoder --mel features.npy -o out.wav
    """
    from wavenet.generate import Generator, total_of
    from wavenet.refined_session import refined

    if (recording is None) == (mel is None):
        raise click.UsageError("give either a recording IN, or --mel FILE.npy")
    if save_mel is not None and recording is None:
        raise click.UsageError("--save-mel writes the features of a recording: give one")
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
