"""Train a WaveNet on a folder of recordings and generate audio with it in real time on a CPU.

Submodules are imported on first use: `import wavenet` is fast, and generating audio does not load PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavenet import checkpoint, config, controls, features, generate, model, mulaw, play
    from wavenet.config import ModelConfig
    from wavenet.data import audio
    from wavenet.generate import Generator
    from wavenet.labelling import Labeller
    from wavenet.model import WaveNet
    from wavenet.session import Session

    __version__: str

__all__ = [
    "Generator",
    "Labeller",
    "ModelConfig",
    "Session",
    "WaveNet",
    "__version__",
    "audio",
    "checkpoint",
    "config",
    "controls",
    "features",
    "generate",
    "model",
    "mulaw",
    "play",
]

_MODULES = {
    "audio": "wavenet.data.audio",
    "checkpoint": "wavenet.checkpoint",
    "config": "wavenet.config",
    "controls": "wavenet.controls",
    "features": "wavenet.features",
    "generate": "wavenet.generate",
    "model": "wavenet.model",
    "mulaw": "wavenet.mulaw",
    "play": "wavenet.play",
}
_CLASSES = {
    "Generator": "wavenet.generate",
    "Labeller": "wavenet.labelling",
    "ModelConfig": "wavenet.config",
    "Session": "wavenet.session",
    "WaveNet": "wavenet.model",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _CLASSES:
        return getattr(import_module(_CLASSES[name]), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'wavenet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """The version of the installed distribution, which pyproject.toml states."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version("wavenet-toolkit")
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
