"""A run that starts from a trained model: its recipe, and the weights of its first step.

The run does not need the model's file afterwards: its recipe contains the network, and its state is saved before the
first step.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.config import FRAME_MODEL, ConfigError, ModelConfig, SamplingConfig, shown
from wavenet.data.errors import printable
from wavenet.data.tensor_file import Tensors
from wavenet.frame_model import FrameModel
from wavenet.model import WaveNet
from wavenet.training import recipe as recipes
from wavenet.training.recipe import Recipe

FINE_TUNING_RATE = 1.2e-3  # peak learning rate; from random weights three times as much is usual
RATE_KEYS = ("training.learning_rate", "training.rate")  # the second is its former name
MEASURED = ("training_range", "recorded_levels")  # fields of a model that are measured in its recordings
FREE = ("speakers", "sampling", *MEASURED)  # fields of a model that may differ from its base
NESTED = {"features": "a mel spectrogram", "frame_model": "a frame model"}  # fields that are tables, or None
EMBEDDINGS, PROJECTION = "conditioning.speaker.weight", "conditioning.from_speaker.weight"


@dataclass(frozen=True)
class BaseModel:
    """The model that a run starts from: the absolute path that was given, its configuration, its weights."""

    path: str
    config: ModelConfig
    tensors: Tensors


def load(path: str | os.PathLike[str]) -> BaseModel:
    """Read a model file, or the best model of a run directory. Raises `CheckpointError`."""
    return BaseModel(os.path.abspath(path), *checkpoint.read_model(path))


def recipe_from(base: BaseModel, name: str | None, overrides: list[str]) -> Recipe:
    """The recipe of a run that starts from the base: with its network, its speakers first, and its sampling options.

    name: of the recipe, whose network must be that of the base; None: the base's network, with the data and training
        settings of `fitting_recipe`.
    What was measured is that of the new recordings alone: what the network learned before, it can forget.
    Raises `ConfigError`, one line that names every field in which the networks differ.
    """
    if name is None:
        tables = _tables(base)
        recipes.override(tables, overrides)
        _check(base, tables["model"])  # an override that contradicts others would fail below
        recipe = recipes.build(tables)
    else:
        recipe = recipes.load(name, overrides)
    _check(base, recipe.model.to_dict())
    known = base.config.speakers
    model = dataclasses.replace(
        recipe.model,
        speakers=(*known, *(speaker for speaker in recipe.model.speakers if speaker not in known)),
        sampling=_sampling(base, overrides),
        training_range=None,
        recorded_levels=None,
    )
    return with_lower_rate(dataclasses.replace(recipe, model=model), overrides)


def fitting_recipe(config: ModelConfig) -> str | None:
    """The first recipe of the package with this network, also with a frame model, and with speakers, if it has some."""
    loaded = {name: recipes.load(name) for name in recipes.names()}
    fitting = [name for name, recipe in loaded.items() if not differences(config, recipe.model.to_dict())]

    def unlike(name: str) -> tuple[bool, bool]:
        tiers = (loaded[name].model.frame_model is None, config.frame_model is None)
        return tiers[0] != tiers[1], bool(loaded[name].data.speakers) != bool(config.speakers)

    return min(fitting, key=unlike, default=None)


def with_lower_rate(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """The recipe with a learning rate of at most `FINE_TUNING_RATE`, unless an override states one.

    Weights that were trained already lose more at the rate of a run from random weights than they gain.
    """
    if any(override.partition("=")[0].strip() in RATE_KEYS for override in overrides):
        return recipe
    rate = min(recipe.training.learning_rate, FINE_TUNING_RATE)
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, learning_rate=rate))


def frame_model_of(base: BaseModel) -> FrameModel | None:
    """The base's frame model, if it has one."""
    config = base.config
    if config.frame_model is None or config.features is None:
        return None
    model = FrameModel(config.frame_model, config.features, len(config.speakers))
    weights = {name.removeprefix(FRAME_MODEL): base.tensors[name] for name in config.frame_model_shapes}
    model.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()})
    return model


