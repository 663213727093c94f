"""What streams are told to play, and the rows that an engine adds to its gates for it. NumPy only.

`ConditioningInputs` are the user's side: which speaker, which features. `Conditioner` is the engines' side: its
conditioning (`conditioning.py`, the definition) once more in NumPy, so that sound can be made without PyTorch. It works
on chunks of frames that lie on a fixed grid, stream by stream: what a frame says depends neither on block sizes nor on
the streams beside it, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import PARALLEL_DILATIONS, POOLED_FRAMES, MelConfig, ModelConfig, suggest
from wavenet.nn.linear_prediction import predictor_rows

CHUNK = 32  # frames
ONE_THREAD = 2**18  # multiply-adds up to which OpenBLAS keeps a product to the thread that calls it

Speaker = str | Mapping[str, float]  # a name, or shares of several


@dataclass(frozen=True)
class ConditioningInputs:
    """What B streams are told; the arrays are not written to."""

    speaker: NDArray[np.float32] | None = None  # [B, speakers] shares
    features: NDArray[np.float32] | None = None  # [B, bands, N], from the first sample of the stream on


class ConditioningFrames(NamedTuple):
    """What a chunk says to B streams."""

    # [B, CHUNK + 2, L, 2G] for its frames and one more to each side, or [B, 1, L, 2G] for speakers alone; with the
    # gates' own bias
    rows: NDArray[np.float32]
    predictors: NDArray[np.float64] | None  # [B, CHUNK, order + 3]: see `wavenet.nn.linear_prediction`


def conditioning_inputs(
    config: ModelConfig, streams: int = 1, speaker: Speaker | None = None, features: ArrayLike | None = None
) -> ConditioningInputs:
    """ConditioningInputs for B streams of a model.

    speaker: a name, or a blend: a mapping of names to shares, which are made to add up to 1.
    features: log-mel frames [bands, N] for all streams, or [B, bands, N]; see `wavenet.features`.
    Raises `ValueError`, in one line, for what is missing, unknown or of another shape.
    """
    return ConditioningInputs(_shares(config, streams, speaker), _frames(config, streams, features))


def placeholder_inputs(config: ModelConfig, streams: int = 1, samples: int = 0) -> ConditioningInputs:
    """ConditioningInputs to measure with: `anything`, for B streams."""
    return conditioning_inputs(config, streams, *placeholder_conditioning(config, samples))


def placeholder_conditioning(config: ModelConfig, samples: int) -> tuple[str | None, NDArray[np.float32] | None]:
    """The first speaker, and silent features [bands, N] for so many samples, where the model is told them."""
    features = None
    if config.features is not None:
        frames = max(1, -(-samples // config.hop))
        features = np.full((config.features.bands, frames), config.features.silence, np.float32)
    return config.speakers[0] if config.speakers else None, features


def _shares(config: ModelConfig, streams: int, speaker: Speaker | None) -> NDArray[np.float32] | None:
    known = ", ".join(config.speakers)
    if speaker is None:
        if config.speakers:
            raise ValueError(f"speaker: name one of those that this model knows: {known}")
        return None
    if not config.speakers:
        raise ValueError(f"speaker = {speaker!r}: this model knows no speakers; leave it out")
    if not isinstance(speaker, (str, Mapping)):
        raise ValueError(f"speaker = {speaker!r}: must be a name, or a mapping of names to shares")
    parts = {speaker: 1.0} if isinstance(speaker, str) else dict(speaker)
    for name in parts:
        if name not in config.speakers:
            raise ValueError(f"speaker = {name!r}: unknown{suggest(str(name), config.speakers)}; known: {known}")
    try:
        shares = np.array([float(parts.get(name, 0.0)) for name in config.speakers])
    except (TypeError, ValueError):
        raise ValueError(f"speaker = {speaker!r}: shares must be numbers from 0") from None
    if not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() <= 0:
        raise ValueError(f"speaker = {speaker!r}: shares must be numbers from 0, and not all of them 0")
    return np.tile((shares / shares.sum()).astype(np.float32), (streams, 1))


def _frames(config: ModelConfig, streams: int, features: ArrayLike | None) -> NDArray[np.float32] | None:
    if features is None:
        if config.features is not None:
            raise ValueError("features: this model is driven by a mel spectrogram; give one, or use wavenet vocode")
        return None
    if config.features is None:
        raise ValueError("features: this model is driven by none; leave them out")
    frames = np.asarray(features)
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"features: must be floating-point log-mel values, not {frames.dtype}")
    if frames.ndim == 2:
        frames = np.broadcast_to(frames, (streams, *frames.shape))
    bands = config.features.bands
    if frames.ndim != 3 or len(frames) != streams or frames.shape[1] != bands:
        hint = "; they look transposed" if frames.ndim > 1 and frames.shape[-1] == bands else ""
        given = list(np.asarray(features).shape)
        raise ValueError(f"features: must be [{bands}, frames], as the model's bands = {bands} say, not {given}{hint}")
    if frames.shape[2] == 0:
        raise ValueError("features: there is no frame in them")
    # a copy: the caller may go on writing into its own, and PyTorch wants it writable
    with np.errstate(over="ignore"):
        copied = np.array(frames, dtype=np.float32, order="C")
    if not np.isfinite(copied).all():
        raise ValueError("features: they hold NaN, infinity or numbers beyond 1e38; replace those values first")
    return copied


def interpolation_position(offset: int, hop: int) -> tuple[int, float]:
    """Where in a chunk's rows, [CHUNK + 2], a sample lies: between row i and the next one, and how far along."""
    place = 1 + (offset - (hop - 1) / 2) / hop
    return math.floor(place), place - math.floor(place)


