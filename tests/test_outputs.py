"""Losses: distributions over the codes of 16-bit audio against direct sums and SciPy in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, special, stats

from wavenet import mulaw
from wavenet.config import MAX_LOG_SCALE, MIN_LOG_SCALE
from wavenet.data.clips import Clips
from wavenet.evaluation import likelihood
from wavenet.nn.outputs import FAR, masked_loss, mu_law_remainder, negative_log_likelihood

CODES = np.arange(-32_768, 32_768)
HALF = 0.5 / 32_768  # half a step, in full scale
# from 1/18 of half a step to 3,000 times full scale; the Gaussian changes its arithmetic at a scale of ten steps
LOG_SCALES = [-14.0, math.log(HALF), -9.0, math.log(9.9 / 32_768), math.log(10.1 / 32_768), -7.0, -3.0, 0.0, 3.0, 8.0]
MEANS = [0.0, 0.3 / 32_768, 0.5 / 32_768, -0.7, 1.0, -1.0, 1.2, -3.0]


BOTH = pytest.mark.parametrize("output", ["logistic", "gaussian"])


def probabilities(
    output: str, parameters: Sequence[float], codes: ArrayLike = CODES, dtype: torch.dtype = torch.double
) -> NDArray[np.float64]:
    rows = torch.tensor(parameters, dtype=dtype).expand(len(codes), -1)
    return torch.exp(-negative_log_likelihood(output, rows, torch.from_numpy(np.asarray(codes)))).double().numpy()


def parameters_of(output: str, mean: float, log_scale: float) -> list[float]:
    """Of a single component."""
    return [mean, log_scale] if output == "gaussian" else [0.0, mean, log_scale]


def reference(output: str, mean: float, scale: float, codes: NDArray[np.integer]) -> NDArray[np.float64]:
    """SciPy's probability of the interval of each code: always the difference of the two smaller tails."""
    distribution = stats.norm if output == "gaussian" else stats.logistic
    below, above = ((codes / 32_768 + side * HALF - mean) / scale for side in (-1, 1))
    below, above = np.where(codes == -32_768, -np.inf, below), np.where(codes == 32_767, np.inf, above)
    upper = below > 0
    lower_tails = distribution.cdf(above) - distribution.cdf(below)
    return np.where(upper, distribution.sf(below) - distribution.sf(above), lower_tails)


@BOTH
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_the_probabilities_of_all_codes_sum_to_one(output: str, log_scale: float) -> None:
    for mean in MEANS:
        assert probabilities(output, parameters_of(output, mean, log_scale)).sum() == pytest.approx(1, abs=1e-5)


def test_the_probabilities_of_a_mixture_sum_to_one() -> None:
    mixture = [0.3, -2.0, 1.5, 0.0, 0.9, -2.5, -9.0, -3.0, 1.0]  # logits, means, log scales
    assert probabilities("logistic", mixture).sum() == pytest.approx(1, abs=1e-9)


@BOTH
@pytest.mark.parametrize("log_scale", LOG_SCALES)
@pytest.mark.parametrize("dtype", [torch.double, torch.float32])
def test_each_code_has_the_probability_of_its_interval(output: str, log_scale: float, dtype: torch.dtype) -> None:
    codes = np.unique(np.clip([-32_768, -32_767, *range(-40, 40), -9_000, 9_000, 32_766, 32_767], -32_768, 32_767))
    for mean in (0.0, 0.25 / 32_768, -0.28, 1.0, -1.2):
        mean = float(np.float32(mean))
        expected = reference(output, mean, math.exp(log_scale), codes)
        there = expected > 1e-25
        cost = -np.log(probabilities(output, parameters_of(output, mean, log_scale), codes, dtype)[there])
        # float32: a distance is known to 2^-24, and the cost is steeper the narrower the distribution is
        steep = 2**-23 * math.exp(-log_scale) * (20 if output == "gaussian" else 1)
        allowed = 2e-5 if dtype == torch.double else 1e-4 + steep
        np.testing.assert_allclose(cost, -np.log(expected[there]), atol=allowed, rtol=1e-5)


