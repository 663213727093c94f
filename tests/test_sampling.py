"""Drawing codes: temperature, top-k, top-p and the inverse of the cumulative distribution, by hand and by counting."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from wavenet.engine.sampling import Sampling, draw_uniforms, sample, sample_continuous, uniform_generator

PLAIN = Sampling()
LAST_UNIFORM = np.nextafter(1.0, 0.0)
HAND = np.log([[0.1, 0.4, 0.2, 0.3]])  # cumulative in code order: 0.1, 0.5, 0.7, 1.0


def draw(logits: NDArray[np.float64], uniform: float, sampling: Sampling = PLAIN) -> int:
    return int(sample(logits, np.array([uniform]), sampling)[0])


@pytest.mark.parametrize(
    ("uniform", "code"), [(0.0, 0), (0.09, 0), (0.11, 1), (0.49, 1), (0.51, 2), (0.71, 3), (LAST_UNIFORM, 3)]
)
def test_inverse_of_the_cumulative_distribution_in_code_order(uniform: float, code: int) -> None:
    assert draw(HAND, uniform) == code


def test_temperature_two_takes_the_square_root_of_the_weights() -> None:
    roots = np.sqrt([0.1, 0.4, 0.2, 0.3])
    edge = roots[0] / roots.sum()  # 0.16 instead of 0.1
    assert draw(HAND, edge - 1e-6, Sampling(temperature=2)) == 0
    assert draw(HAND, edge + 1e-6, Sampling(temperature=2)) == 1


def test_top_k_keeps_the_most_probable_and_renormalises() -> None:
    sampling = Sampling(top_k=2)  # codes 1 (4/7) and 3 (3/7) are left
    assert [draw(HAND, uniform, sampling) for uniform in (0.0, 4 / 7 - 1e-6, 4 / 7 + 1e-6, LAST_UNIFORM)] == [
        1,
        1,
        3,
        3,
    ]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    # most probable first: 0.4, 0.7, 0.9, 1.0; a set that reaches p exactly is enough
    [(0.01, {1}), (0.4, {1}), (0.41, {1, 3}), (0.7, {1, 3}), (0.71, {1, 2, 3}), (0.9, {1, 2, 3}), (0.91, {0, 1, 2, 3})],
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(top_p: float, kept: set[int]) -> None:
    grid = np.linspace(0, LAST_UNIFORM, 201)
    assert {draw(HAND, uniform, Sampling(top_p=top_p)) for uniform in grid} == kept


def test_top_p_counts_shares_of_what_top_k_left() -> None:
    # top-k 2 leaves 4/7 and 3/7; 4/7 = 0.571 alone reaches 0.55, though it is only 0.4 of the whole
    assert {draw(HAND, uniform, Sampling(top_k=2, top_p=0.55)) for uniform in (0.0, 0.5, LAST_UNIFORM)} == {1}


def test_equally_probable_codes_rank_by_code() -> None:
    flat = np.zeros((1, 8))
    grid = np.linspace(0, LAST_UNIFORM, 101)
    assert {draw(flat, uniform, Sampling(top_k=3)) for uniform in grid} == {0, 1, 2}
    assert {draw(flat, uniform, Sampling(top_p=0.5)) for uniform in grid} == {0, 1, 2, 3}
    assert draw(flat, LAST_UNIFORM, Sampling(temperature=0)) == 0


@pytest.mark.parametrize("temperature", [1e18, 1e300])
def test_codes_rank_by_logits_where_a_high_temperature_makes_their_weights_equal(temperature: float) -> None:
    grid = np.linspace(0, LAST_UNIFORM, 101)  # 1, 3, 2, 0 from the most probable to the least
    assert {draw(HAND, uniform, Sampling(temperature, top_k=2)) for uniform in grid} == {1, 3}
    assert {draw(HAND, uniform, Sampling(temperature, top_p=0.75)) for uniform in grid} == {1, 2, 3}


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_top_k_1_and_temperature_0_are_argmax(seed: int, streams: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(streams, 256)).astype(np.float32)
    uniforms = rng.random(streams)
    for sampling in (Sampling(top_k=1), Sampling(temperature=0), Sampling(temperature=1e-6), Sampling(top_p=1e-9)):
        np.testing.assert_array_equal(sample(logits, uniforms, sampling), logits.argmax(axis=1))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.7), Sampling(top_k=3), Sampling(top_p=0.9)])
def test_a_code_of_probability_zero_is_never_drawn(sampling: Sampling) -> None:
    logits = np.full((1, 256), -np.inf)
    logits[0, [7, 100, 200]] = [0.0, 1.0, -1.0]
    for uniform in (0.0, 5e-324, 1e-17, 0.5, 1 - 1e-16, LAST_UNIFORM):
        assert draw(logits, uniform, sampling) in {7, 100, 200}
    assert draw(logits, 0.0) == 7
    assert draw(logits, LAST_UNIFORM) == 200


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.floats(0.01, 3.0))
def test_the_largest_uniform_number_stays_below_the_total(seed: int, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(1, 256)) * 20
    logits[0, 200:] = -1e30
    assert draw(logits, LAST_UNIFORM, Sampling(temperature)) < 200


def test_frequencies_match_the_distribution() -> None:
    shares = np.array([0.5, 0.25, 0.15, 0.06, 0.04])
    draws = 20_000
    logits = np.broadcast_to(np.log(shares), (draws, 5))
    counts = np.bincount(sample(logits, uniform_generator(11).random(draws), Sampling()), minlength=5)
    chi_square = float(((counts - draws * shares) ** 2 / (draws * shares)).sum())
    assert chi_square < 18.47  # 0.1 % point of chi-square with 4 degrees of freedom


def test_a_batch_gives_the_codes_of_its_streams() -> None:
    rng = np.random.default_rng(5)
    logits, uniforms = rng.normal(size=(6, 256)) * 3, rng.random(6)
    for sampling in (Sampling(), Sampling(0.8, top_k=20), Sampling(1.2, top_p=0.8), Sampling(0.9, 50, 0.5)):
        single = [sample(logits[i : i + 1], uniforms[i : i + 1], sampling)[0] for i in range(6)]
        np.testing.assert_array_equal(sample(logits, uniforms, sampling), single)


def test_the_logits_are_left_alone() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 256))
    before = logits.copy()
    sample(logits, np.array([0.2, 0.9]), Sampling(0.5, 10, 0.9))
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0), Sampling(top_k=4), Sampling(top_p=0.5)])
def test_broken_logits_are_an_error(bad: float, sampling: Sampling) -> None:
    logits = np.zeros((1, 256))
    logits[0, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        draw(logits, 0.5, sampling)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"temperature": math.inf}, "temperature = inf"),
        ({"temperature": "warm"}, "temperature = 'warm'"),
        ({"temperature": 10**400}, "temperature: the number is too large"),
        ({"temperature": 10**5000}, "temperature: the number is too large"),  # which str() refuses too
        ({"top_k": 0}, "top_k = 0"),
        ({"top_k": 2.5}, "top_k = 2.5"),
        ({"top_k": True}, "top_k = True"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"top_p": 1.1}, "top_p = 1.1"),
        ({"top_p": math.nan}, "top_p = nan"),
    ],
)
def test_wrong_values_are_named_in_one_line(options: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        Sampling(**options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_other_real_numbers_become_int_and_float() -> None:
    given: Any = (np.float64(0.9), np.int64(40), Fraction(1, 2))
    sampling = Sampling(*given)
    assert sampling == Sampling(0.9, 40, 0.5)
    kinds = [type(value) for value in (sampling.temperature, sampling.top_k, sampling.top_p, sampling.greedy)]
    assert kinds == [float, int, float, bool]


def test_uniforms_are_those_of_pcg64_one_per_sample_in_order() -> None:
    expected = np.random.Generator(np.random.PCG64(42)).random(10)
    one_by_one = uniform_generator(42)
    np.testing.assert_array_equal([one_by_one.random() for _ in range(10)], expected)
    batch = [uniform_generator(42), uniform_generator(43)]
    pieces = np.concatenate([draw_uniforms(batch, 4), draw_uniforms(batch, 6)], axis=1)
    np.testing.assert_array_equal(pieces[0], expected)
    np.testing.assert_array_equal(pieces[1], uniform_generator(43).random(10))


@pytest.mark.parametrize("seed", [-1, 1.5, "seed", True])
def test_wrong_seeds_are_named(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed = {seed!r}"):
        uniform_generator(seed)


# ---- 16-bit outputs -------------------------------------------------------------------------------------------------

# three components that overlap: logits of the weights, means, log scales
MIXTURE = np.array([0.0, 1.0, -0.5, -0.2, 0.1, 0.15, math.log(0.02), math.log(0.05), math.log(0.01)])
GAUSSIAN = np.array([0.1, math.log(0.05)])


def draw_continuous(
    parameters: NDArray[np.float64], uniforms: NDArray[np.float64], sampling: Sampling = PLAIN
) -> NDArray[np.int64]:
    output = "gaussian" if len(parameters) == 2 else "logistic"
    return sample_continuous(output, np.broadcast_to(parameters, (len(uniforms), len(parameters))), uniforms, sampling)


def below(parameters: NDArray[np.float64], x: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """SciPy's share of the distribution below x: weights to the power 1 / temperature, scales times it."""
    if len(parameters) == 2:
        return stats.norm.cdf(x, parameters[0], temperature * np.exp(parameters[1]))
    logits, means, scales = parameters.reshape(3, -1)
    weights = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    return sum(
        w * stats.logistic.cdf(x, m, temperature * np.exp(s)) for w, m, s in zip(weights, means, scales, strict=True)
    )


