"""Pictures of training runs: losses of training and validation against minutes and steps, with reference levels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wavenet.plots.canvas import BLACK, COLOURS, GRID, STYLES, name_text, new_figure, style, with_commas
from wavenet.training import curves
from wavenet.training.curves import Records
from wavenet.training.run_directory import is_number

UNITS = {  # of the losses in logs, in the order of the panels
    "bits": "bits per sample",
    "nats": "frame model: nats per frame",
    "loss": "nats per frame",
    "macro_f1": "macro F1",
}
REFERENCES = {
    "histogram": "histogram of codes",
    "pairs": "table of code pairs",
    "repeat": "repeating the last frame",
    "linear": "linear prediction",
}
MOST_POINTS = 500  # of a training curve
COMMON = 95  # percentile of the training losses below which all is shown; the first steps are far above
STRETCH = 1.5  # a range may become so many times larger to show a reference level
MARGIN = 0.08  # above and below the curves, of their range
SAME = 0.01  # reference levels of several runs that are closer than this are drawn once
LONGEST_NAME = 40  # characters
CROWDED = 0.06  # of the range of a panel: a level that is closer below another one has its text below its line
TITLE_COLUMNS = 76  # characters of a line
WIDTH, PANEL = 11.0, 3.6  # inches


@dataclass(frozen=True)
class Run:
    """A run by its name and the records of its log, see `RunDirectory.read_log`."""

    name: str
    records: Records

    @property
    def losses(self) -> list[str]:
        """The losses that its log has, of `UNITS`."""
        return [loss for loss in UNITS if any(self.curve(event, loss) for event in ("train", "validation"))]

    def curve(self, event: str, loss: str) -> list[tuple[float, int, float]]:
        """(minutes, step, loss) of the records of an event."""
        return curves.progress(self.records, event, loss)

    def references(self, loss: str) -> dict[str, float]:
        """The reference levels of the last validation."""
        validations = [record for record in self.records if record["event"] == "validation"]
        if not validations or not self.curve("validation", loss):
            return {}
        record = validations[-1]
        if loss == "macro_f1":
            return _reference_class(record)
        levels = (curves.losses(record) if loss == "nats" else record).get("references")
        found = levels if loss in ("bits", "nats") and isinstance(levels, Mapping) else {}
        return {text: found[key] for key, text in REFERENCES.items() if is_number(found.get(key))}

    @property
    def text(self) -> str:
        """Its progress and its best validation, on one line."""
        last = self.records[-1]
        minutes = f" in {last['seconds'] / 60:,.1f} minutes" if is_number(last.get("seconds")) else ""
        parts = [f"{last['step']:,} steps{minutes}"]
        for loss in self.losses:
            held_out = self.curve("validation", loss)
            if not held_out:
                parts.append(f"{UNITS[loss]} {self.curve('train', loss)[-1][2]:.3f} in training, not validated yet")
                continue
            best = (max if loss == "macro_f1" else min)(held_out, key=lambda point: point[2])
            levels = ", ".join(f"{name} {level:.3f}" for name, level in self.references(loss).items())
            parts.append(
                f"{UNITS[loss]} {best[2]:.3f} held out, the best, at step {best[1]:,}{f' ({levels})' if levels else ''}"
            )
        return "; ".join(parts)


def _reference_class(record: Mapping[str, Any]) -> dict[str, float]:
    """The macro F1 of a labeller that gives every frame its most frequent class."""
    reference = record.get("reference")
    figures = reference.get("figures") if isinstance(reference, Mapping) else None
    found = isinstance(figures, Mapping) and is_number(figures.get("macro_f1"))
    return {"most frequent class": figures["macro_f1"]} if found and figures is not None else {}


def runs_figure(runs: Sequence[Run]) -> Figure:
    """The losses of all runs, a row for each kind, against minutes and against steps.

    Raises `ValueError` if there are none.
    """
    kinds = [loss for loss in UNITS if any(loss in run.losses for run in runs)]
    if not kinds:
        raise ValueError("no losses in these logs yet")
    with style():
        figure = new_figure(WIDTH, PANEL * len(kinds) + 0.25 * len(runs))
        grid = figure.subplots(len(kinds), 2, sharey="row", squeeze=False)
        for loss, row in zip(kinds, grid, strict=True):
            for column, axes in enumerate(row):
                for index, run in enumerate(runs):
                    _draw_run(axes, run, loss, column, index)
                axes.set_xlabel(("minutes of training", "steps")[column])
                axes.set_xlim(left=0)
                axes.grid(axis="y", color=GRID)
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=column == 1))
                with_commas(axes.xaxis)
            row[0].set_ylim(*_limits(runs, loss))
            row[0].set_ylabel(UNITS[loss])
            _draw_references(row, runs, loss)
        names = [
            Line2D([], [], marker="o", ms=4, label=name_text(run.name, LONGEST_NAME), **_look(index))
            for index, run in enumerate(runs)
        ]
        kinds_of_lines = [
            Line2D([], [], color=BLACK, marker="o", ms=4, label="held out"),
            Line2D([], [], color=BLACK, linewidth=0.7, alpha=0.6, label="training (smoothed)"),
            Line2D([], [], color=BLACK, linewidth=0.9, linestyle=":", label="reference level"),
        ]
        figure.legend(handles=[*names, *kinds_of_lines], loc="outside upper left", ncols=4)
    return figure


def _draw_run(axes: Axes, run: Run, loss: str, column: int, index: int) -> None:
    """The curves of one run; column: 0 for minutes, 1 for steps."""
    look = _look(index)
    training, held_out = run.curve("train", loss), run.curve("validation", loss)
    every = -(-len(training) // MOST_POINTS) or 1
    kept = training[::-1][::every][::-1]
    mark = "." if len(kept) == 1 else ""  # a line needs two points
    axes.plot(
        [p[column] for p in kept], [p[2] for p in kept], marker=mark, color=look["color"], linewidth=0.7, alpha=0.6
    )
    axes.plot([p[column] for p in held_out], [p[2] for p in held_out], marker="o", markersize=4, **look)


def _look(index: int) -> dict[str, Any]:
    """Colour and line of a run."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)]}


