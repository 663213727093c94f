"""The table of `wavenet evaluate`: figures of the copies by each method, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wavenet.evaluation.copy_synthesis import Copy
    from wavenet.evaluation.intervals import Estimate

DIFFERENCE = "difference"  # label of the row: the model minus its baseline


@dataclass(frozen=True)
class Figure:
    """How a figure of `metrics.Comparison` is printed."""

    title: str
    decimals: int
    undefined: str  # why a copy can lack it
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
    "pesq": Figure("PESQ", 2, "have too little speech"),
    "stoi": Figure("STOI", 3, "have too little speech"),
    "words_lost": Figure("words lost", 0, ""),
    "log_mel_db": Figure("log-mel distance, dB", 2, "have no audio in the recording"),
    "mcd_db": Figure("mel-cepstral distortion, dB", 2, "have no audio in the recording"),
    "gross_pitch_error": Figure("gross pitch error, %", 2, "have no frame voiced in both", 100),
    "pitch_cents": Figure("pitch error, cents", 1, "have no frame voiced in both with the pitch within 20%"),
    "voicing_error": Figure("voicing error, %", 1, "have no audio in the recording", 100),
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
        self.seconds = sum(copy.seconds for copy in copies if copy.method == MODEL)
        self.iterations, self.refined = max(copy.refine for copy in copies), UNREFINED in self.methods
        self.words = round(sum(row.words for row in comparisons[MODEL] if not math.isnan(row.words)))

    def lines(self, without: set[str]) -> Iterator[str]:
        """The table. without: figures that are left out."""
        yield f"copies of {self.recordings} recordings, {self.seconds:.1f} s; means and 95% confidence intervals"
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

        for name, figure in FIGURES.items():
            for method in self.methods if name not in without else ():
                known = self.rows[method][name].count
                if known < self.recordings:
                    title, missing = figure.title.split(",")[0], self.recordings - known
                    over = f"over {known} of {self.recordings} copies"
                    yield f"{title}, {method}: {over}; {missing} {figure.undefined}"
        if self.recordings == 1:
            yield "no confidence intervals: they need several recordings"
        elif self.recordings < FEWEST:
            yield f"the confidence intervals are too narrow: {self.recordings} recordings are too few for them"
