"""Evaluation on held-out recordings: bits per sample, and copy-synthesis (audio generated from their features)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from wavenet.batch.workers import Workers
from wavenet.checks import listed
from wavenet.config import ConfigError, DataConfig, MelConfig, ModelConfig
from wavenet.consistency import refine
from wavenet.data import dataset
from wavenet.data.clips import Clips
from wavenet.data.dataset import Progress, Recordings
from wavenet.data.pcm import to_float32
from wavenet.engine import Engine, create
from wavenet.engine.conditioning import Speaker, speaker_shares
from wavenet.evaluation import clip_bits, likelihood
from wavenet.evaluation.clip_bits import Results
from wavenet.evaluation.copy_results import Copy as Copy
from wavenet.evaluation.copy_results import KeptCopies as KeptCopies
from wavenet.evaluation.copy_results import everywhere as everywhere
from wavenet.evaluation.copy_results import write_csv as write_csv
from wavenet.evaluation.likelihood import ReferenceLevels
from wavenet.evaluation.metrics import Comparison, compare
from wavenet.evaluation.signals import Signal
from wavenet.evaluation.words import Recogniser, words_lost
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator, RenderOptions
from wavenet.model import WaveNet

MODEL, UNREFINED, RECORDING = "model", "model unrefined", "recording"
GRIFFIN_LIM, GRIFFIN_LIM_REFINED = "griffin-lim", "griffin-lim refined"
METHODS = (MODEL, UNREFINED, GRIFFIN_LIM, GRIFFIN_LIM_REFINED, RECORDING)  # the last one is the recording itself
LEAST_SECONDS = 1.5  # shorter recordings are not copied: most figures need more audio
MOST_SECONDS = 60.0  # of a recording that are copied: pitch tracking needs 250 MB per minute
GRIFFIN_LIM_ITERATIONS = 60
BASELINE_REFINE = 40  # iterations that refine the copy by Griffin-Lim where the model's copy is not refined


@dataclass(frozen=True)
class Evaluation:
    """Bits per sample of a model on a folder of recordings, and two reference levels of the same recordings."""

    bits: float
    references: ReferenceLevels  # with tables counted on the same recordings
    recordings: Recordings

    @property
    def summary(self) -> dataset.Summary:
        """Which files were used, and which were skipped."""
        return self.recordings.summary


class Original(NamedTuple):
    """A recording to copy."""

    audio: NDArray[np.float32]  # [T]
    features: NDArray[np.float32]  # [bands, ceil(T / hop)]
    speaker: Speaker | None  # None: the model has no speakers


def evaluate(
    model: WaveNet,
    folder: str | os.PathLike[str],
    reading: Progress | None = None,
    predicting: Progress | None = None,
    counting: Progress | None = None,
    precision: str | None = None,
    speakers: str = "",
    speaker: Speaker | None = None,
    results: Results | None = None,
    workers: Workers | None = None,
) -> Evaluation:
    """Bits per sample over every recording of a folder, each from its first sample (teacher forcing).

    reading, predicting, counting: progress callbacks, called with the number done and the total: of files read, of
        samples predicted, and of samples counted for the reference levels.
    precision: "f32" or "int8": predict with the native engine in this precision; None: with PyTorch.
    speakers: the speaker of each recording, for a model with speakers: "folders", or a file of lines path,speaker.
    speaker: one speaker, or a weighted mixture, for all recordings instead.
    results: a file that keeps the bits of every recording, with which an interrupted evaluation is continued.
    workers: the processes that divide the recordings between them; all of them return the same evaluation.
    Raises `DatasetError` for a folder without usable recordings, `EngineUnavailable` if the native engine is not
    installed, `ValueError` for a speaker that is missing or unknown.
    """
    check_speaker(model.config, speakers, speaker)
    processes = workers or Workers()
    predictor: WaveNet | Engine[Any] = model
    if precision is not None:
        threads = 1 if processes.count > 1 else None
        predictor = create("native", model.config, model.state_dict(), precision, threads)
    data = DataConfig(validation=0.0, speakers=speakers)
    recordings = _opened(lambda: dataset.open_folder(folder, model.config.sample_rate, data, reading), processes)
    bits = clip_bits.mean_bits(predictor, recordings.train, speaker, results, processes, predicting)
    references = _references(recordings.train, model.config.output, processes, counting)
    return Evaluation(bits, references, recordings)


def _opened(open_folder: Callable[[], Recordings], workers: Workers) -> Recordings:
    """The recordings, which the first process decodes, and the others read from its cache."""
    opened: list[Recordings] = []
    workers.agree(lambda: opened.append(open_folder()))
    return opened[0] if opened else open_folder()


def _references(clips: Clips, output: str, workers: Workers, progress: Progress | None) -> ReferenceLevels:
    """The reference levels of clips, counted on the clips themselves; the processes divide them between them."""
    chosen, total = (
        range(workers.rank, len(clips), workers.count),
        int(clips.lengths[workers.rank :: workers.count].sum()),
    )
    counts = likelihood.pair_counts(clips, chosen, lambda done: progress and progress(done, total))
    everywhere = np.sum(workers.exchange(counts.tolist()), axis=0)  # [previous code, code]
    return likelihood.levels_of_counts(everywhere, everywhere, output)


def check_speaker(config: ModelConfig, speakers: str, speaker: Speaker | None) -> None:
    """Raises `ValueError` for a `speaker` that is unknown, or if neither it nor `speakers` is given; see `evaluate`."""
    if speaker is not None:
        speaker_shares(config, 1, speaker)
    elif config.speakers and not speakers:
        names = listed(config.speakers)
        raise ConfigError(f"this model has the speakers {names}: give --speakers (folders or FILE.csv) or --speaker")


def copies(
    generator: Generator,
    recordings: Recordings,
    count: int,
    options: RenderOptions | None = None,
    progress: Progress | None = None,
    recogniser: Recogniser | None = None,
    workers: Workers | None = None,
    kept: KeptCopies | None = None,
) -> Iterator[Copy]:
    """Copy-synthesis of the first `count` recordings of at least 1.5 s: audio generated from their features.

    Yields the copies of each in the order of `METHODS`: by the model; the same before it is refined, if it is; by the
    Griffin-Lim algorithm from the same features, as it is and refined with as many iterations as the model's copy, or
    40; and the recording itself. Features whose windows overlap by less than half cannot be refined. Of a recording
    longer than a minute only the first minute is copied.
    options: for the model's copy, see `Generator.render`; a speaker there replaces that of the recording.
    progress: called with the number of recordings done and the total.
    recogniser: to count the words that are lost; None: not counted, NaN.
    workers: the processes that divide the recordings between them; see `everywhere`.
    kept: copies made earlier, which are yielded first, without their audio; others are added to them.
    Raises `ConfigError` for a model that is not conditioned on features. Figures whose packages are not installed are
    NaN, see `metrics.missing_packages`.
    """
    config, clips, given = generator.config, recordings.train, options or {}
    if config.features is None:
        raise ConfigError("features: this model is not conditioned on features: it cannot copy recordings")
    processes = workers or Workers()
    chosen = long_clips(clips)[:count]
    known = [] if kept is None else processes.agree(partial(kept.known, chosen))
    if kept is not None and processes.is_first:
        yield from kept.copies(known)
    missing = sorted({*chosen}.difference(known))[processes.rank :: processes.count]
    for done, clip in enumerate(missing):
        original = read_original(config, clips, clip, MOST_SECONDS, given.get("speaker"))
        versions = _versions(generator, original, config.features, given)
        compared = _comparisons(original.audio, versions, config.sample_rate, recogniser)
        made = [
            Copy(clips.names[clip], len(audio) / config.sample_rate, method, iterations, compared[method], audio)
            for method, (iterations, audio) in versions.items()
        ]
        yield from made
        if kept is not None:
            kept.add(clip, made)
        if progress:
            progress(done + 1, len(missing))


def long_clips(clips: Clips) -> list[int]:
    """Indices of the clips of at least 1.5 s: those that are copied."""
    return np.flatnonzero(clips.lengths >= LEAST_SECONDS * clips.sample_rate).tolist()


def read_original(
    config: ModelConfig, clips: Clips, clip: int, most_seconds: float, speaker: Speaker | None = None
) -> Original:
    """The first `most_seconds` of a clip, and what a model with features generates a copy of it from.

    speaker: instead of that of the clip.
    """
    audio = to_float32(clips.clip(clip, 0, round(most_seconds * clips.sample_rate)))
    features = mel_spectrogram(audio, cast(MelConfig, config.features))
    return Original(audio, features, speaker or likelihood.speaker_of_clip(config, clips, clip))


def baseline_of(methods: Collection[str]) -> str:
    """The method that the model has to surpass: Griffin-Lim, refined if the model's copy is."""
    return GRIFFIN_LIM_REFINED if UNREFINED in methods else GRIFFIN_LIM


