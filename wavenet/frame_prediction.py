"""Linear prediction of encoded frames, each dimension by itself: where a frame model starts, and its reference levels.

    prediction of y_t = sum over p = 0 ... P - 1 of coefficients[p] y_(t-1-p)        residual: of deviation `deviation`

The likelihood of frames under these predictions is a Gaussian of each dimension, with two exceptions: voicing is a
Markov chain (its probability depends on the last frame's voicing), and the pitch of a voiced frame after an unvoiced
one has a standard normal distribution. These are the levels that a frame model has to be better than: all are densities
of the same encoded frames, in nats per frame. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavenet.frame_model_config import LOUDNESS, PITCH, SOURCE, VOICING

LEAST_DEVIATION = 0.05  # lower limit of a deviation: encoded dimensions have unit variance
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """A linear prediction of every dimension of encoded frames [N, D] from the last P frames.

    coefficients [P, D]: of the last frame first. deviation [D]: standard deviation of the residual.
    voicing [2]: probability that a frame is voiced after one that is not, and after one that is.
    """

    coefficients: Array
    deviation: Array
    voicing: Array

    @staticmethod
    def fit(recordings: Sequence[NDArray[np.floating]], order: int) -> FramePrediction:
        """By least squares (Makhoul 1975, "Linear prediction: a tutorial review", section II, covariance method).

        The pitch is predicted to stay, since it has gaps. recordings: one or more, encoded frames [N, D]
        each; those of `order` frames or fewer have no part in it.
        """
        dimensions = recordings[0].shape[1]
        products, targets = np.zeros((dimensions, order, order)), np.zeros((dimensions, order))
        count = 0
        for frames in recordings:
            past, target = _pairs(frames, order)
            products += np.einsum("npd,nqd->dpq", past, past)
            targets += np.einsum("npd,nd->dp", past, target)
            count += len(target)
        products += 1e-6 * max(1, count) * np.eye(order)  # defined for constant dimensions, too
        coefficients = np.zeros((order, dimensions))
        coefficients[:] = np.linalg.solve(products, targets[..., None])[..., 0].T
        coefficients[:, VOICING : PITCH + 1] = 0
        coefficients[0, PITCH] = 1
        return _with_deviations(coefficients, recordings)

    @staticmethod
    def repeat(recordings: Sequence[NDArray[np.floating]]) -> FramePrediction:
        """The next frame is the last one; the deviations are those of the changes in these recordings."""
        return _with_deviations(np.ones((1, recordings[0].shape[1])), recordings)

    def predict(self, frames: NDArray[np.floating]) -> Array:
        """The prediction [N, D] of the frame after each of the frames [N, D]; before them there are zeros."""
        order = len(self.coefficients)
        padded = np.concatenate([np.zeros((order - 1, frames.shape[1])), frames])
        return sum(self.coefficients[p] * padded[order - 1 - p :][: len(frames)] for p in range(order))

    def nats(self, frames: NDArray[np.floating]) -> tuple[Array, Array]:
        """-ln p of the frames [N, D] from the second on: of their sources [N - 1], and of their shapes [N - 1]."""
        last, target = frames[:-1].astype(np.float64), frames[1:].astype(np.float64)
        error = (target - self.predict(last)) / self.deviation
        gaussian = 0.5 * np.square(error) + np.log(self.deviation) + LOG_SQRT_2PI  # [N - 1, D]
        chance = self.voicing[last[:, VOICING].astype(np.int64)]
        is_voiced, was_voiced = target[:, VOICING] > 0.5, last[:, VOICING] > 0.5
        onset = 0.5 * np.square(target[:, PITCH]) + LOG_SQRT_2PI
        pitch = np.where(is_voiced, np.where(was_voiced, gaussian[:, PITCH], onset), 0)
        source = gaussian[:, LOUDNESS] - np.log(np.where(is_voiced, chance, 1 - chance)) + pitch
        return source, gaussian[:, SOURCE:].sum(1)


@dataclass(frozen=True)
class ReferenceLevels:
    """Nats per frame of held-out recordings under two predictions fitted to the training recordings."""

    repeat: float  # the last frame again
    linear: float  # linear prediction


def reference_levels(
    training: Sequence[NDArray[np.floating]], held_out: Sequence[NDArray[np.floating]], order: int
) -> ReferenceLevels:
    """The reference levels of held-out recordings: encoded frames [N, D] each. order: of the linear prediction."""
    levels = []
    for prediction in (FramePrediction.repeat(training), FramePrediction.fit(training, order)):
        nats = [np.sum(prediction.nats(frames)) for frames in held_out]
        levels.append(float(sum(nats) / max(1, sum(len(frames) - 1 for frames in held_out))))
    return ReferenceLevels(*levels)


def _with_deviations(coefficients: Array, recordings: Sequence[NDArray[np.floating]]) -> FramePrediction:
    """A prediction with the deviations of its residual, and the probabilities of voicing, in these recordings."""
    order, dimensions = coefficients.shape
    squares, counts = np.zeros(dimensions), np.zeros(dimensions)
    voicing = np.ones((2, 2))  # [before, after]: Laplace's rule of succession
    for frames in recordings:
        past, target = _pairs(frames, order)
        residual = np.square(target - np.einsum("npd,pd->nd", past, coefficients))
        before, after = past[:, 0, VOICING] > 0.5, target[:, VOICING] > 0.5
        residual[~(before & after), PITCH] = 0
        squares += residual.sum(0)
        counts += len(target)
        counts[PITCH] += np.sum(before & after) - len(target)
        np.add.at(voicing, (before.astype(np.int64), after.astype(np.int64)), 1)
    deviation = np.where(counts > 0, np.sqrt(squares / np.maximum(counts, 1)), 1)
    deviation[VOICING] = 1
    return FramePrediction(coefficients, np.maximum(deviation, LEAST_DEVIATION), voicing[:, 1] / voicing.sum(1))


def _pairs(frames: NDArray[np.floating], order: int) -> tuple[Array, Array]:
    """The `order` frames before each frame [n, order, D], the last one first, and that frame [n, D]; n may be 0."""
    count, values = max(0, len(frames) - order), frames.astype(np.float64)
    past = [values[order - 1 - p : order - 1 - p + count] for p in range(order)]
    return np.stack(past, axis=1), values[len(values) - count :]