@pytest.mark.parametrize("parameters", [MIXTURE, GAUSSIAN], ids=["logistic", "gaussian"])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
def test_continuous_draws_follow_the_distribution(parameters: NDArray[np.float64], temperature: float) -> None:
    draws = 20_000
    drawn = np.sort(draw_continuous(parameters, uniform_generator(3).random(draws), Sampling(temperature)))
    assert drawn.dtype == np.int64
    expected = below(parameters, drawn / 32_768, temperature)
    ranks = np.arange(draws + 1) / draws
    distance = max((ranks[1:] - expected).max(), (expected - ranks[:-1]).max())
    assert distance < 1.95 / math.sqrt(draws)  # 0.1 % point of Kolmogorov's distribution
    if temperature != 1:  # and differs from temperature 1
        assert abs(ranks[1:] - below(parameters, drawn / 32_768)).max() > 3 * 1.95 / math.sqrt(draws)


@pytest.mark.parametrize(
    ("uniform", "expected"),
    # quantiles by hand: ln(3) = 1.0986 scales above the mean of a logistic at 3/4; the quartile of a normal is 0.67449
    [(0.5, (0.25, 0.25)), (0.75, (0.25 + 1.0986123 / 64, 0.25 + 0.6744898 / 64)), (0.25, (0.2328342, 0.2394611))],
)
def test_a_uniform_number_is_a_quantile(uniform: float, expected: tuple[float, float]) -> None:
    parameters = [0.25, -math.log(64)]
    for row, wanted in zip(([7.0, *parameters], parameters), expected, strict=True):
        assert draw_continuous(np.array(row), np.array([uniform]))[0] == round(32_768 * wanted)