@pytest.mark.parametrize(
    ("output", "density"),
    [("logistic", lambda u: 0.25 / np.cosh(u / 2) ** 2), ("gaussian", lambda u: np.exp(-u * u / 2) / 2.5066282746)],
)
def test_a_probability_is_the_integral_of_the_density(output: str, density: Callable[[float], float]) -> None:
    mean, scale = 0.1, 0.02
    for code in (2_000, 3_276, 3_277, 3_500):
        edges = [((code + side) / 32_768 - mean) / scale for side in (-0.5, 0.5)]
        by_hand, _ = integrate.quad(density, *edges)
        assert probabilities(output, parameters_of(output, mean, math.log(scale)), [code]) == pytest.approx(
            by_hand, rel=1e-5
        )


@BOTH
@pytest.mark.parametrize("mean", [0.9, 1.0, -0.9, -1.0, 5.0, 0.0])
def test_the_outermost_codes_have_the_probability_of_all_beyond(output: str, mean: float) -> None:
    scale = 0.05
    log_cdf = special.log_expit if output == "logistic" else special.log_ndtr  # ln of the distribution function
    lowest, highest = np.array([-32_767.5, 32_766.5]) / 32_768  # inner edges of the two intervals
    expected = [log_cdf((lowest - mean) / scale), log_cdf((mean - highest) / scale)]
    parameters = torch.tensor([parameters_of(output, mean, math.log(scale))] * 2, dtype=torch.double)
    loss = negative_log_likelihood(output, parameters, torch.tensor([-32_768, 32_767]))
    np.testing.assert_allclose(-loss.numpy(), expected, rtol=1e-9)


def test_a_mixture_is_the_sum_of_its_components() -> None:
    codes, scales = np.array([-32_768, -900, 0, 8_000, 32_767]), np.array([0.1, 0.001, 0.4])
    logits, means = np.array([0.5, -1.0, 0.2]), np.array([-0.02, 0.24, 0.9])
    weights = np.exp(logits) / np.exp(logits).sum()
    expected = sum(w * reference("logistic", m, s, codes) for w, m, s in zip(weights, means, scales, strict=True))
    given = probabilities("logistic", [*logits, *means, *np.log(scales)], codes)
    np.testing.assert_allclose(given, expected, rtol=1e-9)


@BOTH
@pytest.mark.parametrize("log_scale", [-14.0, -9.0, math.log(9.9 / 32_768), math.log(10.1 / 32_768), -4.0, 0.0, 8.0])
def test_codes_further_from_the_mean_cost_more(output: str, log_scale: float) -> None:
    """Up to the last code before the outermost; where float32 can distinguish two codes at all."""
    for dtype, slack in ((torch.double, 0.0), (torch.float32, 2e-6)):
        rows = torch.tensor(parameters_of(output, 0.0, log_scale), dtype=dtype).expand(32_767, -1)
        cost = negative_log_likelihood(output, rows, torch.arange(0, 32_767))
        assert (cost.diff() >= -slack * cost[1:].clamp_min(1.0)).all()
        assert dtype == torch.float32 or cost[-1] > cost[0]


@BOTH
def test_losses_and_gradients_stay_finite_for_extreme_parameters(output: str) -> None:
    means = [0.0, 1.0, -1.0, 0.1, 30.0, -1e4, 1e8]
    scales = [-1e4, -100.0, MIN_LOG_SCALE, -10.397, -8.09, -4.0, 0.0, MAX_LOG_SCALE, 50.0, 1e4]
    codes = [-32_768, -32_767, -1, 0, 1, 3_277, 32_766, 32_767]
    grid = np.array([(m, s, c) for m in means for s in scales for c in codes])
    parameters = torch.tensor(
        [parameters_of(output, m, s) for m, s, _ in grid], dtype=torch.float32, requires_grad=True
    )
    cost = negative_log_likelihood(output, parameters, torch.from_numpy(grid[:, 2]).long())
    assert torch.isfinite(cost).all()
    assert (cost >= -1e-6).all()  # no probability above 1
    cost.sum().backward()
    assert parameters.grad is not None and torch.isfinite(parameters.grad).all()
    if output == "logistic":  # two components that differ, one of them with hardly any weight
        pairs = torch.tensor([(80.0, -80.0, m, -m, s, -s) for m, s, _ in grid], requires_grad=True)
        cost = negative_log_likelihood(output, pairs, torch.from_numpy(grid[:, 2]).long())
        cost.sum().backward()
        assert torch.isfinite(cost).all() and torch.isfinite(pairs.grad).all()


