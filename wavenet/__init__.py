"""WaveNet: train on a folder of recordings and hear it, in today's PyTorch.

Everything is loaded when it is first used, so that `import wavenet` is quick and sound can be played without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavenet import checkpoint, mulaw
    from wavenet.config import ModelConfig
    from wavenet.generate import Generator, Session
    from wavenet.model import WaveNet

__all__ = ["Generator", "ModelConfig", "Session", "WaveNet", "checkpoint", "mulaw"]

_PLACES = {
    "Generator": "wavenet.generate",
    "Session": "wavenet.generate",
    "ModelConfig": "wavenet.config",
    "WaveNet": "wavenet.model",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    try:
        return import_module(f"wavenet.{name}")  # a module of the package
    except ModuleNotFoundError as error:
        if error.name != f"wavenet.{name}":
            raise
        raise AttributeError(f"module 'wavenet' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return __all__
