"""Generation frame by frame with a frame model (`wavenet.frame_model`): cached queues, and draws. NumPy only.

For each next frame, in this order: a component of the source's mixture, loudness, voicing and pitch; then candidates of
the shape, each of a component of its mixture. Voicing and pitch are functions of a frame, and a sum of independent
deviations in every component often contradicts those that were drawn. The first candidate whose decoded frame has them
is taken; that is rejection sampling (von Neumann 1951) with a limited number of trials.

The temperature scales the deviations of the shape in what is returned; the network's past is always the frame as it was
drawn, without temperature. So loudness, voicing and pitch are the same at every temperature, and with them level and
pauses. A past at another temperature is one that training never sees: of a voice with reverberation, 0.8 made a third
of the frames silent instead of a quarter.

The random numbers of a frame are `uniforms_per_frame` numbers of the stream's own generator, whatever is drawn; they
are independent of those that the samples of the stream are drawn with. A stream's results do not depend on the other
streams: every product is computed for one stream at a time, and not by a BLAS library, whose sums depend on the number
of rows and threads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import MelConfig
from wavenet.engine.sampling import uniform_generator
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model_config import (
    BUMP_RANGE,
    BUMPS,
    CODING,
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
from wavenet.sampling_config import checked_temperature

CANDIDATES = 8  # of the shape of each frame
PITCH_TOLERANCE = 0.06  # of ln F0: a candidate within a semitone of the drawn pitch is taken
CENTRES = np.linspace(-BUMP_RANGE, BUMP_RANGE, BUMPS, dtype=np.float32)

Array = NDArray[np.float32]
Curve = NDArray[np.float64]


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
        return self.select(np.arange(self.frames.shape[1]))

    def select(self, streams: NDArray[np.integer]) -> FrameState:
        """A new state whose stream i continues as an exact copy of stream `streams[i]`."""
        other = object.__new__(FrameState)
        other.step = self.step
        other.queues = [queue[:, streams] for queue in self.queues]
        other.frames, other.h = self.frames[:, streams], self.h[streams]
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
        self._prediction, self._deviation = self._weights["prediction"], self._weights["deviation"]

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
            z = np.tanh(a) * _sigmoid(b)  # [B, R]
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
        deviation, log_deviation = self._deviation, np.log(self._deviation)
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
        deviation = self._deviation[SOURCE:]
        return ShapeParameters(
            _log_softmax(logits),
            predicted[:, None, SOURCE:] + deviation * means.reshape(-1, mixtures, components),
            np.log(deviation) + scales.reshape(-1, mixtures, components).clip(MIN_LOG_SCALE, MAX_LOG_SCALE),
        )

    def _linear(self, name: str, x: Array) -> Array:
        product = _product(self._weights[f"{name}.weight"], x)
        bias = self._weights.get(f"{name}.bias")
        return product if bias is None else product + bias


class FrameSampler:
    """B streams of frames drawn from a frame model, in calls of any size.

    mel: parameters of the frames. weights: arrays by their names in `FrameModelConfig.shapes`.
    seed: of the random numbers; stream i uses those of seed + i.
    temperature: see the module; 0 is without deviations of the shape. It may be changed at any time.
    speaker: index of the voice, or shares of all voices, [V] or [B, V]; None: a model of a single voice.
    candidates: shapes that are drawn for each frame.
    Raises `ValueError` for a seed, temperature, number of streams, or speaker that is not allowed.
    """

    def __init__(
        self,
        config: FrameModelConfig,
        mel: MelConfig,
        weights: Mapping[str, ArrayLike],
        streams: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        speaker: ArrayLike | None = None,
        candidates: int = CANDIDATES,
    ) -> None:
        if streams < 1 or candidates < 1:
            raise ValueError(f"streams = {streams}, candidates = {candidates}: must be 1 or more")
        tensors = {name: np.asarray(array, np.float32) for name, array in weights.items()}
        self._voices = len(tensors["speaker.weight"]) if "speaker.weight" in tensors else 0
        shares = _shares(speaker, self._voices)
        self.coding = FrameCoding.from_tensors(
            mel, {name.removeprefix(CODING): tensor for name, tensor in tensors.items() if name.startswith(CODING)}
        )
        self.network = FrameNetwork(config, tensors, shares)
        self.temperature, self.candidates = checked_temperature(temperature), candidates
        self._limits = self.coding.limits.astype(np.float32)  # [2, D]
        self._speaker = _broadcast(shares)
        self._streams = streams
        self.reseed(seed)
        self.restart()

    def reseed(self, seed: int) -> None:
        """Draw the next frames with the first random numbers of a seed. Raises `ValueError` for an invalid one."""
        self._generators = [uniform_generator(seed + stream, of_frames=True) for stream in range(self._streams)]

    def restart(self) -> None:
        """Continue as if there had been no frame before, with the next random numbers."""
        self._state = FrameState(self.network.config, self._streams)
        self._last: Array | None = None  # drawn or given, and not yet in the state

    def speak(self, speaker: ArrayLike | None) -> None:
        """Continue with another voice; speaker and errors as of the constructor."""
        shares = _shares(speaker, self._voices)
        self.network, self._speaker = self.network.spoken_by(shares), _broadcast(shares)

    @property
    def uniforms_per_frame(self) -> int:
        """Random numbers that each frame takes: one for each choice, and one for each deviation, an even number."""
        deviations = 2 + self.network.config.components * self.candidates
        return 2 + self.candidates + deviations + deviations % 2

    def next(self, count: int, pitch: Curve | None = None, loudness: Curve | None = None) -> Array:
        """The next log-mel frames of every stream, [B, bands, count].

        pitch, loudness: in Hz and dBFS, of each frame [count]; NaN, None: it is drawn. The pitch is that of the frames
        that are voiced, which are drawn as without it.
        """
        return self.coding.decode(self.draw(count, pitch, loudness), self._speaker).swapaxes(1, 2)

    def draw(self, count: int, pitch: Curve | None = None, loudness: Curve | None = None) -> Array:
        """The next encoded frames of every stream, [B, count, D]; see `next` and `wavenet.frame_coding`."""
        tones = np.full((self._streams, count), np.nan, np.float32)
        if pitch is not None:
            tones[:] = self.coding.encoded_pitch(pitch, self._speaker)
        levels = np.full(count, np.nan) if loudness is None else loudness
        dimensions = self.network.config.dimensions
        frames = np.empty((self._streams, count, dimensions), np.float32)
        for index in range(count):
            before = np.zeros((self._streams, dimensions), np.float32) if self._last is None else self._last
            self.network.advance(self._state, before)
            uniforms = np.stack([generator.random(self.uniforms_per_frame) for generator in self._generators])
            self._last, frames[:, index] = self._draw(uniforms, tones[:, index], levels[index], before)
        return frames

    def prime(self, frames: NDArray[np.floating]) -> None:
        """Continue after log-mel frames [B, bands, N], or [bands, N] for all streams, as if they had been drawn.

        Encoded they are clamped as drawn ones are.
        """
        rows = frames.swapaxes(-1, -2)  # [..., N, bands]
        rows = np.broadcast_to(rows, (self._streams, *rows.shape[-2:]))
        for frame in self.coding.encode(rows, self._speaker).clip(*self._limits).swapaxes(0, 1):  # [B, D]
            if self._last is not None:
                self.network.advance(self._state, self._last)
            self._last = np.ascontiguousarray(frame)

    def copy(self) -> FrameSampler:
        """An independent sampler whose streams continue exactly as these would."""
        other = object.__new__(FrameSampler)
        other.__dict__.update(self.__dict__)
        other._state = self._state.copy()  # `_last` is replaced, never written to
        other._generators = copy.deepcopy(self._generators)
        return other

    def _draw(self, uniforms: NDArray[np.float64], tone: Array, level: float, before: Array) -> tuple[Array, Array]:
        """The next frames [B, D], without and with the temperature, for random numbers [B, uniforms_per_frame].

        tone: encoded pitch [B]; level: dBFS. NaN: drawn. before: the frames [B, D] before these, which estimate the
        loudness at that level: exactly it depends on the spectrum, which is drawn later.
        """
        trials, network, rows = self.candidates, self.network, np.arange(len(uniforms))
        choices, deviations = uniforms[:, : 2 + trials], _normal(uniforms[:, 2 + trials :])
        predicted = network.predicted(self._state)
        given = network.source(self._state, predicted)
        wanted = np.stack([self._at_level(before, level)[:, LOUDNESS], tone])
        source = self._draw_source(given, choices[:, :2], deviations[:, :2], wanted)  # [B, 3]
        shape = network.shape(self._state, source, predicted)
        components = np.stack([_choose(shape.log_weights, choices[:, 2 + j]) for j in range(trials)], axis=1)  # [B, J]
        size = network.config.components
        noise = deviations[:, 2 : 2 + trials * size].reshape(-1, trials, size)
        means, scales = (part[rows[:, None], components] for part in (shape.means, np.exp(shape.log_scales)))
        frames = np.empty((len(rows), trials, SOURCE + size), np.float32)
        frames[..., :SOURCE] = source[:, None]
        frames[..., SOURCE:] = means + scales * noise
        frames = frames.clip(*self._limits)
        chosen = rows, self._chosen(frames)
        drawn, returned = frames[chosen], frames[chosen]
        returned[:, SOURCE:] = means[chosen] + np.float32(self.temperature) * (scales * noise)[chosen]
        if not math.isnan(level):
            drawn, returned = self._at_level(drawn, level).clip(*self._limits), self._at_level(returned, level)
        return drawn, returned.clip(*self._limits)

    def _at_level(self, frames: Array, level: float) -> Array:
        """Frames [B, D] with the loudness that gives them a level in dBFS; NaN for NaN."""
        if math.isnan(level):
            return np.full_like(frames, np.nan)
        return self.coding.with_level(frames[:, None], np.array(level), self._speaker)[:, 0]

    def _draw_source(
        self, source: SourceParameters, choices: NDArray[np.float64], noise: Array, wanted: Array
    ) -> Array:
        """Loudness, voicing, voicing times pitch [B, 3]; wanted: loudness and pitch [2, B], not drawn unless NaN."""
        component = np.arange(len(choices)), _choose(source.log_weights, choices[:, 0])
        loudness = source.loudness[component] + np.exp(source.loudness_log_scale[component]) * noise[:, 0]
        is_voiced = choices[:, 1] < _sigmoid(source.voicing_logit[component])
        pitch = source.pitch[component] + np.exp(source.pitch_log_scale[component]) * noise[:, 1]
        loudness, pitch = np.where(np.isnan(wanted), (loudness, pitch), wanted)
        pitch = np.where(is_voiced, pitch, 0)
        drawn = np.stack([loudness, is_voiced, pitch], axis=1).astype(np.float32)
        return drawn.clip(*self._limits[:, :SOURCE])

    def _chosen(self, frames: Array) -> NDArray[np.intp]:
        """The candidate [B] of each stream's [B, J, D]: the first with the drawn voicing and pitch, or the nearest."""
        if self.candidates == 1:
            return np.zeros(len(frames), np.intp)
        error = self.coding.pitch_error(self.coding.decode(frames, self._speaker), frames, self._speaker)  # [B, J]
        return np.maximum(error, PITCH_TOLERANCE).argmin(axis=1)


