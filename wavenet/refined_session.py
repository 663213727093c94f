"""Audio of a session that is refined while it is generated: `RefinedSession`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.consistency import LOOKAHEAD_SECONDS, StreamingRefiner
from wavenet.session import Session

LONGEST_LOOKAHEAD = 1.0  # seconds; more does not improve the audio

Audio = NDArray[np.float32]


def file_lookahead(mel: MelConfig, iterations: int) -> float:
    """A look-ahead in seconds for audio that is not listened to meanwhile: one iteration whenever a frame is added.

    So a sample takes part in as many iterations as offline, `iterations`, and the quality is the same.
    """
    return max(LOOKAHEAD_SECONDS, min(iterations * mel.hop / mel.sample_rate, LONGEST_LOOKAHEAD))


@dataclass(frozen=True)
class _Progress:
    """Replaced in one assignment, so that an interrupted call changes nothing that belongs together."""

    refiners: list[StreamingRefiner]  # of each stream
    ready: Audio  # [count, n]: refined samples, of which
    skipped: int  # the first ones are not returned: those of the primed audio
    entered: int = 0  # samples of the session that the refiners were given


class RefinedSession:
    """The audio of a session, adapted to its features (see `wavenet.consistency`): `next` returns the next samples.

    Refining a sample takes the audio after it, too, so that the session is ahead by the look-ahead, and by less than a
    frame more. Samples that the session loses in an interrupted call are silence before they are refined.
    """

    def __init__(
        self,
        session: Session,
        mel: MelConfig,
        iterations: int,
        total: int,
        lookahead: float = LOOKAHEAD_SECONDS,
        primed: Audio | None = None,
    ) -> None:
        """session: a stream or batch with features, before its first `next`.

        total: samples to generate. lookahead: in seconds. primed: [count, n], the audio that the session was primed
        with.
        """
        assert session.features is not None
        self._session, self._total, self._hop = session, total, mel.hop
        self._begin = session.position
        before = 0 if primed is None else primed.shape[-1]
        features = session.features[:, :, : -(-(before + total) // mel.hop)]  # [count, bands, N]
        refiners = [StreamingRefiner(frames, mel, iterations, lookahead) for frames in features]
        self._progress = _Progress(refiners, np.empty((len(features), 0), np.float32), before)
        if primed is not None:
            self._progress = self._after(primed, 0)

    def next(self, samples: int) -> Audio:
        """The next `samples` samples, float32 [samples] or [count, samples].

        Raises `ValueError` if there are fewer left.
        """
        while (missing := samples - self._progress.ready.shape[1] + self._progress.skipped) > 0:
            entered = self._progress.entered
            if entered == self._total:
                raise ValueError(f"{samples - missing:,} samples are left, not {samples:,}")
            lost = self._session.position - self._begin - entered  # by an interrupted call
            if lost:
                audio = np.zeros((len(self._progress.refiners), lost), np.float32)
            else:
                whole = -(-missing // self._hop) * self._hop
                audio = np.atleast_2d(self._session.next(min(whole, self._total - entered)))
            self._progress = self._after(audio, audio.shape[1])
        progress = self._progress
        first, last = progress.skipped, progress.skipped + samples
        self._progress = replace(progress, ready=progress.ready[:, last:], skipped=0)
        block = progress.ready[:, first:last]
        return block[0] if self._session.single else block

    def _after(self, audio: Audio, entered: int) -> _Progress:
        """The progress after audio [count, n], of which `entered` samples per stream are the session's."""
        progress = self._progress
        refiners = [refiner.copy() for refiner in progress.refiners]
        refined = [np.stack([refiner.push(block) for refiner, block in zip(refiners, audio, strict=True)])]
        if progress.entered + entered == self._total:
            refined.append(np.stack([refiner.finish() for refiner in refiners]))
        ready = np.concatenate([progress.ready, *refined], axis=1)
        return _Progress(refiners, ready, progress.skipped, progress.entered + entered)
