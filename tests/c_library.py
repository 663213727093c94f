"""libwavenet through `ctypes`, with only its shared library: what test modules of the C interface share."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

ROOT = Path(__file__).resolve().parents[1]
OK, INVALID, BAD_FILE, NO_FILE, NO_MEMORY, STARVED, FULL = range(7)

_POINTER, _SIZE, _SEED, _DOUBLE = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_double
_ARGUMENTS: dict[str, Sequence[Any]] = {
    "model_open": (ctypes.c_char_p, ctypes.c_char_p, _POINTER),
    "model_open_bytes": (ctypes.c_char_p, _SIZE, ctypes.c_char_p, _POINTER),
    "model_close": (_POINTER,),
    "stream_new": (_POINTER, _SEED, _SIZE),
    "stream_copy": (_POINTER,),
    "stream_free": (_POINTER,),
    "stream_process": (_POINTER, _POINTER, _SIZE),
    "stream_push": (_POINTER, _POINTER, _SIZE, _POINTER),
    "stream_end": (_POINTER,),
    "stream_position": (_POINTER,),
    "stream_prepare": (_POINTER, ctypes.c_int),
    "stream_prime": (_POINTER, _POINTER, _SIZE),
    "stream_reset": (_POINTER, _SEED),
    "stream_seed": (_POINTER, _SEED),
    "stream_gates": (_POINTER, _POINTER),
    "stream_watch": (_POINTER, ctypes.c_int),
    "stream_watched": (_POINTER, _POINTER),
    "stream_refine": (_POINTER, ctypes.c_int),
    "stream_set_temperature": (_POINTER, _DOUBLE),
    "stream_set_voiced_temperature": (_POINTER, _DOUBLE),
    "stream_set_top_k": (_POINTER, ctypes.c_int),
    "stream_set_top_p": (_POINTER, _DOUBLE),
    "stream_set_speakers": (_POINTER, _POINTER, ctypes.c_int),
    "stream_set_mute": (_POINTER, _POINTER, ctypes.c_int),
    "stream_set_pitch": (_POINTER, _DOUBLE),
    "stream_set_loudness": (_POINTER, _DOUBLE),
    "analysis_new": (_POINTER, _SIZE),
    "analysis_free": (_POINTER,),
    "analysis_process": (_POINTER, _POINTER, _SIZE, _POINTER, _POINTER),
    "analysis_room": (_POINTER,),
    "analysis_end": (_POINTER, _POINTER, _POINTER),
    "model_sample_rate": (_POINTER,),
    "model_layers": (_POINTER,),
    "model_receptive_field": (_POINTER,),
    "model_gate_channels": (_POINTER,),
    "model_kernels": (_POINTER,),
    "model_speakers": (_POINTER,),
    "model_speaker": (_POINTER, ctypes.c_int),
    "model_bands": (_POINTER,),
    "model_hop": (_POINTER,),
    "model_look_ahead": (_POINTER,),
    "version": (),
    "last_error": (),
}
_RESULTS: Mapping[str, Any] = {
    "stream_new": _POINTER,
    "stream_copy": _POINTER,
    "analysis_new": _POINTER,
    "stream_position": ctypes.c_uint64,
    "analysis_room": _SIZE,
    **dict.fromkeys(("version", "last_error", "model_kernels", "model_speaker"), ctypes.c_char_p),
    **dict.fromkeys(("model_close", "stream_free", "analysis_free")),
}


class Library:
    """The functions of wavenet.h under their names without `wavenet_`."""

    def __init__(self, path: Path) -> None:
        loaded = ctypes.CDLL(str(path))
        for name, arguments in _ARGUMENTS.items():
            function = getattr(loaded, f"wavenet_{name}")
            function.argtypes, function.restype = arguments, _RESULTS.get(name, ctypes.c_int)
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:  # for mypy: the functions are attributes
        raise AttributeError(name)

    @property
    def reason(self) -> str:
        return self.last_error().decode()

    def open(self, model: Path | bytes, precision: str = "f32") -> Model:
        return Model(self, model, precision)


class Model:
    """A model that is closed with this object."""

    def __init__(self, library: Library, source: Path | bytes, precision: str) -> None:
        self.library, self.pointer = library, ctypes.c_void_p()
        target = ctypes.byref(self.pointer)
        if isinstance(source, bytes):
            status = library.model_open_bytes(source, len(source), precision.encode(), target)
        else:
            status = library.model_open(str(source).encode(), precision.encode(), target)
        assert status == OK, library.reason

    def __del__(self) -> None:
        self.library.model_close(self.pointer)

    def stream(self, seed: int = 0, block: int = 4096, refine: int | None = 0) -> Stream:
        pointer = self.library.stream_new(self.pointer, seed, block)
        assert pointer, self.library.reason
        stream = Stream(self, pointer)
        if refine is not None:
            stream.call("refine", refine)
        return stream


class Stream:
    """A stream that is freed with this object."""

    def __init__(self, model: Model, pointer: int) -> None:
        self.model, self.library, self.pointer = model, model.library, pointer

    def __del__(self) -> None:
        self.library.stream_free(self.pointer)

    def call(self, name: str, *arguments: Any) -> None:
        """Calls `wavenet_stream_NAME`, which must succeed."""
        assert getattr(self.library, f"stream_{name}")(self.pointer, *arguments) == OK, self.library.reason

    def copy(self) -> Stream:
        return Stream(self.model, self.library.stream_copy(self.pointer))

    def process(self, samples: int, status: int = OK) -> NDArray[np.float32]:
        out = np.full(samples, np.nan, np.float32)
        assert self.library.stream_process(self.pointer, out.ctypes.data, samples) == status, self.library.reason
        return out

    def read(self, samples: int, block: int = 512) -> NDArray[np.float32]:
        """The next samples, in blocks."""
        sizes = [min(block, samples - first) for first in range(0, samples, block)]
        return np.concatenate([self.process(size) for size in sizes])

    def push(self, features: ArrayLike) -> int:
        """Pushes log-mel frames [bands, n] as far as there is room; returns how many were taken."""
        frames = np.ascontiguousarray(np.asarray(features, np.float32).T)
        taken = ctypes.c_size_t()
        status = self.library.stream_push(self.pointer, frames.ctypes.data, len(frames), ctypes.byref(taken))
        assert status == (OK if taken.value == len(frames) else FULL), self.library.reason
        return taken.value

    def speak(self, shares: Sequence[float]) -> None:
        array = np.asarray(shares, np.float32)
        self.call("set_speakers", array.ctypes.data, len(array))

    def mute(self, layers: Sequence[int]) -> None:
        array = np.asarray(layers, np.intc)
        self.call("set_mute", array.ctypes.data, len(array))


def cmake(*arguments: str | Path) -> None:
    """Runs CMake. Skips the test where it or a C++ compiler is missing."""
    program = shutil.which("cmake")
    if program is None:
        pytest.skip("cmake is not installed: pip install '.[dev]'")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def install(folder: Path) -> Path:
    """Builds libwavenet, and installs it below `folder`. Returns the prefix; WAVENET_TEST_LIBRARY names another one."""
    if "WAVENET_TEST_LIBRARY" in os.environ:
        return Path(os.environ["WAVENET_TEST_LIBRARY"])
    build, prefix = folder / "build", folder / "installed"
    options = [f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib", "-DWAVENET_TESTS=ON"]
    cmake("-S", ROOT / "libwavenet", "-B", build, *options)
    cmake("--build", build, "--parallel", "2")
    cmake("--install", build)
    return prefix


def program_of(prefix: Path, name: str) -> Path:
    """A test program of the build that was installed there. Skips the test if it was built elsewhere."""
    program = prefix.parent / "build" / name
    if not program.exists():
        pytest.skip(f"{name} was not built: only where the tests build the library, without WAVENET_TEST_LIBRARY")
    return program
