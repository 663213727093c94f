"""Held-out figures: how well a model predicts recordings that it has not seen, and how close its copies of them are."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from wavenet.config import ConfigError, DataConfig, MelConfig
from wavenet.data import dataset, files
from wavenet.data.dataset import Progress, Recordings
from wavenet.data.pcm import FULL_SCALE
from wavenet.engine import Engine, create
from wavenet.engine.conditioning import Speaker
from wavenet.evaluation import likelihood
from wavenet.evaluation.likelihood import ReferenceLevels
from wavenet.evaluation.metrics import Comparison, compare
from wavenet.generate import Generator, SessionOptions
from wavenet.model import WaveNet

COPIES = ("model", "griffin-lim", "recording")  # what is compared with a recording: its copy, the floor, the ceiling
LEAST_SECONDS = 1.5  # shorter recordings are not copied: they hold too little for the figures
GRIFFIN_LIM_ROUNDS = 60


@dataclass(frozen=True)
class Evaluation:
    """Bits per sample of a model on a folder, beside what the same data costs without a network."""

    bits: float
    references: ReferenceLevels  # tables counted on the same recordings
    recordings: Recordings

    @property
    def summary(self) -> dataset.Summary:
        """What became of the folder's files."""
        return self.recordings.summary


@dataclass(frozen=True)
class Copy:
    """One recording and one of its copies."""

    file: str  # path below the folder
    seconds: float
    maker: str  # of `COPIES`
    comparison: Comparison
    sound: NDArray[np.float32]  # [samples]


def evaluate(
    model: WaveNet,
    folder: str | os.PathLike[str],
    reading: Progress | None = None,
    listening: Progress | None = None,
    precision: str | None = None,
    speakers: str = "",
    speaker: Speaker | None = None,
) -> Evaluation:
    """Bits per sample over every recording of a folder, each predicted from its own start (teacher forcing).

    reading, listening: called with what is done and what is in all, in files and then in samples.
    precision: "f32" or "int8" lets the native engine predict, as it does when it makes sound; None: PyTorch.
    speakers: who speaks, for a model that tells speakers apart: "folders", or a file of lines path,speaker.
    speaker: instead, the one that the model is told in every recording, whoever speaks.
    Raises `DatasetError` when nothing can be read, `EngineUnavailable` where the native engine is not installed,
    `ConfigError` where nobody says who speaks.
    """
    if model.config.speakers and not speakers and speaker is None:
        raise ConfigError(
            f"this model knows the speakers {', '.join(model.config.speakers)}: say who speaks, by folders or by name"
        )
    predictor: WaveNet | Engine[Any] = model
    if precision is not None:
        predictor = create("native", model.config, model.state_dict(), precision, threads=1)
    told = DataConfig(validation=0.0, speakers=speakers)
    recordings = dataset.open_folder(folder, model.config.sample_rate, told, reading)
    bits = likelihood.bits_per_sample(predictor, recordings.train, progress=listening, speaker=speaker)
    references = likelihood.reference_levels(recordings.train, output=model.config.output)
    return Evaluation(bits, references, recordings)


def copies(
    generator: Generator,
    recordings: Recordings,
    count: int,
    options: SessionOptions | None = None,
    progress: Progress | None = None,
) -> Iterator[Copy]:
    """Copy-synthesis of the first `count` recordings of at least 1.5 s: from their features back to sound.

    Beside the model's copy stand that of Griffin and Lim's algorithm from the same features, and the recording itself.
    options: of the model's copy, see `Generator.session`; a speaker there takes the place of the one who speaks.
    progress: called with the recordings done, and those in all. Raises `MetricUnavailable` where the packages for the
    figures are missing, `ConfigError` for a model that is not driven by features.
    """
    config, clips = generator.config, recordings.train
    if config.features is None:
        raise ConfigError("features: this model is driven by none, so it copies nothing")
    speaker = None if options is None else options.get("speaker")
    chosen = np.flatnonzero(clips.lengths >= LEAST_SECONDS * config.sample_rate)[:count]
    for done, clip in enumerate(chosen):
        original = (clips.clip(int(clip)) / FULL_SCALE).astype(np.float32)
        told = likelihood.clip_conditioning(config, clips, int(clip), speaker)
        features = cast(NDArray[np.float32], told.features if told else None)[0]  # [bands, frames]
        named = speaker or likelihood.speaker_of_clip(config, clips, int(clip))
        own: SessionOptions = {**(options or {}), "features": features, "speaker": named}
        made = generator.render(**own)
        floor = griffin_lim(features, config.features, len(original))
        sounds: list[NDArray[np.float32]] = [made[: len(original)], floor, original]
        for maker, sound in zip(COPIES, sounds, strict=True):
            figures = compare(original, sound, config.sample_rate)
            yield Copy(clips.names[clip], len(original) / config.sample_rate, maker, figures, sound)
        if progress:
            progress(done + 1, len(chosen))


def griffin_lim(features: NDArray[np.float32], mel: MelConfig, samples: int) -> NDArray[np.float32]:
    """Sound [samples] from log-mel features [bands, frames] without a model.

    Magnitudes by non-negative least squares, phases by Griffin and Lim's algorithm (1984; Perraudin et al. 2013).
    """
    import librosa

    magnitude = librosa.feature.inverse.mel_to_stft(
        np.exp(features),
        sr=mel.sample_rate,
        n_fft=mel.fft,
        power=mel.power,
        fmin=mel.low,
        fmax=mel.high,
        htk=mel.scale == "htk",
        norm="slaney" if mel.area else None,
    )
    sound = librosa.griffinlim(
        magnitude,
        n_iter=GRIFFIN_LIM_ROUNDS,
        n_fft=mel.fft,
        hop_length=mel.hop,
        win_length=mel.window,
        random_state=0,
    )
    shifted = np.pad(sound, (mel.hop // 2, mel.hop))  # librosa's frames are centred on multiples of the hop
    return np.pad(shifted, (0, max(0, samples - len(shifted))))[:samples].astype(np.float32)


def write_csv(path: str | os.PathLike[str], rows: Iterable[Copy]) -> None:
    """One line for each copy: file, seconds, maker, and every figure. Raises `OSError` where it cannot be written."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["file", "seconds", "maker", *(field.name for field in dataclasses.fields(Comparison))])
    for row in rows:
        figures = dataclasses.astuple(row.comparison)
        lines.writerow([row.file, f"{row.seconds:.3f}", row.maker, *(f"{figure:.4f}" for figure in figures)])
    files.replace(Path(path), text.getvalue().encode())
