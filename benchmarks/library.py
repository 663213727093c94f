"""libwavenet on this machine: the sizes of its files, and the time from opening a model to its first samples.

    python benchmarks/library.py [MODEL...]

Builds the library, as a release, in a temporary folder. Each time is the median of twenty fresh processes, in which the
model file is opened, a stream is made and one sample generated; reading the file from the disk's cache is included.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODELS = [ROOT / "samples" / "made" / f"{name}.safetensors" for name in ("speech", "voice-base")]
PROGRAM = """
#include <stdio.h>
#include <time.h>
#include <wavenet.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e3 * (double)time.tv_sec + 1e-6 * (double)time.tv_nsec;
}

int main(int count, char **arguments) {
    const double start = now();
    wavenet_model *model;
    float sample;
    if (count < 3 || wavenet_model_open(arguments[1], arguments[2], &model)) return 1;
    wavenet_stream *stream = wavenet_stream_new(model, 0, 128);
    const double opened = now();
    if (!stream || wavenet_stream_process(stream, &sample, 1)) return 1;
    printf("%g %g\\n", opened - start, now() - start);
    return 0;
}
"""


def build(folder: Path) -> Path:
    """The program, linked with the static library."""
    source, target = folder / "first.c", folder / "first"
    source.write_text(PROGRAM)
    library = folder / "build"
    subprocess.run(["cmake", "-S", ROOT / "libwavenet", "-B", library], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", library, "--parallel", "2"], check=True, capture_output=True)
    include, objects = ROOT / "libwavenet" / "include", library / "libwavenet.a"
    subprocess.run(
        ["cc", "-O2", f"-I{include}", source, objects, "-lstdc++", "-lm", "-lpthread", "-o", target], check=True
    )
    stripped = folder / "libwavenet.so"
    subprocess.run(["strip", "-o", stripped, (library / "libwavenet.so").resolve()], check=True)
    for path in (library / "libwavenet.a", (library / "libwavenet.so").resolve(), stripped):
        print(f"{path.name:24} {path.stat().st_size / 1e3:7.0f} kB{' stripped' if path == stripped else ''}")
    return target


def main() -> None:
    """Build, and measure."""
    print(platform.processor() or platform.machine())
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        for model in [Path(argument) for argument in sys.argv[1:]] or MODELS:
            for precision in ("f32", "int8"):
                times = []
                for _ in range(20):
                    done = subprocess.run([program, model, precision], capture_output=True, text=True, check=True)
                    times.append([float(word) for word in done.stdout.split()])
                opened, first = (statistics.median(column) for column in zip(*times, strict=True))
                print(f"{model.name:24} {precision:5} opened {opened:6.1f} ms, first sample {first:6.1f} ms")


if __name__ == "__main__":
    main()
