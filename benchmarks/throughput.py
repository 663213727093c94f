"""Folders of audio: hours of audio per core-hour, by the number of streams side by side and of processes.

    python benchmarks/throughput.py RECORDINGS   # 20 minutes a round on a busy machine; RECORDINGS: a minute of speech
    python benchmarks/throughput.py RECORDINGS --tasks vocode --streams 1 8 --processes 1

vocode: copies of the recordings, with the refinement that the model recommends and without. generate: streams of two
seconds. evaluate: bits per sample of the recordings. All with models of samples/made, in float32 and int8.

A core-hour is an hour of processor time of all processes together, without their start. Every round runs all settings
once, one after the other; the figures are medians of the rounds, and those after "x" the medians of the ratio to one
stream in one process in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

from wavenet.batch.folder import BatchOptions, generate_folder, vocode_folder
from wavenet.batch.workers import Workers
from wavenet.checkpoint import load_model
from wavenet.evaluation import clip_bits, copy_synthesis

MADE = Path(__file__).parents[1] / "samples" / "made"
MODELS = {task: MADE / f"{name}.safetensors" for task, name in (("vocode", "vocoder"), ("generate", "speech"))}
TASKS = ("vocode", "unrefined", "generate", "evaluate")
GENERATED, SECONDS = 16, 2.0  # streams, and their length
PRECISIONS = ("f32", "int8")


class Setting(NamedTuple):
    """What one run of this script as a process of a batch job does."""

    task: str
    precision: str
    processes: int
    streams: int
    recordings: str
    output: str

    def run(self) -> None:
        """Run it, and print the seconds of audio, and of processor time of all processes, in the first one."""
        workers = Workers.from_environment()
        batch = BatchOptions(precision=self.precision, threads=1, streams=self.streams)
        if self.task == "evaluate":
            clip_bits.STREAMS = self.streams
            model = load_model(MODELS["vocode"])
        started = time.process_time()
        if self.task == "evaluate":
            result = copy_synthesis.evaluate(model, self.recordings, precision=self.precision, workers=workers)
            seconds = result.recordings.train.seconds
        elif self.task == "generate":
            made = generate_folder(MODELS["generate"], self.output, SECONDS, GENERATED, batch=batch, workers=workers)
            seconds = made.seconds
        else:
            options = {"refine": 0} if self.task == "unrefined" else {}
            made = vocode_folder(
                MODELS["vocode"],
                self.recordings,
                self.output,
                options,
                batch,
                workers,  # type: ignore[arg-type]
            )
            seconds = made.seconds
        used = sum(workers.exchange(time.process_time() - started))
        if workers.is_first:
            print(json.dumps([seconds, used]))


def measured(setting: Setting) -> float:
    """Hours of audio per core-hour."""
    command = [sys.executable, __file__, "--setting", json.dumps(setting)]
    if setting.processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(setting.processes)]
        command = [sys.executable, *launch, *command[1:]]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, used = json.loads(done.stdout.splitlines()[-1])
    return seconds / used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="?")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.setting:
        Setting(*json.loads(given.setting)).run()
        return
    if given.recordings is None:
        parser.error("give a folder of recordings")
    for task, precision in product(given.tasks, PRECISIONS):
        columns = list(product(given.processes, given.streams))
        rounds = []
        for _ in range(given.rounds):
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(
                    [
                        measured(Setting(task, precision, *column, given.recordings, f"{folder}/{index}"))
                        for index, column in enumerate(columns)
                    ]
                )
        for index, (processes, streams) in enumerate(columns):
            speed = statistics.median(one[index] for one in rounds)
            ratio = statistics.median(one[index] / one[0] for one in rounds)
            where = f"{processes} process{'es' if processes > 1 else ''}, {streams:2} streams"
            print(f"{task:9} {precision:4} {where}: {speed:6.1f} hours per core-hour, x {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