def test_gradients_far_from_the_mean_are_the_distance_in_deviations() -> None:
    # far out a Gaussian costs u^2 / 2 at a distance of u deviations, so its derivative to the mean is -u / scale;
    # from the interval's near side, which at scales of one step and below makes a difference
    for scale in (4.0, 1.0, 0.25):  # in steps
        parameters = torch.tensor([[0.0, math.log(scale / 32_768)]] * 6, requires_grad=True)
        codes = torch.tensor([300, -3_000, 10_000, -10_001, 30_000, 32_767])
        negative_log_likelihood("gaussian", parameters, codes).sum().backward()
        near = (codes.abs() - 0.5) / scale  # in deviations
        expected = -codes.sign() * near * 32_768 / scale
        torch.testing.assert_close(parameters.grad[:, 0], expected.float(), rtol=1e-3, atol=0)


@BOTH
def test_gradients_are_those_of_finite_differences(output: str) -> None:
    rng = np.random.default_rng(0)
    log_scales = rng.uniform(-11, 1, 200)
    codes = np.clip(np.rint(32_768 * rng.normal(scale=np.exp(log_scales))), -32_768, 32_767).astype(np.int64)
    rows = [
        parameters_of(output, mean, s) for mean, s in zip(rng.normal(scale=1e-5, size=200), log_scales, strict=True)
    ]
    parameters = torch.tensor(rows, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda values: negative_log_likelihood(output, values, torch.from_numpy(codes)), parameters, eps=1e-9, atol=1e-3
    )


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
def test_the_gradient_points_to_the_code_from_any_distance(output: str, dtype: torch.dtype) -> None:
    means = [sign * size for sign in (-1, 1) for size in (1.1, 3.0, 1e2, 1e4, 1e8, 1e15, 1e20)]
    grid = [(m, s, c) for m in means for s in (-13.9, -10, -8, -4, 0, 7.9) for c in (-9, 0, 32_766)]
    parameters = torch.tensor([parameters_of(output, m, s) for m, s, _ in grid], dtype=dtype, requires_grad=True)
    negative_log_likelihood(output, parameters, torch.tensor([c for *_, c in grid])).sum().backward()
    assert parameters.grad is not None and torch.isfinite(parameters.grad).all()
    mean, log_scale = parameters.grad[:, -2], parameters.grad[:, -1]
    away = torch.tensor([m for m, *_ in grid]).sign()  # every mean is beyond every code
    assert (mean * away > 0).all()  # descent leads back
    beyond = torch.tensor([abs(m) > 9 * math.exp(s) for m, s, _ in grid])
    assert (log_scale[beyond] < 0).all()  # and to a wider distribution


def test_the_loss_of_a_gaussian_is_continuous_where_it_becomes_linear() -> None:
    log_scale = -14.0
    means = torch.tensor([1 - 1e-7, 1 + 1e-7, 2.0], dtype=torch.double) * FAR * math.exp(log_scale)
    parameters = torch.stack([means, torch.full_like(means, log_scale)], dim=1).requires_grad_(True)
    loss = negative_log_likelihood("gaussian", parameters, torch.zeros(3, dtype=torch.long))
    (gradient,) = torch.autograd.grad(loss.sum(), parameters)
    assert loss[0].item() == pytest.approx(loss[1].item(), rel=1e-6)
    assert loss[2].item() == pytest.approx(1.5 * FAR**2, rel=1e-3)  # FAR (x - FAR / 2) at x = 2 FAR
    expected = FAR * math.exp(-log_scale)
    assert gradient[:, 0].tolist() == pytest.approx([expected] * 3, rel=1e-3)


