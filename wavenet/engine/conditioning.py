"""Conditioning inputs, and the gate biases and linear predictors that an engine computes from them. NumPy only.

`ConditioningInputs` are shares of speakers, and features. From them `Conditioner` computes the gate bias of every
frame, as `wavenet.nn.conditioning` does, but without PyTorch, and the coefficients of the frame's linear predictor. It
computes chunks of `CHUNK` frames on a fixed grid, one stream at a time, so the result for a frame is the same to the
last bit for all block sizes and batches. The features may be a window of a stream without end. `ConditioningState`
contains the inputs of a state and the current chunk. The native engine has its own conditioner, libwavenet's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import PARALLEL_DILATIONS, POOLED_FRAMES, MelConfig, ModelConfig, listed, shown, suggest
from wavenet.engine.feature_check import check_features
from wavenet.features import ONE_THREAD
from wavenet.nn.interpolation import interpolation_weights
from wavenet.nn.linear_prediction import pitch_periods, predictor_rows, voiced

CHUNK = 32  # frames

Speaker = str | Mapping[str, float]  # a name, or shares of several


@dataclass(frozen=True)
class ConditioningInputs:
    """Conditioning inputs of B streams. The arrays must not be written to."""

    speaker: NDArray[np.float32] | None = None  # [B, speakers] shares; the rows sum to 1
    features: NDArray[np.float32] | None = None  # [B, bands, N] log-mel frames
    speaker_given: Speaker | None = None  # the speaker as given by the user
    first_frame: int = 0  # of the stream, with which the features begin; 0 begins with the first sample
    endless: bool = False  # whether other inputs with further frames will replace these before those are needed

    def frames(self, first: int, last: int) -> NDArray[np.float32]:
        """Features [B, bands, n] of frame `first` of the stream to frame `last` - 1, as far as they are there."""
        features = cast(NDArray[np.float32], self.features)
        return features[..., max(first - self.first_frame, 0) : max(last - self.first_frame, 0)]


class ConditioningFrames(NamedTuple):
    """Gate biases and linear predictors of B streams in one chunk."""

    # [B, CHUNK + 2, L, 2G]: of the chunk's frames and one more to each side; without features [B, 1, L, 2G], for all
    # samples. Includes the bias of the dilated convolution.
    gate_bias: NDArray[np.float32]
    predictors: NDArray[np.float64] | None  # [B, CHUNK, order + 3]; see `wavenet.nn.linear_prediction`


def conditioning_inputs(
    config: ModelConfig, streams: int = 1, speaker: Speaker | None = None, features: ArrayLike | None = None
) -> ConditioningInputs:
    """Checked conditioning inputs for B streams of a model.

    speaker: a name, or a mixture: a mapping of names to shares of any positive sum.
    features: log-mel frames [bands, N] for all streams, or [B, bands, N]; see `wavenet.features`. They are copied.
    Raises `ValueError`, in one line, for a speaker or features that are missing, unknown, or of a wrong shape, and for
    features that no audio in [-1, 1] can have.
    """
    return ConditioningInputs(
        speaker_shares(config, streams, speaker), _checked_features(config, streams, features), speaker
    )


def placeholder_inputs(config: ModelConfig, streams: int = 1, samples: int = 0) -> ConditioningInputs:
    """Conditioning inputs for measurements: `placeholder_conditioning`, for B streams."""
    return conditioning_inputs(config, streams, *placeholder_conditioning(config, samples))


def placeholder_conditioning(config: ModelConfig, samples: int) -> tuple[str | None, NDArray[np.float32] | None]:
    """The first speaker, and silent features [bands, N] for `samples` samples; None for those that a model lacks."""
    features = None
    if config.features is not None:
        frames = max(1, -(-samples // config.hop))
        features = np.full((config.features.bands, frames), config.features.silence, np.float32)
    return config.speakers[0] if config.speakers else None, features


def speaker_shares(config: ModelConfig, streams: int, speaker: Speaker | None) -> NDArray[np.float32] | None:
    """Shares [B, speakers] that sum to 1; None for a model without speakers.

    Raises `ValueError` for a speaker that is missing or unknown, and for shares that are negative or all 0.
    """
    known = listed(config.speakers)
    if speaker is None:
        if config.speakers:
            raise ValueError(f"speaker: required; this model has the speakers {known}")
        return None
    if not config.speakers:
        raise ValueError(f"speaker = {shown(speaker)}: this model has no speakers; leave it out")
    if not isinstance(speaker, (str, Mapping)):
        raise ValueError(f"speaker = {shown(speaker)}: must be a name, or a mapping of names to shares")
    mixture = {speaker: 1.0} if isinstance(speaker, str) else dict(speaker)
    for name in mixture:
        if name not in config.speakers:
            raise ValueError(f"speaker = {shown(name)}: unknown{suggest(str(name), config.speakers)}; known: {known}")
    try:
        shares = np.array([float(mixture.get(name, 0.0)) for name in config.speakers])
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"speaker = {shown(speaker)}: shares must be numbers from 0") from None
    if not np.isfinite(shares).all() or shares.min() < 0 or shares.max() <= 0:
        raise ValueError(f"speaker = {shown(speaker)}: shares must be finite numbers from 0, and not all of them 0")
    shares /= shares.max()  # first, so that the sum is finite and not zero
    return np.tile((shares / shares.sum()).astype(np.float32), (streams, 1))


def _checked_features(config: ModelConfig, streams: int, features: ArrayLike | None) -> NDArray[np.float32] | None:
    """[B, bands, N], a copy; None for a model without features."""
    if features is None:
        if config.features is not None:
            raise ValueError(
                "features: this model is conditioned on a mel spectrogram; give one, or use wavenet vocode"
            )
        return None
    if config.features is None:
        raise ValueError("features: this model is not conditioned on features; leave them out")
    frames = np.asarray(features)
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"features: must be floating-point log-mel values, not {frames.dtype}")
    if frames.ndim == 2:
        frames = np.broadcast_to(frames, (streams, *frames.shape))
    bands = config.features.bands
    if frames.ndim != 3 or len(frames) != streams or frames.shape[1] != bands:
        hint = "; they look transposed" if frames.ndim > 1 and frames.shape[-1] == bands else ""
        given = list(np.asarray(features).shape)
        raise ValueError(f"features: must be [{bands}, frames], as the model has bands = {bands}, not {given}{hint}")
    if frames.shape[2] == 0:
        raise ValueError("features: there are no frames in them")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite
        copied = np.array(frames, dtype=np.float32, order="C")  # a copy: the caller may change its own array later
    check_features(copied, config.features)
    return copied


class ChunkConditioner(ABC):
    """What computes the conditioning of a network, chunk by chunk, in the form that an engine needs."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @abstractmethod
    def frames(self, inputs: ConditioningInputs, chunk: int) -> Any:
        """The conditioning of chunk 0, 1, ...; always computed in the same shapes, thus deterministic."""

    @abstractmethod
    def pitches(self, frames: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Whether log-mel frames [n, bands] are voiced, and their pitch periods in samples, [n] each."""

    def state(self, inputs: ConditioningInputs) -> ConditioningState:
        """A state before the first sample."""
        return ConditioningState(self, inputs)

    @property
    def samples(self) -> int | None:
        """Samples per chunk; None without features: one chunk of one frame is then used for all samples."""
        return None if self.config.features is None else CHUNK * self.config.hop

    def frames_needed(self, position: int) -> tuple[int, int]:
        """The frames (first, last + 1) that the chunk with the sample at `position` is computed from."""
        begin, (before, after) = position // self.config.hop // CHUNK * CHUNK, self.margins
        return begin - before, begin + CHUNK + after

    @property
    def margins(self) -> tuple[int, int]:
        """Context frames before and after a chunk: those of the frame network, and one for the interpolation."""
        before, after = self.config.frame_context
        return before + 1, after + 1

    def context(self, inputs: ConditioningInputs, chunk: int) -> NDArray[np.float32]:
        """Frames of a chunk and the `margins` around it, [B, bands, n], silent beyond the ends of the features."""
        before, after = self.margins
        low, high = chunk * CHUNK - before, (chunk + 1) * CHUNK + after
        inside = inputs.frames(low, high)
        silence = cast(MelConfig, self.config.features).silence
        context = np.full((*inside.shape[:-1], high - low), silence, np.float32)
        begin = max(inputs.first_frame - low, 0)
        context[..., begin : begin + inside.shape[-1]] = inside
        return context


class Conditioner(ChunkConditioner):
    """Computes the gate biases and linear predictors of a network in NumPy."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Weights under the names of `config.shapes`."""
        super().__init__(config)
        self.bias = np.stack([weights[f"layers.{layer}.dilated.bias"] for layer in range(config.layers)])  # [L, 2G]
        prefix = "conditioning."
        self.weights = {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
        self.neighbours: list[tuple[int, float]] = []  # of every sample of a frame: see `NumpyConditioningState`
        if config.features is not None:
            before, own, after = interpolation_weights(config.hop).T.tolist()
            self.neighbours = [(0, b) if a > 0 else (1, c) for a, b, c in zip(before, own, after, strict=True)]

    def state(self, inputs: ConditioningInputs) -> NumpyConditioningState:
        return NumpyConditioningState(self, inputs)

    def pitches(self, frames: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        mel = cast(MelConfig, self.config.features)
        return voiced(frames, mel), pitch_periods(frames, mel)

    def frames(self, inputs: ConditioningInputs, chunk: int) -> ConditioningFrames:
        speaker, features = inputs.speaker, inputs.features
        streams = len(cast(NDArray[np.float32], features if speaker is None else speaker))
        context, predictors = None if features is None else self.context(inputs, chunk), None
        gate_bias = []
        for stream in range(streams):
            shares = None if speaker is None else speaker[stream]
            gate_bias.append(self._gate_bias(shares, None if context is None else context[stream].T))
        if context is not None and self.config.linear_prediction:
            own = slice(self.margins[0], self.margins[0] + CHUNK)
            frames = context[..., own].transpose(0, 2, 1)  # [B, CHUNK, bands]
            predictors = predictor_rows(frames, cast(MelConfig, self.config.features), self.config.linear_prediction)
        return ConditioningFrames(np.stack(gate_bias), predictors)

    def _gate_bias(
        self, speaker: NDArray[np.float32] | None, context: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """[CHUNK + 2 or 1, L, 2G] of one stream: its shares [speakers], and the frames [n, bands] of `context`."""
        bias = self.bias.reshape(1, -1)  # [1, L*2G]
        if speaker is not None:
            embedded = speaker @ self.weights["speaker.weight"]  # [E]
            bias = bias + np.einsum("oi,i->o", self.weights["from_speaker.weight"], embedded)  # einsum: in this thread
        if context is not None:
            mel = cast(MelConfig, self.config.features)
            frames = self._frame_network((context - np.float32(mel.mean)) / np.float32(mel.deviation))  # [CHUNK + 2, C]
            bias = bias + _product(frames, self.weights["from_frames.weight"])  # [CHUNK + 2, L*2G]
        return bias.reshape(-1, *self.bias.shape)

    def _frame_network(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, bands] -> [n - context frames, C], as `wavenet.nn.frame_network` does."""
        if self.config.frame_network != "parallel":
            return self._conv("second", self._conv("first", frames, relu=True), relu=True)
        count = len(frames) - 2 * POOLED_FRAMES
        branches = [self._conv("point", frames[POOLED_FRAMES:][:count])]  # [count, branch]
        for dilation in PARALLEL_DILATIONS:
            margin = POOLED_FRAMES - dilation
            branches.append(self._conv(f"rate_{dilation}", frames[margin : len(frames) - margin], dilation))
        window = np.lib.stride_tricks.sliding_window_view(frames, 2 * POOLED_FRAMES + 1, axis=0)  # [count, bands, 129]
        branches.append(self._conv("pooled", window.mean(axis=2)))
        return self._conv("joined", np.maximum(np.concatenate(branches, axis=1), 0), relu=True)

    def _conv(
        self, name: str, frames: NDArray[np.float32], dilation: int = 1, relu: bool = False
    ) -> NDArray[np.float32]:
        """A convolution over frames without padding: [n, in] -> [n - (taps - 1) dilation, out]."""
        weight, bias = self.weights[f"frames.{name}.weight"], self.weights[f"frames.{name}.bias"]  # [taps, out, in]
        count = len(frames) - (len(weight) - 1) * dilation
        result = bias + sum(_product(frames[tap * dilation :][:count], weight[tap]) for tap in range(len(weight)))
        return np.maximum(result, 0) if relu else result


def _product(rows: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """rows [n, in] times weight [out, in], transposed: [n, out], in pieces small enough for one thread.

    A second thread gains nothing in products this small. If another process uses its core, the product takes thirty
    times as long; and it spins for a while after the product, beside the threads of the engine.
    """
    step = max(1, ONE_THREAD // rows.size)
    pieces = [rows @ weight[first : first + step].T for first in range(0, len(weight), step)]
    return np.concatenate(pieces, axis=1)


class _Cached(NamedTuple):
    inputs: ConditioningInputs
    chunk: int
    frames: Any


class ConditioningState:
    """The conditioning inputs of a state, and the frames of its current chunk. It can be copied at any time."""

    def __init__(self, conditioner: ChunkConditioner, inputs: ConditioningInputs) -> None:
        self.conditioner = conditioner
        self.inputs = inputs
        self._cached: _Cached | None = None

    def change(self, inputs: ConditioningInputs) -> None:
        """Use other inputs from the next sample on."""
        self.inputs = inputs

    def copy(self) -> Self:
        """An independent copy. The arrays are shared: they are never written to."""
        other = type(self)(self.conditioner, self.inputs)
        other._cached = self._cached
        return other

    def pieces(self, position: int, samples: int) -> list[tuple[int, int, int]]:
        """Split the next samples at the ends of chunks: (first, last + 1, offset of the first one in its chunk)."""
        length = self.conditioner.samples
        if length is None:
            return [(0, samples, 0)]
        cuts = [0, *range(length - position % length, samples, length), samples]
        return [(a, b, (position + a) % length) for a, b in pairwise(cuts) if a < b]

    def frames(self, position: int) -> Any:
        """What the conditioner has computed for the chunk that contains the sample at `position`."""
        length = self.conditioner.samples
        chunk = 0 if length is None else position // length
        cached = self._cached
        if cached is None or cached.chunk != chunk or cached.inputs is not self.inputs:
            cached = _Cached(self.inputs, chunk, self.conditioner.frames(self.inputs, chunk))
            self._cached = cached
        return cached.frames

    def check(self, position: int, samples: int) -> None:
        """Raises `ValueError` if the features end before the next `samples` samples."""
        left = self.left(position)
        if left is not None and samples > left:
            frames = cast(NDArray[np.float32], self.inputs.features).shape[-1]
            raise ValueError(
                f"the features end after {frames * self.conditioner.config.hop:,} samples ({frames:,} frames): "
                f"at sample {position:,} there are {left:,} left, not {samples:,}"
            )

    def left(self, position: int) -> int | None:
        """Samples from `position` to the end of the features; None without features, or without an end."""
        if self.inputs.features is None or self.inputs.endless:
            return None
        return max(0, self.inputs.features.shape[-1] * self.conditioner.config.hop - position)


class NumpyConditioningState(ConditioningState):
    """A state of `Conditioner`, with the values of single samples."""

    conditioner: Conditioner

    def __init__(self, conditioner: Conditioner, inputs: ConditioningInputs) -> None:
        super().__init__(conditioner, inputs)

    def neighbours(self, position: int) -> tuple[int, float]:
        """(i, w): the gate bias of a sample is (1 - w) times row i of its chunk's gate biases, plus w times row i + 1.

        Row 0 of a chunk is the frame before its first one. Without features there is one row: (0, 0).
        """
        length = self.conditioner.samples
        if length is None:
            return 0, 0.0
        frame, sample = divmod(position % length, self.conditioner.config.hop)
        row, weight = self.conditioner.neighbours[sample]
        return frame + row, weight

    def gate_biases(self, position: int, samples: int) -> NDArray[np.float32]:
        """The gate biases of the next samples, without the bias of the dilated convolution: [L, B, samples, 2G]."""
        biases = []
        for first, last, _ in self.pieces(position, samples):
            frames = self.frames(position + first).gate_bias - self.conditioner.bias  # [B, CHUNK + 2 or 1, L, 2G]
            if frames.shape[1] == 1:
                biases.append(frames.repeat(last - first, axis=1))
                continue
            neighbours = [self.neighbours(sample) for sample in range(position + first, position + last)]
            row = np.array([row for row, _ in neighbours])
            weight = np.array([weight for _, weight in neighbours], np.float32)[:, None, None]
            biases.append((1 - weight) * frames[:, row] + weight * frames[:, row + 1])  # [B, n, L, 2G]
        return np.concatenate(biases, axis=1).transpose(2, 0, 1, 3)

    def predictors(self, position: int, samples: int) -> NDArray[np.float64]:
        """The parameters of the linear predictors of the next samples: [B, samples, order + 3]."""
        rows, hop = [], self.conditioner.config.hop
        for first, last, offset in self.pieces(position, samples):
            frames = self.frames(position + first).predictors  # [B, CHUNK, order + 3]
            assert frames is not None
            if last - first == samples == 1:
                return frames[:, None, offset // hop]
            rows.append(frames[:, np.arange(offset, offset + last - first) // hop])
        return np.concatenate(rows, axis=1)
