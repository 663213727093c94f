"""Pictures of what each layer responds to: what is lost without it, and strength and spectrum of its gated output."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from wavenet.evaluation.scales import LayerScale, Scales
from wavenet.plots.canvas import BLACK, COLOURS, GRID, STYLES, new_figure, style

SIDE_BY_SIDE = 4  # cycles; more are drawn below
BANDS = 64  # of a spectrum in the picture
RANGE_DB, SHADES = 30.0, 16
WIDTH, PANEL, LINE = 10.0, 3.2, 0.24  # inches: of the picture, of the upper panels, of a layer in the lower ones


def scales_figure(scales: Scales) -> Figure:
    """Bits lost and strength against the dilation, a line for each cycle; below, the spectrum of each layer."""
    cycles, dilations = len(scales.cycles) or 1, sorted(scales.dilations)
    columns = min(cycles, SIDE_BY_SIDE)
    rows = -(-cycles // columns)
    height = 0.9 + LINE * len(dilations)
    with style():
        figure = new_figure(WIDTH, PANEL + rows * height)
        upper, lower = figure.subfigures(2, 1, height_ratios=(PANEL, rows * height))
        lost, strength = upper.subplots(1, 2)
        for cycle in range(cycles):
            layers = _of_cycle(scales, cycle)
            _draw_line(lost, dilations, [layer.lost for layer in layers], cycle)
            _draw_line(strength, dilations, [layer.strength for layer in layers], cycle)
        if cycles > 1:
            values = [scales.dilations[dilation] for dilation in dilations]
            lost.plot(dilations, values, "x:", color=BLACK, label="all cycles")
        lost.set(title="What is lost when a layer is muted", ylabel="bits per sample")
        strength.set(title="Strength of the gated output z", ylabel="RMS of z", ylim=(0, None))
        for axes in (lost, strength):
            _dilation_axis(axes, dilations)
            axes.legend()
        panels = lower.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[cycles:]:
            axes.set_visible(False)
        for cycle in range(cycles):
            axes = panels.flat[cycle]
            image = _draw_spectra(axes, _of_cycle(scales, cycle), scales.sample_rate)
            axes.set_title(f"Spectrum of z, cycle {cycle}" if cycles > 1 else "Spectrum of z")
            if cycle % columns == 0:
                axes.set_ylabel("dilation, samples")
        lower.colorbar(image, ax=list(panels.flat), pad=0.01).set_label("dB re the layer's loudest band")
    return figure


def _of_cycle(scales: Scales, cycle: int) -> list[LayerScale]:
    return [layer for layer in scales.layers if layer.cycle == cycle]


def _draw_line(axes: Axes, dilations: list[int], values: list[float], cycle: int) -> None:
    line, colour = STYLES[cycle % len(STYLES)], COLOURS[cycle % len(COLOURS)]
    axes.plot(dilations, values, marker="o", markersize=4, linestyle=line, color=colour, label=f"cycle {cycle}")


def _dilation_axis(axes: Axes, dilations: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(dilations, [f"{dilation:,}" for dilation in dilations], rotation=45 if len(dilations) > 8 else 0)
    axes.set_xlabel("dilation, samples")
    axes.grid(axis="y", color=GRID)


def _draw_spectra(axes: Axes, layers: list[LayerScale], sample_rate: int) -> matplotlib.image.AxesImage:
    """The spectra of the layers of a cycle, one above the other, and their median frequencies."""
    rows = np.array([_decibels(layer.spectrum) for layer in layers])
    image = axes.imshow(
        rows,
        extent=(0, sample_rate / 2000, -0.5, len(layers) - 0.5),
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        cmap=matplotlib.colormaps["cividis"].resampled(SHADES),
        vmin=-RANGE_DB,
        vmax=0,
    )
    medians = [layer.frequency / 1000 for layer in layers]
    axes.plot(medians, range(len(layers)), "o", color="white", mec=BLACK, markersize=5, label="median frequency")
    axes.legend(loc="upper right", frameon=True, fontsize=8)
    axes.set_yticks(range(len(layers)), [f"{layer.dilation:,}" for layer in layers])
    axes.set_xlabel("frequency, kHz")
    return image


def _decibels(spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean power of bands in dB relative to the loudest one."""
    edges = np.linspace(0, len(spectrum), min(BANDS, len(spectrum)) + 1).astype(int)
    bands = np.add.reduceat(spectrum, edges[:-1]) / np.diff(edges)
    return 10 * np.log10(np.maximum(bands / max(float(bands.max()), 1e-300), 1e-20))
