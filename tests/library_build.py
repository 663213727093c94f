"""libwavenet and its test programs, built once for all tests that run them."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "libwavenet"


@cache
def build_folder() -> Path:
    """The folder with the library and its test programs. Skips the test where there is no compiler or no CMake."""
    for tool in ("cmake", os.environ.get("CXX", "c++")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = Path(mkdtemp(prefix="libwavenet-"))
    options = ["-DWAVENET_TESTS=ON", "-DWAVENET_SHARED=ON", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (
        ["cmake", "-S", str(SOURCE), "-B", str(folder), *options],
        ["cmake", "--build", str(folder), "--parallel", str(os.cpu_count() or 1)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]
    return folder
