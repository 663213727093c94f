"""wavenet generate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from wavenet.cli.audio_output import check_lengths, output_paths, write_audio
from wavenet.cli.batch_output import (
    FORMAT,
    STREAMS,
    batch_options,
    is_folder,
    refuse_without_folder,
    render_options,
    write_folder,
)
from wavenet.cli.options import OF_THE_MODEL, OUTPUT, REFINE, parse_layers, parse_speaker, sampling_options
from wavenet.engine.sampling import MAX_STREAMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wavenet.batch.folder import BatchOptions
    from wavenet.config import ModelConfig
    from wavenet.controls import Control
    from wavenet.generate import RenderOptions
    from wavenet.refined_session import RefinedSession
    from wavenet.session import Session

DEFAULT_OUTPUT = "generated.wav"
RIPPLE = 1.1  # largest peak that resampling can give a recording within [-1, 1]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@OUTPUT
@click.option("--seconds", type=float, default=5.0, show_default=True, help="Length of the audio.")
@click.option(
    "--count", type=click.IntRange(1, MAX_STREAMS), default=1, show_default=True, help="Streams generated together."
)
@click.option("--top-k", type=int, help=f"Draw from the K most probable codes only; 256: from all.{OF_THE_MODEL}")
@click.option("--prime", type=click.Path(path_type=Path), help="Recording that the audio continues.")
@click.option("--pitch", help="Pitch of voiced frames: Hz, or a FILE with a curve.")
@click.option("--loudness", help="Loudness: dBFS, or a FILE with a curve.")
@REFINE
@STREAMS
@FORMAT
@click.option(
    "--settings", type=click.Path(path_type=Path), help="Generate a take of a page again: the FILE that it saved."
)
@sampling_options
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    output: str | None,
    seconds: float,
    count: int,
    top_k: int | None,
    prime: Path | None,
    pitch: str | None,
    loudness: str | None,
    refine: int | None,
    streams: int | None,
    extension: str | None,
    settings: Path | None,
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
    """Generate audio with MODEL: a model file, or a run directory (its best model).

    Without -o and --play the audio is written to generated.wav. Several streams (--count) are written to new-0.wav,
    new-1.wav, ...; stream i is the same as with --seed SEED+i. Ctrl-C keeps the audio generated so far. For a model
    that is conditioned on given spectrograms use: wavenet vocode

    With --count and a folder (-o OUT/), the streams are written to OUT/seed-0.wav, ..., several side by side. Files
    that are complete are not made again by another call; OUT/manifest.jsonl says how each was made. torchrun divides
    the work between processes.

    A model of two tiers draws its own spectrogram: --temperature is then that of the spectrogram, and the audio is
    refined as the model recommends. With --refine 0 it costs less. A FILE of --pitch or --loudness is a .csv of rows
    of a time in seconds and a value, a .npy with a value for each frame, or a recording whose curve is followed; where
    it has no value, the model chooses. Values are limited to those of the training data.

    Sampling options that are not given are those stored in the model, which `wavenet info MODEL` prints.

    \b
    wavenet generate runs/speech -o new.wav --seconds 5
    wavenet generate runs/speech -o new.wav --prime clip.wav --temperature 0.9
    wavenet generate runs/two -o new.wav --speaker ann
    wavenet generate runs/speech --play --seconds 60
    wavenet generate runs/speech -o new.wav --mute 8,9
    wavenet generate runs/voice -o new.wav --pitch 220 --loudness melody.wav
    wavenet generate runs/speech -o - | aplay -f S16_LE -r 16000
    wavenet generate runs/speech -o new.wav --settings speech-seed-0.json
    wavenet generate runs/speech -o clips/ --count 1000
    torchrun --nproc-per-node 8 -m wavenet generate runs/speech -o clips/ --count 1000
    """
    from wavenet.generate import Generator
    from wavenet.refined_session import primed_audio, refined

    if settings is not None:
        _replay(context, model, settings, output, play)
        return
    if is_folder(output) and context.get_parameter_source("count") is ParameterSource.COMMANDLINE:
        if play:
            raise click.UsageError("--play: plays one stream; leave it out, or give a file with -o")
        _generate_folder(
            Path(str(output)),
            seconds,
            count,
            model,
            batch_options(engine, precision, threads, streams, extension),
            (prime, pitch, loudness),
            render_options(
                model,
                speaker,
                mute,
                seed=seed,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                refine=refine,
            ),
        )
        return
    refuse_without_folder(streams, extension)
    if play and count > 1:
        raise click.UsageError("only one stream can be played: leave out --count, or --play")
    if output is None and not play:
        output = DEFAULT_OUTPUT
    paths = output_paths(output, count)
    generator = Generator.load(model, engine, precision, threads)
    if play or output == "-":
        generator = generator.live()
    samples = generator.samples(seconds)
    check_lengths(paths, samples, generator.sample_rate)
    iterations = generator.options(refine=refine).refine
    start = None if prime is None else _read(prime, generator.sample_rate)
    session = generator.session(
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        count=count,
        prime=start,
        speaker=parse_speaker(speaker, generator.config.speakers),
        mute=parse_layers(mute),
        pitch=_control("pitch", pitch, generator.config),
        loudness=_control("loudness", loudness, generator.config),
    )
    source: Session | RefinedSession = session
    mel = generator.config.features
    if iterations and mel is not None:
        live = play or output == "-"
        source = refined(session, mel, iterations, samples, live, primed_audio(session, start))
    write_audio(generator, source, samples, output, play, count, model)


def _replay(context: click.Context, model: Path, settings: Path, output: str | None, play: bool) -> None:
    """Generate what settings describe; no other options may be given."""
    from wavenet.checkpoint import model_file
    from wavenet.replay import Replay, read_settings

    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if given and parameter.name not in ("model", "output", "play", "settings"):
            raise click.UsageError(f"{parameter.opts[0]} is one of the settings: leave it out, or --settings")
    if output is None and not play:
        output = DEFAULT_OUTPUT
    paths = output_paths(output, 1)
    replay = Replay(model_file(model).read_bytes(), read_settings(settings))
    check_lengths(paths, replay.samples, replay.sample_rate)
    write_audio(replay, replay, replay.samples, output, play, model=model)


def _generate_folder(
    output: Path,
    seconds: float,
    count: int,
    model: Path,
    batch: BatchOptions,
    inputs: tuple[Path | None, str | None, str | None],
    options: RenderOptions,
) -> None:
    """Write streams to a folder. inputs: the arguments of --prime, --pitch and --loudness."""
    from wavenet.batch.folder import generate_folder
    from wavenet.checkpoint import read_config
    from wavenet.config import ModelConfig

    config = read_config(model)
    prime, pitch, loudness = inputs
    if isinstance(config, ModelConfig):  # others are refused with the message of the generator
        read = {
            "prime": None if prime is None else _read(prime, config.sample_rate),
            "pitch": _control("pitch", pitch, config),
            "loudness": _control("loudness", loudness, config),
        }
        options.update({name: value for name, value in read.items() if value is not None})  # type: ignore[typeddict-item]
    write_folder(lambda *watch: generate_folder(model, output, seconds, count, options, batch, *watch[:2]))


def _control(name: str, text: str | None, config: ModelConfig) -> Control | None:
    """The argument of --pitch or --loudness: a number, or the curve in a file."""
    from wavenet import controls

    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        mel = config.features
        if mel is None or config.frame_model is None:
            raise click.UsageError(f"--{name}: this model has no frame model, which it controls") from None
        return controls.read(text, name, mel)


def _read(prime: Path, sample_rate: int) -> NDArray[np.float32]:
    from wavenet.data import audio  # loads libsndfile, which standard output does not need

    samples = audio.read(prime, sample_rate, clip=False)  # the session warns of values beyond [-1, 1]
    return samples.clip(-1, 1) if abs(samples).max() < RIPPLE else samples