@pytest.mark.parametrize("output", ["mulaw", "logistic", "gaussian"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(output: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    parameters = torch.randn(50, {"mulaw": 256, "logistic": 6, "gaussian": 2}[output]).to(dtype)
    codes = torch.randint(0, 256, (50,))
    loss = negative_log_likelihood(output, parameters, codes)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, negative_log_likelihood(output, parameters.float(), codes))


def test_mu_law_costs_the_logarithm_of_its_softmax() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.125, 0.125]]))
    loss = negative_log_likelihood("mulaw", logits.expand(3, -1), torch.tensor([0, 1, 3]))
    assert loss / math.log(2) == pytest.approx([1, 2, 3])


# ---- mu-law beside 16 bits ------------------------------------------------------------------------------------------


def sharing(code: int) -> int:
    """How many of the 65,536 levels have this mu-law code, from the formula's own thresholds."""
    low, high = ((code + side) / 255 * 2 - 1 for side in (-0.5, 0.5))
    low, high = (math.copysign((256 ** abs(c) - 1) / 255, c) * 32_768 for c in (low, high))
    return sum(low <= level < high for level in range(max(-32_768, int(low) - 2), min(32_767, int(high) + 2) + 1))


def test_the_remainder_of_mu_law_by_hand() -> None:
    # code 128: c = 0 .. 2/255, so x < (256^(2/255) - 1) / 255 = 0.0001743, times 32,768: 5.7 levels
    assert sharing(128) == 6  # 0 to 5; and the code below it has -5 to -1
    assert mu_law_remainder([0, 5]) == pytest.approx(math.log2(6))
    assert mu_law_remainder([-5, -1]) == pytest.approx(math.log2(5))
    assert mu_law_remainder([[5], [-5]]) == pytest.approx((math.log2(6) + math.log2(5)) / 2)
    levels = np.array([0, 100, -5_000, 30_000, -32_768, 32_767], np.int16)
    by_hand = [math.log2(sharing(int(code))) for code in mulaw.encode(levels / np.float64(32_768))]
    assert mu_law_remainder(levels) == pytest.approx(np.mean(by_hand))


def test_a_uniform_distribution_costs_sixteen_bits_either_way() -> None:
    every = CODES.astype(np.int16)
    clips = Clips(every, np.array([0]), np.array([len(every)]), 16_000)
    plain = likelihood.reference_levels(clips)
    sixteen_bits = likelihood.reference_levels(clips, output="gaussian")
    assert sixteen_bits.histogram == pytest.approx(16)  # an ideal coder of mu-law codes, and the level within each
    assert sixteen_bits.histogram - plain.histogram == pytest.approx(mu_law_remainder(every))
    assert sixteen_bits.pairs - plain.pairs == pytest.approx(mu_law_remainder(every))
    # the same from the other side: a Gaussian far wider than full scale is flat, but for the two edges
    inner = torch.arange(-32_767, 32_767)
    flat = negative_log_likelihood(
        "gaussian", torch.tensor([[0.0, 3.0]], dtype=torch.double).expand(len(inner), -1), inner
    ) / math.log(2)
    share = special.ndtr(1 / math.exp(3)) - special.ndtr(-1 / math.exp(3))  # between the edges
    assert flat.mean().item() == pytest.approx(16 - math.log2(share), abs=1e-3)


def test_padding_is_masked_out_of_the_loss() -> None:
    logits = torch.randn(2, 5, 256)
    targets = torch.randint(0, 256, (2, 5))
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    by_hand = [-torch.log_softmax(logits[b, t], 0)[targets[b, t]] for b, t in [(0, 0), (0, 1), (0, 2), (1, 0)]]
    assert masked_loss(logits, targets, mask).item() == pytest.approx(sum(by_hand).item() / 4, rel=1e-5)
