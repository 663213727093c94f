"""Large folders of recordings: indexing, an interruption, reopening, shards, crops, and one very long file.

    python benchmarks/folders.py [--files 100000] [--hours 10] [--in FOLDER]

Makes files of 0.1 to 0.4 seconds at 16 kHz, of which one in 300 cannot be used, and a file of many hours. Each line is
a process of its own: elapsed and processor time, and the memory that it needed beyond that of the imports.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000
SHORTEST, LONGEST = 1_600, 6_400  # samples of a file
IN_A_FOLDER = 200  # files
ONE_BAD_IN = 300
CROPS, CROP = 20_000, 8_000


def wav(samples: int) -> bytes:
    """The header of a WAV file of so many samples."""
    size = 2 * samples
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size)


def make_files(folder: Path, count: int) -> None:
    """Files of noise; some are empty, truncated, text, or without samples."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i // IN_A_FOLDER:04}" / f"recording-{i:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = int(rng.integers(SHORTEST, LONGEST))
        content = wav(samples) + rng.integers(-8_000, 8_000, samples, dtype=np.int16).tobytes()
        if i % ONE_BAD_IN == ONE_BAD_IN - 1:
            content = [b"", content[: len(content) // 2], b"text " * 100, wav(0)][i // ONE_BAD_IN % 4]
        path.write_bytes(content)


def make_long_file(path: Path, hours: float) -> None:
    """One file of noise, at twice the model's sample rate."""
    import soundfile

    rng, minutes = np.random.default_rng(1), round(60 * hours)
    path.parent.mkdir(parents=True)
    with soundfile.SoundFile(path, "w", 2 * SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file:
        for _ in range(minutes):
            file.write(rng.integers(-8_000, 8_000, 2 * 60 * SAMPLE_RATE, dtype=np.int16))


def measure(what: str, folder: Path, shards: Path) -> None:
    """Do one thing, and print what it needed."""
    from wavenet.config import DataConfig
    from wavenet.data.crops import RandomCrops
    from wavenet.data.dataset import open_folder
    from wavenet.training.training_cost import peak_megabytes

    if what == "pack":
        import webdataset  # noqa: F401 -- before the memory is measured

        from wavenet.data.packing import pack
        from wavenet.data.shards import Settings

    before, started, used = peak_megabytes(), time.monotonic(), time.process_time()
    if what == "pack":
        packed = pack(folder, shards, Settings(SAMPLE_RATE), 10**8)
        text = f"{packed.recordings:,} recordings, {packed.shards} shards, {len(packed.skipped)} skipped"
    else:
        recordings = open_folder(folder, SAMPLE_RATE, DataConfig())
        text = f"{recordings.summary.kept:,} recordings, {len(recordings.summary.skipped)} skipped"
    if what == "crops":
        draws = RandomCrops(recordings.train, CROP)
        rng, started, used = np.random.default_rng(0), time.monotonic(), time.process_time()
        for _ in range(CROPS // 8):
            draws.read(draws.draw(8, rng))
        text = f"{CROPS / (time.process_time() - used):,.0f} crops a second of processor time"
    elapsed, used = time.monotonic() - started, time.process_time() - used
    memory = peak_megabytes() - before
    print(f"{elapsed:8.2f} s, processor {used:7.2f} s, memory +{memory:5.0f} MB: {text}", flush=True)


def run(label: str, what: str, folder: Path, shards: Path) -> None:
    """Measure in a process of its own."""
    print(f"{label:34}", end="", flush=True)
    subprocess.run([sys.executable, __file__, "--measure", what, folder, shards], check=True)


def interrupt(folder: Path, shards: Path, seconds: float) -> None:
    """Begin to index, kill the process, and print how much of it is stored."""
    process = subprocess.Popen([sys.executable, __file__, "--measure", "index", folder, shards])
    while not (found := list(Path(os.environ["WAVENET_CACHE"]).glob("*/index.sqlite"))):
        time.sleep(0.1)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (index,) = found
    (stored,) = sqlite3.connect(index).execute("SELECT count(*) FROM files").fetchone()
    print(f"{f'killed after {seconds:g} s':34}{stored:,} files are stored")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=10.0, help="of the long file; 0: none")
    parser.add_argument("--in", dest="place", help="where the files are made, and removed afterwards")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "FOLDER", "SHARDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, folder, shards = options.measure
        measure(what, Path(folder), Path(shards))
        return
    place = Path(tempfile.mkdtemp(prefix="folders-", dir=options.place))
    os.environ["WAVENET_CACHE"] = os.fspath(place / "cache")
    folder, shards = place / "recordings", place / "shards"
    try:
        make_files(folder, options.files)
        interrupt(folder, shards, 5.0)
        run("index the rest", "index", folder, shards)
        run("reopen", "reopen", folder, shards)
        run("crops of the cache", "crops", folder, shards)
        run("pack", "pack", folder, shards)
        run("open the shards", "reopen", shards, shards)
        run("crops of the shards", "crops", shards, shards)
        if options.hours:
            make_long_file(place / "long" / "long.flac", options.hours)
            run(f"index a file of {options.hours:g} hours", "index", place / "long", shards)
            run("pack it", "pack", place / "long", place / "long-shards")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
