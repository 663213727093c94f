"""Words lost: counted by hand, and by the recogniser in a recording."""

import sys
from pathlib import Path

import numpy as np
import pytest

from wavenet.data.audio import read
from wavenet.evaluation.metrics import MetricUnavailable, Signal
from wavenet.evaluation.words import Recogniser, words_lost

SPEECH = Path(__file__).parents[1] / "samples" / "speech"


@pytest.mark.parametrize(
    ("original", "copy", "lost"),
    [
        ("please press one", "please press one", 0),
        ("please press one", "", 3),
        ("", "please", 0),
        ("please press one", "please one", 1),  # deleted
        ("please press one", "please bless one", 1),  # substituted
        ("please press one", "please just press one now", 0),  # inserted: nothing is lost
        ("one two three", "three one two", 1),  # the shortest edit inserts the first and deletes the last "three"
    ],
)
def test_words_lost(original: str, copy: str, lost: int) -> None:
    assert words_lost(original.split(), copy.split()) == lost


def test_a_missing_recogniser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MetricUnavailable, match=r"needs pocketsphinx: pip install 'wavenet-toolkit\[metrics\]'"):
        Recogniser()


def test_words_of_a_recording_do_not_depend_on_those_before() -> None:
    speech = Signal(read(SPEECH / "if-correct-press.flac", 16_000), 16_000)
    recogniser = Recogniser()
    found = recogniser.words(speech)
    assert "correct" in found and "press" in found
    assert recogniser.words(Signal(np.zeros(16_000), 16_000)) == []
    assert recogniser.words(Signal(speech.resampled(22_050), 22_050)) == found
