"""MODEL and RECIPE, the arguments of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wavenet.model import WaveNet
    from wavenet.training.recipe import Recipe


def network_of(what: str | None) -> tuple[WaveNet, Recipe | None]:
    """The network of a model file or run directory; or that of a recipe, with random weights, and the recipe."""
    from wavenet.checkpoint import load_model
    from wavenet.model import WaveNet
    from wavenet.training import recipe

    if what is not None and what not in recipe.names() and Path(what).suffix != ".toml":
        return load_model(what), None
    found = recipe.load(what)
    return WaveNet(found.model), found


def trained_joined(model: Path) -> bool | None:
    """Whether a model was trained with data.join, by the recipe of its run directory; None where that is not known."""
    from wavenet.training import recipe

    try:
        return recipe.load(model / "recipe.toml").data.join
    except ValueError:  # a model file, or a recipe of another version
        return None
