"""Draw codes from output parameters and uniform random numbers: temperature, top-k, top-p, inverse transform sampling.

NumPy only. `sample` draws mu-law codes from logits, `sample_continuous` draws 16-bit codes from the distributions of
`wavenet.nn.outputs`.

The uniform numbers are an argument, so every engine draws the same codes, provided that the output parameters are the
same. All arithmetic here is float64, but engines, and instruction sets of the native engine, sum in different orders,
so that their float32 outputs differ in the last bits. That moves the boundaries between mu-law codes by 1e-8 to 1e-7:
one draw in about 100,000 can differ if the distribution is broad (6 bits), and the audio differs from there on. 16-bit
codes are 256 times as fine: with them the audio differs after some thousand samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.checks import is_integer, shown
from wavenet.config import MAX_LOG_SCALE, MIN_LOG_SCALE
from wavenet.data.pcm import FULL_SCALE
from wavenet.sampling_config import NO_TOP_K, checked_temperature, checked_top_k, checked_top_p

GREEDY_BELOW = 1e-9  # a lower temperature is argmax: only logits within 1e-7 of the largest could be drawn
MASS_ROUNDING = 1e-9  # top-p is reached at this relative distance, so that rounding adds no further code
LEAST_TAIL = 2.0**-53  # uniform numbers are kept this far from 0 and 1, where quantiles are infinite
MAX_STREAMS = 65_536  # in a batch; more is a typing error


@dataclass(frozen=True)
class Sampling:
    """Options of the draw, applied in this order: temperature, top-k, top-p; then renormalisation.

    temperature: divides the logits; 1 is the model's own distribution, 0 selects the most probable code.
    top_k: draw from the k most probable codes only; None: from all.
    top_p: draw from the smallest set of most probable codes whose probability after top-k reaches p (Holtzman et al.
        2020, section 3.1, "nucleus sampling"); None: from all.
    Equally probable codes are ranked by code, the lower one first. Values are converted to int and float.
    Raises `ValueError` naming the option that is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", checked_temperature(self.temperature))
        object.__setattr__(self, "top_k", checked_top_k(self.top_k))
        object.__setattr__(self, "top_p", checked_top_p(self.top_p))

    @property
    def greedy(self) -> bool:
        """Whether the most probable code is selected, independent of the uniform number."""
        return self.temperature < GREEDY_BELOW

    @property
    def truncates(self) -> bool:
        """Whether top-k or top-p excludes codes."""
        return self.top_k is not None or (self.top_p is not None and self.top_p < 1)


def uniform_generator(seed: int, of_frames: bool = False) -> np.random.Generator:
    """The uniform random numbers of one stream: `.random()` gives one in [0, 1) per sample, in order.

    of_frames: those that its frames are drawn with, which are independent of those of its samples.
    Raises `ValueError` for a seed that is not a whole number from 0.
    """
    if not is_integer(seed) or seed < 0:
        raise ValueError(f"seed = {shown(seed)}: must be a whole number from 0")
    entropy = np.random.SeedSequence(int(seed), spawn_key=(1,)) if of_frames else int(seed)
    return np.random.Generator(np.random.PCG64(entropy))


def stream_seeds(seed: int | Sequence[int], streams: int) -> list[int]:
    """The seed of each stream: seed + i of stream i, or the given ones.

    Raises `ValueError` for a seed that is not a whole number from 0, and for another number of seeds than of streams.
    """
    given = [seed] if isinstance(seed, str) or not isinstance(seed, Sequence) else [*seed]
    for one in given:
        uniform_generator(one)  # raises for an invalid seed
    if isinstance(seed, Sequence) and len(given) != streams:
        raise ValueError(f"seed: {len(given):,} seeds for {streams:,} streams; give one for each, or one number")
    return [int(one) for one in given] if isinstance(seed, Sequence) else [int(given[0]) + i for i in range(streams)]


def draw_uniforms(generators: Iterable[np.random.Generator], samples: int) -> NDArray[np.float64]:
    """The next uniform numbers [B, samples] of B streams, each from its own generator."""
    return np.stack([generator.random(samples) for generator in generators])


class Uniforms:
    """The uniform random numbers of B streams, by index.

    Those of stream i come from `uniform_generator(seed + i)`, or that of its own seed if there is one for each stream;
    with several rows for each stream, those of row j from the generator of the stream's seed + j.
    A call that continues the last one uses its generators; any other call creates generators and advances them to its
    index. So numbers do not depend on earlier calls, interrupted ones included.
    """

    def __init__(self, seed: int | Sequence[int], streams: int, rows: int = 1) -> None:
        self.seed = seed
        self._seeds = [one + row for one in stream_seeds(seed, streams) for row in range(rows)]
        self._ready: tuple[int, list[np.random.Generator]] | None = None  # index of the next numbers, and generators

    def read(self, index: int, samples: int) -> NDArray[np.float64]:
        """Numbers `index` to `index + samples - 1` of every stream or row, [B, samples]."""
        ready = self._ready
        self._ready = None  # until all generators have advanced
        generators = ready[1] if ready is not None and ready[0] == index else self._generators(index)
        uniforms = draw_uniforms(generators, samples)
        self._ready = index + samples, generators
        return uniforms

    def _generators(self, index: int) -> list[np.random.Generator]:
        generators = [uniform_generator(seed) for seed in self._seeds]
        for generator in generators:
            cast(np.random.PCG64, generator.bit_generator).advance(index)
        return generators


