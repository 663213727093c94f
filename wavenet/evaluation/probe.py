"""A model and a clip that it is measured on: the clip's codes, and what the model is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.data.errors import AnyPath, AudioError
from wavenet.data.quantizers import quantizer_for
from wavenet.engine.conditioning import ConditioningInputs, Speaker, conditioning_inputs
from wavenet.features import mel_spectrogram
from wavenet.model import WaveNet


@dataclass(frozen=True)
class Probe:
    """A model, the codes of a clip, int64 [T], and the conditioning of the clip: its features, and a speaker."""

    model: WaveNet
    codes: NDArray[np.int64]
    conditioning: ConditioningInputs | None


def read_probe(model: WaveNet, path: AnyPath, seconds: float, speaker: Speaker | None = None) -> Probe:
    """The first `seconds` of a clip, in any format and at any sample rate, for a model.

    Raises `AudioError` for a file that is no clip or silent, `ValueError` for a speaker that is missing or unknown.
    """
    config = model.config
    most, pieces, count = round(seconds * config.sample_rate), [], 0
    for block in audio.blocks(path, config.sample_rate):
        pieces.append(block)
        count += len(block)
        if count >= most:
            break
    samples = np.concatenate([np.empty(0, np.float32), *pieces])[:most]
    if not len(samples):
        raise AudioError(path, "no samples")
    if not samples.any():
        raise AudioError(path, "silent: there is nothing to measure")
    features = None if config.features is None else mel_spectrogram(samples, config.features)
    checked = config.conditioned or speaker is not None  # a speaker of a model without speakers is an error
    conditioning = conditioning_inputs(config, 1, speaker, features) if checked else None
    return Probe(model, quantizer_for(config.output).encode(samples), conditioning)
