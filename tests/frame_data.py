"""Encoded and log-mel frames, and small frame models, that several test modules share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.features import mel_spectrogram
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model import FrameModel
from wavenet.frame_model_config import FrameModelConfig
from wavenet.frame_prediction import FramePrediction

MEL = MelConfig()  # 16 kHz, 80 bands, 100 frames per second
SMALL = FrameModelConfig(
    layers_per_cycle=3, residual_channels=8, skip_channels=12, components=6, mixtures=3, source_mixtures=2
)


def syllables(seconds: float, seed: int = 0, pitch: float = 180.0) -> NDArray[np.float32]:
    """Log-mel frames [N, 80] of harmonic tones of changing pitch and formants, with pauses and noise between them."""
    rng = np.random.default_rng(seed)
    samples = np.empty(int(seconds * MEL.sample_rate))
    time = np.arange(len(samples)) / MEL.sample_rate

    def wander(size: float) -> NDArray[np.float64]:
        """A random curve of about this deviation, with four values per second."""
        count = int(4 * seconds) + 2
        return np.interp(time, np.arange(count) / 4, size * rng.standard_normal(count))

    phase = 2 * np.pi * np.cumsum(pitch * np.exp(wander(0.15))) / MEL.sample_rate
    formant, loud = 800 * np.exp(wander(0.4)), wander(1.0) > -0.4
    samples = sum(np.sin(k * phase) / (1 + np.square((k * pitch - formant) / 400)) for k in range(1, 30))
    audio = np.where(loud, 0.1 * samples * np.exp(wander(0.3)), 0) + 0.003 * rng.standard_normal(len(time))
    return np.ascontiguousarray(mel_spectrogram(audio.clip(-1, 1), MEL).T)


def random_frames(config: FrameModelConfig, count: int, seed: int = 0, streams: int = 1) -> NDArray[np.float32]:
    """Encoded frames [streams, count, D] without any structure, half of them voiced."""
    rng = np.random.default_rng(seed)
    frames = rng.standard_normal((streams, count, config.dimensions)).astype(np.float32)
    frames[..., 1] = frames[..., 1] > 0
    frames[..., 2] *= frames[..., 1]
    return frames


def random_frame_model(
    config: FrameModelConfig = SMALL, speakers: int = 0, seed: int = 0, mel: MelConfig = MEL
) -> FrameModel:
    """A model whose distributions depend on its inputs, with a linear prediction of random frames."""
    torch.manual_seed(seed)
    model = FrameModel(config, mel, speakers)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.add_(torch.randn_like(weight) * 0.3)
            elif name.endswith("output.weight"):
                weight.mul_(20)
            elif name in ("speaker.weight", "shape.source.weight"):
                weight.normal_(std=0.5)
        slow = np.cumsum(random_frames(config, 400)[0], axis=0) / 10  # predictable
    model.set_prediction(FramePrediction.fit([slow], config.prediction_order))
    return model


def random_coding(config: FrameModelConfig = SMALL, voices: int = 1) -> FrameCoding:
    """A coding of voices that differ in pitch."""
    return FrameCoding.fit([syllables(4, seed=i, pitch=150 + 60 * i) for i in range(voices)], MEL, config.components)


def tensors_of(model: FrameModel, coding: FrameCoding) -> dict[str, Any]:
    """The tensors of a model with this coding, by their names in `FrameModelConfig.shapes`."""
    model.set_coding(coding)
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}