def test_mixture_components_have_their_shares() -> None:
    shares = np.array([0.5, 0.1, 0.4])
    narrow = np.array([*np.log(shares), -0.5, 0.0, 0.5, *[-12.0] * 3])  # far apart
    drawn = draw_continuous(narrow, np.linspace(0, 1, 10_000, endpoint=False) + 5e-5)
    components = np.rint(drawn / 16_384).astype(int)
    assert np.bincount(components + 1) / 10_000 == pytest.approx(shares, abs=1e-3)
    assert np.all(np.diff(components) >= 0)  # in order, as codes are
    colder = np.rint(draw_continuous(narrow, uniform_generator(0).random(20_000), Sampling(0.5)) / 16_384).astype(int)
    squares = shares**2 / (shares**2).sum()
    assert np.bincount(colder + 1) / 20_000 == pytest.approx(squares, abs=0.02)
    within = draw_continuous(
        narrow, np.array([0.25, 0.55, 0.8])
    )  # the middle of each share is the mean of its component
    assert list(within) == [-16_384, 0, 16_384]


def test_temperature_0_is_the_mean_of_the_most_probable_component() -> None:
    uniforms = np.linspace(0, LAST_UNIFORM, 11)
    for temperature in (0.0, 1e-10):
        assert set(draw_continuous(MIXTURE, uniforms, Sampling(temperature))) == {round(0.1 * 32_768)}
        assert set(draw_continuous(GAUSSIAN, uniforms, Sampling(temperature))) == {round(0.1 * 32_768)}


