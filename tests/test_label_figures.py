"""Figures of labels against numbers by hand, and their tables and pictures."""

from __future__ import annotations

import csv
import math
import re
from itertools import combinations, permutations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.data.segments import Segment
from wavenet.evaluation.label_pictures import clip_picture, confusion_picture
from wavenet.evaluation.labelling import LabelFigures, boundaries, matched

REFERENCE = [Segment(0.0, 0.04, "a"), Segment(0.04, 0.08, "b")]  # then 20 ms without a label
FOUND = [Segment(0.0, 0.06, "a"), Segment(0.06, 0.09, "b")]


@pytest.fixture
def figures() -> LabelFigures:
    """Ten frames: a a a a b b b b - - labelled a a a a a a b b b -."""
    figures = LabelFigures(("a", "b"))
    figures.add(REFERENCE, FOUND, 0.1)
    return figures


def test_frames(figures: LabelFigures) -> None:
    assert figures.confusion.tolist() == [[1, 0, 1], [0, 4, 0], [0, 2, 2]]
    assert figures.accuracy == pytest.approx(0.7)
    assert figures.precision.tolist() == pytest.approx([1, 4 / 6, 2 / 3])
    assert figures.recall.tolist() == pytest.approx([1 / 2, 1, 2 / 4])
    assert figures.f1.tolist() == pytest.approx([2 / 3, 0.8, 4 / 7])
    assert figures.macro_f1 == pytest.approx((2 / 3 + 0.8 + 4 / 7) / 3)


def test_boundaries(figures: LabelFigures) -> None:
    """0.04 and 0.08 s against 0.06 and 0.09 s: 20 and 10 ms apart."""
    assert boundaries(REFERENCE, 0.1) == pytest.approx([0.04, 0.08])
    assert figures.boundary_f1(0.02) == 1 and figures.boundary_f1(0.05) == 1
    figures.add([Segment(0.0, 0.5, "a"), Segment(0.5, 1.0, "b")], [Segment(0.0, 0.53, "a"), Segment(0.53, 1, "b")], 1)
    assert figures.boundary_f1(0.02) == pytest.approx(4 / 6) and figures.boundary_f1(0.05) == 1


def test_equal_neighbours_have_no_boundary() -> None:
    labels = [Segment(0.2, 0.4, "a"), Segment(0.4, 0.5, "a"), Segment(0.5, 0.6, "b"), Segment(0.7, 1.0, "b")]
    assert boundaries(labels, 1.0) == [0.2, 0.5, 0.6, 0.7]
    assert boundaries([], 1.0) == boundaries([Segment(0, 1, "a")], 1.0) == []


def test_no_boundaries_and_no_frames() -> None:
    figures = LabelFigures(("a",))
    assert math.isnan(figures.accuracy) and math.isnan(figures.macro_f1)
    figures.add([Segment(0, 1, "a")], [Segment(0, 1, "a")], 1.0)
    assert figures.boundary_f1(0.02) == 1 and figures.accuracy == 1 and figures.macro_f1 == 1


def most_pairs(reference: NDArray[np.float64], found: NDArray[np.float64], tolerance: float) -> int:
    """The largest number of pairs, by trying all."""
    for count in range(min(len(reference), len(found)), 0, -1):
        for chosen in combinations(reference, count):
            if any(np.all(np.abs(np.subtract(chosen, order)) <= tolerance) for order in permutations(found, count)):
                return count
    return 0


def test_as_many_pairs_as_possible() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        reference, found = (np.sort(random.uniform(0, 0.3, random.integers(0, 5))) for _ in range(2))
        assert matched(reference, found, 0.05) == most_pairs(reference, found, 0.05)


def test_tables(figures: LabelFigures, tmp_path: Path) -> None:
    assert figures.lines()[:3] == [
        "frame accuracy  70.00%",
        "macro F1        0.679",
        "boundary F1     1.000 at 20 ms, 1.000 at 50 ms",
    ]
    assert figures.lines()[-1].split() == ["b", "4", "0.667", "0.500", "0.571"]
    figures.write_csv(tmp_path / "classes.csv")
    figures.write_confusion(tmp_path / "confusion.csv")
    with open(tmp_path / "classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["class"] == "a" and float(rows[1]["precision"]) == pytest.approx(4 / 6)
    lines = (tmp_path / "confusion.csv").read_text().splitlines()
    assert lines == ["reference \\ found,(none),a,b", "(none),1,0,1", "a,0,4,0", "b,0,2,2"]


def test_confusion_picture() -> None:
    confusion = np.array([[0, 0, 0], [0, 3, 1], [0, 0, 2]])  # class 0 appears nowhere
    picture = confusion_picture(confusion, ("(none)", "<a>", "b"))
    texts = [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[1:] == ["<a>", "<a>", "75", "25", "b", "b", "100"]
    many = confusion_picture(np.eye(60, dtype=np.int64), [f"class {i}" for i in range(60)])
    assert ElementTree.fromstring(many) is not None and many.count('class="cell"') == 60


def test_clip_picture() -> None:
    audio = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    picture = clip_picture("a & b", audio, 16_000, [("reference", REFERENCE), ("found", FOUND)])
    root = ElementTree.fromstring(picture)
    space = "{http://www.w3.org/2000/svg}"
    titles = [element.text for element in root.iter(f"{space}text")]
    assert {"a & b", "reference", "found"} <= set(titles)
    rectangles = [element for element in root.iter(f"{space}rect") if element.get("class") == "label"]
    assert [element[0].text for element in rectangles] == ["a", "b", "a", "b"]  # what the pointer shows
    assert rectangles[0].get("fill") == rectangles[2].get("fill") != rectangles[1].get("fill")
    scale = (800 - 52 - 12) / 1.0  # units per second
    assert float(rectangles[1].get("x")) == pytest.approx(0.04 * scale, abs=0.05)
    height = float(re.search(r'viewBox="0 0 800 (\d+)"', picture)[1])
    assert all(float(element.get("y")) + 22 < height - 26 for element in rectangles)  # the axis is below them