class Conditioner:
    """The network's conditioning, chunk by chunk."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Weights under the names of `config.shapes`."""
        self.config = config
        self.bias = np.stack([weights[f"layers.{layer}.dilated.bias"] for layer in range(config.layers)])  # [L, 2G]
        prefix = "conditioning."
        self.weights = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}

    @property
    def samples(self) -> int | None:
        """Samples of a chunk; None for speakers alone, who say the same all the time."""
        return None if self.config.features is None else CHUNK * self.config.hop

    def told(self, conditions: ConditioningInputs, chunk: int) -> ConditioningFrames:
        """What chunk 0, 1, ... says. Deterministic: always the same arithmetic in the same shapes."""
        speaker, features = conditions.speaker, conditions.features
        streams = len(cast(NDArray[np.float32], features if speaker is None else speaker))
        rows = [self._rows(conditions, stream, chunk) for stream in range(streams)]
        predictors = None
        if features is not None and self.config.linear_prediction:
            frames = self._around(features, chunk, 0).transpose(0, 2, 1)  # [B, CHUNK, bands]
            predictors = predictor_rows(frames, cast(MelConfig, self.config.features), self.config.linear_prediction)
        return ConditioningFrames(np.stack(rows), predictors)

    def _rows(self, conditions: ConditioningInputs, stream: int, chunk: int) -> NDArray[np.float32]:
        """[CHUNK + 2 or 1, L, 2G] of one stream."""
        told = self.bias.reshape(1, -1)
        if conditions.speaker is not None:
            embedded = conditions.speaker[stream] @ self.weights["speaker.weight"]
            told = told + np.einsum("oi,i->o", self.weights["from_speaker.weight"], embedded)  # in this thread, too
        if conditions.features is not None:
            around = self._around(conditions.features[stream], chunk, 1 + self.config.frame_reach).T  # [n, bands]
            mel = cast(MelConfig, self.config.features)
            frames = self._frame_network((around - np.float32(mel.mean)) / np.float32(mel.deviation))
            told = told + _product(frames, self.weights["from_frames.weight"])
        return told.reshape(-1, *self.bias.shape)

    def _around(self, features: NDArray[np.float32], chunk: int, margin: int) -> NDArray[np.float32]:
        """Frames of a chunk and `margin` to each side of features [..., bands, N], silent beyond their ends."""
        low, high, there = chunk * CHUNK - margin, (chunk + 1) * CHUNK + margin, features.shape[-1]
        around = np.full((*features.shape[:-1], high - low), cast(MelConfig, self.config.features).silence, np.float32)
        first, last = max(low, 0), min(high, there)
        if first < last:
            around[..., first - low : last - low] = features[..., first:last]
        return around

    def _frame_network(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, bands] -> [n - 2 reach, C], as `PlainFrames` and `ParallelFrames` do."""
        if self.config.frame_network == "plain":
            return self._conv("second", self._conv("first", rows, relu=True), relu=True)
        kept = len(rows) - 2 * POOLED_FRAMES
        seen = [self._conv("point", rows[POOLED_FRAMES:][:kept])]
        for rate in PARALLEL_DILATIONS:
            margin = POOLED_FRAMES - rate
            seen.append(self._conv(f"rate_{rate}", rows[margin : len(rows) - margin], rate))
        window = np.lib.stride_tricks.sliding_window_view(rows, 2 * POOLED_FRAMES + 1, axis=0)  # [kept, bands, frames]
        seen.append(self._conv("pooled", window.mean(axis=2)))
        return self._conv("joined", np.maximum(np.concatenate(seen, axis=1), 0), relu=True)

    def _conv(self, name: str, rows: NDArray[np.float32], rate: int = 1, relu: bool = False) -> NDArray[np.float32]:
        weight, bias = self.weights[f"frames.{name}.weight"], self.weights[f"frames.{name}.bias"]  # [taps, out, in]
        kept = len(rows) - (len(weight) - 1) * rate
        result = bias + sum(_product(rows[tap * rate :][:kept], weight[tap]) for tap in range(len(weight)))
        return np.maximum(result, 0) if relu else result


def _product(rows: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """rows [n, in] times weight [out, in], transposed: [n, out], in pieces small enough for one thread.

    A second thread gains nothing in products this small. It costs thirty times the product where another process has
    its core, and once awake it spins beside an engine that has threads of its own.
    """
    step = max(1, ONE_THREAD // rows.size)
    pieces = [rows @ weight[first : first + step].T for first in range(0, len(weight), step)]
    return np.concatenate(pieces, axis=1)


class ConditioningState:
    """The conditions of one state, and the chunk that it is in; a value that can be copied."""

    def __init__(self, conditioner: Conditioner, conditions: ConditioningInputs) -> None:
        self.conditioner = conditioner
        self.conditions = conditions
        self._chunk: int | None = None
        self._told: ConditioningFrames | None = None

    def change(self, conditions: ConditioningInputs) -> None:
        """From the next sample on."""
        self.conditions, self._told = conditions, None

    def copy(self) -> ConditioningState:
        other = ConditioningState(self.conditioner, self.conditions)
        other._chunk, other._told = self._chunk, self._told
        return other

    def pieces(self, position: int, samples: int) -> list[tuple[int, int, int]]:
        """The next samples cut where chunks end: (first, behind the last, place of the first in its chunk)."""
        length = self.conditioner.samples
        if length is None:
            return [(0, samples, 0)]
        cuts = [0, *range(length - position % length, samples, length), samples]
        return [(a, b, (position + a) % length) for a, b in pairwise(cuts) if a < b]

    def told(self, position: int) -> ConditioningFrames:
        """What the chunk that holds this sample says."""
        length = self.conditioner.samples
        chunk = 0 if length is None else position // length
        if self._told is None or self._chunk != chunk:
            self._chunk, self._told = chunk, self.conditioner.told(self.conditions, chunk)
        return self._told

    def check(self, position: int, samples: int) -> None:
        """Raises `ValueError` where the features end before these samples do."""
        features = self.conditions.features
        if features is None:
            return
        there = features.shape[-1] * self.conditioner.config.hop
        if position + samples > there:
            raise ValueError(
                f"the features end after {there:,} samples ({features.shape[-1]:,} frames): at sample {position:,} "
                f"there are {max(0, there - position):,} left, not {samples:,}"
            )
