"""`wavenet look run`: the curves and reference levels of runs of every kind, and the messages of the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Capture, error_of, run

plots = pytest.importorskip("wavenet.plots.runs")

GENERATOR: list[dict[str, Any]] = [
    {"event": "train", "step": 50, "bits": 6.0, "seconds": 60.0},
    {"event": "train", "step": 100, "bits": 5.0, "nats": 30.0, "seconds": 120.0},
    {"event": "validation", "step": 100, "bits": 4.9, "seconds": 130.0},
    {"event": "train", "step": 200, "bits": 4.5, "nats": 25.0, "seconds": 240.0},
    {
        "event": "validation",
        "step": 200,
        "bits": 4.75,
        "seconds": 250.0,
        "references": {"histogram": 7.5, "pairs": 5.25},
        "frames": {"nats": 26.0, "references": {"repeat": 40.0, "linear": 26.5}},
    },
]
LABELLER: list[dict[str, Any]] = [
    {"event": "train", "step": 5, "loss": 1.5, "seconds": 6.0},
    {
        "event": "validation",
        "step": 10,
        "seconds": 12.0,
        "figures": {"accuracy": 0.8, "macro_f1": 0.6, "loss": 1.0},
        "reference": {"name": "<b>", "figures": {"macro_f1": 0.25}},
    },
]


def written(folder: Path, records: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + '{"event": "tr')
    return folder


def test_curves_are_against_minutes_and_steps() -> None:
    item = plots.Run("a", GENERATOR)
    assert item.losses == ["bits", "nats"]
    assert item.curve("train", "bits") == [(1.0, 50, 6.0), (2.0, 100, 5.0), (4.0, 200, 4.5)]
    assert item.curve("validation", "nats") == [(250 / 60, 200, 26.0)]
    assert item.references("bits") == {"histogram of codes": 7.5, "table of code pairs": 5.25}
    assert item.references("nats") == {"repeating the last frame": 40.0, "linear prediction": 26.5}


def test_the_best_validation_is_stated() -> None:
    text = plots.Run("a", GENERATOR).text
    assert text.startswith("200 steps in 4.2 minutes; bits per sample 4.750 held out, the best, at step 200 (histogram")
    labeller = plots.Run("b", LABELLER)
    assert labeller.losses == ["loss", "macro_f1"]
    assert "macro F1 0.600 held out, the best, at step 10 (most frequent class 0.250)" in labeller.text


def test_the_command_draws_runs_of_all_kinds(tmp_path: Path, capsys: Capture) -> None:
    runs = [written(tmp_path / "first", GENERATOR), written(tmp_path / "second", LABELLER)]
    assert run("look", "run", *runs, "-o", tmp_path / "runs.svg") == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["first", "second"]
    text = (tmp_path / "runs.svg").read_text()
    words = (
        "first",
        "second",
        "minutes of training",
        "steps",
        *plots.UNITS.values(),
        "table of code pairs 5.25 (first)",
    )
    for word in words:
        assert f">{word}<" in text
    assert "beyond the axis: histogram of codes 7.50 (first)" in text
    assert run("look", "run", runs[0] / "log.jsonl", "-o", tmp_path / "one.png") == 0
    assert (tmp_path / "one.png").stat().st_size < 80_000


def test_runs_may_have_any_names_and_have_only_begun(tmp_path: Path, capsys: Capture) -> None:
    runs = [written(tmp_path / name, GENERATOR[:1]) for name in (r"$\frac{$ 100%", "_first", "a $b$")]
    assert run("look", "run", *runs, "-o", tmp_path / "runs.svg") == 0
    assert "bits per sample 6.000 in training, not validated yet" in capsys.readouterr().out
    text = (tmp_path / "runs.svg").read_text()
    for name in (r"$\frac{$ 100%", "_first", "a $b$"):
        assert f"{name}<" in text


def test_only_runs_with_a_loss_have_its_reference_levels() -> None:
    single = plots.Run(
        "a", [record for record in GENERATOR if record["step"] == 100] + [{**GENERATOR[-1], "frames": None}]
    )
    assert single.references("nats") == {}
    figure = plots.runs_figure([single, plots.Run("b", GENERATOR)])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "histogram" in titles[0] and "histogram" not in titles[2]


def test_what_is_no_run_is_refused_in_a_line(tmp_path: Path, capsys: Capture) -> None:
    look, picture = ("look", "run"), ("-o", tmp_path / "a.png")
    assert "no such run" in error_of(capsys, *look, tmp_path / "none", *picture)
    assert "no log.jsonl in this folder" in error_of(capsys, *look, tmp_path, *picture)
    empty = written(tmp_path / "empty", [{"event": "train", "step": 1}])
    assert "no losses in this log yet" in error_of(capsys, *look, empty, *picture)
    assert "a picture ends in" in error_of(capsys, *look, empty, "-o", tmp_path / "a.pdf")
    assert not (tmp_path / "a.png").exists()
