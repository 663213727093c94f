"""The real-time contract of libwavenet: no allocation, lock or system call, and the same codes with any threads."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from builders import conditioned_config, random_model
from c_library import ROOT, program_of
from two_tier_data import two_tiers

from wavenet import checkpoint
from wavenet.config import ModelConfig

UNSUPPORTED = 77  # the exit code of a program that the system does not let count
MADE = ROOT / "samples" / "made"
linux = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="calls are counted with glibc only")


def run(*command: object) -> None:
    """Runs a program that must succeed and say nothing."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    if done.returncode == UNSUPPORTED:
        pytest.skip("this system does not let a process count its system calls (seccomp)")
    assert (done.returncode, done.stderr) == (0, "")


@linux
def test_all_outputs_allocate_nothing_and_make_no_system_call(installed_library: Path) -> None:
    run(program_of(installed_library, "realtime"))


@linux
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", ["speech", "vocoder-universal", "voice-base", "speakers"])
def test_shipped_models_play_without_allocation_and_system_calls(
    installed_library: Path, model: str, threads: int
) -> None:
    """Vocoders and voices are refined while they play."""
    run(program_of(installed_library, "realtime_stream"), MADE / f"{model}.safetensors", "int8", threads)


@linux
@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_small_models_play_without_allocation_and_system_calls(
    tmp_path: Path, installed_library: Path, precision: str
) -> None:
    models = {
        "adaptive": random_model(conditioned_config(hop=None, order=5)),
        "pitch": random_model(conditioned_config(hop=4, order=2, taps=3, kernel_size=3)),
        "mu-law": random_model(ModelConfig(2, 3, 2, 8, skip_channels=12)),
        "two tiers": two_tiers(output="logistic", mixtures=2, linear_prediction=4),
    }
    for name, model in models.items():
        checkpoint.save_model(tmp_path / f"{name}.safetensors", model)
        run(program_of(installed_library, "realtime_stream"), tmp_path / f"{name}.safetensors", precision, 2)


def test_codes_do_not_depend_on_threads(installed_library: Path) -> None:
    """On the best kernels; `tests/sanitizers.sh` runs the same program under sanitizers, on all of them."""
    run(program_of(installed_library, "stress"), "best")


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_opening_and_closing_leaks_nothing(tmp_path: Path, installed_library: Path) -> None:
    """A few cycles; `benchmarks/realtime.py --cycles 1000` has more."""
    checkpoint.save_model(tmp_path / "m.safetensors", random_model(ModelConfig(1, 3, 2, 8, skip_channels=12)))
    leaks = ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=all", "--error-exitcode=1"]
    cycles = [program_of(installed_library, "cycles"), tmp_path / "m.safetensors", "f32", 4]
    run(*leaks, "--errors-for-leak-kinds=all", *cycles)
