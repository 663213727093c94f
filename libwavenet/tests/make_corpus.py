"""Writes the seed corpora of the fuzzing targets: tiny models of every kind, files that are almost models; calls.

Run as `python libwavenet/tests/make_corpus.py libwavenet/tests/corpus`. The other files there, named by their hash,
were found by the fuzzer.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from wavenet.config import FeatureRange, FrameModelConfig, MelConfig, ModelConfig, SamplingConfig
from wavenet.data.tensor_file import encode

TINY = ModelConfig(
    cycles=1,
    layers_per_cycle=2,
    residual_channels=1,
    skip_channels=1,
    mixtures=1,
    speaker_channels=1,
    frame_channels=4,
    output="logistic",
)
MEL = MelConfig(window=64, fft=128, hop=16, bands=4)
FRAMES = FrameModelConfig(
    layers_per_cycle=2, residual_channels=1, skip_channels=1, components=2, mixtures=1, source_mixtures=1
)
MODELS: dict[str, dict[str, Any]] = {
    "mulaw": {"output": "mulaw", "sampling": SamplingConfig(0.9, top_k=40, top_p=0.9)},
    "logistic": {"mixtures": 3, "kernel_size": 3, "cycles": 2, "gate_channels": 2, "head_channels": 3},
    "adaptive": {"output": "gaussian", "linear_prediction": 4, "sample_rate": 8_000},
    "speakers": {"speakers": ("ann", "Žoë \U0001f3b5", 'a "b" \\')},
    "parallel": {"features": MEL, "frame_network": "parallel", "linear_prediction": 3, "pitch_taps": 3},
    "two_tiers": {
        "features": MEL,
        "speakers": ("a", "b"),
        "frame_model": FRAMES,
        "sampling": SamplingConfig(0.8, 0.5, refine=2, frame_temperature=0.7, frame_temperature_range=(0.2, 1.5)),
        "training_range": FeatureRange((-60, -20), (80, 300), 0.0, -40.5, (0.5, 0.25)),
    },
}


def file_of(config: dict[str, Any], shapes: dict[str, tuple[int, ...]], dtype: type) -> bytes:
    """A model file with small weights, always the same."""
    rng = np.random.default_rng(0)
    tensors = {name: (rng.random(shape) - 0.5).astype(dtype) for name, shape in shapes.items()}
    return encode(tensors, {"wavenet.format": "1", "wavenet.config": json.dumps(config)})


def models() -> dict[str, bytes]:
    """The content of every file by its name."""
    files = {}
    for name, fields in MODELS.items():
        config = dataclasses.replace(TINY, **fields)
        shapes = config.shapes | config.frame_model_shapes
        files[name] = file_of(config.to_dict(), shapes, np.float16 if name == "logistic" else np.float32)
    old = {**dataclasses.replace(TINY, features=MEL).to_dict(), "training_range": None}
    old["features"]["rate"] = old["features"].pop("sample_rate")
    files["former_names"] = file_of(old, dataclasses.replace(TINY, features=MEL).shapes, np.float32)
    whole = files["adaptive"]
    return files | {
        "cut_short": whole[:-4],
        "longer": whole + bytes(4),
        "no_header": whole[:8],
        "empty": b"",
        "nan": whole[:-4] + b"\0\0\xc0\x7f",
        "labeller": encode({}, {"wavenet.network": "labeller"}),
    }


def calls() -> dict[str, bytes]:
    """Sequences of calls in the encoding of fuzz_stream.cpp: for each of its models and precisions, each call once."""
    process, push = b"\0\xc8\0", b"\3\x14\1" + bytes(range(80))  # 200 samples, 20 frames
    others = [
        *(b"\6\2\x30", b"\7\2\x20", b"\x08\5\0", b"\x09\2\x20", b"\x0a\2\2\x10\2\x30", b"\x0b\1\1"),
        *(b"\x0c\3\xc8\0\1", b"\x0d\x10" + bytes(range(16)), b"\x0e\0\5", b"\x0e\1" + bytes(8), b"\x0f\1", b"\5"),
    ]
    sequence = push + process + b"".join(call + push + process for call in others)
    seed = (7).to_bytes(8, "little")
    return {
        f"{model}_{precision}": bytes([model, precision]) + seed + sequence
        for model in range(7)
        for precision in (0, 1)
    }


if __name__ == "__main__":
    for target, files in {"model": models(), "stream": calls()}.items():
        folder = Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
