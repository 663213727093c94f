"""MODEL|RECIPE: what commands that take either are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wavenet.training import recipe
from wavenet.training.recipe import Recipe

if TYPE_CHECKING:
    from wavenet.model import WaveNet


def network_of(what: str | None) -> tuple[WaveNet, Recipe | None]:
    """The network of a model file or run directory, or that of a recipe with random weights, and the recipe."""
    from wavenet.checkpoint import load_model
    from wavenet.model import WaveNet

    if what is not None and what not in recipe.names() and Path(what).suffix != ".toml":
        return load_model(what), None
    found = recipe.load(what)
    return WaveNet(found.model), found
