"""The real-time contract of libwavenet: no allocation, lock or system call, and the same codes with any threads."""

import subprocess
import sys

import pytest
from library_build import build_folder

UNSUPPORTED = 77  # the exit code of a program that the system does not let count


@pytest.mark.skipif(sys.platform != "linux", reason="system calls are counted on Linux only")
def test_generating_allocates_nothing_and_makes_no_system_call() -> None:
    done = subprocess.run([build_folder() / "realtime"], capture_output=True, text=True, timeout=300)
    if done.returncode == UNSUPPORTED:
        pytest.skip("this system does not let a process count its system calls (seccomp)")
    assert (done.returncode, done.stderr) == (0, "")


def test_codes_do_not_depend_on_threads() -> None:
    """On the best kernels; `tests/sanitizers.sh` runs the same program under sanitizers, on all of them."""
    done = subprocess.run([build_folder() / "stress", "best"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
