"""The table of copies: every figure, its unit and interval, and notes on what is missing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from wavenet.cli.copy_table import BLOCKS, FIGURES, CopyTable
from wavenet.evaluation.copy_synthesis import GRIFFIN_LIM, GRIFFIN_LIM_REFINED, METHODS, MODEL, RECORDING, Copy
from wavenet.evaluation.metrics import Comparison

PERFECT = Comparison(4.64, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0)
ALL = set(FIGURES)
REFINED = {MODEL: 40, GRIFFIN_LIM_REFINED: 40}


def copies(
    count: int, of: Callable[[str, int], Comparison], methods: tuple[str, ...] = (MODEL, GRIFFIN_LIM, RECORDING)
) -> list[Copy]:
    """Copies of recordings of 2 s by each method. of: their figures by method and recording."""
    return [
        Copy(f"{index}.wav", 2.0, method, REFINED.get(method, 0), of(method, index), np.zeros(0, np.float32))
        for index in range(count)
        for method in methods
    ]


def rows_of(table: CopyTable, figure: str) -> dict[str, str]:
    """The cells of one figure by the first word of their row; the title is that of the empty row."""
    lines = list(table.lines(ALL - {figure}))
    width = len("griffin-lim refined")
    block = lines[2 : lines.index("", 2)]
    start = len(block[0]) - len(block[0].lstrip())
    assert start <= width + 2
    return {line[:start].strip(): line[start:] for line in block}


def test_every_figure_is_in_the_table() -> None:
    names = [field.name for field in dataclasses.fields(Comparison)]
    assert sorted(FIGURES) == sorted({*names} - {"words"})
    assert [name for block in BLOCKS for name in block] == list(FIGURES)


def test_a_column_of_means_intervals_and_the_difference() -> None:
    pesq = {MODEL: [3.0, 3.5, 4.0, 3.5, 3.5], GRIFFIN_LIM: [2.9, 3.3, 3.7, 3.3, 3.3], RECORDING: [4.64] * 5}
    table = CopyTable(copies(5, lambda method, index: dataclasses.replace(PERFECT, pesq=pesq[method][index])))
    rows = rows_of(table, "pesq")
    assert rows[""] == "PESQ"
    assert rows[MODEL].startswith("3.50 [3.") and rows[MODEL].endswith("]")
    assert rows[RECORDING] == "4.64"  # equal for all: no interval
    assert rows["difference"].startswith("+0.20 [+0.1") and list(rows)[-1] == "difference"
    lines = list(table.lines(ALL - {"pesq"}))
    assert lines[0] == "copies of 5 recordings, 10.0 s; means and 95% confidence intervals"
    assert f"difference: model minus {GRIFFIN_LIM}, recording by recording" in lines


def test_a_refined_model_is_measured_against_refined_griffin_lim() -> None:
    pesq = dict(zip(METHODS, (4.1, 2.0, 3.2, 4.0, 4.64), strict=True))
    table = CopyTable(copies(2, lambda method, _: dataclasses.replace(PERFECT, pesq=pesq[method]), METHODS))
    cells = {"": "PESQ"} | {method: f"{value:.2f}" for method, value in pesq.items()}
    assert rows_of(table, "pesq") == cells | {"difference": "+0.10"}
    footer = ["difference: model minus griffin-lim refined, recording by recording", "refined: 40 iterations"]
    assert list(table.lines(ALL - {"pesq"}))[-2:] == footer


def test_shares_are_percentages() -> None:
    table = CopyTable(copies(1, lambda *_: dataclasses.replace(PERFECT, voicing_error=0.0314)))
    rows = rows_of(table, "voicing_error")
    assert rows[""] == "voicing error, %" and rows[MODEL] == "3.1"


def test_words_lost_are_totals() -> None:
    lost = {MODEL: 3.0, GRIFFIN_LIM: 1.0, RECORDING: 0.0}
    table = CopyTable(copies(4, lambda method, index: dataclasses.replace(PERFECT, words_lost=lost[method])))
    rows = rows_of(table, "words_lost")
    assert rows == {"": "words lost, of 40", MODEL: "12", GRIFFIN_LIM: "4", RECORDING: "0", "difference": "+8"}


def test_undefined_figures_are_counted() -> None:
    cents = {MODEL: [10.0, math.nan], GRIFFIN_LIM: [20.0, 30.0], RECORDING: [0.0, 0.0]}
    table = CopyTable(copies(2, lambda method, index: dataclasses.replace(PERFECT, pitch_cents=cents[method][index])))
    rows = rows_of(table, "pitch_cents")
    assert (rows[MODEL], rows["difference"]) == ("10.0", "-10.0")
    reason = "no frame voiced in both with the pitch within 20%"
    assert f"pitch error: left out of the means, {reason}: 1 of 2 by model" in list(table.notes(set()))
    assert not any("pitch" in note for note in table.notes({"pitch_cents"}))


def test_each_figure_and_silence_have_one_note() -> None:
    """Of six recordings the first has no figure at all; the next has no PESQ, and another one of the model only."""
    nan = math.nan
    nothing = Comparison(nan, nan, nan, nan, nan, nan, nan, 0, 0)
    without = dataclasses.replace(PERFECT, pesq=nan)

    def figures(method: str, index: int) -> Comparison:
        return nothing if index == 0 else without if index == 1 or (index == 2 and method == MODEL) else PERFECT

    assert list(CopyTable(copies(6, figures)).notes(set())) == [
        "1 of 6 recordings is silent: its figures are left out",
        "PESQ: left out of the means, too little speech: 2 of 5 by model; 1 of 5 by griffin-lim, recording",
    ]
    silent = CopyTable(copies(3, lambda *_: nothing))
    assert list(silent.notes(set())) == ["3 of 3 recordings are silent: their figures are left out"]
    assert next(silent.lines(set())).startswith("copies of 3 recordings, ")
    assert next(CopyTable(copies(1, figures)).lines(set())).startswith("copies of 1 recording, ")


def test_a_figure_of_no_copy_is_a_dash() -> None:
    table = CopyTable(copies(2, lambda *_: dataclasses.replace(PERFECT, stoi=math.nan)))
    assert rows_of(table, "stoi")[MODEL] == "-"


@pytest.mark.parametrize(("count", "note"), [(1, "no confidence intervals"), (4, "too narrow: 4 recordings")])
def test_too_few_recordings_for_intervals(count: int, note: str) -> None:
    notes = list(CopyTable(copies(count, lambda *_: PERFECT)).notes(set()))
    assert len(notes) == 1 and note in notes[0]
    assert list(CopyTable(copies(5, lambda *_: PERFECT)).notes(set())) == []
