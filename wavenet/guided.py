"""Guided sampling: `GuidedSession`, a stream that is kept close to its features while it is generated.

A network that continues its own samples drifts away from the features, and what it continues then is unlike anything
that it was trained on. Guided sampling corrects the past, frame by frame:

1. Several continuations of the past, the particles, are generated: the next frame, and as much after it as the frame's
   window covers.
2. Each one is adapted to the features as by `wavenet.consistency`; samples before it do not change.
3. That which agrees best with the features is kept. Its first frame is the next audio, and the past of all particles.

One particle is correction alone. As a particle filter (Gordon, Salmond and Smith 1993, "Novel approach to
nonlinear/non-Gaussian Bayesian state estimation") it resamples all particles from the best one after every frame.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import engine as engines
from wavenet.checks import is_integer, shown
from wavenet.config import SamplingConfig
from wavenet.consistency import BlockRefiner
from wavenet.engine.base import check_memory
from wavenet.session import Progress, Session, StreamInputs, checked_samples

ITERATIONS = 10  # for each frame; more agree better until the whole audio is refined, and the same after that

STATES = 3  # of each particle: before the block, after what was returned, and after what is drawn ahead

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class GuidedProgress(Progress):
    """`state` is that before the current block, of which `taken` samples were returned."""

    past: Audio  # [streams, n]: the samples before the block, as many as a `BlockRefiner` takes
    block: Audio  # [streams, n]
    scratch: tuple[engines.State, engines.State]  # to generate the next block with
    taken: int = 0

    @property
    def recent(self) -> Audio:
        """As many samples before the next one as `past` has, [streams, n]."""
        return np.concatenate([self.past, self.block[:, : self.taken]], axis=1)[:, -self.past.shape[1] :]


class GuidedSession(Session):
    """A stream or batch that is generated with guidance; as `Session` in all other respects.

    It is ahead of the samples that it returns: options that are assigned act from the next frame on.
    """

    _progress: GuidedProgress

    def __init__(
        self,
        engine: engines.Engine[Any],
        options: SamplingConfig,
        seed: int | Sequence[int],
        count: int | None,
        **given: Unpack[StreamInputs],
    ) -> None:
        """Arguments as of `Generator.session`. Particle i is drawn with the uniform numbers of the stream's seed + i.

        The options must have been checked with the model's features.
        """
        _check_memory(engine, options.particles, 1 if count is None else count, given.get("features"))
        super().__init__(engine, options, seed, count, rows=options.particles, **given)
        mel, frames = engine.config.features, self.features
        assert mel is not None and frames is not None  # as checked
        self._hop = mel.hop
        self._refiners = [BlockRefiner(of_stream, mel, ITERATIONS) for of_stream in frames]
        past = np.zeros((self._streams, self._refiners[0].past), np.float32)
        if (prime := given.get("prime")) is not None:
            past = np.concatenate([past, self._played(np.asarray(prime))], axis=1)[:, -past.shape[1] :]
        self._progress = self._at(self._progress.state, self._progress.origin, past)

    @property
    def lookahead(self) -> int:
        """Samples that are generated beyond a frame's first one before the frame is returned."""
        return self._hop + self._refiners[0].tail

    @property
    def position(self) -> int:
        """Samples returned or primed so far."""
        progress = self._progress
        return progress.state.position + progress.taken

    def next(self, samples: int) -> Audio:
        """The next `samples` samples in [-1, 1]: float32 [samples], or [count, samples].

        Raises `ValueError`, and generates none, if the features end earlier: `left` is the number of samples left.
        """
        samples = checked_samples(samples)
        with self._lock:
            progress, parts = self._progress, []
            conditioning = progress.state.conditioning
            assert conditioning is not None
            conditioning.check(self.position, samples)
            while samples:
                if progress.taken == progress.block.shape[1]:
                    progress = self._next_block(progress)
                part = progress.block[:, progress.taken :][:, :samples]
                progress = dataclasses.replace(progress, taken=progress.taken + part.shape[1])
                self._progress = progress  # at once: the states of earlier ones are written to
                samples -= part.shape[1]
                parts.append(part)
        audio = np.concatenate(parts, axis=1)
        return audio[0] if self._single else audio

    def next_codes(self, samples: int) -> NDArray[np.int64]:
        """`next` as mu-law or 16-bit codes, int64 [samples] or [count, samples]."""
        return self._quantizer.encode(self.next(samples))

    def _played(self, audio: NDArray[Any]) -> Audio:
        """Audio [n] or [streams, n] as it is played, quantised: [streams, n]."""
        quantised = self._quantizer.decode(self._quantizer.encode(audio))
        return np.broadcast_to(quantised, (self._streams, audio.shape[-1]))

    def _at(self, state: engines.State, origin: int, past: Audio) -> GuidedProgress:
        """The progress of a state at the beginning of a block."""
        return GuidedProgress(state, origin, past, past[:, :0], (state.copy(), state.copy()))

    def _primed(self, codes: NDArray[np.int64]) -> Progress:
        progress, state = self._progress, self._progress.state.copy()
        self._continue(state, progress)
        self._engine.prime(state, self._row_of_each(codes))
        past = np.concatenate([progress.recent, self._quantizer.decode(codes)], axis=1)[:, -progress.past.shape[1] :]
        return self._at(state, progress.origin + codes.shape[1], past)

    def _branched(self, new_uniforms: bool) -> Progress:
        progress, state = self._progress, self._progress.state.copy()
        if not new_uniforms:
            return dataclasses.replace(progress, state=state, scratch=(state.copy(), state.copy()))
        self._continue(state, progress)
        return self._at(state, self.position, progress.recent)

    def _continue(self, state: engines.State, progress: GuidedProgress) -> None:
        """Advance a state before the current block by the samples of the block that were returned."""
        self._condition(state)
        if progress.taken:
            self._engine.prime(state, self._row_of_each(self._quantizer.encode(progress.block[:, : progress.taken])))

    def _next_block(self, progress: GuidedProgress) -> GuidedProgress:
        """Generate the samples up to the end of a frame."""
        (state, ahead), past = progress.scratch, progress.recent
        state.assign(progress.state)
        self._continue(state, progress)
        ahead.assign(state)
        conditioning = state.conditioning
        assert conditioning is not None
        position, left = state.position, conditioning.left(state.position)
        assert left is not None
        samples = min(self._hop - position % self._hop, left)
        drawn = min(samples + self._refiners[0].tail, left)
        audio = self._quantizer.decode(self._draw(ahead, progress.origin, drawn))  # [streams x particles, drawn]
        if drawn == left:  # windows of the last frames extend beyond the features' end
            audio = np.pad(audio, ((0, 0), (0, self._refiners[0].tail)))
        particles = audio.reshape(self._streams, self._rows, -1)
        block = np.empty((self._streams, samples), np.float32)
        for stream, refiner in enumerate(self._refiners):
            refined = [refiner(past[stream], particle, position) for particle in particles[stream]]
            block[stream] = min(refined, key=lambda result: result[1])[0][:samples]
        return GuidedProgress(state, progress.origin, past, block, (progress.state, ahead))


def _check_memory(engine: engines.Engine[Any], particles: int, streams: int, features: ArrayLike | None) -> None:
    """Raises `ValueError` if the states of all particles, and the copies of their features, do not fit into memory."""
    if not is_integer(streams):
        return  # the session refuses it
    shared = streams == 1  # copies of the features of one stream share their memory
    size = STATES * engine.state_bytes + (0 if shared or features is None else 4 * math.prod(np.shape(features)[-2:]))
    check_memory(f"particles = {particles:,} of {shown(streams)} streams", particles * streams * size, "use fewer")
