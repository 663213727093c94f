"""How well a network predicts sound: bits per sample, and two reference levels of the same data beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from wavenet.dataset import Clips
from wavenet.engine import Engine
from wavenet.model import WaveNet
from wavenet.mulaw import CODES, SILENCE

PIECE = 16_384  # samples predicted at once: bounds the memory for clips of any length


@dataclass(frozen=True)
class ReferenceLevels:
    """What predicts without a network, in bits per sample."""

    histogram: float  # every sample alone: the entropy of a histogram of codes
    pairs: float  # every sample from the one before it: the entropy of a table of code pairs


def bits_of(model: WaveNet | Engine[Any], codes: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Bits that each sample of one clip costs, float64 [T], given all that came before it (teacher forcing).

    model: the network in PyTorch, which hears whole pieces at once, or an engine, sample by sample in its precision.
    The clip begins as every clip does: empty queues, and silence as the first input.
    """
    return np.concatenate([np.empty(0), *_pieces(model, codes)])


def bits_per_sample(
    model: WaveNet | Engine[Any],
    clips: Clips,
    seconds: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Mean bits per sample over whole clips, the first `seconds` of them; NaN when there are none. As `bits_of`."""
    total = min(int(clips.lengths.sum()), int(min(seconds * clips.rate, 2**62)))
    bits, samples = 0.0, 0
    for clip in range(len(clips)):
        if samples >= total:
            break
        for costs in _pieces(model, clips.codes(clip)[: total - samples]):
            bits, samples = bits + float(costs.sum()), samples + len(costs)
            if progress:
                progress(samples, total)
    return bits / samples if samples else math.nan


def _pieces(model: WaveNet | Engine[Any], codes: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.float64]]:
    """`bits_of` piece by piece: the same numbers, bounded memory."""
    return _engine_pieces(model, codes) if isinstance(model, Engine) else _model_pieces(model, codes)


def _engine_pieces(engine: Engine[Any], codes: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.float64]]:
    state = engine.new_state(1)
    for start in range(0, len(codes), PIECE):
        piece = codes[None, start : start + PIECE].astype(np.int64)  # [1, T]
        logits = engine.logits(state, piece)[0].astype(np.float64)  # [T, A]
        logits -= logits.max(axis=1, keepdims=True)
        costs = np.log(np.exp(logits).sum(axis=1)) - np.take_along_axis(logits, piece.T, axis=1)[:, 0]
        yield costs / math.log(2)


def _model_pieces(model: WaveNet, codes: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.float64]]:
    """Each piece predicted with the receptive field before it."""
    device = next(model.parameters()).device
    past = model.config.receptive_field - 1
    for start in range(0, len(codes), PIECE):
        stop = min(start + PIECE, len(codes))
        first = max(0, start - past)  # of the inputs, which lie one sample behind
        before = [SILENCE] if first == 0 else [codes[first - 1]]
        inputs = np.concatenate((before, codes[first : stop - 1])).astype(np.int64)
        with torch.inference_mode():
            logits = model(torch.from_numpy(inputs).to(device)[None])[0, -(stop - start) :]  # [T, A]
            targets = torch.from_numpy(codes[start:stop].astype(np.int64)).to(device)
            costs = F.cross_entropy(logits, targets, reduction="none")
        yield costs.double().cpu().numpy() / math.log(2)


def reference_levels(clips: Clips, counted_on: Clips | None = None) -> ReferenceLevels:
    """The reference levels of clips, in tables counted on the clips themselves or on others (then slightly smoothed).

    Tables counted on the same data are what an ideal coder of it would know: a lower bound for such tables. Counted on
    training clips they are what a network of that memory could have learnt.
    """
    seen = _pair_counts(clips)
    if not seen.sum():
        return ReferenceLevels(math.nan, math.nan)
    known = seen if counted_on is None else _pair_counts(counted_on) + 0.1
    return ReferenceLevels(_cross_entropy(seen.sum(0), known.sum(0)), _cross_entropy(seen, known))


def _pair_counts(clips: Clips) -> NDArray[np.float64]:
    counts = np.zeros(CODES * CODES, dtype=np.int64)
    for clip in range(len(clips)):
        codes = clips.codes(clip)
        for start in range(0, len(codes), PIECE):
            piece = codes[max(0, start - 1) : start + PIECE].astype(np.int64)
            if start == 0:
                piece = np.concatenate(([SILENCE], piece))
            counts += np.bincount(piece[:-1] * CODES + piece[1:], minlength=CODES * CODES)
    return counts.reshape(CODES, CODES).astype(np.float64)  # [code before, code]


def _cross_entropy(seen: NDArray[np.float64], known: NDArray[np.float64]) -> float:
    """Bits per event of `seen` counts under the probabilities of `known` ones, normalised over the last axis."""
    probability = known / np.maximum(known.sum(-1, keepdims=True), 1e-300)
    events = seen > 0
    return float(-(seen[events] * np.log2(probability[events])).sum() / seen.sum())