def _versions(
    generator: Generator, original: Original, mel: MelConfig, options: RenderOptions
) -> dict[str, tuple[int, NDArray[np.float32]]]:
    """The copies of a recording by method, in the order of `METHODS`: iterations of refinement, and audio [T]."""
    features, samples = original.features, len(original.audio)
    unrefined: RenderOptions = {**options, "features": features, "speaker": original.speaker, "refine": 0}
    copied, computed = generator.render(**unrefined)[:samples], griffin_lim(features, mel, samples)
    iterations = generator.options(refine=options.get("refine")).refine
    versions = {MODEL: (iterations, refine(copied, features, mel, iterations))}
    if iterations:
        versions[UNREFINED] = (0, copied)
    versions[GRIFFIN_LIM] = (0, computed)
    if mel.can_refine:
        equal = iterations or BASELINE_REFINE
        versions[GRIFFIN_LIM_REFINED] = (equal, refine(computed, features, mel, equal))
    return {**versions, RECORDING: (0, original.audio)}


def _comparisons(
    original: NDArray[np.float32],
    versions: dict[str, tuple[int, NDArray[np.float32]]],
    sample_rate: int,
    recogniser: Recogniser | None,
) -> dict[str, Comparison]:
    """The figures of each version [T] of a recording [T], by method."""
    recording = Signal(original, sample_rate)
    signals = {
        method: recording if method == RECORDING else Signal(audio, sample_rate)
        for method, (_, audio) in versions.items()
    }
    compared = {method: compare(recording, signal) for method, signal in signals.items()}
    if recogniser is None:
        return compared
    found = {method: recogniser.words(signal) for method, signal in signals.items()}
    words = found[RECORDING]
    return {
        method: dataclasses.replace(comparison, words_lost=words_lost(words, found[method]), words=len(words))
        for method, comparison in compared.items()
    }


def griffin_lim(features: NDArray[np.float32], mel: MelConfig, samples: int) -> NDArray[np.float32]:
    """Audio, float32 [samples], computed from log-mel features [bands, frames] without a model.

    The magnitudes by non-negative least squares, the phases by the algorithm of Griffin and Lim 1984 ("Signal
    estimation from modified short-time Fourier transform"), accelerated as in Perraudin et al. 2013.
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
    audio = librosa.griffinlim(
        magnitude,
        n_iter=GRIFFIN_LIM_ITERATIONS,
        n_fft=mel.fft,
        hop_length=mel.hop,
        win_length=mel.window,
        random_state=0,
    )
    shifted = np.pad(audio, (mel.hop // 2, mel.hop))  # librosa's frames are centred on multiples of the hop
    return np.pad(shifted, (0, max(0, samples - len(shifted))))[:samples].astype(np.float32)
