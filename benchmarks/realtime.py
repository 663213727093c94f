"""Time that libwavenet takes for a block of audio, beside busy processes: percentiles against the block's deadline.

    python benchmarks/realtime.py samples/made/speech.safetensors [--seconds 600] [--busy 1] [--nice -15]
    python benchmarks/realtime.py samples/made/speech.safetensors --cycles 1000     # under valgrind

A block of n samples must be ready within n / sample rate seconds. The stream plays in real time: after a block it
sleeps until the next one is due. A block also counts as late if this process got no processor in time, which only a
higher priority prevents; the processor time of the thread shows what the library took.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "libwavenet"
PERCENTILES = (50.0, 99.0, 99.9)
VALGRIND = (
    "valgrind",
    "--leak-check=full",
    "--show-leak-kinds=all",
    "--errors-for-leak-kinds=all",
    "--error-exitcode=1",
)


def built(folder: Path) -> Path:
    """Build the library and its test programs in a folder."""
    options = ["-DWAVENET_TESTS=ON", "-DWAVENET_SHARED=ON"]
    subprocess.run(["cmake", "-S", SOURCE, "-B", folder, *options], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--parallel", "2"], check=True, stdout=subprocess.DEVNULL)
    return folder


def loaded(folder: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(folder / "libwavenet.so"))
    library.wavenet_last_error.restype = ctypes.c_char_p
    library.wavenet_stream_new.restype = ctypes.c_void_p
    library.wavenet_stream_new.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t]
    library.wavenet_stream_prepare.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.wavenet_stream_process.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    library.wavenet_stream_free.argtypes = [ctypes.c_void_p]
    library.wavenet_model_sample_rate.argtypes = library.wavenet_model_close.argtypes = [ctypes.c_void_p]
    return library


def play(library: ctypes.CDLL, model: Path, precision: str, threads: int, block: int, seconds: float) -> None:
    handle = ctypes.c_void_p()
    if library.wavenet_model_open(str(model).encode(), precision.encode(), ctypes.byref(handle)):
        sys.exit(library.wavenet_last_error().decode())
    stream = library.wavenet_stream_new(handle, 7, block)
    if not stream or library.wavenet_stream_prepare(stream, threads):
        sys.exit(library.wavenet_last_error().decode())
    deadline = block / library.wavenet_model_sample_rate(handle)
    out = np.zeros(block, np.float32)
    count = round(seconds / deadline)
    took, worked = np.zeros(count), np.zeros(count)
    due = time.perf_counter()
    for index in range(count):
        time.sleep(max(0.0, due - time.perf_counter()))
        started, began = time.perf_counter(), time.thread_time()
        library.wavenet_stream_process(stream, out.ctypes.data, block)
        took[index], worked[index] = time.perf_counter() - started, time.thread_time() - began
        due = max(due + deadline, started)
    library.wavenet_stream_free(stream)
    library.wavenet_model_close(handle)
    for name, times in (("time", took), ("processor time", worked)):
        shares = ", ".join(f"{p:g}%: {1e3 * np.percentile(times, p):.2f} ms" for p in PERCENTILES)
        late = (times > deadline).mean()
        print(
            f"  {precision} {threads} threads, {name}: {shares}; beyond {1e3 * deadline:.2f} ms: {late:.3%}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0, help="of audio")
    parser.add_argument("--block", type=int, default=128, help="samples")
    parser.add_argument("--busy", type=int, default=1, help="processes that compute beside it")
    parser.add_argument("--nice", type=int, default=0, help="of the player only; below 0: a higher priority, as root")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precision", nargs="+", default=["f32", "int8"])
    parser.add_argument("--cycles", type=int, help="open and close the model so often under valgrind instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = built(Path(temporary))
        if options.cycles:
            program = [folder / "cycles", options.model, "f32", str(options.cycles)]
            sys.exit(subprocess.run([*VALGRIND, *program]).returncode)
        library = loaded(folder)
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
        try:
            os.nice(options.nice)
            blocks = f"{options.seconds:g} s in blocks of {options.block} samples"
            print(f"{options.model.name}, {blocks}, beside {options.busy} busy processes")
            for precision in options.precision:
                for threads in options.threads:
                    play(library, options.model, precision, threads, options.block, options.seconds)
        finally:
            for process in busy:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
