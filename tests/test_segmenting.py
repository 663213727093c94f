"""From probabilities of frames to segments."""

from __future__ import annotations

import numpy as np
import pytest

from wavenet.segmenting import Run, Segmenter, Smoother


def segmented(classes: str, shortest: int, block: int) -> list[Run]:
    segmenter, found = Segmenter(shortest), []
    frames = np.array([int(name) for name in classes], np.int64)
    for start in range(0, len(frames), block):
        found += segmenter.push(frames[start : start + block], ended=False)
    return found + segmenter.push(frames[:0], ended=True)


def written(runs: list[Run]) -> str:
    """The class of every frame; the runs have no gaps."""
    assert [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]
    return "".join(str(run.label) * (run.stop - run.start) for run in runs)


@pytest.mark.parametrize("block", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("shortest", "classes", "expected"),
    [
        (0, "0011200", "0011200"),
        (1, "0011200", "0011200"),
        (2, "0011200", "0011100"),  # 2 is too short, and becomes part of the run before it
        (2, "1003300", "0003300"),  # at the start: part of the run behind it
        (2, "112131144", "111111144"),  # several short runs
        (3, "1122211", "2222222"),  # the last run is too short
        (3, "112200", "111111"),  # all are too short: the first of the most frequent classes
        (3, "12212", "22222"),
    ],
)
def test_short_runs_become_part_of_others(shortest: int, classes: str, expected: str, block: int) -> None:
    assert written(segmented(classes, shortest, block)) == expected


def test_nothing_gives_no_run() -> None:
    assert Segmenter(2).push(np.zeros(0, np.int64), ended=True) == []


def test_smoothing_by_hand() -> None:
    smoother = Smoother(1, 1)
    values = np.array([0.0, 3.0, 6.0, 3.0], np.float32)[:, None]
    smoothed = np.concatenate([smoother.push(values, ended=False), smoother.push(values[:0], ended=True)])
    assert smoothed.flatten().tolist() == [1.5, 3.0, 4.0, 4.5]  # the first of frames 0 and 1, the second of 0 to 2


@pytest.mark.parametrize("reach", [0, 1, 4, 50])
@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_smoothing_is_the_same_for_every_block_size(reach: int, block: int) -> None:
    values = np.random.default_rng(0).random((30, 3), np.float32)
    whole = Smoother(reach, 3).push(values, ended=True)
    smoother = Smoother(reach, 3)
    parts = [smoother.push(values[start : start + block], ended=False) for start in range(0, 30, block)]
    assert np.array_equal(np.concatenate([*parts, smoother.push(values[:0], ended=True)]), whole)
    expected = [values[max(0, n - reach) : n + reach + 1].mean(0) for n in range(30)]
    assert np.allclose(whole, expected, atol=1e-6)
