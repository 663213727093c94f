"""The arguments MODEL and RECIPE, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wavenet.data.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wavenet.config import ModelConfig
    from wavenet.evaluation.bench import OtherParts
    from wavenet.labelling import Labeller
    from wavenet.labelling_config import LabellerConfig
    from wavenet.model import WaveNet
    from wavenet.training.recipe import Recipe


def load_network(what: str | None) -> tuple[WaveNet, Recipe | None]:
    """The network of a model file or run directory, and None; or that of a recipe, with random weights, and the recipe.

    None: the default recipe. Raises `CheckpointError` or `ConfigError`.
    """
    from wavenet.checkpoint import load_model
    from wavenet.config import ConfigError
    from wavenet.training import recipe
    from wavenet.two_tiers import new_model

    if what is not None and not _is_recipe(what):
        return load_model(what), None
    found = recipe.load(what)
    if found.labeller is not None:
        raise ConfigError(f"{what}: the recipe of a labeller, which generates no audio")
    return new_model(found.model), found


def load_config(what: str | None, overrides: Sequence[str] = ()) -> ModelConfig | LabellerConfig:
    """The configuration of a model file, run directory or recipe, without PyTorch; None: that of the default recipe.

    overrides: section.key=value, of a recipe. Raises `CheckpointError` or `ConfigError`.
    """
    from wavenet import checkpoint
    from wavenet.config import ConfigError
    from wavenet.training import recipe

    if what is None or _is_recipe(what):
        found = recipe.load(what, overrides)
        return found.labeller or found.model
    if overrides:
        raise ConfigError(f"--set {printable(overrides[0])}: changes a recipe, and {printable(what)} is a model")
    read = checkpoint.read_labeller if checkpoint.is_labeller(what) else checkpoint.read_model
    return read(what)[0]


def parts_text(parts: OtherParts, iterations: int) -> str:
    """The speeds of what generation computes beside the network, on one core; iterations: of the refinement."""
    texts = {"frames": parts.frames, f"{iterations} iterations of refinement": parts.refinement}
    return " and ".join(f"{name} ({1 / seconds:,.1f} x)" for name, seconds in texts.items() if seconds)


def load_labeller(what: str) -> tuple[Labeller, Recipe | None] | None:
    """The labeller of a model file or run directory, and None; or that of a recipe, of random weights, and the recipe.

    None if it is that of a generator. Raises `CheckpointError` or `ConfigError`.
    """
    from wavenet.checkpoint import is_labeller
    from wavenet.training import recipe

    found = recipe.load(what) if _is_recipe(what) else None
    if found is None and not is_labeller(what):
        return None
    if found is not None and found.labeller is None:
        return None
    from wavenet.labelling import Labeller
    from wavenet.labelling_model import LabellingNetwork

    if found is not None and found.labeller is not None:
        return Labeller(LabellingNetwork(found.labeller)), found
    return Labeller.load(what), None


def _is_recipe(what: str) -> bool:
    from wavenet.training import recipe

    return what in recipe.names() or Path(what).suffix == ".toml"


def trained_joined(model: Path) -> bool | None:
    """Whether a model was trained with data.join, from the recipe in its run directory; None if there is none."""
    from wavenet.training import recipe

    try:
        return recipe.load(model / "recipe.toml").data.join
    except ValueError:  # a model file, or a recipe of another version
        return None