def _shares(speaker: ArrayLike | None, voices: int) -> Array | None:
    """The shares of all voices that a speaker stands for. Raises `ValueError` as `FrameSampler`."""
    if speaker is None or not voices:
        if (speaker is None) == bool(voices):
            raise ValueError("speaker: give one" if voices else "this model has a single voice: leave out speaker")
        return None
    given = np.asarray(speaker)
    if given.ndim == 0:
        if not 0 <= int(given) < voices:
            raise ValueError(f"speaker = {int(given)}: must be from 0 to {voices - 1}")
        return np.eye(voices, dtype=np.float32)[int(given)]
    if given.shape[-1] != voices:
        raise ValueError(f"speaker: must be shares of {voices} voices, not of {given.shape[-1]}")
    return given.astype(np.float32)


def _broadcast(shares: Array | None) -> ArrayLike:
    """Shares [V] or [B, V] so that they broadcast with [B, frames, ...]; 0, an index, for a single voice."""
    return 0 if shares is None else shares[..., None, :] if shares.ndim == 2 else shares


def _product(weight: Array, x: Array) -> Array:
    """weight [out, in] times each row of x [B, in], [B, out]; see the module for how."""
    return np.stack([np.einsum("oi,i->o", weight, row) for row in x])


def _normal(uniforms: NDArray[np.float64]) -> Array:
    """Standard normal numbers [B, n] for uniform ones [B, n], n even (Box and Muller 1958)."""
    radius, angle = np.split(uniforms, 2, axis=1)
    radius = np.sqrt(-2 * np.log1p(-radius))
    return np.concatenate(
        [radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)], axis=1, dtype=np.float32
    )


def _choose(log_weights: Array, uniform: NDArray[np.float64]) -> NDArray[np.intp]:
    """The mixture component [B] that a uniform number [B] selects from log weights [B, M]."""
    cumulative = np.cumsum(np.exp(log_weights.astype(np.float64)), axis=1)
    return (cumulative > uniform[:, None] * cumulative[:, -1:]).argmax(axis=1)


def _source_inputs(source: Array) -> Array:
    """As `wavenet.frame_model.source_inputs`: [B, 3] -> [B, 3 + bumps]."""
    distance = (source[:, PITCH:SOURCE] - CENTRES) * np.float32((BUMPS - 1) / (2 * BUMP_RANGE))
    return np.concatenate([source, np.exp(-0.5 * np.square(distance)) * source[:, VOICING:PITCH]], axis=1)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _sigmoid(x: Array) -> Array:
    return np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * x)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)
