"""Generation frame by frame with a frame model (`wavenet.frame_model`): draws from its distributions. NumPy only.

For each next frame, in this order: a component of the source's mixture, loudness, voicing and pitch; then candidates of
the shape, each of a component of its mixture. Harmonics are a fine pattern over the bands, which a sum of independent
deviations in every component often destroys. The first candidate whose decoded frame shows the drawn pitch is taken;
that is rejection sampling (von Neumann 1951) with a limited number of trials.

The temperature scales the deviations of the shape in what is returned; the network's past is always the frame as it was
drawn, without temperature. So loudness, voicing and pitch are the same at every temperature, and with them level and
pauses. A past at another temperature is one that training never sees: of a voice with reverberation, 0.8 made a third
of the frames silent instead of a quarter.

Small errors of every frame add up: a stream that has become quieter, or has fewer voiced frames, than the recordings
stays so, as its past says so. Where the share of voiced frames in the recordings is known, the differences of the last
seconds (`Drift`) are fed back into the distributions that are drawn from: the voicing's logits, and the means of
loudness and pitch.

The random numbers of a frame are `uniforms_per_frame` numbers of the stream's own generator, whatever is drawn; they
are independent of those that the samples of the stream are drawn with.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import MelConfig
from wavenet.engine.frame_step import FrameNetwork, FrameState, SourceParameters, sigmoid
from wavenet.engine.sampling import uniform_generator
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model_config import CODING, LOUDNESS, PITCH, SOURCE, VOICING, FrameModelConfig
from wavenet.sampling_config import checked_temperature

CANDIDATES = 8  # of the shape of each frame
PERIODIC = (
    0.15  # cepstral peak at the drawn pitch from which a candidate is taken; most voiced frames of recordings have it
)

START_FRAMES = 50  # of silence, which a stream continues: half a second at a hop of 10 ms
DRIFT_SECONDS = 3.0  # time constant of the average differences from the recordings
VOICING_FEEDBACK = 12.0  # of the voicing's logits, per difference of the share of voiced frames
MEAN_FEEDBACK = 0.5  # of loudness and pitch, in deviations of linear prediction, per difference of encoded values

Array = NDArray[np.float32]
Curve = NDArray[np.float64]


class Drift(NamedTuple):
    """Exponential averages of the differences between the last frames of B streams and the recordings, [B] each."""

    voiced: Array  # share of voiced frames
    loudness: Array  # encoded; zero is the mean of the recordings
    pitch: Array  # the same, of voiced frames


class FrameSampler:
    """B streams of frames drawn from a frame model, in calls of any size.

    mel: parameters of the frames. weights: arrays by their names in `FrameModelConfig.shapes`.
    seed: of the random numbers; stream i uses those of seed + i.
    temperature: see the module; 0 is without deviations of the shape. It may be changed at any time.
    speaker: index of the voice, or shares of all voices, [V] or [B, V]; None: a model of a single voice.
    voiced: share of voiced frames in the recordings of each voice [V], which streams keep; empty: they drift.
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
        voiced: Sequence[float] = (),
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
        self._speaker, self._voiced = _broadcast(shares), np.array(voiced, np.float32)
        self._share = self._voiced_share(shares)
        self._streams = streams
        self._drift_decay = math.exp(-mel.hop / mel.sample_rate / DRIFT_SECONDS)
        self.reseed(seed)
        self.restart()

    def reseed(self, seed: int) -> None:
        """Draw the next frames with the first random numbers of a seed. Raises `ValueError` for an invalid one."""
        self._generators = [uniform_generator(seed + stream, of_frames=True) for stream in range(self._streams)]

    def restart(self) -> None:
        """Continue as if there had been no frame before, with the next random numbers."""
        self._state = FrameState(self.network.config, self._streams)
        self._last: Array | None = None  # drawn or given, and not yet in the state
        self._drift = Drift(*np.zeros((3, self._streams), np.float32))

    def start(self) -> None:
        """Continue silence, with the next random numbers, as a new session does."""
        mel = self.coding.mel
        self.restart()
        self.prime(np.full((mel.bands, START_FRAMES), mel.silence, np.float32))

    def speak(self, speaker: ArrayLike | None) -> None:
        """Continue with another voice; speaker and errors as of the constructor."""
        shares = _shares(speaker, self._voices)
        self.network, self._speaker = self.network.spoken_by(shares), _broadcast(shares)
        self._share = self._voiced_share(shares)

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
        other._state = self._state.copy()  # other arrays are replaced, never written to
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
        source = self._draw_source(self._corrected(given), choices[:, :2], deviations[:, :2], wanted)  # [B, 3]
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
        self._follow(source, wanted)
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
        is_voiced = choices[:, 1] < sigmoid(source.voicing_logit[component])
        pitch = source.pitch[component] + np.exp(source.pitch_log_scale[component]) * noise[:, 1]
        loudness, pitch = np.where(np.isnan(wanted), (loudness, pitch), wanted)
        pitch = np.where(is_voiced, pitch, 0)
        drawn = np.stack([loudness, is_voiced, pitch], axis=1).astype(np.float32)
        return drawn.clip(*self._limits[:, :SOURCE])

    def _chosen(self, frames: Array) -> NDArray[np.intp]:
        """The candidate [B] of each stream's [B, J, D]: the first that is periodic enough, or the most periodic one."""
        if self.candidates == 1:
            return np.zeros(len(frames), np.intp)
        enough = self.coding.periodicity(frames, self._speaker).clip(max=PERIODIC)  # [B, J]
        return np.where(frames[..., VOICING] > 0.5, enough, 0).argmax(axis=1)  # any of those that are unvoiced

    def _voiced_share(self, shares: Array | None) -> Array | None:
        """The share of voiced frames [] or [B] of a speaker; None: not known."""
        if not len(self._voiced):
            return None
        return self._voiced[0] if shares is None else np.sum(shares * self._voiced, axis=-1)

    def _corrected(self, source: SourceParameters) -> SourceParameters:
        """The distribution that brings the streams back to the recordings."""
        if self._share is None:
            return source
        voiced, loudness, pitch = (difference[:, None] for difference in self._drift)
        deviation = self.network.deviation
        return source._replace(
            voicing_logit=source.voicing_logit - np.float32(VOICING_FEEDBACK) * voiced,
            loudness=source.loudness - np.float32(MEAN_FEEDBACK) * deviation[LOUDNESS] * loudness,
            pitch=source.pitch - np.float32(MEAN_FEEDBACK) * deviation[PITCH] * pitch,
        )

    def _follow(self, source: Array, wanted: Array) -> None:
        """Update the drift with frames that have these sources [B, 3]; what was not drawn, but wanted, has none."""
        if self._share is None:
            return
        has_pitch, (given_loudness, given_pitch) = source[:, VOICING] > 0.5, np.isfinite(wanted)
        latest = Drift(
            source[:, VOICING] - self._share,
            np.where(given_loudness, self._drift.loudness, source[:, LOUDNESS]),
            np.where(has_pitch & ~given_pitch, source[:, PITCH], self._drift.pitch),
        )
        decay = np.float32(self._drift_decay)
        self._drift = Drift(*(decay * old + (1 - decay) * new for old, new in zip(self._drift, latest, strict=True)))


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
