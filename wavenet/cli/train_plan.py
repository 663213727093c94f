"""What `wavenet train` decides and prints before a run: --memory and --dry-run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wavenet.cli.console import print_message, print_result

if TYPE_CHECKING:
    from wavenet.training.distributed import Processes
    from wavenet.training.dry_run import Sample
    from wavenet.training.recipe import Recipe
    from wavenet.training.run_directory import RunDirectory
    from wavenet.training.trainer import Trainer


def within_memory(
    run: RunDirectory,
    recipe: Recipe,
    memory: int | None,
    settings: list[str],
    fresh: bool,
    device: str,
    processes: Processes,
) -> Recipe:
    """The recipe as --memory, in bytes, allows it, if that is given. Prints what is changed, and why."""
    from wavenet.training.budget import fit_run, megabytes

    if memory is None:
        return recipe
    fit = fit_run(run, recipe, memory, settings, fresh, device, processes)
    needed = f"training needs about {megabytes(fit.memory.peak)} of {megabytes(memory)}"
    print_message(f"{needed}: {'; '.join(fit.changes) or 'the recipe fits as it is'}")
    return fit.recipe


def sample_of(folder: str, run: RunDirectory, recipe: Recipe) -> Sample:
    """A sample of the recordings, for --dry-run. Prints what was found; raises what would end the run."""
    from wavenet.training import dry_run

    sample = dry_run.sample_of(folder, run, recipe)
    for line in sample.lines:
        print_result(line)
    return sample


def print_plan(trainer: Trainer, sample: Sample, processes: Processes) -> None:
    """Print what the run would do, for --dry-run. All processes measure their steps; the first one prints its own."""
    from wavenet.training import dry_run

    lines = dry_run.run_lines(trainer, dry_run.measured(trainer), sample.seconds)
    if processes.is_first:
        for line in lines:
            print_result(line)
