"""Pictures of clips: waveform, spectrogram, level and pitch, on the same axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from wavenet.evaluation.clip_profile import ClipProfile
from wavenet.plots.canvas import BLUE, DPI, GRID, RED, name_text, new_figure, style

SIDE_BY_SIDE = 3  # clips; more are drawn below, and four as two and two
WIDTHS = {1: 9.0, 2: 11.0, 3: 12.0}  # inches, for as many clips side by side
PANELS = (0.9, 2.2, 0.9, 1.2)  # heights of waveform, spectrogram, level and pitch in inches
BAR = 0.02  # width of the bar of colours, in columns
FRAME = 1.0  # inches for a title and the axis of time
RANGE_DB = 80.0  # of a spectrogram, below the loudest point of all
SHADES, PIXELS_PER_COLUMN = 20, 2  # of a spectrogram: more detail makes files much larger
LOWEST_LEVEL = -80.0  # dBFS
PITCHES = (60, 100, 150, 200, 300, 400, 600)  # Hz, on the axis
LONGEST_TITLE = 44  # characters


def clips_figure(clips: Sequence[ClipProfile]) -> Figure:
    """Clips side by side, three in a row, with the same axes of time, frequency, level and pitch."""
    columns = 2 if len(clips) == 4 else min(SIDE_BY_SIDE, len(clips))
    rows = -(-len(clips) // columns)
    seconds = max(clip.seconds for clip in clips)
    loudest = max(LOWEST_LEVEL, *(float(clip.decibels.max()) for clip in clips))  # silence stays dark
    highest = max(clip.sample_rate for clip in clips) / 2
    with style():
        figure = new_figure(WIDTHS[columns], rows * (sum(PANELS) + FRAME))
        widths = [1.0] * columns + [BAR]
        grid = figure.add_gridspec(rows * len(PANELS), columns + 1, height_ratios=PANELS * rows, width_ratios=widths)
        for index, (clip, title) in enumerate(zip(clips, _titles(clips), strict=True)):
            row, column = divmod(index, columns)
            panels = [figure.add_subplot(grid[row * len(PANELS) + panel, column]) for panel in range(len(PANELS))]
            pixels = round(WIDTHS[columns] / columns * DPI * clip.seconds / seconds)
            _draw_waveform(panels[0], clip, pixels)
            image = _draw_spectrogram(panels[1], clip, pixels, loudest, highest)
            _draw_level(panels[2], clip)
            _draw_pitch(panels[3], clip)
            panels[0].set_title(title)
            for panel in panels:
                panel.set_xlim(0, seconds)
                panel.tick_params(labelbottom=panel is panels[-1], labelleft=column == 0)
                if column:
                    panel.set_ylabel("")
            panels[-1].set_xlabel("time, seconds")
        for row in range(rows):
            bar = figure.colorbar(image, cax=figure.add_subplot(grid[row * len(PANELS) + 1, columns]))
            bar.set_label("dB re full-scale sine")
    return figure


def _titles(clips: Sequence[ClipProfile]) -> list[str]:
    """The names of the files; numbered where two are the same."""
    counts = Counter(clip.name for clip in clips)
    return [
        name_text(clip.name, LONGEST_TITLE) + (f" ({index})" if counts[clip.name] > 1 else "")
        for index, clip in enumerate(clips, 1)
    ]


def _draw_waveform(axes: Axes, clip: ClipProfile, pixels: int) -> None:
    starts = _starts(len(clip.low), 2 * pixels)
    low, high = np.minimum.reduceat(clip.low, starts), np.maximum.reduceat(clip.high, starts)
    axes.fill_between(starts * clip.column / clip.sample_rate, low, high, color=BLUE, linewidth=0.3)
    axes.set(ylim=(-1, 1), yticks=(-1, 0, 1), ylabel="amplitude")


def _draw_spectrogram(axes: Axes, clip: ClipProfile, pixels: int, loudest: float, highest: float) -> Any:
    """The image, for a colour bar."""
    starts = _starts(len(clip.power), pixels // PIXELS_PER_COLUMN)
    counts = np.diff([*starts, len(clip.power)])
    power = np.add.reduceat(clip.power, starts, axis=0) / counts[:, None]  # [columns, rows]
    colours = matplotlib.colormaps["magma"].resampled(SHADES)
    image = axes.imshow(
        10 * np.log10(np.maximum(power.T, 1e-20)),
        extent=(0, len(clip.power) * clip.column / clip.sample_rate, 0, clip.sample_rate / 2),
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        cmap=colours,
        vmin=loudest - RANGE_DB,
        vmax=loudest,
    )
    axes.set(ylim=(0, highest), ylabel="frequency, kHz")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}"))
    return image


def _draw_level(axes: Axes, clip: ClipProfile) -> None:
    levels = np.maximum(clip.frame_levels, LOWEST_LEVEL)
    axes.plot(_times(clip), levels, color=BLUE, linewidth=0.9)
    axes.set(ylim=(LOWEST_LEVEL, 0), yticks=(-80, -40, 0), ylabel="level, dBFS")
    axes.grid(axis="y", color=GRID)


def _draw_pitch(axes: Axes, clip: ClipProfile) -> None:
    axes.plot(_times(clip), clip.pitch, ".", color=RED, markersize=2.5)
    axes.set_yscale("log")
    axes.set_ylim(PITCHES[0], PITCHES[-1])
    axes.set_yticks(PITCHES[1::2], [str(pitch) for pitch in PITCHES[1::2]])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("pitch, Hz")
    axes.grid(axis="y", color=GRID)


def _times(clip: ClipProfile) -> NDArray[np.float64]:
    """The middle of each frame in seconds."""
    return (np.arange(len(clip.levels)) + 0.5) * clip.frame / clip.sample_rate


def _starts(columns: int, most: int) -> NDArray[np.int64]:
    """The first of the columns of each group, of equal groups, so that there are `most` at most."""
    return np.arange(0, columns, -(-columns // max(most, 1)))
