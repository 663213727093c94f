"""The table of `wavenet evaluate`: figures of the copies by each method, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wavenet.data.summary import count

if TYPE_CHECKING:
    from wavenet.evaluation.copy_synthesis import Copy
    from wavenet.evaluation.intervals import Estimate

DIFFERENCE = "difference"  # label of the row: the model minus its baseline


@dataclass(frozen=True)
class Figure:
    """How a figure of `metrics.Comparison` is printed."""

    title: str
    decimals: int
    undefined: str  # what a copy that lacks it has
    scale: float = 1.0  # factor to the unit in the title

    def cell(self, estimate: Estimate, signed: bool = False, scale: float | None = None) -> str:
        """The mean and its interval, such as "3.72 [3.55, 3.89]"; "-" if it is not defined for any copy."""
        factor, sign = self.scale if scale is None else scale, "+" if signed else ""
        mean, low, high = (factor * value for value in (estimate.mean, estimate.low, estimate.high))
        if math.isnan(mean):
            return "-"
        if math.isnan(low) or low == high:
            return f"{mean:{sign}.{self.decimals}f}"
        return f"{mean:{sign}.{self.decimals}f} [{low:{sign}.{self.decimals}f}, {high:{sign}.{self.decimals}f}]"


FIGURES = {  # by the field of `metrics.Comparison`
    "pesq": Figure("PESQ", 2, "too little speech"),
    "stoi": Figure("STOI", 3, "too little speech"),
    "words_lost": Figure("words lost", 0, ""),
    "log_mel_db": Figure("log-mel distance, dB", 2, "no audio"),
    "mcd_db": Figure("mel-cepstral distortion, dB", 2, "no audio"),
    "gross_pitch_error": Figure("gross pitch error, %", 2, "no frame voiced in both", 100),
    "pitch_cents": Figure("pitch error, cents", 1, "no frame voiced in both with the pitch within 20%"),
    "voicing_error": Figure("voicing error, %", 1, "no audio", 100),
}
BLOCKS = (  # figures side by side, so that the table fits into 80 columns
    ("pesq", "stoi", "words_lost"),
    ("log_mel_db", "mcd_db"),
    ("gross_pitch_error", "pitch_cents", "voicing_error"),
)


class CopyTable:
    """The figures of copies, grouped by method. copies: the same methods for every recording, in the same order."""

    def __init__(self, copies: list[Copy]) -> None:
        from wavenet.evaluation.copy_synthesis import MODEL, UNREFINED, baseline_of
        from wavenet.evaluation.intervals import differences, estimates

        self.methods = list(dict.fromkeys(copy.method for copy in copies))
        comparisons = {method: [copy.comparison for copy in copies if copy.method == method] for method in self.methods}
        self.baseline = baseline_of(self.methods)
        self.rows = {method: estimates(rows) for method, rows in comparisons.items()}
        self.difference = differences(comparisons[MODEL], comparisons[self.baseline])
        self.recordings = len(comparisons[MODEL])
        self.silent = sum(math.isnan(row.log_mel_db) for row in comparisons[MODEL])  # that of any other is defined
        self.seconds = sum(copy.seconds for copy in copies if copy.method == MODEL)
        self.iterations, self.refined = max(copy.refine for copy in copies), UNREFINED in self.methods
        self.words = round(sum(row.words for row in comparisons[MODEL] if not math.isnan(row.words)))

    def lines(self, without: set[str]) -> Iterator[str]:
        """The table. without: figures that are left out."""
        copied = count(self.recordings, "recording")
        yield f"copies of {copied}, {self.seconds:.1f} s; means and 95% confidence intervals"
        for block in BLOCKS:
            if names := [name for name in block if name not in without]:
                yield ""
                yield from self._block(names)
        yield ""
        yield f"{DIFFERENCE}: model minus {self.baseline}, recording by recording"
        if self.iterations:
            yield f"refined: {self.iterations} iterations" + ("" if self.refined else "; the model is not")

    def _block(self, names: list[str]) -> Iterator[str]:
        columns = [["", *self.methods, DIFFERENCE], *(self._column(name) for name in names)]
        widths = [max(map(len, column)) for column in columns]
        for row in zip(*columns, strict=True):
            yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()

    def _column(self, name: str) -> list[str]:
        """The cells of one figure, from its title to the difference."""
        figure, title, scale = FIGURES[name], FIGURES[name].title, None
        if name == "words_lost":  # the total, not the mean
            title, scale = f"{title}, of {self.words}", self.rows[self.baseline][name].count
        cells = [figure.cell(self.rows[method][name], scale=scale) for method in self.methods]
        return [title, *cells, figure.cell(self.difference[name], signed=True, scale=scale)]

    def notes(self, without: set[str]) -> Iterator[str]:
        """What the reader of the table must know: figures that are not defined for some copies, too few recordings."""
        from wavenet.evaluation.intervals import FEWEST

        if self.silent:
            are = "is silent: its" if self.silent == 1 else "are silent: their"
            yield f"{self.silent} of {count(self.recordings, 'recording')} {are} figures are left out"
        used = self.recordings - self.silent
        for name, figure in FIGURES.items():
            missing: dict[int, list[str]] = {}  # number of copies that lack the figure -> their methods
            for method in self.methods if name not in without else ():
                lacking = used - self.rows[method][name].count
                missing.setdefault(lacking, []).append(method)
            cases = [f"{n} of {used} by {', '.join(methods)}" for n, methods in missing.items() if n > 0]
            if cases:
                yield f"{figure.title.split(',')[0]}: left out of the means, {figure.undefined}: {'; '.join(cases)}"
        if used == 1:
            yield "no confidence intervals: they need several recordings"
        elif 1 < used < FEWEST:
            yield f"the confidence intervals are too narrow: {used} recordings are too few for them"
