"""Audio of a session that is refined while it is generated: `RefinedSession`."""

from __future__ import annotations

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


class RefinedSession:
    """The audio of a session, adapted to its features (see `wavenet.consistency`): `next` returns the next samples.

    Refining a sample takes the audio after it, too, so that the session is ahead by the look-ahead.
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
        self._session, self._left = session, total
        before = 0 if primed is None else primed.shape[-1]
        features = session.features[:, :, : -(-(before + total) // mel.hop)]  # [count, bands, N]
        self._refiners = [StreamingRefiner(frames, mel, iterations, lookahead) for frames in features]
        self._ready = np.empty((len(features), 0), np.float32)  # refined samples, of which the first `_skipped` are not
        self._skipped = before  # returned: those of the primed audio
        if primed is not None:
            self._push(primed)

    def next(self, samples: int) -> Audio:
        """The next `samples` samples, float32 [samples] or [count, samples].

        Raises `ValueError` if there are fewer left.
        """
        while self._ready.shape[1] - self._skipped < samples:
            if not self._left:
                raise ValueError(f"{self._ready.shape[1] - self._skipped:,} samples are left, not {samples:,}")
            block = self._session.next(min(samples, self._left))
            self._left -= block.shape[-1]
            self._push(np.atleast_2d(block))
        first, last = self._skipped, self._skipped + samples
        block, self._ready, self._skipped = self._ready[:, first:last], self._ready[:, last:], 0
        return block[0] if self._session.single else block

    def _push(self, audio: Audio) -> None:
        """Refine the next samples [count, n]."""
        refined = [refiner.push(block) for refiner, block in zip(self._refiners, audio, strict=True)]
        self._ready = np.concatenate([self._ready, np.stack(refined)], axis=1)
        if not self._left:
            self._ready = np.concatenate([self._ready, np.stack([one.finish() for one in self._refiners])], axis=1)
