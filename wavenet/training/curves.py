"""The curves of a run, from the records of its log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wavenet.evaluation.verdict import Point
from wavenet.training.run_directory import is_number

Records = Sequence[Mapping[str, Any]]  # see `RunDirectory.read_log`


def points(records: Iterable[Mapping[str, Any]], event: str) -> list[tuple[float, float]]:
    """(minutes, bits per sample) of the records of an event that have both."""
    usable = (record for record in records if record["event"] == event)
    return [
        (record["seconds"] / 60, record["bits"])
        for record in usable
        if is_number(record.get("seconds")) and is_number(record.get("bits"))
    ]


def history(records: Records) -> list[Point]:
    """The validations so far. Those of earlier versions have no training bits: NaN."""
    return [
        Point(record["seconds"] / 60, _number(record.get("bits")), _number(record.get("training_bits")))
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
