"""One step of a frame model (`wavenet.frame_model`) with cached queues, for generation. NumPy only.

A stream's results do not depend on the other streams: every product is computed for one stream at a time, and not by a
BLAS library, whose sums depend on the number of rows and threads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.frame_model_config import (
    BUMP_RANGE,
    BUMPS,
    LOUDNESS,
    MAX_LOG_SCALE,
    MAX_PITCH_LOG_SCALE,
    MIN_LOG_SCALE,
    PITCH,
    SOURCE,
    SOURCE_PARAMETERS,
    VOICING,
    FrameModelConfig,
)

CENTRES = np.linspace(-BUMP_RANGE, BUMP_RANGE, BUMPS, dtype=np.float32)

Array = NDArray[np.float32]


class SourceParameters(NamedTuple):
    """The source's distribution of B streams; fields as of `wavenet.frame_model.SourceDistribution`, [B, M] each."""

    log_weights: Array
    loudness: Array
    loudness_log_scale: Array
    pitch: Array
    pitch_log_scale: Array
    voicing_logit: Array


class ShapeParameters(NamedTuple):
    """The shape's distribution of B streams; fields as of `wavenet.frame_model.ShapeDistribution`."""

    log_weights: Array  # [B, M]
    means: Array  # [B, M, K]
    log_scales: Array  # [B, M, K]


class FrameState:
    """What a frame model remembers of B streams: the past inputs of every layer, and the last frames."""

    def __init__(self, config: FrameModelConfig, streams: int) -> None:
        width, order = config.residual_channels, config.prediction_order
        self.step = 0
        self.queues = [
            np.zeros((dilation, streams, width), np.float32) for dilation in config.dilations
        ]  # ring buffers
        self.frames = np.zeros((order, streams, config.dimensions), np.float32)  # the last one first
        self.h = np.zeros((streams, config.skip_channels), np.float32)  # of the last frame

    def copy(self) -> FrameState:
        """An independent state that continues from the same frame."""
        other = copy.copy(self)
        other.queues = [queue.copy() for queue in self.queues]  # `frames` and `h` are replaced, never written to
        return other


class FrameNetwork:
    """The weights of a frame model, and one step of it; the equations are those of `wavenet.frame_model`.

    weights: arrays by their names in `FrameModelConfig.shapes`. speaker: shares of all voices [V] or [B, V], for a
    model with speakers.
    Raises `KeyError` for an array that is missing.
    """

    def __init__(
        self, config: FrameModelConfig, weights: Mapping[str, ArrayLike], speaker: ArrayLike | None = None
    ) -> None:
        self.config = config
        self._weights = {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
        # [2R, 2R]: the weights of both taps side by side
        taps = [self._weights[f"layers.{layer}.dilated.weight"] for layer in range(config.layers)]  # [2, 2R, R] each
        self._taps = [np.ascontiguousarray(np.concatenate(list(both), axis=1)) for both in taps]
        self._gate_bias = self._gate_biases(speaker)  # [2R] or [B, 2R] for each layer
        self._prediction, self.deviation = self._weights["prediction"], self._weights["deviation"]

    def spoken_by(self, speaker: ArrayLike | None) -> FrameNetwork:
        """The same network for other shares of the voices; the weights are shared."""
        other = copy.copy(self)
        other._gate_bias = self._gate_biases(speaker)
        return other

    def _gate_biases(self, speaker: ArrayLike | None) -> list[Array]:
        biases = [self._weights[f"layers.{layer}.dilated.bias"] for layer in range(self.config.layers)]
        if speaker is None:
            return biases
        gates = np.asarray(speaker, np.float32) @ self._weights["speaker.weight"]  # [..., L*2R]
        return [bias + own for bias, own in zip(biases, np.split(gates, self.config.layers, axis=-1), strict=True)]

    def advance(self, state: FrameState, frames: Array) -> None:
        """Append one frame [B, D] to each stream; afterwards `state.h` is that of the distribution of the next."""
        config, gated = self.config, []
        x = self._linear("input", frames)  # [B, R]
        for layer, queue in enumerate(state.queues):
            slot = state.step % len(queue)
            gates = _product(self._taps[layer], np.concatenate([queue[slot], x], axis=1)) + self._gate_bias[layer]
            queue[slot] = x
            a, b = np.split(gates, 2, axis=1)
            z = np.tanh(a) * sigmoid(b)  # [B, R]
            gated.append(z)
            if layer < config.layers - 1:
                x = x + self._linear(f"layers.{layer}.residual", z)
        state.h = _relu(self._linear("skip", np.concatenate(gated, axis=1)))  # [B, S]
        state.frames = np.concatenate([frames[None], state.frames[:-1]])
        state.step += 1

    def predicted(self, state: FrameState) -> Array:
        """The linear prediction [B, D] of the next frame."""
        return np.sum(self._prediction[:, None] * state.frames, axis=0, dtype=np.float32)

    def source(self, state: FrameState, predicted: Array) -> SourceParameters:
        """The distribution of the next source."""
        hidden = _relu(self._linear("source.hidden", state.h))
        outputs = self._linear("source.output", hidden).reshape(len(hidden), -1, SOURCE_PARAMETERS)
        logit, loudness, loudness_scale, pitch, pitch_scale, voicing = np.moveaxis(outputs, -1, 0)  # [B, M] each
        deviation, log_deviation = self.deviation, np.log(self.deviation)
        return SourceParameters(
            _log_softmax(logit),
            predicted[:, LOUDNESS, None] + deviation[LOUDNESS] * loudness,
            log_deviation[LOUDNESS] + loudness_scale.clip(MIN_LOG_SCALE, MAX_LOG_SCALE),
            predicted[:, PITCH, None] + deviation[PITCH] * pitch,
            log_deviation[PITCH] + pitch_scale.clip(MIN_LOG_SCALE, MAX_PITCH_LOG_SCALE),
            voicing,
        )

    def shape(self, state: FrameState, source: Array, predicted: Array) -> ShapeParameters:
        """The distribution of the next shape, given the next source [B, 3]."""
        conditioned = self._linear("shape.hidden", state.h) + self._linear("shape.source", _source_inputs(source))
        outputs = self._linear("shape.output", _relu(conditioned))
        mixtures, components = self.config.mixtures, self.config.components
        logits, means, scales = np.split(outputs, [mixtures, mixtures * (1 + components)], axis=1)
        deviation = self.deviation[SOURCE:]
        return ShapeParameters(
            _log_softmax(logits),
            predicted[:, None, SOURCE:] + deviation * means.reshape(-1, mixtures, components),
            np.log(deviation) + scales.reshape(-1, mixtures, components).clip(MIN_LOG_SCALE, MAX_LOG_SCALE),
        )

    def _linear(self, name: str, x: Array) -> Array:
        product = _product(self._weights[f"{name}.weight"], x)
        bias = self._weights.get(f"{name}.bias")
        return product if bias is None else product + bias


def _product(weight: Array, x: Array) -> Array:
    """weight [out, in] times each row of x [B, in], [B, out]; see the module for how."""
    return np.stack([np.einsum("oi,i->o", weight, row) for row in x])


def _source_inputs(source: Array) -> Array:
    """As `wavenet.frame_model.source_inputs`: [B, 3] -> [B, 3 + bumps]."""
    distance = (source[:, PITCH:SOURCE] - CENTRES) * np.float32((BUMPS - 1) / (2 * BUMP_RANGE))
    return np.concatenate([source, np.exp(-0.5 * np.square(distance)) * source[:, VOICING:PITCH]], axis=1)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * x)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)
