"""The C++ samplers draw the same codes as `wavenet.engine.sampling`."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from wavenet.engine import _native
from wavenet.engine.sampling import Sampling, sample, sample_continuous

LAST_UNIFORM = np.nextafter(1.0, 0.0)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=3.0),
        Sampling(temperature=0.0),
        Sampling(top_k=1),
        Sampling(top_k=7),
        Sampling(top_k=1_000),
        Sampling(top_p=0.9),
        Sampling(top_p=1e-9),
        Sampling(top_p=0.9999),
        Sampling(temperature=0.8, top_k=40, top_p=0.7),
        Sampling(temperature=1e9, top_k=7),
        Sampling(temperature=1e20, top_p=0.3),
        Sampling(temperature=1e300, top_k=40, top_p=0.7),
    ],
    ids=str,
)
@pytest.mark.parametrize(("outputs", "spread"), [(256, 3.0), (256, 0.3), (30, 1.0), (5, 10.0)])
def test_codes_are_those_of_the_reference(sampling: Sampling, outputs: int, spread: float) -> None:
    generator = np.random.default_rng(outputs)
    logits = (spread * generator.standard_normal((3_000, outputs))).astype(np.float32)
    uniform = generator.random(3_000)
    uniform[:2] = 0.0, LAST_UNIFORM
    result = np.empty(3_000, dtype=np.int64)
    top_p = 1.0 if sampling.top_p is None else sampling.top_p
    _native.draw(logits, uniform, sampling.temperature, min(sampling.top_k or 0, outputs), top_p, result)
    np.testing.assert_array_equal(result, sample(logits, uniform, sampling))


@pytest.mark.parametrize("top_p", [1.0, 0.9999])
def test_uniforms_next_to_one_draw_no_nearly_impossible_code(top_p: float) -> None:
    logits = np.random.default_rng(0).standard_normal((1_700, 256)).astype(np.float32)
    logits[:, 203:] = -40.0  # e^-40 = 4e-18: no uniform of 53 bits is as close to 1
    uniform = 1 - np.resize(2.0 ** -np.arange(20, 54), 1_700)  # from 1 - 1e-6 to the last number below 1
    result = np.empty(1_700, dtype=np.int64)
    _native.draw(logits, uniform, 1.0, 0, top_p, result)
    assert result.max() < 203
    assert (result[uniform == LAST_UNIFORM] > 195).any()


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(0.5), Sampling(3.0), Sampling(0.0), Sampling(top_p=0.8), Sampling(0.7, top_p=1e-3)],
)
@pytest.mark.parametrize(("output", "components"), [("gaussian", 1), ("logistic", 1), ("logistic", 10)])
def test_16_bit_codes_are_those_of_the_reference(output: str, components: int, sampling: Sampling) -> None:
    generator = np.random.default_rng(components)
    uniform = generator.random(3_000)
    uniform[:5] = 0.0, LAST_UNIFORM, 0.075, 0.925, 1e-12
    parameters = generator.standard_normal((3_000, components, 3))  # logits, means, log scales
    parameters[..., 1] *= 0.3
    parameters[..., 2] = generator.choice([-20, -14, -6, -3, -1, 8, 20], (3_000, components))
    flat = (
        parameters.transpose(0, 2, 1)
        .reshape(3_000, -1)[:, components if output == "gaussian" else 0 :]
        .astype(np.float32)
    )
    result = np.empty(3_000, dtype=np.int64)
    top_p = 1.0 if sampling.top_p is None else sampling.top_p
    _native.draw_continuous(output, flat, uniform, sampling.temperature, top_p, result)
    np.testing.assert_array_equal(result, sample_continuous(output, flat, uniform, sampling))


def test_the_normal_quantile_is_exact() -> None:
    """At the largest scale a 16-bit step is 1e-8 standard deviations; the mean moves the sample back into range."""
    uniform = np.concatenate(
        [np.linspace(0.001, 0.999, 3_000), 10.0 ** -np.arange(1, 16), 1 - 10.0 ** -np.arange(1, 16)]
    )
    means = [-math.exp(8) * NormalDist().inv_cdf(probability) for probability in uniform]
    parameters = np.stack([means, np.full(len(uniform), 8.0)], axis=1).astype(np.float32)
    result = np.empty(len(uniform), dtype=np.int64)
    _native.draw_continuous("gaussian", parameters, uniform, 1.0, 1.0, result)
    expected = sample_continuous("gaussian", parameters, uniform, Sampling())
    assert np.abs(expected).max() < 1_000 and len(np.unique(expected)) > 20
    np.testing.assert_array_equal(result, expected)


def test_equally_probable_codes_rank_by_code() -> None:
    flat, grid = np.zeros((101, 8), dtype=np.float32), np.linspace(0, LAST_UNIFORM, 101)
    result = np.empty(101, dtype=np.int64)
    _native.draw(flat, grid, 1.0, 3, 1.0, result)
    assert set(result) == {0, 1, 2}
    _native.draw(flat, grid, 1.0, 0, 0.5, result)
    assert set(result) == {0, 1, 2, 3}
