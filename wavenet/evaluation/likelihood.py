"""How well a network predicts sound: bits per sample, and two reference levels of the same data beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import ModelConfig
from wavenet.data.clips import Clips
from wavenet.data.pcm import FULL_SCALE
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import Engine
from wavenet.engine.conditioning import ConditioningInputs, Speaker, conditioning_inputs
from wavenet.engine.stepped import conditioning_tensors
from wavenet.features import mel_spectrogram
from wavenet.model import WaveNet
from wavenet.mulaw import CODES, SILENCE
from wavenet.nn.outputs import mu_law_remainder, nats

PIECE = 16_384  # samples predicted at once: bounds the memory for clips of any length


@dataclass(frozen=True)
class ReferenceLevels:
    """What predicts without a network, in bits per sample."""

    histogram: float  # every sample alone: the entropy of a histogram of codes
    pairs: float  # every sample from the one before it: the entropy of a table of code pairs


def bits_of(
    model: WaveNet | Engine[Any], codes: NDArray[np.integer[Any]], told: ConditioningInputs | None = None
) -> NDArray[np.float64]:
    """Bits that each sample of one clip costs, float64 [T], given all that came before it (teacher forcing).

    model: the network in PyTorch, which hears whole pieces at once, or an engine, sample by sample in its precision.
    told: what a conditioned model is told.
    The clip begins as every clip does: empty queues, and silence as the first input.
    """
    return np.concatenate([np.empty(0), *_pieces(model, codes, told)])


def bits_per_sample(
    model: WaveNet | Engine[Any],
    clips: Clips,
    seconds: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
    speaker: Speaker | None = None,
) -> float:
    """Mean bits per sample over whole clips, the first `seconds` of them; NaN when there are none. As `bits_of`.

    A conditioned model is told each clip's own features and speaker, or `speaker` instead.
    """
    total = min(int(clips.lengths.sum()), int(min(seconds * clips.sample_rate, 2**62)))
    bits, samples = 0.0, 0
    for clip in range(len(clips)):
        if samples >= total:
            break
        codes = clips.codes(clip, quantizer_for(model.config.output))[: total - samples]
        for costs in _pieces(model, codes, clip_conditioning(model.config, clips, clip, speaker)):
            bits, samples = bits + float(costs.sum()), samples + len(costs)
            if progress:
                progress(samples, total)
    return bits / samples if samples else math.nan


def clip_conditioning(
    config: ModelConfig, clips: Clips, clip: int, speaker: Speaker | None = None
) -> ConditioningInputs | None:
    """What a conditioned model is told about a clip: its speaker, or the one named instead, and its features.

    Raises `ValueError` for a speaker that the model does not know, or where nobody says who it is.
    """
    if not config.conditioned:
        return None
    features = None
    if config.features is not None:
        features = mel_spectrogram(clips.clip(clip) / np.float32(FULL_SCALE), config.features)
    return conditioning_inputs(config, 1, speaker or speaker_of_clip(config, clips, clip), features)


def speaker_of_clip(config: ModelConfig, clips: Clips, clip: int) -> str | None:
    """Who speaks in a clip, for a model that tells speakers apart; None where that is not known."""
    return clips.speakers[clip] if clips.speakers is not None and config.speakers else None


def _pieces(
    model: WaveNet | Engine[Any], codes: NDArray[np.integer[Any]], told: ConditioningInputs | None
) -> Iterator[NDArray[np.float64]]:
    """`bits_of` piece by piece: the same numbers, bounded memory."""
    return _engine_pieces(model, codes, told) if isinstance(model, Engine) else _model_pieces(model, codes, told)


def _engine_pieces(
    engine: Engine[Any], codes: NDArray[np.integer[Any]], told: ConditioningInputs | None
) -> Iterator[NDArray[np.float64]]:
    state = engine.new_state(1, told)
    for start in range(0, len(codes), PIECE):
        piece = codes[None, start : start + PIECE].astype(np.int64)  # [1, T]
        numbers = torch.from_numpy(engine.logits(state, piece)[0])  # [T, A]
        yield _bits(engine.config.output, numbers, torch.from_numpy(piece[0]))


def _model_pieces(
    model: WaveNet, codes: NDArray[np.integer[Any]], told: ConditioningInputs | None
) -> Iterator[NDArray[np.float64]]:
    """Each piece predicted with all that the network sees before it."""
    device = next(model.parameters()).device
    speaker, local = conditioning_tensors(told, device)
    past, silence = model.config.context - 1, quantizer_for(model.config.output).silence
    for start in range(0, len(codes), PIECE):
        stop = min(start + PIECE, len(codes))
        first = max(0, start - past)  # of the inputs, which lie one sample behind
        before = [silence] if first == 0 else [codes[first - 1]]
        inputs = np.concatenate((before, codes[first : stop - 1])).astype(np.int64)
        with torch.inference_mode():
            numbers = model(torch.from_numpy(inputs).to(device)[None], speaker, local, first)[0, start - stop :]
            yield _bits(model.config.output, numbers, torch.from_numpy(codes[start:stop].astype(np.int64)).to(device))


def _bits(output: str, numbers: torch.Tensor, codes: torch.Tensor) -> NDArray[np.float64]:
    """What codes [T] cost under numbers [T, A]."""
    return nats(output, numbers, codes).double().cpu().numpy() / math.log(2)


def reference_levels(clips: Clips, counted_on: Clips | None = None, output: str = "mulaw") -> ReferenceLevels:
    """The reference levels of clips, in tables counted on the clips themselves or on others (then slightly smoothed).

    The tables are of mu-law codes. For a 16-bit output they cost so much more as telling the 16-bit codes apart that
    share one does; see `wavenet.nn.outputs`.

    Tables counted on the same data are what an ideal coder of it would know: a lower bound for such tables. Counted on
    training clips they are what a network of that memory could have learnt.
    """
    seen = _pair_counts(clips)
    if not seen.sum():
        return ReferenceLevels(math.nan, math.nan)
    known = seen if counted_on is None else _pair_counts(counted_on) + 0.1
    rest = 0.0 if output == "mulaw" else mu_law_remainder(np.concatenate(list(clips)))
    return ReferenceLevels(_cross_entropy(seen.sum(0), known.sum(0)) + rest, _cross_entropy(seen, known) + rest)


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
