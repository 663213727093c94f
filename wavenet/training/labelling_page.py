"""What the page of a labeller's run shows: curves, and the confusion matrix of the held-out recordings."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from wavenet.data.errors import printable
from wavenet.training import curves
from wavenet.training.curves import Records
from wavenet.training.run_directory import RunDirectory, is_number
from wavenet.training.run_page import Chart, Contents, Entry, after, chart, picture, rollbacks


def contents(run: RunDirectory, records: Records) -> Contents:
    """What is shown of it, see `wavenet.training.run_page`."""
    validations = [record for record in records if record["event"] == "validation"]
    training, held_out = (curves.points(records, event, "loss") for event in ("train", "validation"))
    f1 = curves.points(records, "validation", "macro_f1")
    charts = [
        Chart("Loss: nats per frame", chart(training, held_out, {}, "nats per frame", rollbacks(records))),
        Chart("Macro F1", chart([], f1, _references(validations), "macro F1")),
    ]
    entries = [_entry(run, record) for record in reversed(validations)]
    matrices = [entry for entry in entries if entry.picture]
    title = "Confusion matrix of the held-out recordings"
    return Contents(next(iter(entries), None), charts, title, matrices)


def _entry(run: RunDirectory, record: Mapping[str, Any]) -> Entry:
    return Entry(record["step"], _result(record), "", "", picture(run, record), "confusion matrix")


def _result(record: Mapping[str, Any]) -> str:
    """The figures of a validation."""
    figures = curves.losses(record)
    text = "nothing held out"
    if is_number(figures.get("accuracy")) and is_number(figures.get("macro_f1")):
        best = ", the best so far" if record.get("is_best") else ""
        text = f"frame accuracy {figures['accuracy']:.1%}, macro F1 {figures['macro_f1']:.3f} held out{best}"
    return f"step {record['step']:,}{after(record)}: {text}"


def _references(validations: Records) -> dict[str, float]:
    """The macro F1 of the most frequent class, at the last validation."""
    reference = validations[-1].get("reference") if validations else None
    figures = reference.get("figures") if isinstance(reference, Mapping) else None
    if not (isinstance(reference, Mapping) and isinstance(figures, Mapping) and is_number(figures.get("macro_f1"))):
        return {}
    name = html.escape(printable(str(reference.get("name") or "no label")))
    return {f"{name}, the most frequent class, for all frames": figures["macro_f1"]}
