"""Choose the sampling options of a vocoder on recordings that were held out from training: `Tuner`.

Audio is generated from the features of the recordings and compared with them, as in `copy_synthesis`. The criterion is
PESQ, or the log-mel distance where PESQ is not available. The search changes one option at a time, in the order of
`GRID`, and keeps of each the first value within one standard error of the best one (Hastie et al. 2009, "The Elements
of Statistical Learning", section 7.10): differences that may be chance cost nothing. Numbers of particles and of
iterations with which audio is generated too slowly are left out, see `REAL_TIME`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.config import ConfigError, MelConfig, ModelConfig, SamplingConfig
from wavenet.consistency import StreamingRefiner
from wavenet.data.dataset import Progress, Recordings
from wavenet.data.tensor_file import Tensors
from wavenet.engine import create
from wavenet.engine.conditioning import Speaker, speaker_shares
from wavenet.evaluation import metrics
from wavenet.evaluation.copy_synthesis import LEAST_SECONDS, long_clips, read_original
from wavenet.evaluation.signals import Signal
from wavenet.generate import Generator
from wavenet.refined_session import file_lookahead
from wavenet.sampling_config import FRAME_OPTIONS

START = SamplingConfig(temperature=1.0, voiced_temperature=1.0, refine=40)
GRID: dict[
    str, tuple[Any, ...]
] = {  # options in the order of the search, and their values; the first ones cost or restrict least
    "voiced_temperature": (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
    "temperature": (1.0, 0.9, 0.8, 0.7, 0.6),
    "top_p": (None, 0.99, 0.95, 0.9),
    "refine": (0, 5, 10, 20, 40, 80, 160),
    "particles": (0, 1, 2),
}
SLOW = ("particles", "refine")  # the options that take time; both need windows that overlap by half
MOST_SECONDS = 10.0  # of a recording that are used
REAL_TIME = 1.5  # x real time on one core that the chosen options reach, with a reserve for slower machines,
SLOWEST = 0.9  # or this share of the speed of generation alone, if that is less

FIGURES = {"pesq": metrics.pesq, "stoi": metrics.stoi, "log_mel_db": metrics.log_mel_distance}  # of `Trial`

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Trial:
    """What some options give: means over the recordings. NaN: not available."""

    options: SamplingConfig
    pesq: float
    stoi: float
    log_mel_db: float
    times_real_time: float  # of generation and refinement, by the processor time that they took
    scores: NDArray[np.float64]  # the criterion of each recording, [recordings]; higher is better


@dataclass(frozen=True)
class _Clip:
    original: Signal
    features: Audio  # [bands, frames]
    speaker: Speaker | None


class Tuner:
    """A search for the best sampling options. `run` yields every trial; afterwards `best` is the one chosen."""

    best: Trial

    def __init__(
        self,
        config: ModelConfig,
        weights: Tensors,
        recordings: Recordings,
        count: int,
        precision: str = "auto",
        seed: int = 0,
        speaker: Speaker | None = None,
        progress: Progress | None = None,
    ) -> None:
        """config, weights: of the model, as `checkpoint.read_model` returns them.

        count: number of recordings of at least 1.5 s to use, spread over all of them. precision: of the engine, which
        uses one thread. seed: of the audio in all trials. speaker: instead of those of the recordings. progress: called
        with the number of copies made and the total.
        Raises `ConfigError` for a model without features, and if there are no such recordings; `ValueError` for a
        speaker that the model does not have.
        """
        self._frame_options = {name: getattr(config.sampling, name) for name in FRAME_OPTIONS}  # kept as they are
        plain = dataclasses.replace(config, sampling=SamplingConfig())  # options that are None here are not the model's
        self._generator = Generator(create("auto", plain, weights, precision, threads=1))
        self._clips = _clips(config, recordings, count, speaker)
        self._start, self._grid = _search(config.features)
        self._seed, self._progress = seed, progress
        self._figures = {name: figure for name, figure in FIGURES.items() if name not in metrics.missing_packages()}
        self._copies = 0
        self._generated: tuple[SamplingConfig, list[Audio], float] | None = None  # unrefined, with its seconds

    @property
    def criterion(self) -> str:
        """The figure of `Trial` that options are chosen by: "pesq" or "log_mel_db"."""
        return "pesq" if "pesq" in self._figures else "log_mel_db"

    @property
    def recordings(self) -> int:
        """Number of recordings used."""
        return len(self._clips)

    @property
    def compared(self) -> int:
        """Number of those recordings for which the criterion of the best options is defined."""
        return int((~np.isnan(self.best.scores)).sum())

    @property
    def engine(self) -> str:
        """The engine and its precision, such as "native engine, int8"."""
        return f"{self._generator.engine} engine, {self._generator.precision}"

    @property
    def seconds(self) -> float:
        """Length of the recordings used."""
        return sum(len(clip.original) for clip in self._clips) / self._generator.sample_rate

    def run(self) -> Iterator[Trial]:
        """Yield every trial as soon as it is complete.

        Raises `ConfigError` if the criterion is not defined for any recording.
        """
        self.best = self._try(self._start)
        if not self.compared:
            raise ConfigError("the recordings are silent, or too short or quiet to choose options with; give others")
        yield self.best
        assert self._generated is not None
        slowest = min(REAL_TIME, SLOWEST * self.seconds / self._generated[2])
        for name, values in self._grid.items():
            trials = []
            for value in values:
                options = dataclasses.replace(self.best.options, **{name: value})
                known = options == self.best.options
                trials.append(self.best if known else self._try(options))
                if not known:
                    yield trials[-1]
            if name in SLOW:
                trials = [trial for trial in trials if trial.times_real_time >= slowest] or [self.best]
            self.best = choose(trials)

    @property
    def options(self) -> SamplingConfig:
        """The options chosen, without those that have no effect."""
        best = self.best.options
        one = best.voiced_temperature == best.temperature
        voiced = None if one else best.voiced_temperature
        return dataclasses.replace(best, voiced_temperature=voiced, **self._frame_options)

    def _try(self, options: SamplingConfig) -> Trial:
        plain = dataclasses.replace(options, refine=0)
        if self._generated is None or self._generated[0] != plain:
            self._generated = plain, *self._generate(plain)
        _, copies, seconds = self._generated
        if options.refine:
            copies, more = self._refine(copies, options.refine)
            seconds += more
        rows = [self._compare(clip, copy) for clip, copy in zip(self._clips, copies, strict=True)]
        figures = {name: np.array([row.get(name, math.nan) for row in rows]) for name in FIGURES}  # [recordings] each
        scores = figures["pesq"] if self.criterion == "pesq" else -figures["log_mel_db"]
        means = {name: _mean(values) for name, values in figures.items()}
        return Trial(options, **means, times_real_time=self.seconds / seconds, scores=scores)

    def _refine(self, copies: list[Audio], iterations: int) -> tuple[list[Audio], float]:
        """The copies refined, and the processor time that it took."""
        started, mel = time.process_time(), self._generator.config.features
        assert mel is not None
        refined = []
        for copy, clip in zip(copies, self._clips, strict=True):
            refiner = StreamingRefiner(clip.features, mel, iterations, file_lookahead(mel, iterations))
            refined.append(np.concatenate([refiner.push(copy), refiner.finish()]))
        return refined, time.process_time() - started

    def _generate(self, options: SamplingConfig) -> tuple[list[Audio], float]:
        """Audio from the features of each recording, and the processor time that it took."""
        started = time.process_time()
        copies = [
            self._generator.render(
                features=clip.features,
                speaker=clip.speaker,
                seed=self._seed,
                temperature=options.temperature,
                voiced_temperature=options.voiced_temperature,
                top_p=options.top_p,
                particles=options.particles,
            )[: len(clip.original)]
            for clip in self._clips
        ]
        return copies, time.process_time() - started

    def _compare(self, clip: _Clip, copy: Audio) -> dict[str, float]:
        copied = Signal(copy, self._generator.sample_rate)
        figures = {name: figure(clip.original, copied) for name, figure in self._figures.items()}
        self._copies += 1
        if self._progress is not None:
            trials = 1 + sum(len(values) - 1 for values in self._grid.values())
            self._progress(self._copies, len(self._clips) * trials)
        return figures


def choose(trials: list[Trial]) -> Trial:
    """The first trial that is within one standard error of the best one.

    The standard error is that of the mean difference to the best one, over the recordings for which the criterion is
    defined in all trials.
    """
    scores = np.stack([trial.scores for trial in trials])  # [trials, recordings]
    scores = scores[:, ~np.isnan(scores).any(axis=0)]
    if not scores.shape[1]:
        return trials[0]
    behind = scores[scores.mean(axis=1).argmax()] - scores  # the best one's lead, [trials, recordings]
    error = behind.std(axis=1, ddof=1) / math.sqrt(behind.shape[1]) if behind.shape[1] > 1 else 0.0
    return trials[int((behind.mean(axis=1) <= error).argmax())]


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of those that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _search(mel: MelConfig | None) -> tuple[SamplingConfig, dict[str, tuple[Any, ...]]]:
    """The first options to try, and the values of each option that a model with these features has."""
    if mel is None or mel.can_refine:
        return START, GRID
    unused = {name: getattr(SamplingConfig, name) for name in SLOW}
    return dataclasses.replace(START, **unused), {name: GRID[name] for name in GRID if name not in SLOW}


def _clips(config: ModelConfig, recordings: Recordings, count: int, speaker: Speaker | None) -> list[_Clip]:
    clips = recordings.train
    if config.features is None:
        raise ConfigError("features: this model has none, so there is no recording to compare its audio with")
    long = long_clips(clips)
    if not long:
        raise ConfigError(f"no recording of {LEAST_SECONDS} s or more to choose options with")
    chosen = np.unique(np.linspace(0, len(long) - 1, min(count, len(long))).round().astype(int)).tolist()
    originals = [read_original(config, clips, long[i], MOST_SECONDS, speaker) for i in chosen]
    for original in originals:
        speaker_shares(config, 1, original.speaker)  # raises for one that is missing or unknown
    return [_Clip(Signal(audio, config.sample_rate), features, own) for audio, features, own in originals]