def sample(logits: ArrayLike, uniforms: ArrayLike, sampling: Sampling) -> NDArray[np.int64]:
    """Codes [B] (int64) for logits [B, A] and one uniform number in [0, 1) per stream, [B].

    The code drawn is the first, in code order, whose cumulative probability is above the uniform number; it never has
    probability zero. Raises `ValueError` for logits that are NaN or +infinity.
    """
    weights = np.array(logits, dtype=np.float64)  # [B, A]; a copy, changed in place
    best = np.maximum.reduce(weights, axis=1, keepdims=True)  # [B, 1]
    _check_finite(best)
    if sampling.greedy:
        return weights.argmax(axis=1)
    weights -= best
    if sampling.temperature != 1:
        weights /= sampling.temperature
    np.exp(weights, out=weights)  # softmax without its denominator; the most probable code has weight 1
    if sampling.truncates:
        _truncate(weights, np.asarray(logits), sampling)
    cumulative = np.add.accumulate(weights, axis=1)  # [B, A]
    total = cumulative[:, -1]  # [B]
    # uniform < 1 implies uniform * total < total, in floating point, too: there always is such a code
    return (cumulative > (np.asarray(uniforms) * total)[:, np.newaxis]).argmax(axis=1)


def sample_continuous(output: str, parameters: ArrayLike, uniforms: ArrayLike, sampling: Sampling) -> NDArray[np.int64]:
    """16-bit codes [B] (int64) for output parameters [B, A] of a "logistic" or "gaussian" output and uniforms [B].

    The uniform number first selects the mixture component, as `sample` selects a code; its position within that
    component's share is uniform again, and the sample is the component's quantile there. The temperature divides the
    logits of the mixture weights and multiplies the scales. top_p restricts each component to its central interval of
    that probability. Raises `ValueError` for a top_k, and for parameters that are not finite.
    """
    values = np.array(parameters, dtype=np.float64)
    _check_finite(values)
    check_continuous(sampling)
    drawn = [
        _quantile(output, row, uniform, sampling) for row, uniform in zip(values, np.asarray(uniforms), strict=True)
    ]
    return np.clip(np.rint(np.array(drawn) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int64)


def check_continuous(sampling: Sampling) -> None:
    """Raises `ValueError` for options that 16-bit outputs do not support."""
    if sampling.top_k is not None:
        raise ValueError(NO_TOP_K)


def _quantile(output: str, parameters: NDArray[np.float64], uniform: float, sampling: Sampling) -> float:
    """The sample, relative to full scale, for the output parameters [A] of one stream."""
    if output == "gaussian":
        mean, log_scale = parameters.tolist()
    else:
        logits, means, log_scales = parameters.reshape(3, -1)
        component, uniform = _select(logits, uniform, sampling)
        mean, log_scale = means[component], log_scales[component]
    if sampling.greedy:
        return float(mean)
    if sampling.top_p is not None:
        uniform = 0.5 + (uniform - 0.5) * sampling.top_p
    uniform = min(max(uniform, LEAST_TAIL), 1 - LEAST_TAIL)
    quantile = NormalDist().inv_cdf(uniform) if output == "gaussian" else math.log(uniform / (1 - uniform))
    scale = math.exp(min(max(log_scale, MIN_LOG_SCALE), MAX_LOG_SCALE))
    return float(mean + sampling.temperature * scale * quantile)


def _select(logits: NDArray[np.float64], uniform: float, sampling: Sampling) -> tuple[int, float]:
    """The mixture component that a uniform number selects, and the position within its share, from 0 to 1."""
    if sampling.greedy:
        return int(logits.argmax()), 0.5
    cumulative = np.add.accumulate(np.exp((logits - logits.max()) / sampling.temperature))
    wanted = uniform * cumulative[-1]
    component = int((cumulative > wanted).argmax())
    before = cumulative[component - 1] if component else 0.0
    return component, float((wanted - before) / (cumulative[component] - before))


def _truncate(weights: NDArray[np.float64], logits: NDArray[Any], sampling: Sampling) -> None:
    """Set the weights [B, A] of the codes that top-k and top-p exclude to zero, in place.

    Codes are ranked by their logits [B, A]: at very high or low temperatures different weights are rounded to the same
    value.
    """
    order = np.argsort(-logits, axis=1, kind="stable")  # [B, A]: most probable first, lower code first among equals
    ranked = np.take_along_axis(weights, order, axis=1)
    if sampling.top_k is not None:
        ranked[:, sampling.top_k :] = 0
    if sampling.top_p is not None and sampling.top_p < 1:
        reached = np.add.accumulate(ranked, axis=1)
        wanted = reached[:, -1:] * (sampling.top_p * (1 - MASS_ROUNDING))
        ranked[:, 1:][reached[:, :-1] >= wanted] = 0  # if the codes before it suffice
    np.put_along_axis(weights, order, ranked, axis=1)


def _check_finite(values: NDArray[np.float64]) -> None:
    # four times faster than np.isfinite(...).all() for one stream, where every microsecond is half a percent
    if not all(map(math.isfinite, values.ravel().tolist())):
        raise ValueError(
            "the model's output parameters are not finite: its weights are damaged, or its training diverged"
        )
