"""The arguments MODEL and RECIPE, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wavenet.model import WaveNet
    from wavenet.training.recipe import Recipe


def load_network(what: str | None) -> tuple[WaveNet, Recipe | None]:
    """The network of a model file or run directory, and None; or that of a recipe, with random weights, and the recipe.

    None: the default recipe. Raises `CheckpointError` or `ConfigError`.
    """
    from wavenet.checkpoint import load_model
    from wavenet.model import WaveNet
    from wavenet.training import recipe

    if what is not None and what not in recipe.names() and Path(what).suffix != ".toml":
        return load_model(what), None
    found = recipe.load(what)
    return WaveNet(found.model), found


def trained_joined(model: Path) -> bool | None:
    """Whether a model was trained with data.join, from the recipe in its run directory; None if there is none."""
    from wavenet.training import recipe

    try:
        return recipe.load(model / "recipe.toml").data.join
    except ValueError:  # a model file, or a recipe of another version
        return None
