"""The peak memory of training beside what is predicted: recipes, shapes, batches, crops, threads, and options.

    python benchmarks/memory.py              # a table of all cases; about ten minutes on two cores
    python benchmarks/memory.py speech 2x8   # those whose names contain one of these
    python benchmarks/memory.py --device cuda

Each case is a process that runs `wavenet train` for three steps with a validation and a clip after the second and the
third. It predicts before it trains, as `wavenet info` does. Measured is the largest resident memory of the process,
and of workers what they do not share with it; on a GPU the peak of its allocator.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

SAMPLE_RATE, SECONDS, FILES = 24_000, 15, 12  # of the recordings that are trained on
CHILD = """
import json, sys
from wavenet import cli
from wavenet.training import recipe, trainer
from wavenet.training.training_cost import peak_megabytes
from wavenet.training.training_memory import training_memory
name, settings, device, arguments = json.loads(sys.argv[1])
predicted = training_memory(recipe.load(name, settings), device).peak / 1e6
code = cli.main(arguments)
print(json.dumps([code, predicted, peak_megabytes(device)]))
"""
SHAPES = {"20x32": (2, 10, 32, 128), "30x64": (3, 10, 64, 256), "30x128": (3, 10, 128, 256)}
RECIPES = ["tiny", "speech", "speakers", "vocoder", "vocoder-universal", "vocoder-24k", "voice", "instruments", "music"]
VOCODER = [
    "model.output=logistic",
    "model.mixtures=4",
    "model.linear_prediction=32",
    "model.pitch_taps=5",
    "model.frame_network=parallel",
    "model.features={hop = 160}",
]


class Case(NamedTuple):
    """A run that is predicted and measured."""

    name: str
    recipe: str | None
    settings: list[str]
    threads: int = 1


def shaped(shape: str, batch: int, crop: int, *settings: str, threads: int = 1, label: str = "") -> Case:
    """A network of one of `SHAPES`."""
    cycles, layers, residual, skip = SHAPES[shape]
    model = [f"cycles={cycles}", f"layers_per_cycle={layers}", f"residual_channels={residual}", f"skip_channels={skip}"]
    chosen = [*(f"model.{text}" for text in model), f"training.batch={batch}", f"training.crop={crop}", *settings]
    name = f"{shape} {batch}x{crop}" + (f" {label}" if label else "") + (f" {threads} threads" if threads > 1 else "")
    return Case(name, None, chosen, threads)


CASES = [
    *(Case(name, name, []) for name in RECIPES),
    Case("large", "large", []),
    Case("large 2 threads", "large", [], 2),
    shaped("20x32", 8, 1_000),
    shaped("20x32", 1, 50_000),
    shaped("20x32", 2, 50_000, threads=2),
    shaped("20x32", 8, 10_000, "model.output=logistic", label="logistic"),
    shaped("20x32", 2, 20_000, "model.output=gaussian", label="gaussian", threads=2),
    shaped("20x32", 2, 20_000, *VOCODER, label="vocoder", threads=2),
    shaped("20x32", 2, 20_000, "training.activation_checkpointing=true", label="checkpointing", threads=2),
    shaped("20x32", 2, 20_000, "training.precision=bf16", label="bf16", threads=2),
    shaped("20x32", 2, 3_000, "training.workers=2", label="2 workers"),
    shaped("30x64", 1, 50_000),
    shaped("30x64", 2, 8_000, threads=2),
    shaped("30x64", 8, 8_000, "training.accumulation=8", label="accumulation", threads=2),
    shaped("30x64", 1, 50_000, "training.activation_checkpointing=true", label="checkpointing"),
    shaped("30x64", 2, 8_000, "training.past=4000", label="past", threads=2),
    shaped("30x128", 2, 8_000),
    shaped("30x128", 2, 8_000, threads=2),
    shaped("30x128", 2, 8_000, "model.output=logistic", "training.precision=bf16", label="logistic bf16", threads=2),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    cases = [case for case in CASES if not given.names or any(name in case.name for name in given.names)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WAVENET_CACHE"] = f"{folder}/cache"
        write_recordings(Path(folder) / "recordings")
        print(f"{'case':<34} {'predicted':>9} {'measured':>9} {'ratio':>6}   MB", flush=True)
        for case in cases:
            predicted, peak = measured(case, Path(folder), given.device)
            print(f"{case.name:<34} {predicted:9,.0f} {peak:9,.0f} {predicted / peak:6.2f}", flush=True)


def write_recordings(folder: Path) -> None:
    """Tones with noise and pauses, of two speakers."""
    rng, t = np.random.default_rng(0), np.arange(SAMPLE_RATE * SECONDS) / SAMPLE_RATE
    for index in range(FILES):
        path = folder / ("ann" if index % 2 else "bob") / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = sum(np.sin(2 * np.pi * (120 + 20 * index) * k * t) / k for k in range(1, 10))
        soundfile.write(path, 0.1 * tone * (np.sin(3 * t) > -0.5) + 0.003 * rng.standard_normal(len(t)), SAMPLE_RATE)


def measured(case: Case, folder: Path, device: str) -> tuple[float, float]:
    """Predicted and measured memory of a run, in MB."""
    run = ["train", str(folder / "recordings"), "--out", str(folder / case.name.replace(" ", "-")), "--steps", "3"]
    settings = [*case.settings, "training.validate_steps=2", "training.clip_seconds=1"]
    options = [part for text in settings for part in ("--set", text)]
    recipe = [] if case.recipe is None else ["--recipe", case.recipe]
    arguments = json.dumps([case.recipe, settings, device, [*run, "--device", device, *recipe, *options]])
    environment = {**os.environ, "OMP_NUM_THREADS": str(case.threads)}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, arguments], stdout=output, stderr=errors, env=environment, text=True
        )
        workers = 0.0
        while child.poll() is None:
            workers = max(workers, unshared_megabytes(child.pid))
            time.sleep(0.2)
        output.seek(0)
        errors.seek(0)
        if child.returncode:
            raise SystemExit(f"{case.name}: {errors.read()}")
        code, predicted, peak = json.loads(output.read().splitlines()[-1])
        if code:
            raise SystemExit(f"{case.name}: {errors.read()}")
    return predicted, peak + workers


def unshared_megabytes(parent: int) -> float:
    """Memory of the child processes of a process that they share with no other, on Linux; otherwise 0."""
    total = 0
    with suppress(OSError, ValueError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            for child in (task / "children").read_text().split():
                lines = Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total / 1e3  # from kilobytes


if __name__ == "__main__":
    main()