def _limits(runs: Sequence[Run], loss: str) -> tuple[float, float]:
    """The range of a panel: of all that is held out, of training but for the first steps, and of levels near these."""
    values = [point[2] for run in runs for point in run.curve("validation", loss)]
    for run in runs:
        training = [point[2] for point in run.curve("train", loss)]
        values += [min(training), float(np.percentile(training, COMMON))] if training else []
    span = max(values) - min(values)
    levels = {level for run in runs for level in run.references(loss).values()}
    values += [level for level in levels if max(*values, level) - min(*values, level) <= STRETCH * span]
    margin = MARGIN * (max(values) - min(values)) or MARGIN
    return min(values) - margin, max(values) + margin


def _draw_references(row: Sequence[Axes], runs: Sequence[Run], loss: str) -> None:
    """Lines at the reference levels; those that are outside of the panel are named in its title."""
    low, high = row[0].get_ylim()
    levels: list[tuple[float, str, str]] = []  # and the names of the level and of its run
    for run in runs:
        for name, level in run.references(loss).items():
            if not any(name == other and abs(level - value) < SAME for value, other, _ in levels):
                levels.append((level, name, f" ({name_text(run.name, LONGEST_NAME)})" if len(runs) > 1 else ""))
    above, outside = float("inf"), []
    for level, name, of_run in sorted(levels, reverse=True):
        if not low <= level <= high:
            outside.append(f"{name} {level:.2f}{of_run}")
            continue
        for axes in row:
            axes.axhline(level, color=BLACK, linewidth=0.9, linestyle=":")
        crowded = above - level < CROWDED * (high - low)
        row[1].annotate(
            f"{name} {level:.2f}{of_run}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, -2 if crowded else 2),
            textcoords="offset points",
            ha="right",
            va="top" if crowded else "bottom",
            fontsize=9,
        )
        above = level
    if outside:
        title = f"Reference levels beyond the axis: {', '.join(outside)}"
        row[0].set_title("\n".join(textwrap.wrap(title, TITLE_COLUMNS)), fontsize=9)