def initial_weights(base: BaseModel, model: WaveNet) -> dict[str, Tensor]:
    """The weights with which `model` computes what the base does, for every speaker of the base; no frame model.

    An added speaker starts at the mean of the base's. If the base has no speakers, embeddings are random, as in every
    new network, and their projection to the gates is zero.
    """
    weights = {name: torch.from_numpy(base.tensors[name]) for name in base.config.shapes}
    added = len(model.config.speakers) - len(base.config.speakers)
    if added and base.config.speakers:
        embeddings = weights[EMBEDDINGS]  # [speakers, E]
        mean = embeddings.mean(0, keepdim=True).expand(added, -1)
        weights[EMBEDDINGS] = torch.cat([embeddings, mean])  # [speakers + added, E]
    elif added:
        initial = model.state_dict()
        weights[EMBEDDINGS] = initial[EMBEDDINGS]
        weights[PROJECTION] = torch.zeros_like(initial[PROJECTION])
    return weights


def _tables(base: BaseModel) -> dict[str, dict[str, Any]]:
    """A recipe as tables: the base's network, with the settings of the recipe that fits it."""
    fitting = recipes.read(fitting_recipe(base.config))
    data = fitting.get("data", {})
    if base.config.speakers:
        data = {"speakers": "folders", **data}
    return {"model": _model_table(base), "data": data, "training": fitting.get("training", {})}


def _model_table(base: BaseModel) -> dict[str, Any]:
    """The base's configuration without what was measured and without empty fields, as in a recipe."""
    values = base.config.to_dict()
    return {name: value for name, value in values.items() if value is not None and name not in MEASURED}


def _sampling(base: BaseModel, overrides: Iterable[str]) -> SamplingConfig:
    """The base's recommended sampling options, changed by overrides only; those of frames belong to its recordings."""
    sampling = dataclasses.replace(base.config.sampling, frame_temperature=1.0, frame_temperature_range=None)
    tables = {"model": {**_model_table(base), "sampling": dataclasses.asdict(sampling)}}
    recipes.override(tables, recipes.sampling_overrides(overrides))
    return recipes.build(tables).model.sampling


def _check(base: BaseModel, model: Mapping[str, Any]) -> None:
    """Raises `ConfigError` if a [model] table describes another network than the base's."""
    different = differences(base.config, model)
    if different:
        fields = ", ".join(f"model.{name} = {shown(own)} (not {shown(other)})" for name, own, other in different)
        raise ConfigError(
            f"{printable(base.path)} has {fields}: leave out --recipe and these keys of --set, so that the run "
            "gets its network, or train without --from"
        )


def differences(base: ModelConfig, model: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Fields in which a [model] table differs from the base, with both values; those that have an effect in both.

    A frame model that only one of them has is no difference: it is new, or left out.
    """
    own, other = _network(base.to_dict()), _network(model)
    if base.frame_model is None or model.get("frame_model") is None:
        own.pop("frame_model")
    if not base.speakers:  # they may be added with embeddings of any size
        own.pop("speaker_channels")
    return [(name, own[name], other[name]) for name in own if name in other and own[name] != other[name]]


def _network(model: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a [model] table that determine the tensors or the meaning of inputs and outputs, flat."""
    unused = set(FREE)
    if model.get("output") != "logistic":
        unused.add("mixtures")
    features = model.get("features")
    if features is None:
        unused |= {"frame_network", "frame_channels"}
    fields = {name: value for name, value in model.items() if name not in unused and name not in NESTED}
    for table, text in NESTED.items():
        values = model.get(table)
        fields[table] = "none" if values is None else text
        if isinstance(values, Mapping):
            fields |= {f"{table}.{name}": value for name, value in values.items()}
    return fields
