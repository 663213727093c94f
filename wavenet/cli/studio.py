"""wavenet studio."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path

import click

from wavenet.cli.console import print_message, print_result
from wavenet.extras import Unavailable, how_to_install

DEFAULT_PORT = 8765


@click.command()
@click.argument("what", metavar="[MODEL|RUN|FOLDER]", type=click.Path(path_type=Path), default=Path("."))
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True, help="0: any free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Others than this machine then need a token.")
@click.option("--browser/--no-browser", default=True, help="Open the page in the browser.")
def command(what: Path, port: int, host: str, browser: bool) -> None:
    """Play models and watch training runs in the browser, on this machine. Ctrl-C ends it.

    A FOLDER is searched for model files and run directories, now and later; without an argument the current folder.
    Models that are too large for the browser are computed here.

    \b
    wavenet studio
    wavenet studio runs/speech
    wavenet studio runs --port 0 --no-browser
    """
    try:
        import starlette  # noqa: F401 -- named where one of them is missing
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise Unavailable(how_to_install("wavenet studio", error.name or "starlette", "studio")) from None
    from wavenet.web.access import Access
    from wavenet.web.catalogue import Catalogue
    from wavenet.web.studio import Studio, listen, serve

    catalogue = Catalogue(what)
    with listen(host, port) as listening:
        access = Access.of(host, listening.getsockname()[1])
        studio = Studio(catalogue, access)
        print_result(f"{access.address}")
        if access.token is not None:
            print_message(
                "other machines need this address, with the token; what is sent over the network is not encrypted"
            )
        if browser:  # some browsers of terminals return only when they are closed
            threading.Thread(target=webbrowser.open, args=(access.address,), daemon=True).start()
        serve(studio, listening)
