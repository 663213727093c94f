"""Bootstrap confidence intervals: their width, what they leave out, and pairs."""

import math

import numpy as np
import pytest
from scipy import stats

from wavenet.evaluation.intervals import Estimate, differences, estimate, estimates
from wavenet.evaluation.metrics import Comparison


def comparison(pesq: float, stoi: float = math.nan) -> Comparison:
    return Comparison(pesq, stoi, 1.0, 1.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize("count", [8, 20, 100])
def test_the_interval_is_as_wide_as_students_for_symmetric_values(count: int) -> None:
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)  # a normal sample without chance
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count)
    result = estimate(values + 3)
    assert result.mean == pytest.approx(3)
    assert (result.low, result.high) == pytest.approx((3 - half, 3 + half), abs=0.07 * half)
    assert result == estimate(values + 3)


def test_the_interval_contains_the_mean_of_the_distribution_in_95_percent() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        result = estimate(generator.beta(5, 2, size=10))  # a figure with a limit, as STOI
        inside += result.low <= 5 / 7 <= result.high
    assert inside / 200 == pytest.approx(0.95, abs=0.04)


def test_a_skewed_sample_has_a_skewed_interval() -> None:
    result = estimate([0.0] * 15 + [10.0])
    assert result.high - result.mean > 1.5 * (result.mean - result.low)
    assert result.low >= 0 and result.high <= 10


def test_equal_values_have_an_interval_without_width() -> None:
    assert estimate([4.5] * 3) == Estimate(4.5, 4.5, 4.5, 3)


def test_nan_are_left_out() -> None:
    assert estimate([1.0, math.nan, 2.0, 4.0]) == estimate([1.0, 2.0, 4.0])
    one = estimate([math.nan, 2.0])
    assert (one.mean, one.count) == (2.0, 1) and math.isnan(one.low) and math.isnan(one.high)
    none = estimate([math.nan])
    assert none.count == 0 and math.isnan(none.mean)


def test_each_figure_has_its_own_count() -> None:
    found = estimates([comparison(2.0, 0.5), comparison(3.0), comparison(4.0, 0.75)])
    assert (found["pesq"].mean, found["pesq"].count) == (3.0, 3)
    assert (found["stoi"].mean, found["stoi"].count) == (0.625, 2)
    assert found["words_lost"].count == 0


def test_a_difference_is_that_of_pairs() -> None:
    # Recordings differ by far more than the two copies of each, which differ by 0.1 everywhere.
    first = [comparison(1.1, 1.0), comparison(2.1, math.nan), comparison(4.1, 1.0)]
    second = [comparison(1.0, math.nan), comparison(2.0, 1.0), comparison(4.0, 0.5)]
    found = differences(first, second)
    assert (found["pesq"].low, found["pesq"].mean, found["pesq"].high) == pytest.approx((0.1, 0.1, 0.1))
    assert (found["stoi"].mean, found["stoi"].count) == (0.5, 1)  # the only pair without NaN
