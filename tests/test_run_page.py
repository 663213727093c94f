"""The page of a run: names are escaped, nothing is loaded from elsewhere, logs of earlier versions are shown."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import pytest

from wavenet.training import labelling_page, recipe, run_page
from wavenet.training.run_directory import RunDirectory

RECORDS: list[dict[str, Any]] = [
    {"event": "train", "step": 5, "bits": 7.0, "seconds": 30.0},
    {"event": "validation", "step": 10, "bits": 5.0, "seconds": 60.0, "is_best": True},  # of an earlier version
    {"event": "train", "step": 15, "bits": 4.5, "seconds": 90.0},
    {
        "event": "validation",
        "step": 20,
        "bits": 4.25,
        "seconds": 120.0,
        "is_best": True,
        "references": {"histogram": 7.5, "pairs": 4.75},
        "verdict": {"text": "clip: <script>alert(1)</script>: murmurs; improving"},
    },
]


class Tags(HTMLParser):
    """The tags of a page, with their attributes; checks that they are closed in order."""

    EMPTY = ("meta", "img", "circle")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "<b>me & \x1b'you'")
    run.create()
    run.sample(20).touch()
    run.picture(20).touch()
    return run


def test_names_and_words_are_escaped(run: RunDirectory) -> None:
    text = recipe.load("tiny", ["data.speakers='</pre><script>'"]).to_toml()
    run_page.write(run, text, RECORDS)
    page = run.page.read_text()
    assert "script" not in [tag for tag, _ in Tags(page).found]
    assert "<b>me" not in page and "\x1b" not in page
    assert "&lt;b&gt;me &amp; \\x1b&#x27;you&#x27;" in page
    assert "&lt;script&gt;alert(1)" in page and "&lt;/pre&gt;&lt;script&gt;" in page


def test_it_loads_only_what_is_beside_it(run: RunDirectory) -> None:
    page = run_page.page(run, "", RECORDS)
    loaded = [
        value for _, attributes in Tags(page).found for name, value in attributes.items() if name in ("src", "href")
    ]
    assert loaded == ["samples/step_20.wav", "samples/step_20.svg"]  # those of step 10 are not there
    assert not re.search(r"https?:|@import|url\((?!#)", page)


def test_it_shows_curves_reference_levels_and_settings(run: RunDirectory) -> None:
    page = run_page.page(run, "[model]\ncycles = 2\n", RECORDS)
    assert page.count("<circle") == 2  # validations
    assert "a histogram of codes 7.50, a table of code pairs 4.75" in page
    assert page.count("stroke-dasharray") == 1  # 7.5 is above the curves
    assert "cycles = 2" in page
    assert "step 20, after 2.0 minutes: 4.250 bits per sample held out, the best so far" in page
    assert page.index("Step 20") < page.index("Step 10")


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{"event": "validation", "step": 1}],
        [{"event": "validation", "step": 1, "bits": None, "seconds": 0.0, "references": None, "verdict": None}],
        [{"event": "train", "step": 1, "bits": 5, "seconds": 0}],
        [{"event": "train", "step": i, "bits": 5.0, "seconds": i} for i in range(5_000)],
    ],
)
def test_logs_that_lack_figures(run: RunDirectory, records: list[dict[str, Any]]) -> None:
    page = run_page.page(run, "", records)
    assert Tags(page).found
    assert len(page) < 20_000


def test_the_page_of_a_labeller(run: RunDirectory) -> None:
    figures = {"accuracy": 0.5, "macro_f1": 0.25, "loss": 1.5}
    reference = {"name": "<i>dog", "figures": {"accuracy": 0.4, "macro_f1": 0.2, "loss": None}}
    validation = {"event": "validation", "figures": figures, "reference": reference, "training_loss": 1.0}
    records = [
        {"event": "train", "step": 10, "loss": 2.0, "seconds": 60.0},
        {**validation, "step": 15, "seconds": 90.0, "is_best": False, "figures": dict.fromkeys(figures)},
        {**validation, "step": 20, "seconds": 120.0, "is_best": True},
    ]
    page = run_page.page(run, "[labeller]\n", records, labelling_page.contents)
    assert "step 20, after 2.0 minutes: frame accuracy 50.0%, macro F1 0.250 held out, the best so far" in page
    assert page.count("<circle") == 2  # one figure in each of the two charts
    assert "&lt;i&gt;dog, the most frequent class, for all frames 0.20" in page
    loaded = [attributes["src"] for tag, attributes in Tags(page).found if tag == "img"]
    assert loaded == ["samples/step_20.svg"]
    assert Tags(run_page.page(run, "", [], labelling_page.contents)).found


def test_a_page_that_cannot_be_made_says_so(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> NoReturn:
        raise RuntimeError("<broken>")

    monkeypatch.setattr(run_page, "chart", fail)
    run_page.write(run, "", RECORDS)
    assert "could not be made: RuntimeError(&#x27;&lt;broken&gt;&#x27;)" in run.page.read_text()


@pytest.mark.parametrize("contents", [run_page.generator_contents, labelling_page.contents])
def test_a_rollback_is_marked_and_explained(run: RunDirectory, contents: run_page.MakeContents) -> None:
    """In a chart from 0 to 2 minutes, 732 wide from 56 on: at 1.5 minutes."""
    records = [{"loss": record["bits"], **record} for record in RECORDS]
    rollback = {"event": "rollback", "step": 12, "number": 1, "seconds": 90.0, "text": "the <loss> jumped"}
    without = run_page.page(run, "", records, contents)
    page = run_page.page(run, "", [*records, rollback], contents)
    Tags(page)
    assert "1.5 min: the &lt;loss&gt; jumped</p>" in page
    assert len(re.findall(r'd="M605\.0 0V260"', page)) == 1
    assert 'stroke-dasharray="2 4"' not in without
