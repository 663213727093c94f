"""The base models that are part of the package: what `--from auto` starts from."""

from __future__ import annotations

from pathlib import Path

from wavenet import checkpoint
from wavenet.training.base_model import differences
from wavenet.training.recipe import Recipe

BASES = ("voice-base", "vocoder-universal")  # names of the files, the preferred one first; both are optional


def shipped_base(recipe: Recipe | None) -> Path | None:
    """The file of the base with the network of a recipe, None if there is none; without a recipe any base."""
    for file in _files():
        config, _ = checkpoint.read_model(file)
        if recipe is None or not differences(config, recipe.model.to_dict()):
            return file
    return None


def is_shipped(path: str) -> bool:
    """Whether a model has the name of a base: the package may have moved since a run was started from one."""
    return Path(path).name in [f"{name}.safetensors" for name in BASES]


def _files() -> list[Path]:
    """The bases: inside the package when installed, in samples/made in a checkout."""
    package = Path(__file__).parents[1]  # wavenet
    installed = package / "bases"
    folder = installed if installed.is_dir() else package.parent / "samples" / "made"
    files = [folder / f"{name}.safetensors" for name in BASES]
    return [file for file in files if file.is_file()]
