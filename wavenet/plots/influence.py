"""A picture of how far back a model listens: the gradient of its predictions against the lag."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from wavenet.evaluation.influence import SHARES, Influence
from wavenet.plots.canvas import BLACK, BLUE, GRID, RED, STYLES, new_figure, style, with_commas

WIDTH, HEIGHT = 9.0, 5.6  # inches
POINTS_PER_OCTAVE = 12  # of the smooth curve


def influence_figure(influence: Influence) -> Figure:
    """The RMS gradient for each lag, and the share of the influence within it, up to the receptive field."""
    field = influence.receptive_field
    lags = np.arange(1, field + 1)
    relative = influence.gradient / max(float(influence.gradient.max()), 1e-300)
    with style():
        figure = new_figure(WIDTH, HEIGHT)
        gradient, share = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        gradient.plot(lags, relative, color=BLUE, linewidth=0.5, alpha=0.5, label="each lag")
        gradient.plot(*_smooth(lags, relative), color=BLUE, linewidth=1.8, label="RMS of neighbouring lags")
        gradient.set_yscale("log")
        gradient.set_ylim(bottom=max(float(relative[relative > 0].min(initial=1.0)) / 2, 1e-8))
        gradient.set_ylabel("RMS gradient\nrelative to the largest")
        gradient.set_title(f"Influence of the past on predictions, RMS over {influence.positions:,} positions")
        share.plot(lags, influence.cumulative, color=BLUE)
        share.set(ylim=(0, 1.02), ylabel="influence within the lag", xlabel="lag, samples before the predicted one")
        share.yaxis.set_major_formatter(PercentFormatter(1.0))
        for axes in (gradient, share):
            axes.set_xscale("log")
            axes.set_xlim(1, field * 1.15)
            axes.grid(axis="y", color=GRID)
            for index, part in enumerate(SHARES):
                lag = influence.within(part)
                text = f"{part:.0%}: {lag:,} samples, {influence.milliseconds(lag):.3g} ms"
                axes.axvline(lag, color=RED, linestyle=STYLES[index + 1], linewidth=1.2, label=text)
            text = f"receptive field: {field:,} samples, {influence.milliseconds(field):.3g} ms"
            axes.axvline(field, color=BLACK, linewidth=1.2, label=text)
        gradient.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, fontsize=9)
        with_commas(share.xaxis)
        milliseconds = gradient.secondary_xaxis(
            "top", functions=(influence.milliseconds, lambda value: value * influence.sample_rate / 1000)
        )
        milliseconds.set_xlabel(f"lag, ms at {influence.sample_rate:,} Hz")
        with_commas(milliseconds.xaxis)
    return figure


def _smooth(lags: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RMS over groups of lags that are as wide on a logarithmic axis."""
    groups = np.floor(np.log2(lags) * POINTS_PER_OCTAVE).astype(int)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    counts = np.diff([*starts, len(lags)])
    return np.add.reduceat(lags, starts) / counts, np.sqrt(np.add.reduceat(np.square(values), starts) / counts)
