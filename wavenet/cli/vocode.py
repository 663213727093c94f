"""wavenet vocode."""

from __future__ import annotations

from pathlib import Path

import click

from wavenet.cli.audio_output import OUTPUT, VOICED_TEMPERATURE, outputs_of, perform, sampling_options, speaker_of
from wavenet.cli.console import say

DEFAULT_OUTPUT = "vocoded.wav"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("recording", metavar="[IN]", type=click.Path(path_type=Path), required=False)
@OUTPUT
@click.option("--mel", type=click.Path(path_type=Path), help="Features [bands, frames] in a .npy file, instead of IN.")
@click.option("--save-mel", type=click.Path(path_type=Path), help="Write the features of IN to a .npy file, too.")
@VOICED_TEMPERATURE
@sampling_options
def command(
    model: Path,
    recording: Path | None,
    output: str | None,
    mel: Path | None,
    save_mel: Path | None,
    voiced_temperature: float | None,
    play: bool,
    seed: int,
    temperature: float,
    top_p: float | None,
    speaker: str | None,
    engine: str,
    precision: str,
    threads: int | None,
) -> None:
    """Sound from a mel spectrogram: that of the recording IN, in any format and at any rate, or of a .npy file.

    MODEL is one that was trained with features, such as by the recipe vocoder. Nothing else of IN than its spectrogram
    is used. Without -o and --play the sound goes to vocoded.wav.

    \b
    wavenet vocode runs/vocoder in.wav -o out.wav
    wavenet vocode runs/vocoder in.mp3 --play
    wavenet vocode runs/vocoder --mel features.npy -o out.wav
    """
    from wavenet.data import feature_file
    from wavenet.generate import Generator, total_of

    if (recording is None) == (mel is None):
        raise click.UsageError("give one of them: a recording IN, or --mel FILE.npy")
    if save_mel is not None and recording is None:
        raise click.UsageError("--save-mel writes the features of a recording: name one")
    if output is None and not play:
        output = DEFAULT_OUTPUT
    outputs_of(output, 1)
    generator = Generator.load(model, engine, precision, threads)
    config = generator.config.features
    if config is None:
        raise click.UsageError(f"{model} is driven by no spectrogram: make sound with wavenet generate")
    samples = None
    if mel is not None:
        features = feature_file.read(mel, config)
    else:
        from wavenet.data import audio
        from wavenet.features import mel_spectrogram

        assert recording is not None
        sound = audio.read(recording, generator.sample_rate)
        features, samples = mel_spectrogram(sound, config), len(sound)
        if save_mel is not None:
            feature_file.write(save_mel, features, config)
            say(f"{save_mel}: {features.shape[0]} bands x {features.shape[1]:,} frames")
    session = generator.session(
        seed=seed,
        temperature=temperature,
        voiced_temperature=voiced_temperature,
        top_p=top_p,
        count=1,
        speaker=speaker_of(speaker, generator.config.speakers),
        features=features,
    )
    perform(generator, session, total_of(session, samples) or 0, output, play, 1)
