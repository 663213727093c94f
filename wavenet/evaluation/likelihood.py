"""Likelihood of recordings: bits per sample of a network, and two reference levels of the same recordings."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import ModelConfig
from wavenet.data.clips import Clips
from wavenet.data.pcm import to_float32
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import Engine
from wavenet.engine.conditioning import ConditioningInputs, Speaker, conditioning_inputs
from wavenet.engine.stepped import conditioning_tensors
from wavenet.features import mel_spectrogram
from wavenet.model import WaveNet
from wavenet.mulaw import CODES, SILENCE
from wavenet.nn.outputs import mu_law_remainders, negative_log_likelihood

PIECE = 16_384  # samples predicted per call: bounds the memory for clips of any length
COUNTED = 2**20  # samples counted per call for the reference levels

CodeReader = Callable[[int, int], NDArray[np.integer[Any]]]  # the codes of a clip from one position to another
Progress = Callable[[int, int], None]  # called with the number of samples done, and of all samples


@dataclass(frozen=True)
class ReferenceLevels:
    """Bits per sample of two simple predictors."""

    histogram: float  # without context: the entropy of a histogram of codes
    pairs: float  # each sample given the previous one: the conditional entropy of a table of code pairs


def sample_bits(
    model: WaveNet | Engine[Any],
    codes: NDArray[np.integer[Any]],
    conditioning: ConditioningInputs | None = None,
    mute: Collection[int] = (),
) -> NDArray[np.float64]:
    """Bits of each sample of a clip, float64 [T], given all samples before it (teacher forcing).

    model: a `WaveNet`, which predicts all samples of a piece in parallel, or an engine, which predicts sample by sample
        in its precision.
    codes: integers [T]. conditioning: inputs for a conditioned model. mute: layers whose z is zero.
    As in generation, the queues are empty at the start of the clip, and its first input is silence.
    """
    return np.concatenate(
        [np.empty(0), *clip_pieces(model, lambda start, stop: codes[start:stop], len(codes), conditioning, mute)]
    )


def bits_per_sample(
    model: WaveNet | Engine[Any],
    clips: Clips,
    seconds: float = math.inf,
    progress: Progress | None = None,
    speaker: Speaker | None = None,
) -> float:
    """Mean bits per sample of the first `seconds` of all clips together; NaN if there are none. See `sample_bits`.

    A conditioned model is conditioned on the features of each clip, and on its speaker or the given one.
    """
    total = min(int(clips.lengths.sum()), int(min(seconds * clips.sample_rate, 2**62)))
    quantizer = quantizer_for(model.config.output)
    bits, samples = 0.0, 0
    for clip in range(len(clips)):
        length = min(int(clips.lengths[clip]), total - samples)
        if length <= 0:
            continue
        read = partial(clips.codes, clip, quantizer)
        conditioning = clip_conditioning(model.config, clips, clip, speaker, length)
        for piece in clip_pieces(model, read, length, conditioning):
            bits, samples = bits + float(piece.sum()), samples + len(piece)
            if progress:
                progress(samples, total)
    return bits / samples if samples else math.nan


def clip_conditioning(
    config: ModelConfig, clips: Clips, clip: int, speaker: Speaker | None = None, samples: int | None = None
) -> ConditioningInputs | None:
    """Conditioning inputs of a clip: its speaker, or the given one, and its features. None for other models.

    samples: number of samples of the clip that are used; no more features are computed than those need. None: all.
    Raises `ValueError` for a speaker that the model does not have, and for a clip without a speaker if it needs one.
    """
    if not config.conditioned:
        return None
    features = None
    if config.features is not None:
        stop = None if samples is None else samples + (config.frame_context[1] + 2) * config.hop + config.features.fft
        features = mel_spectrogram(to_float32(clips.clip(clip, 0, stop)), config.features)
    return conditioning_inputs(config, 1, speaker or speaker_of_clip(config, clips, clip), features)


def speaker_of_clip(config: ModelConfig, clips: Clips, clip: int) -> str | None:
    """The speaker of a clip; None if it has none, or the model has no speakers."""
    return clips.speakers[clip] if clips.speakers is not None and config.speakers else None


def clip_pieces(
    model: WaveNet | Engine[Any],
    read: CodeReader,
    length: int,
    conditioning: ConditioningInputs | None,
    mute: Collection[int] = (),
) -> Iterator[NDArray[np.float64]]:
    """`sample_bits` of the first `length` samples, in pieces [n]: the same values in bounded memory.

    read: the codes of the clip from one position to another.
    """
    if isinstance(model, Engine):
        return _engine_pieces(model, read, length, conditioning, mute)
    return _model_pieces(model, read, length, conditioning, mute)


def _engine_pieces(
    engine: Engine[Any],
    read: CodeReader,
    length: int,
    conditioning: ConditioningInputs | None,
    mute: Collection[int],
) -> Iterator[NDArray[np.float64]]:
    state = engine.new_state(1, conditioning)
    state.mute = tuple(mute)
    for start in range(0, length, PIECE):
        codes = read(start, min(start + PIECE, length))[None].astype(np.int64)  # [1, T]
        outputs = torch.from_numpy(engine.logits(state, codes)[0])  # [T, A]
        yield code_bits(engine.config.output, outputs, torch.from_numpy(codes[0]))


def _model_pieces(
    model: WaveNet,
    read: CodeReader,
    length: int,
    conditioning: ConditioningInputs | None,
    mute: Collection[int],
) -> Iterator[NDArray[np.float64]]:
    """Predict each piece with the full context of its first sample."""
    device = next(model.parameters()).device
    speaker, features = conditioning_tensors(conditioning, device)
    muted = torch.tensor([layer in mute for layer in range(model.config.layers)], device=device) if mute else None
    silence = np.array([quantizer_for(model.config.output).silence])
    for start in range(0, length, PIECE):
        stop = min(start + PIECE, length)
        first = max(0, start - model.config.context + 1)  # sample that the first input predicts
        codes = read(max(first - 1, 0), stop).astype(np.int64)
        inputs = codes[:-1] if first else np.concatenate((silence, codes[:-1]))  # [stop - first]: the previous codes
        targets = torch.from_numpy(codes[start - stop :]).to(device)  # [T]
        with torch.inference_mode():
            given = torch.from_numpy(inputs).to(device)[None]  # [1, stop - first]
            outputs = model(given, speaker, features, first, muted)[0]  # [stop - first, A]
            yield code_bits(model.config.output, outputs[start - stop :], targets)


def code_bits(output: str, outputs: torch.Tensor, codes: torch.Tensor) -> NDArray[np.float64]:
    """Bits of codes [T] given output parameters [T, A]."""
    return negative_log_likelihood(output, outputs, codes).double().cpu().numpy() / math.log(2)


def reference_levels(
    clips: Clips, counted_on: Clips | None = None, output: str = "mulaw", progress: Progress | None = None
) -> ReferenceLevels:
    """The reference levels of clips, with tables counted on the clips themselves or, slightly smoothed, on others.

    The tables are of mu-law codes. For a 16-bit output the bits that distinguish the 16-bit codes with the same mu-law
    code are added to both levels; see `wavenet.nn.outputs`.

    Tables counted on the clips themselves give the entropy under an ideal model of that context: a lower bound. Tables
    counted on training clips give what a model of that context could have learned.
    progress: called with the number of samples counted, and the total.
    """
    own = int(clips.lengths.sum())
    total = own + (0 if counted_on is None else int(counted_on.lengths.sum()))
    counts = pair_counts(clips, range(len(clips)), lambda done: progress and progress(done, total))
    if counted_on is None:
        return levels_of_counts(counts, counts, output)
    others = pair_counts(counted_on, range(len(counted_on)), lambda done: progress and progress(own + done, total))
    return levels_of_counts(counts, others + 0.1, output)


def levels_of_counts(counts: NDArray[Any], table: NDArray[Any], output: str) -> ReferenceLevels:
    """The reference levels from counts of pairs of codes, of the clips and of what the tables are made from."""
    samples = counts.sum()
    if not samples:
        return ReferenceLevels(math.nan, math.nan)
    remainder = 0.0 if output == "mulaw" else float(counts.sum(0) @ mu_law_remainders() / samples)
    return ReferenceLevels(
        _cross_entropy(counts.sum(0), table.sum(0)) + remainder,
        _cross_entropy(counts, table) + remainder,
    )


def pair_counts(
    clips: Clips, chosen: Iterable[int], progress: Callable[[int], object] | None = None
) -> NDArray[np.int64]:
    """Count the pairs of codes of some clips, [previous code, code]; the first sample of a clip follows silence.

    progress: called with the number of samples counted.
    """
    counts, done = np.zeros(CODES * CODES, dtype=np.int64), 0
    for clip in chosen:
        length, before = int(clips.lengths[clip]), SILENCE
        for start in range(0, length, COUNTED):
            codes = clips.codes(clip, start=start, stop=min(start + COUNTED, length)).astype(np.int64)
            pairs = np.concatenate(([before], codes[:-1])) * CODES + codes
            np.add.at(counts, pairs, 1)  # for short clips much faster than a bincount of the whole table each
            before, done = int(codes[-1]), done + len(codes)
            if progress:
                progress(done)
    return counts.reshape(CODES, CODES)


def _cross_entropy(counts: NDArray[np.float64], table: NDArray[np.float64]) -> float:
    """Bits per event of `counts` under the probabilities of `table`, both normalised over the last axis."""
    probability = table / np.maximum(table.sum(-1, keepdims=True), 1e-300)
    events = counts > 0
    return float(-(counts[events] * np.log2(probability[events])).sum() / counts.sum())
