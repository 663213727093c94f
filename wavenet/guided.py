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
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import engine as engines
from wavenet.checks import is_integer, shown
from wavenet.config import ModelConfig, SamplingConfig
from wavenet.consistency import BlockRefiner
from wavenet.engine.conditioning import Speaker
from wavenet.session import Progress, Session, checked_samples

ITERATIONS = 10  # for each frame; more agree better until the whole audio is refined, and the same after that
MAX_PARTICLES = 1_024

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class GuidedProgress(Progress):
    """`state` is that before the current block, of which `taken` samples were returned."""

    past: Audio  # the samples before the block, as many as a `BlockRefiner` takes
    block: Audio
    taken: int = 0

    @property
    def heard(self) -> Audio:
        """As many samples before the next one as `past` has."""
        return np.concatenate([self.past, self.block[: self.taken]])[-len(self.past) :]


class GuidedSession(Session):
    """A single stream, generated with guidance; as `Session` in all other respects.

    It is ahead of the samples that it returns: options that are assigned act from the next frame on. An interrupted
    call changes nothing.
    """

    _progress: GuidedProgress

    def __init__(
        self,
        engine: engines.Engine[Any],
        options: SamplingConfig,
        seed: int,
        particles: int,
        count: int | None = None,
        speaker: Speaker | None = None,
        features: ArrayLike | None = None,
        prime: ArrayLike | None = None,
    ) -> None:
        """Arguments as of `Generator.session`. Particle i is drawn with the uniform numbers of seed + i."""
        check_particles(particles, engine.config, count)
        particles = int(particles)
        super().__init__(engine, options, seed, particles, speaker, _of_one(features, 3), _of_one(prime, 2))
        self._single = count is None
        mel, inputs = engine.config.features, self._inputs.features
        assert mel is not None and inputs is not None  # as checked
        self._hop = mel.hop
        self._refiner = BlockRefiner(inputs[0], mel, ITERATIONS)
        past = np.zeros(self._refiner.past, np.float32)
        if prime is not None:
            primed = self._quantizer.decode(self._quantizer.encode(np.asarray(_of_one(prime, 2))))
            past = np.concatenate([past, primed])[-len(past) :]
        self._progress = GuidedProgress(self._progress.state, self._progress.origin, past, past[:0])

    @property
    def lookahead(self) -> int:
        """Samples that are generated beyond a frame's first one before the frame is returned."""
        return self._hop + self._refiner.tail

    @property
    def features(self) -> NDArray[np.float32] | None:
        """The features, [1, bands, N]. Do not write to them."""
        return None if self._inputs.features is None else self._inputs.features[:1]

    @property
    def position(self) -> int:
        """Samples returned or primed so far."""
        progress = self._progress
        return progress.state.position + progress.taken

    def next(self, samples: int) -> Audio:
        """The next `samples` samples in [-1, 1]: float32 [samples], or [1, samples] with a `count` of 1.

        Raises `ValueError`, and generates none, if the features end earlier: `left` is the number of samples left.
        """
        samples = checked_samples(samples)
        with self._lock:
            progress, parts = self._progress, []
            conditioning = progress.state.conditioning
            assert conditioning is not None
            conditioning.check(self.position, samples)
            while samples:
                if progress.taken == len(progress.block):
                    progress = self._next_block(progress)
                part = progress.block[progress.taken :][:samples]
                progress = dataclasses.replace(progress, taken=progress.taken + len(part))
                samples -= len(part)
                parts.append(part)
            self._progress = progress
        audio = np.concatenate(parts)
        return audio if self._single else audio[None]

    def next_codes(self, samples: int) -> NDArray[np.int64]:
        """`next` as mu-law or 16-bit codes, int64 [samples] or [1, samples]."""
        return self._quantizer.encode(self.next(samples))

    def prime(self, audio: ArrayLike) -> None:
        """Continue as if `audio` had been generated: float [n] or [1, n]. Otherwise as `Session.prime`."""
        super().prime(_of_one(audio, 2))

    def _primed(self, codes: NDArray[np.int64]) -> Progress:
        progress = self._progress
        state = self._current_state(progress)
        self._engine.prime(state, codes)
        past = np.concatenate([progress.heard, self._quantizer.decode(codes[0])])[-len(progress.past) :]
        return GuidedProgress(state, progress.origin + codes.shape[1], past, past[:0])

    def _branched(self, new_uniforms: bool) -> Progress:
        progress = self._progress
        if not new_uniforms:
            return dataclasses.replace(progress, state=progress.state.copy())
        return GuidedProgress(self._current_state(progress), self.position, progress.heard, progress.past[:0])

    def _current_state(self, progress: GuidedProgress) -> engines.State:
        """A new state, after the samples of the current block that were returned."""
        state = progress.state.copy()
        self._condition(state)
        if progress.taken:
            codes = self._quantizer.encode(progress.block[: progress.taken])
            self._engine.prime(state, np.broadcast_to(codes, (state.streams, len(codes))))
        return state

    def _next_block(self, progress: GuidedProgress) -> GuidedProgress:
        """Generate the samples up to the end of a frame."""
        state, past = self._current_state(progress), progress.heard
        conditioning = state.conditioning
        assert conditioning is not None
        position, left = state.position, conditioning.left(state.position)
        assert left is not None
        samples = min(self._hop - position % self._hop, left)
        ahead = min(samples + self._refiner.tail, left)
        audio = self._quantizer.decode(self._draw(state.copy(), progress.origin, ahead))  # [particles, ahead]
        if ahead == left:  # windows of the last frames extend beyond the features' end
            audio = np.pad(audio, ((0, 0), (0, self._refiner.tail)))
        refined = [self._refiner(past, particle, position) for particle in audio]
        best, _ = min(refined, key=lambda result: result[1])
        return GuidedProgress(state, progress.origin, past, best[:samples])


def check_particles(particles: int, config: ModelConfig, count: int | None = None) -> None:
    """Raises `ValueError` for a number of particles that is out of range or that this model cannot use."""
    if not is_integer(particles) or not 0 <= particles <= MAX_PARTICLES:
        raise ValueError(f"particles = {shown(particles)}: must be a whole number from 0 (none) to {MAX_PARTICLES:,}")
    if config.features is None:
        raise ValueError(f"particles = {particles}: this model has no features to compare audio with")
    if 2 * config.features.hop > config.features.window:
        raise ValueError(f"particles = {particles}: needs windows that overlap by half, which this model's do not")
    if count is not None and count != 1:
        raise ValueError(f"particles = {particles}: for one stream, not for count = {shown(count)}")


def _of_one(array: Any, dimensions: int) -> Any:
    """An array for a batch of one stream, without that axis."""
    if isinstance(array, np.ndarray) and array.ndim == dimensions and len(array) == 1:
        return np.asarray(array[0])
    return array
