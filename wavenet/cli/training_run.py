"""What `wavenet train` does alike with every kind of network: it checks the folder, and trains to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import click

from wavenet.cli.console import ProgressLine, print_message

if TYPE_CHECKING:
    from wavenet.training.run_loop import RunLoop
    from wavenet.training.tensorboard import TensorBoard


class Reporter(Protocol):
    """Shows what happens in a run."""

    progress: ProgressLine

    def __call__(self, event: Any) -> None:
        """Show a step or a validation."""


def check_folder(trainer: RunLoop[Any, Any], named: bool) -> None:
    """Raises `UsageError` if the run was started with another folder, unless --out was given (named)."""
    state = trainer.state
    if state.first_folder == state.folder:
        return
    if not named:
        raise click.UsageError(f"{trainer.run.path} was started with {state.first_folder}: give another run with --out")
    print_message(f"note: this run was started with {state.first_folder}")


def train_to_the_end(
    trainer: RunLoop[Any, Any], new_reporter: Callable[[], Reporter], tensorboard: bool = False
) -> bool:
    """Train; False if the budget was spent before. Ctrl-C is reported, and raised again as `KeyboardInterrupt`.

    tensorboard: write curves for TensorBoard, too.
    """
    if trainer.finished:
        print_message("the budget is spent: continue with a larger --minutes or --steps, or start again with --fresh")
        return False
    reporter = new_reporter()
    board = _board(trainer) if tensorboard and trainer.processes.is_first else None

    def report(event: Any) -> None:
        reporter(event)
        if board is not None:
            board(event)

    try:
        trainer.train(report)
    except KeyboardInterrupt:
        reporter.progress.clear()
        again = "the same command without --fresh" if trainer.fresh else "the same command"
        print_message(
            f"stopped at step {trainer.state.step:,}, saved at step {trainer.saved_step:,}; {again} continues there"
        )
        raise
    finally:
        reporter.progress.clear()
        if board is not None:
            board.close()
    return True


def _board(trainer: RunLoop[Any, Any]) -> TensorBoard:
    from wavenet.training.tensorboard import TensorBoard

    return TensorBoard(trainer, print_message)
