"""The curves of a run, from the records of its log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wavenet.evaluation.verdict import Point
from wavenet.training.run_directory import is_number

Records = Sequence[Mapping[str, Any]]  # see `RunDirectory.read_log`


def points(records: Iterable[Mapping[str, Any]], event: str, loss: str = "bits") -> list[tuple[float, float]]:
    """(minutes, loss) of the records of an event that have both; loss: as of `progress`."""
    return [(minutes, value) for minutes, _, value in progress(records, event, loss)]


def progress(records: Iterable[Mapping[str, Any]], event: str, loss: str = "bits") -> list[tuple[float, int, float]]:
    """(minutes, step, loss) of the records of an event that have all of them.

    loss: "bits" per sample, "nats" per frame; of labellers "loss", "macro_f1" or "accuracy".
    """
    usable = (losses(record) for record in records if record["event"] == event)
    return [
        (record["seconds"] / 60, record["step"], record[loss])
        for record in usable
        if is_number(record.get("seconds")) and is_number(record.get(loss))
    ]


def losses(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The losses of a record: those of a frame model, and of a labeller, are in tables of their own at a validation."""
    for table in (record.get("frames"), record.get("figures")):
        record = {**record, **table} if isinstance(table, Mapping) else record
    return record


def history(records: Records, loss: str = "bits") -> list[Point]:
    """The validations so far; loss: as of `points`. Those of earlier versions have no training bits: NaN."""
    return [
        Point(
            record["seconds"] / 60, _number(losses(record).get(loss)), _number(losses(record).get(f"training_{loss}"))
        )
        for record in records
        if record["event"] == "validation" and is_number(record.get("seconds"))
    ]


def training_bits(records: Records, since: int, latest: float) -> float:
    """Mean training loss, bits per sample, of the records after a step; the latest loss if there is none."""
    bits = [_number(record.get("bits")) for record in records if record["event"] == "train" and record["step"] > since]
    finite = [value for value in bits if math.isfinite(value)]
    return float(np.mean(finite)) if finite else latest


def _number(value: Any) -> float:
    return float(value) if is_number(value) else math.nan
