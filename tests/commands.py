"""The `wavenet` command in this process, and the small model files that its tests run it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wavenet import checkpoint, cli
from wavenet.config import ModelConfig
from wavenet.model import WaveNet

SAMPLE_RATE = 8_000
FIRST, BLOCK = 160, 800  # samples of the first block that a command generates, and of the others: 20 ms and 100 ms
MEL = {"hop": 80, "fft": 256, "window": 160, "bands": 20, "high": 4_000.0}
Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    """The exit code of `wavenet` with these arguments."""
    return cli.main([str(argument) for argument in arguments])


def error_of(capsys: Capture, *arguments: object) -> str:
    """The message, of one line, with which `wavenet` refuses these arguments."""
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def save_model(path: Path, silent: bool = False, **options: Any) -> Path:
    """Write a model file of a small network at 8 kHz, with peaked logits, or one that generates silence."""
    torch.manual_seed(0)
    config = ModelConfig(1, 4, 2, 6, skip_channels=8, sample_rate=SAMPLE_RATE, **{"frame_channels": 8, **options})
    model = WaveNet(config)
    if config.output == "mulaw":
        model.head.output.weight.data.normal_()
    if silent:
        model.head.output.bias.data[128] = 1e3
    checkpoint.save_model(path, model)
    return path


def save_vocoder(path: Path) -> Path:
    """Write a model file of a small vocoder: features `MEL`, linear prediction, 16-bit output."""
    return save_model(path, output="gaussian", features=MEL, linear_prediction=8)