@pytest.mark.parametrize("top_p", [0.5, 0.9, 0.01])
def test_top_p_keeps_the_middle_share_of_a_continuous_draw(top_p: float) -> None:
    for parameters, distribution in (([0.0, 0.1, -4.0], stats.logistic), ([0.1, -4.0], stats.norm)):
        uniforms = np.array([0.0, 0.25, 0.5, 0.75, LAST_UNIFORM])
        drawn = draw_continuous(np.array(parameters), uniforms, Sampling(top_p=top_p))
        edge = distribution(0.1, math.exp(-4)).ppf([0.5 + top_p * (uniform - 0.5) for uniform in uniforms])
        np.testing.assert_array_equal(drawn, np.rint(32_768 * edge))
    everything = draw_continuous(GAUSSIAN, uniform_generator(1).random(50), Sampling(top_p=1.0))
    np.testing.assert_array_equal(everything, draw_continuous(GAUSSIAN, uniform_generator(1).random(50)))


def test_samples_beyond_full_scale_are_clipped() -> None:
    for parameters in ([0.0, 3.0, -4.0], [3.0, -4.0]):
        assert draw_continuous(np.array(parameters), np.array([0.5]))[0] == 32_767
        assert draw_continuous(-np.array(parameters), np.array([0.5]))[0] == -32_768
    ends = draw_continuous(np.array([0.0, 50.0]), np.array([0.0, LAST_UNIFORM]))  # the scale is clipped, too: e^8
    assert list(ends) == [-32_768, 32_767]
    narrowest = draw_continuous(np.array([0.0, -1e6]), np.array([0.0, LAST_UNIFORM]))
    assert list(narrowest) == [0, 0]  # 8.2 deviations of e^-14 full scale are 0.22 steps


def test_a_batch_of_continuous_draws_gives_the_codes_of_its_streams() -> None:
    rng = np.random.default_rng(5)
    parameters, uniforms = rng.normal(size=(6, 9)), rng.random(6)
    parameters[:, 6:] -= 3
    for sampling in (Sampling(), Sampling(0.8), Sampling(1.2, top_p=0.8)):
        single = [
            sample_continuous("logistic", parameters[i : i + 1], uniforms[i : i + 1], sampling)[0] for i in range(6)
        ]
        np.testing.assert_array_equal(sample_continuous("logistic", parameters, uniforms, sampling), single)


@pytest.mark.parametrize("parameters", [MIXTURE, GAUSSIAN], ids=["logistic", "gaussian"])
def test_wrong_options_and_parameters_of_a_continuous_draw(parameters: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="top_k: a 16-bit output has no list of codes"):
        draw_continuous(parameters, np.array([0.5]), Sampling(top_k=5))
    for bad in (math.nan, math.inf, -math.inf):
        for place in range(len(parameters)):
            broken = parameters.copy()
            broken[place] = bad
            with pytest.raises(ValueError, match="not finite"):
                draw_continuous(broken, np.array([0.5]))
