"""Audio of a session that is refined while it is generated: `RefinedSession`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import MelConfig
from wavenet.consistency import StreamingRefiner, refine
from wavenet.engine.conditioning import CHUNK
from wavenet.mel_config import LOOKAHEAD_SECONDS
from wavenet.session import Session

LONGEST_LOOKAHEAD = 1.0  # seconds; more does not improve the audio

Audio = NDArray[np.float32]


def file_lookahead(mel: MelConfig, iterations: int) -> float:
    """A look-ahead in seconds for audio that is not listened to meanwhile: one iteration whenever a frame is added.

    So a sample takes part in as many iterations as offline, `iterations`, and the quality is the same.
    """
    return max(LOOKAHEAD_SECONDS, min(iterations * mel.hop / mel.sample_rate, LONGEST_LOOKAHEAD))


def file_refiner(features: ArrayLike, mel: MelConfig, iterations: int, samples: int) -> StreamingRefiner:
    """What refines audio of `samples` samples with these features [bands, N] as `refined` does for a file."""
    lookahead = _limited(file_lookahead(mel, iterations), samples, mel)
    return StreamingRefiner(features, mel, iterations, lookahead, more=True)


def _limited(lookahead: float, samples: int, mel: MelConfig) -> float:
    """A look-ahead in seconds, limited to the frames of `samples` samples."""
    return min(lookahead, -(-samples // mel.hop) * mel.hop / mel.sample_rate)


def primed_audio(session: Session, prime: ArrayLike | None) -> Audio | None:
    """The audio that a session was primed with, [count, n], to refine what follows it; None: there is none."""
    if prime is None:
        return None
    audio = np.clip(np.asarray(prime, dtype=np.float32), -1, 1)
    return np.broadcast_to(audio, (session.streams, audio.shape[-1]))


class KeptFrames:
    """The features of what a session generates, to refine it afterwards: one without end keeps the last ones only."""

    def __init__(self, session: Session) -> None:
        self._session, self._parts = session, [session.frames(0)]
        self._count = self._parts[0].shape[2]

    def add(self) -> None:
        """Keep the features of what was generated since the last call."""
        self._parts.append(self._session.frames(self._count))
        self._count += self._parts[-1].shape[2]

    def refined(self, audio: Audio, prime: ArrayLike | None, mel: MelConfig, iterations: int) -> Audio:
        """The audio of the session [samples] or [count, samples], after that it was primed with, refined."""
        whole, primed = np.atleast_2d(audio), primed_audio(self._session, prime)
        if primed is not None:
            whole = np.concatenate([primed, whole], axis=1)
        pairs = zip(whole, np.concatenate(self._parts, axis=2), strict=True)  # of [samples] and [bands, frames]
        refined = [refine(samples, own, mel, iterations) for samples, own in pairs]
        return np.stack(refined)[:, -audio.shape[-1] :].reshape(audio.shape)


def refined(
    session: Session, mel: MelConfig, iterations: int, total: int | None, live: bool, primed: Audio | None = None
) -> RefinedSession:
    """The audio of a session refined; with a short look-ahead if it is listened to meanwhile."""
    lookahead = LOOKAHEAD_SECONDS if live else file_lookahead(mel, iterations)
    return RefinedSession(session, mel, iterations, total, lookahead, primed)


@dataclass(frozen=True)
class _Progress:
    """Replaced in one assignment, so that an interrupted call changes nothing that belongs together."""

    refiners: list[StreamingRefiner]  # of each stream
    ready: Audio  # [count, n]: refined samples, of which
    skipped: int  # the first ones are not returned: those of the primed audio
    entered: int = 0  # samples that the refiners were given, those of the primed audio included
    frames: int = 0  # of the features, that they were given


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
        total: int | None,
        lookahead: float = LOOKAHEAD_SECONDS,
        primed: Audio | None = None,
    ) -> None:
        """session: a stream or batch with features, before its first `next`.

        total: samples to generate; None: without end. lookahead: in seconds. primed: [count, n], the audio that the
        session was primed with.
        """
        self._session, self._hop = session, mel.hop
        before = 0 if primed is None else primed.shape[-1]
        self._end = None if total is None else before + total  # samples, those of the primed audio included
        if self._end is not None:
            lookahead = _limited(lookahead, self._end, mel)
        no_features = np.empty((mel.bands, 0), np.float32)
        refiners = [
            StreamingRefiner(no_features, mel, iterations, lookahead, more=True) for _ in range(session.streams)
        ]
        self._progress = _Progress(refiners, np.empty((session.streams, 0), np.float32), before)
        if primed is not None:
            self._progress = self._after(primed)

    @property
    def session(self) -> Session:
        """The session whose audio is refined. Its options may be changed; it must not generate otherwise."""
        return self._session

    def copy(self, seed: int | None = None) -> RefinedSession:
        """An independent one that continues from the same sample.

        seed: for new uniform numbers, of the samples that are not generated ahead yet; None: the same.
        """
        branch = copy.copy(self)  # its progress is replaced, never changed
        branch._session = self._session.copy(seed)
        return branch

    def next(self, samples: int) -> Audio:
        """The next `samples` samples, float32 [samples] or [count, samples].

        Raises `ValueError` if there are fewer left.
        """
        while (missing := samples - self._progress.ready.shape[1] + self._progress.skipped) > 0:
            entered = self._progress.entered
            if entered == self._end:
                raise ValueError(f"{samples - missing:,} samples are left, not {samples:,}")
            lost = self._session.position - entered  # by an interrupted call
            if lost:
                audio = np.zeros((self._session.streams, lost), np.float32)
            else:
                wanted = min(-(-missing // self._hop), CHUNK) * self._hop  # a session may not keep more frames
                left = wanted if self._end is None else self._end - entered
                audio = np.atleast_2d(self._session.next(min(wanted, left)))
            self._progress = self._after(audio)
        progress = self._progress
        first, last = progress.skipped, progress.skipped + samples
        self._progress = replace(progress, ready=progress.ready[:, last:], skipped=0)
        block = progress.ready[:, first:last]
        return block[0] if self._session.single else block

    def _after(self, audio: Audio) -> _Progress:
        """The progress after audio [count, n]."""
        progress = self._progress
        refiners = [refiner.copy() for refiner in progress.refiners]
        entered = progress.entered + audio.shape[1]
        features = self._session.frames(progress.frames)  # [count, bands, n]
        for refiner, own in zip(refiners, features, strict=True):
            refiner.extend(own)
        refined = [np.stack([refiner.push(block) for refiner, block in zip(refiners, audio, strict=True)])]
        if entered == self._end:
            refined.append(np.stack([refiner.finish() for refiner in refiners]))
        ready = np.concatenate([progress.ready, *refined], axis=1)
        return _Progress(refiners, ready, progress.skipped, entered, progress.frames + features.shape[2])
