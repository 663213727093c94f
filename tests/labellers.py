"""Small labellers, and folders of labelled recordings, that several test modules share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from wavenet.features import mel_spectrogram
from wavenet.labelling import Labeller
from wavenet.labelling_config import LabellerConfig
from wavenet.labelling_model import LabellingNetwork

SAMPLE_RATE, HOP = 8_000, 80
MEL = {"fft": 256, "window": 160, "bands": 12}
SMALL: dict[str, Any] = {
    "sample_rate": SAMPLE_RATE,
    "cycles": 1,
    "layers_per_cycle": 3,
    "residual_channels": 6,
    "skip_channels": 8,
    "head_channels": 32,
}
HERTZ = {"low": 300.0, "high": 2_000.0}
SETTINGS = [  # of a small labeller of two tones
    "labeller.sample_rate=8000",
    "labeller.cycles=1",
    "labeller.layers_per_cycle=3",
    "labeller.residual_channels=8",
    "labeller.skip_channels=16",
    "labeller.head_channels=16",
    "labeller.head=plain",
    "labeller.features={fft = 256, window = 160, bands = 12}",
    "training.crop=4000",
    "training.batch=4",
    "training.warmup=5",
    "training.learning_rate=1e-2",
    "training.ema=0.9",
]


def small_config(**options: Any) -> LabellerConfig:
    """A small labeller of the classes "a" and "b" at 8 kHz."""
    values = {"classes": ("a", "b"), **SMALL, **options}
    if values.get("input") != "samples":
        values = {"features": MEL, **values}
    return LabellerConfig(**values)


def small_labeller(**options: Any) -> Labeller:
    """The same with random weights, by which every class is the most probable one somewhere in `noise_of`."""
    torch.manual_seed(0)
    network = LabellingNetwork(small_config(**options))
    mel, noise = network.config.features, noise_of(2 * SAMPLE_RATE)
    with torch.no_grad():
        logits = network(torch.from_numpy(noise if mel is None else mel_spectrogram(noise, mel))[None])[0]
        mean, scale = logits.mean(0), 3 / logits.std(0)
        network.output.weight.mul_(scale[:, None])
        network.output.bias.copy_(-mean * scale)
    return Labeller(network)


def noise_of(samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise that grows and fades several times in a second."""
    level = 0.2 * (1.1 + np.sin(np.arange(samples) / 400))
    return (level * np.random.default_rng(seed).uniform(-1, 1, samples)).astype(np.float32)


def write_labelled(folder: Path, count: int = 12) -> Path:
    """Recordings of three quarters of a second: a low tone, a pause, a high tone, of other durations in each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        lines, audio, time = [], [], 0.0
        for name in ("low", "", "high"):
            seconds = float(rng.integers(15, 36)) / 100
            times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
            audio.append(0.3 * np.sin(2 * np.pi * HERTZ[name] * times) if name else 0 * times)
            if name:
                lines.append(f"{time:.2f}\t{time + seconds:.2f}\t{name}\n")
            time += seconds
        noisy = np.concatenate(audio) + 0.001 * rng.standard_normal(sum(map(len, audio)))
        soundfile.write(folder / f"{index:02}.wav", noisy, SAMPLE_RATE)
        (folder / f"{index:02}.txt").write_text("".join(lines))
    return folder
