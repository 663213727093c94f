"""What the page of a labeller's run shows: curves, and the confusion matrix of the held-out recordings."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from wavenet.data.errors import printable
from wavenet.training import curves
from wavenet.training.curves import Records
from wavenet.training.run_directory import RunDirectory, is_number
from wavenet.training.run_page import after, chart, picture


def sections(run: RunDirectory, records: Records) -> list[str]:
    """Its sections as HTML, see `wavenet.training.run_page`."""
    validations = [record for record in records if record["event"] == "validation"]
    training, held_out = (curves.points(records, event, "loss") for event in ("train", "validation"))
    f1 = curves.points(records, "validation", "macro_f1")
    matrices = [
        f"<h3>Step {record['step']:,}</h3>\n{_result(record)}\n{shown}"
        for record in reversed(validations)
        if (shown := picture(run, record, "confusion matrix"))
    ]
    return [
        *map(_result, validations[-1:]),
        "<h2>Loss: nats per frame</h2>",
        chart(training, held_out, {}, "nats per frame"),
        "<h2>Macro F1</h2>",
        chart([], f1, _references(validations), "macro F1"),
        "<h2>Confusion matrix of the held-out recordings</h2>",
        *(matrices or ["<p>None yet.</p>"]),
    ]


def _result(record: Mapping[str, Any]) -> str:
    """The figures of a validation."""
    figures = curves.losses(record)
    text = "nothing held out"
    if is_number(figures.get("accuracy")) and is_number(figures.get("macro_f1")):
        best = ", the best so far" if record.get("is_best") else ""
        text = f"frame accuracy {figures['accuracy']:.1%}, macro F1 {figures['macro_f1']:.3f} held out{best}"
    return f'<p class="faint">step {record["step"]:,}{after(record)}: {text}</p>'


def _references(validations: Records) -> dict[str, float]:
    """The macro F1 of the most frequent class, at the last validation."""
    reference = validations[-1].get("reference") if validations else None
    figures = reference.get("figures") if isinstance(reference, Mapping) else None
    if not (isinstance(reference, Mapping) and isinstance(figures, Mapping) and is_number(figures.get("macro_f1"))):
        return {}
    name = html.escape(printable(str(reference.get("name") or "no label")))
    return {f"{name}, the most frequent class, for all frames": figures["macro_f1"]}
