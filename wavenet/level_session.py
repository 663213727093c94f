"""A stream whose temperature changes its character, not its loudness: `LevelSession`.

A network without features hears its own past only. Below a temperature of 1 it hears a past that is a little too quiet,
and continues it more quietly still: ten seconds of the shipped English model are silent for 19% at 1, 84% at 0.9 and
99% at 0.8. So the temperature that samples are drawn with follows the past of the stream, every 10 ms:

- in sound it is the given one; below 1 it is raised, to 1 at most, while the running level is below that of the
  recordings;
- in pauses it is 1, and higher or lower while the stream was silent for a larger or smaller share of the last second
  than the recordings are.

The same idea as the feedback of `wavenet.engine.frame_sampler`. At a temperature of 1, and of 0, nothing is done.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from wavenet import engine as engines
from wavenet.config import RecordedLevels, SamplingConfig
from wavenet.data.pcm import FULL_SCALE
from wavenet.sampling_config import SILENT_DBFS
from wavenet.session import Progress, Session, StreamInputs

FRAME_SECONDS = 0.010  # between changes of the temperature
LEVEL_SECONDS, SILENT_SECONDS = 0.5, 1.0  # time constants of the running level and of the running silent share
LEVEL_FEEDBACK = 0.1  # of the temperature in sound, per dB
SILENT_FEEDBACK = 2.0  # of the temperature in pauses, per difference of the silent share
IN_PAUSES = 0.8, 1.2  # limits of the temperature in pauses
PAUSE_DB = 24.0  # a frame that is this far below the level of the recordings is a pause

Array = NDArray[np.float64]


class Levels(NamedTuple):
    """Levels of the recordings that B streams keep, [B] each."""

    loud: Array  # mean power of the frames that are not silent
    silent: Array  # share of silent frames

    def start(self) -> RunningLevels:
        """The averages of the recordings, after a pause."""
        streams = len(self.loud)
        return RunningLevels(self.loud, self.silent, np.ones(streams, np.bool_), np.zeros(streams, np.int64), 0)

    def temperatures(self, temperature: float, running: RunningLevels) -> Array:
        """The temperature [B] that the next samples are drawn with; temperature: the given one."""
        missing = 10 * np.log10(self.loud / running.loud)  # dB
        in_sound = np.clip(temperature + LEVEL_FEEDBACK * missing, temperature, max(temperature, 1.0))
        in_pauses = np.clip(1 + SILENT_FEEDBACK * (running.silent - self.silent), *IN_PAUSES)
        return np.where(running.paused, in_pauses, in_sound)

    def after(self, running: RunningLevels, audio: NDArray[np.float32], ends: bool) -> RunningLevels:
        """The running levels after audio [B, n] of the current frame. ends: whether that is the end of the frame."""
        steps = np.rint(audio * np.float64(FULL_SCALE)).astype(np.int64)  # their sums do not depend on block sizes
        energy, length = running.energy + np.square(steps).sum(axis=1), running.length + audio.shape[1]
        if not ends:
            return running._replace(energy=energy, length=length)
        power = energy / (length * FULL_SCALE**2)
        paused, silent = power < self.loud / 10 ** (PAUSE_DB / 10), power < 10 ** (SILENT_DBFS / 10)
        level, share = (math.exp(-FRAME_SECONDS / seconds) for seconds in (LEVEL_SECONDS, SILENT_SECONDS))
        return RunningLevels(
            np.where(paused, running.loud, level * running.loud + (1 - level) * power),
            share * running.silent + (1 - share) * silent,
            paused,
            np.zeros_like(energy),
            0,
        )


class RunningLevels(NamedTuple):
    """What B streams were like before the next sample."""

    loud: Array  # [B]: exponential average of the power of frames that are not pauses
    silent: Array  # [B]: of the share of silent frames
    paused: NDArray[np.bool_]  # [B]: whether the last frame was a pause
    energy: NDArray[np.int64]  # [B]: sum of squares of the samples of the current frame, in 16-bit steps,
    length: int  # which are so many


@dataclass(frozen=True)
class LevelProgress(Progress):
    """running: None where the averages begin, as those of the recordings and after a pause."""

    running: RunningLevels | None = None


class LevelSession(Session):
    """A stream or batch that keeps the levels of the recordings at every temperature; as `Session` otherwise.

    The averages begin with the stream, after `prime`, and when a temperature of 1 is changed. What a call that Ctrl-C
    interrupts generates in its last frame is generated again by the next one.
    """

    _progress: LevelProgress

    def __init__(
        self,
        engine: engines.Engine[Any],
        options: SamplingConfig,
        seed: int | Sequence[int],
        count: int | None,
        **given: Unpack[StreamInputs],
    ) -> None:
        """Arguments as of `Generator.session`, of a model with `recorded_levels`."""
        super().__init__(engine, options, seed, count, **given)
        self._frame = max(1, round(FRAME_SECONDS * engine.config.sample_rate))
        self._progress = LevelProgress(self._progress.state, self._progress.origin)

    def _primed(self, codes: NDArray[np.int64]) -> Progress:
        return dataclasses.replace(cast(LevelProgress, super()._primed(codes)), running=None)

    def _draw(self, state: engines.State, origin: int, samples: int) -> NDArray[np.int64]:
        sampling, levels = self._sampling, self._levels(state)  # read once, as other threads may assign to them
        if sampling.temperature == 1 or sampling.greedy:
            self._progress = dataclasses.replace(self._progress, running=None)
            return self._draw_with(sampling, None, state, origin, samples)
        codes = []
        while samples:
            progress = self._progress
            running = progress.running or levels.start()
            state = progress.state.copy()  # so that levels and state agree after an interruption
            left = self._frame - state.position % self._frame
            piece = min(samples, left)
            uniforms = self._uniforms.read(state.position - origin, piece)
            temperatures = levels.temperatures(sampling.temperature, running)[:, None]  # [count, 1]
            codes.append(self._engine.generate(state, uniforms, sampling, np.repeat(temperatures, piece, axis=1)))
            running = levels.after(running, self._quantizer.decode(codes[-1]), ends=piece == left)
            self._progress = dataclasses.replace(progress, state=state, running=running)
            samples -= piece
        return np.concatenate(codes, axis=1)

    def _levels(self, state: engines.State) -> Levels:
        """Levels of the speakers that are used from the next sample on; those of a mixture are mixed."""
        recorded = cast(RecordedLevels, self._engine.config.recorded_levels)
        loud = 10 ** (np.array(recorded.loud) / 10)  # [speakers], or [1]
        shares = None if state.conditioning is None else state.conditioning.inputs.speaker  # [B, speakers]
        weights = np.ones((state.streams, 1)) if shares is None else shares.astype(np.float64)
        return Levels(weights @ loud, weights @ np.array(recorded.silent))
