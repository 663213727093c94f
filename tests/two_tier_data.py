"""Small models of two tiers, whose features cost little: chunks of 512 samples."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from frame_data import random_frame_model
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig
from wavenet.features import mel_spectrogram
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model_config import FrameModelConfig
from wavenet.generate import Generator
from wavenet.two_tiers import TwoTiers

RATE, HOP, CHUNK = 8_000, 16, 512
MEL = MelConfig(RATE, window=64, fft=256, hop=HOP, bands=20, high=4_000.0)
FRAMES = FrameModelConfig(
    layers_per_cycle=3, residual_channels=8, skip_channels=12, components=6, mixtures=3, source_mixtures=2
)


def hum(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """A tone that comes and goes, in noise: float32 [samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * (150 + 40 * seed) * k * time) / k for k in range(1, 9))
    audio = 0.1 * tone * (np.sin(9 * time) > -0.5) + 0.01 * rng.standard_normal(len(time))
    return audio.clip(-1, 1).astype(np.float32)


@cache
def two_tiers(**options: Any) -> TwoTiers:
    """A random model whose outputs depend on its frames; options of `ModelConfig`."""
    shape: dict[str, Any] = {"cycles": 1, "layers_per_cycle": 4, "residual_channels": 8, "skip_channels": 12}
    config = ModelConfig(**shape, sample_rate=RATE, features=MEL, frame_channels=4, frame_model=FRAMES, **options)
    voices = max(1, len(config.speakers))
    coding = FrameCoding.fit([mel_spectrogram(hum(1, seed), MEL).T for seed in range(voices)], MEL, 6)
    frame_model = random_frame_model(FRAMES, len(config.speakers), mel=MEL)
    frame_model.set_coding(coding)
    torch.manual_seed(1)
    model = TwoTiers(config)
    model.frame_model.load_state_dict(frame_model.state_dict())
    with torch.no_grad():
        for name, weight in model.conditioning.named_parameters():
            weight.add_(0.1 * torch.randn_like(weight) if "frames" in name else 0)
        model.head.output.weight.mul_(50 if config.output == "mulaw" else 1)
        if config.output != "mulaw":
            model.head.output.bias[-config.components :] -= 3
    return model


def generator_of(engine: str = "native", threads: int = 1, precision: str = "auto", **options: Any) -> Generator:
    """A generator of `two_tiers(**options)`."""
    return Generator.from_model(two_tiers(**options), engine, precision, threads)
