"""Figures in one style, and how they are written: small files that are the same whenever they are made.

Raises `Unavailable` when it is imported without matplotlib.
"""

from __future__ import annotations

import io
import os
from contextlib import AbstractContextManager
from pathlib import Path

from wavenet.data import files
from wavenet.data.errors import printable
from wavenet.extras import Unavailable, how_to_install

try:
    import matplotlib
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter
    from PIL import Image
except ImportError as error:
    raise Unavailable(how_to_install("drawing", "matplotlib", "plots")) from error

EXTENSIONS = (".png", ".svg")
DPI = 100
PALETTE = 256  # colours of a PNG
# The colours of Okabe and Ito (2008), which people with any colour vision can tell apart; from dark to bright in grey.
BLACK, BLUE, RED, GREEN, ORANGE, SKY = "#000000", "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9"
COLOURS = (BLUE, RED, GREEN, ORANGE, BLACK, SKY)
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))  # for those who print in grey
FAINT, GRID = "#bbbbbb", "#eeeeee"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "wavenet",  # the same identifiers in every file
    "path.simplify_threshold": 0.5,
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, whose labels are never cut off. Draw into it within `style()`."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def style() -> AbstractContextManager[None]:
    """A context in which figures are drawn in this style."""
    return matplotlib.rc_context(STYLE)


def with_commas(axis: Axis) -> None:
    """Label an axis with numbers such as 1,000."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def name_text(name: str, longest: int) -> str:
    """The name of a file or run as text of a figure, see `printable`. matplotlib takes what is between dollar signs as
    mathematics, and leaves out what a legend names with an underscore first.
    """
    text = printable(name, longest).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raises `ValueError` for another extension, and the `OSError` of a picture that cannot be written."""
    if Path(path).suffix.lower() not in EXTENSIONS:
        raise ValueError(f"{printable(path)}: a picture ends in {' or '.join(EXTENSIONS)}")
    files.check_writable(Path(path))


def save(path: str | os.PathLike[str], figure: Figure) -> None:
    """Write a figure as .png or .svg, by the extension: complete, or not at all. Errors as of `check_picture`."""
    check_picture(path)
    files.replace(Path(path), svg(figure) if Path(path).suffix.lower() == ".svg" else png(figure))


def svg(figure: Figure) -> bytes:
    """A figure as SVG, without a date."""
    content = io.BytesIO()
    with style():
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def png(figure: Figure) -> bytes:
    """A figure as PNG with a palette of 256 colours, a quarter of the size of one without."""
    drawn = io.BytesIO()
    with style():
        figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    content = io.BytesIO()
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(PALETTE, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            content, format="PNG", optimize=True
        )
    return content.getvalue()
