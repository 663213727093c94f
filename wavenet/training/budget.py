"""Fitting a recipe to a budget of memory: what to change so that training needs no more, the least harmful first.

1. The rows of a batch are computed in more parts, one after the other: on the CPU, by fewer threads at a time. The
   result is the same.
2. Activations are computed again in the backward pass instead of being kept. The result is the same; it takes longer.
3. Crops are shorter. The network sees less of the past at the start of each, and learns from fewer samples a step.

Fewer rows would save nothing beyond the first: a row at a time is in memory then. Only the third changes what is
learned, so that a run that is continued keeps its crops.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wavenet.checks import ConfigError
from wavenet.training import recipe as recipes
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.recipe import Recipe
from wavenet.training.run_directory import RunDirectory
from wavenet.training.training_memory import TrainingMemory, process_bytes, training_memory

LEAST_CROP = 1_000  # samples: in shorter crops most of the computation is the context of their first samples
MARGIN = 1.2  # budget over predicted memory, which is within a fifth of the true one: a budget should be kept
CROP_STEP = 100  # samples by which crops are shortened


@dataclass(frozen=True)
class Fit:
    """A recipe that was fitted to a budget of memory. changes: of the given recipe, each with its reason."""

    recipe: Recipe
    memory: TrainingMemory
    changes: tuple[str, ...]


def fit_run(
    run: RunDirectory,
    recipe: Recipe,
    budget: float,
    overrides: Iterable[str] = (),
    fresh: bool = False,
    device: str = "cpu",
    processes: Processes = SINGLE,
) -> Fit:
    """`fit_to_memory` of a run's recipe. A run that is continued keeps its batch and crop, unless overrides set them.

    Raises `ConfigError`, also for the recipe of a labeller.
    """
    if recipe.labeller is not None:
        raise ConfigError("--memory: is not known for labellers: lower training.batch or training.crop with --set")
    continued = run.exists() and run.state.exists() and not fresh
    if continued:
        own, set_keys = recipes.load(run.recipe).training, {text.partition("=")[0].strip() for text in overrides}
        kept = {key: getattr(own, key) for key in ("batch", "crop") if f"training.{key}" not in set_keys}
        recipe = _with(recipe, **kept)
    return fit_to_memory(recipe, budget, device, processes, keep_crops=continued)


def fit_to_memory(
    recipe: Recipe,
    budget: float,
    device: str = "cpu",
    processes: Processes = SINGLE,
    keep_crops: bool = False,
    process: float | None = None,
    threads: int | None = None,
) -> Fit:
    """The recipe, changed as little as possible so that the predicted peak of each process is within the budget.

    budget: bytes, of which a margin is left. keep_crops: for a run that is continued.
    process, threads: as of `training_memory`.
    Raises `ConfigError`, with the least memory that is needed, if nothing helps.
    """
    if process is None:
        process = process_bytes() if device == "cpu" else 0.0

    def memory(candidate: Recipe) -> TrainingMemory:
        return training_memory(candidate, device, processes, process, threads)

    def needed(candidate: Recipe) -> float:
        return MARGIN * memory(candidate).peak

    candidates = list(_with_the_same_result(recipe, processes))
    fitting = next((candidate for candidate in candidates if needed(candidate) <= budget), None)
    if fitting is None:
        smallest = min(candidates, key=lambda candidate: needed(candidate))
        crops = [] if keep_crops else range(least_crop(recipe), recipe.training.crop, CROP_STEP)
        shorter = [_with(smallest, crop=crop) for crop in crops[:1]]
        count = bisect.bisect_right(crops, budget, key=lambda crop: needed(_with(smallest, crop=crop)))
        if not count:
            least = min([smallest, *shorter], key=lambda candidate: needed(candidate))
            raise ConfigError(_too_small(least, memory(least), budget, keep_crops))
        fitting = _with(smallest, crop=crops[count - 1])
    return Fit(fitting, memory(fitting), _changes(recipe, fitting, memory(recipe)))


def _with_the_same_result(recipe: Recipe, processes: Processes) -> Iterator[Recipe]:
    """The recipe, and what it can be changed to without another result, the least slow first."""
    training, rows = recipe.training, -(-recipe.training.batch // processes.count)
    parts = sorted({-(-rows // together) for together in range(1, rows + 1)})  # each in fewer rows than the one before
    accumulations = [training.accumulation, *(n for n in parts if n > training.accumulation)]
    for checkpointing in sorted({training.activation_checkpointing, True}):
        for accumulation in accumulations:
            yield _with(recipe, accumulation=accumulation, activation_checkpointing=checkpointing)


def least_crop(recipe: Recipe) -> int:
    """Samples of the shortest crop that is chosen: `LEAST_CROP` beyond the history of the linear prediction."""
    reach = recipe.model.prediction_reach
    return min(recipe.training.crop, -(-(LEAST_CROP + reach) // CROP_STEP) * CROP_STEP)


def _with(recipe: Recipe, **changes: int | bool) -> Recipe:
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, **changes))  # type: ignore[arg-type]


def _changes(before: Recipe, after: Recipe, needed: TrainingMemory) -> tuple[str, ...]:
    """What was changed, and why; nothing if the recipe fits as it is."""
    old, new = before.training, after.training
    changes = []
    if new.accumulation != old.accumulation:
        changes.append(f"training.accumulation = {new.accumulation} instead of {old.accumulation} (the same result)")
    if new.activation_checkpointing != old.activation_checkpointing:
        changes.append("training.activation_checkpointing = true (the same result, in more time)")
    if new.crop != old.crop:
        changes.append(f"training.crop = {new.crop:,} instead of {old.crop:,} samples")
    if changes:
        changes.append(f"as it is, the recipe needs about {megabytes(needed.peak)}")
    return tuple(changes)


def _too_small(smallest: Recipe, needed: TrainingMemory, budget: float, keep_crops: bool) -> str:
    """The message for a budget that is not enough for the smallest recipe."""
    parts = f"{megabytes(needed.process)} the program, {megabytes(needed.peak - needed.process)} the network"
    training = smallest.training
    crops = f"{training.batch} x {training.crop:,} samples a step"
    advice = "give so much, or a recipe with fewer channels"
    if keep_crops:
        advice = "give so much; a run that is continued keeps its crops, unless --set training.crop changes them"
    return (
        f"--memory: {megabytes(budget)} are not enough: at the least, with {crops}, training needs "
        f"{megabytes(MARGIN * needed.peak)} (about {parts}, and a margin): {advice}"
    )


def megabytes(size: float) -> str:
    """A size in bytes as '1,234 MB'."""
    return f"{size / 1e6:,.0f} MB"
