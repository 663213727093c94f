"""The `wavenet` command. Commands parse and check their arguments, call functions of the package, and print."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import TextIO

import click

import wavenet
from wavenet.cli.console import print_message
from wavenet.cli.failures import exit_code, one_line
from wavenet.training.distributed import EndedElsewhere

# Modules of this folder.
COMMANDS = ("train", "generate", "vocode", "label", "evaluate", "info", "bench", "look", "page", "studio", "data")
DEBUG = "--debug"


class Wavenet(click.Group):
    """The group of commands. A command's module is imported when it is called, so that `--help` is fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"wavenet.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            raise click.UsageError(f"no such command {args[0]!r}; known: {', '.join(COMMANDS)}") from None


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    click.echo(f"wavenet, version {wavenet.__version__}")
    ctx.exit()


@click.group(cls=Wavenet, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Train a WaveNet on a folder of recordings, and generate audio with it.

    \b
    wavenet train recordings --out runs/mine
    wavenet generate runs/mine -o new.wav --seconds 5

    Every command takes --help, and --debug to print the traceback of an error.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns its exit code: 2 for invalid input, 1 for other failures, 130 for Ctrl-C and SIGTERM."""
    arguments = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    debug = DEBUG in arguments
    try:
        with _sigterm_interrupts(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            result = cli.main([word for word in arguments if word != DEBUG], prog_name="wavenet", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return 130
    except EndedElsewhere as ended:
        return exit_code(ended.__cause__ or ended) if ended.exit_code is None else ended.exit_code
    except SystemExit:  # from click when the reader of the output has closed the pipe: not an error
        return 0
    except Exception as error:
        if isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt):
            return 130  # Ctrl-C in compiled code, such as Numba's in pitch tracking
        if debug:
            import traceback

            print_message(traceback.format_exc().rstrip())
        print_message(f"wavenet: {one_line(error)}")
        return exit_code(error)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, so that it keeps the audio it has generated."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning on one line. All but `UserWarning` are for developers: they name the file and line."""
    place = "" if category is UserWarning else f"{filename}:{lineno}: {category.__name__}: "
    print_message(f"wavenet: {place}{' '.join(str(message).split())}")
