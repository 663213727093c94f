"""Engines: one network, several ways to run it sample by sample. Each is loaded only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wavenet.config import ModelConfig, suggest
from wavenet.engine.base import Engine, EngineUnavailable, State

ENGINES = ("auto", "native", "torch", "naive")
PRECISIONS = ("auto", "f32", "int8")

__all__ = ["ENGINES", "PRECISIONS", "Engine", "EngineUnavailable", "State", "create"]


def create(
    name: str,
    config: ModelConfig,
    weights: Mapping[str, Any],
    precision: str = "auto",
    threads: int | None = None,
) -> Engine[Any]:
    """The engine of that name for a network: its shape, and its weights under the names of `config.shapes`.

    name: "torch" (cached queues), "naive" (the oracle), "native" (not part of this version), or "auto", the fastest
    here. precision: "f32", or "auto" for the engine's best; "int8" needs the native engine. threads: CPU threads
    during this engine's calls; None is one for "torch", whose products are too small to share, and the process's
    setting for "naive".
    Raises `ValueError` for an unknown name or a wrong thread count, `EngineUnavailable` for what is not installed.
    """
    _check_known("engine", name, ENGINES)
    _check_known("precision", precision, PRECISIONS)
    if name == "native":
        raise EngineUnavailable("the native engine is not part of this version; use engine='torch'")
    if precision == "int8":
        raise EngineUnavailable("precision 'int8' needs the native engine, not part of this version; use 'f32'")
    if name == "naive":
        from wavenet.engine.naive import NaiveEngine

        return NaiveEngine(config, weights, threads)
    from wavenet.engine.queues import QueueEngine

    return QueueEngine(config, weights, threads)


def _check_known(kind: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{kind} = {value!r}: unknown{suggest(str(value), known)}; known: {', '.join(known)}")
