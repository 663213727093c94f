"""Engines: implementations of generation sample by sample. Each is imported only when it is created."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavenet.checks import is_integer
from wavenet.config import FRAME_MODEL, ModelConfig, shown, suggest
from wavenet.engine.base import Engine, EngineUnavailable, State, cores

ENGINES = ("auto", "native", "torch", "naive")
PRECISIONS = ("auto", "f32", "int8")
MAX_THREADS_PER_CORE = 4  # more is a typing error; thousands of threads crash the process

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Engine",
    "EngineUnavailable",
    "State",
    "cores",
    "create",
    "how_to_get_native",
    "native_installed",
]


def create(
    name: str,
    config: ModelConfig,
    weights: Mapping[str, Any],
    precision: str = "auto",
    threads: int | None = None,
) -> Engine[Any]:
    """Create an engine for a network, given its configuration and its weights under the names of `config.shapes`.

    Weights of a frame model are left out: an engine runs the network that it draws features for.
    name: "native" (C++), "torch" (cached queues in PyTorch), "naive" (the reference), or "auto": native if it is
        installed, otherwise torch, with a warning on how to install the native one.
    precision: "f32", or "int8", which is faster and supported by the native engine only; "auto" is f32.
    threads: largest number of CPU threads during this engine's calls. None: for "native" one per core, at most four;
        for "torch" one, since its matrix products are too small to divide; for "naive" PyTorch's setting.
    Raises `ValueError` for an unknown name or an invalid thread count, `EngineUnavailable` for an engine that is not
    installed.
    """
    _check_known("engine", name, ENGINES)
    _check_known("precision", precision, PRECISIONS)
    threads = _checked_threads(threads)
    weights = {name: value for name, value in weights.items() if not name.startswith(FRAME_MODEL)}
    if name == "auto":
        name = "native" if native_installed() else "torch"
        if name == "torch" and precision != "int8":
            warnings.warn(f"generating with the slow 'torch' engine: {how_to_get_native()}", stacklevel=3)
    if name == "native" or precision == "int8":
        if not native_installed():
            what = "the native engine" if name == "native" else "precision 'int8' needs the native engine, which"
            raise EngineUnavailable(f"{what} is not installed; use engine='torch' in f32, or: {how_to_get_native()}")
        if name != "native":
            raise EngineUnavailable(f"precision 'int8' needs the native engine, not {name!r}")
        from wavenet.engine.native import NativeEngine

        return NativeEngine(config, weights, "f32" if precision == "auto" else precision, threads)
    if name == "naive":
        from wavenet.engine.naive import NaiveEngine

        return NaiveEngine(config, weights, threads)
    from wavenet.engine.torch import TorchEngine

    return TorchEngine(config, weights, threads)


def native_installed() -> bool:
    """Whether the C++ engine was built when this package was installed."""
    return importlib.util.find_spec("wavenet.engine._native") is not None


def how_to_get_native() -> str:
    """How to install the native engine, for messages."""
    if (Path(__file__).parent / "binding.cpp").is_file():  # not in an installed package
        return "this is the source folder, where nothing is compiled: run elsewhere, or here: pip install -e ."
    return "install a C++ compiler and Python's headers, then install wavenet-toolkit again"


def _check_known(kind: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{kind} = {shown(value)}: unknown{suggest(str(value), known)}; known: {', '.join(known)}")


def _checked_threads(threads: Any) -> int | None:
    most = MAX_THREADS_PER_CORE * (os.cpu_count() or 1)
    if threads is None:
        return None
    if not is_integer(threads) or not 1 <= int(threads) <= most:
        raise ValueError(f"threads = {shown(threads)}: must be from 1 to {most} here, or None for the engine's default")
    return int(threads)
