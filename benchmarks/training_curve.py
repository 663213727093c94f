"""The quality of a vocoder while it is trained: bits per sample, PESQ and STOI against training time.

    pip install '.[benchmarks,metrics]'
    python benchmarks/training_curve.py runs/vocoder TEST -o curve.csv    # beside: wavenet train --out runs/vocoder

Whenever the run writes a new best model, the first recordings of TEST of at least 1.5 s are copied with it, from their
spectrograms, at one temperature, without and with refinement, and a line is added to the table: seconds of training,
steps, held-out bits per sample of the run, and the mean PESQ and STOI of both copies. It ends with the run, or on
Ctrl-C; started again, it goes on with the same table.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np

from wavenet import Generator
from wavenet.checkpoint import CheckpointError
from wavenet.config import DataConfig
from wavenet.consistency import refine
from wavenet.data import dataset
from wavenet.data.dataset import Recordings
from wavenet.evaluation.copy_synthesis import MOST_SECONDS, long_clips, read_original
from wavenet.evaluation.metrics import pesq, stoi
from wavenet.evaluation.signals import Signal

HEADER = ["seconds", "step", "bits", "pesq", "stoi", "pesq refined", "stoi refined"]
POLL_SECONDS = 20.0


def figures(model: Path, recordings: Recordings, count: int, temperature: float, iterations: int) -> list[float]:
    """Mean PESQ and STOI of copies without refinement, and with it."""
    generator = Generator.load(model, precision="int8", threads=1)
    mel, clips = generator.config.features, recordings.train
    assert mel is not None, "not a vocoder"
    rows = []
    for clip in long_clips(clips)[:count]:
        original, features, speaker = read_original(generator.config, clips, clip, MOST_SECONDS)
        copy = generator.render(features=features, speaker=speaker, temperature=temperature, refine=0, particles=0)[
            : len(original)
        ]
        recording = Signal(original, generator.sample_rate)
        copies = [Signal(audio, generator.sample_rate) for audio in (copy, refine(copy, features, mel, iterations))]
        rows.append([figure(recording, signal) for signal in copies for figure in (pesq, stoi)])
    return np.mean(rows, axis=0).tolist()  # type: ignore[no-any-return]


def last_validation(run: Path) -> dict[str, float] | None:
    """The last validation in the run's log that was the best so far."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = [line for line in lines if line["event"] == "validation" and line["is_best"]]
    return best[-1] if best else None


def main() -> None:
    """Watch the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("curve.csv"))
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--refine", type=int, default=40, help="iterations")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many minutes without a new model")
    options = parser.parse_args()
    if not options.output.exists():
        options.output.write_text(",".join(HEADER) + "\n")
    with open(options.output, newline="") as table:
        done = {int(row["step"]) for row in csv.DictReader(table)}
    recordings: Recordings | None = None
    waited = time.monotonic()
    while time.monotonic() - waited < 60 * options.minutes:
        validation = last_validation(options.run)
        if validation is None or validation["step"] in done:
            time.sleep(POLL_SECONDS)
            continue
        try:
            if recordings is None:
                sample_rate = Generator.load(options.run).sample_rate
                recordings = dataset.open_folder(options.test, sample_rate, DataConfig(validation=0.0))
            row = figures(options.run, recordings, options.copies, options.temperature, options.refine)
        except CheckpointError:  # the model is written before the log, the log before the next model
            continue
        done.add(int(validation["step"]))
        line = [validation["seconds"], validation["step"], validation["bits"], *row]
        with open(options.output, "a", newline="") as table:
            csv.writer(table).writerow([f"{value:.6g}" for value in line])
        waited = time.monotonic()


if __name__ == "__main__":
    main()
