"""From output parameters and a uniform to a code: temperature, top-k, top-p, inverse of the cumulative distribution.

NumPy only. `sample` draws from logits, `sample_continuous` from the distributions of 16-bit sound.

The uniform is an argument, so every engine draws alike. All arithmetic here is float64; what is left are the logits
themselves. Engines, and batch sizes, add in different orders, so that their float32 logits differ in the last bits.
That moves the edges between codes by some 1e-8 to 1e-7 each: one draw in about 100,000 can differ where the
distribution is broad (6 bits), and the sound goes its own way from there.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import methodcaller
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.config import MAX_LOG_SCALE, MIN_LOG_SCALE
from wavenet.data.pcm import FULL_SCALE

GREEDY_BELOW = 1e-9  # colder is argmax: a logit would have to be within 1e-7 of the best one to be drawn at all
MASS_ROUNDING = 1e-9  # top-p: a set this close to the wanted mass has reached it; rounding adds no further code


LEAST_TAIL = 2.0**-53  # a uniform is no nearer to 0 or 1: the quantiles there are finite

MAX_STREAMS = 65_536  # side by side; more is a typing error


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn. Applied in this order: temperature, top-k, top-p; then renormalised.

    temperature: divides the logits; 1 is the model's own distribution, 0 takes the most probable code.
    top_k: draw among the k most probable codes only; None: among all.
    top_p: draw among the fewest most probable codes whose share reaches p (Holtzman et al. 2020, section 3.1), the
        shares taken after top-k; None: among all.
    Equally probable codes rank by code, lower first. Numbers of other kinds (NumPy's, fractions) become plain ones.
    Raises `ValueError` naming the value that cannot be.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        temperature = _plain("temperature", self.temperature)
        if temperature is None or not 0 <= temperature < math.inf:
            raise ValueError(f"temperature = {self.temperature!r}: must be a number from 0 (argmax) upwards")
        object.__setattr__(self, "temperature", temperature)
        if self.top_k is not None:
            if not _is_integer(self.top_k) or self.top_k < 1:
                raise ValueError(f"top_k = {self.top_k!r}: must be a whole number from 1, or None for all codes")
            object.__setattr__(self, "top_k", int(self.top_k))
        if self.top_p is not None:
            top_p = _plain("top_p", self.top_p)
            if top_p is None or not 0 < top_p <= 1:
                raise ValueError(f"top_p = {self.top_p!r}: must lie above 0 and at most at 1, or be None for all codes")
            object.__setattr__(self, "top_p", top_p)

    @property
    def greedy(self) -> bool:
        """Whether the most probable code is taken whatever the uniform says."""
        return self.temperature < GREEDY_BELOW

    @property
    def truncates(self) -> bool:
        """Whether top-k or top-p takes codes out of the draw."""
        return self.top_k is not None or (self.top_p is not None and self.top_p < 1)


def uniform_generator(seed: int) -> np.random.Generator:
    """The uniforms of one stream: `.random()` gives one uniform number in [0, 1) per sample, in order.

    Raises `ValueError` for a seed that is not a whole number from 0.
    """
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed = {seed!r}: must be a whole number from 0")
    return np.random.Generator(np.random.PCG64(int(seed)))


def checked_voiced_temperature(value: float) -> float:
    """A temperature for frames that have a pitch, as a plain number. Raises `ValueError` for one that cannot be."""
    try:
        return Sampling(value).temperature
    except ValueError as error:
        raise ValueError(f"voiced_{error}") from None


def draw_uniforms(
    streams: Sequence[np.random.Generator], samples: int, drawn: list[NDArray[np.float64]] | None = None
) -> NDArray[np.float64]:
    """The next uniforms [B, samples] of B streams, each from its own generator.

    drawn: an empty list; one row goes into it for each generator that has advanced, whatever ends this call.
    """
    rows = [] if drawn is None else drawn
    rows.extend(map(methodcaller("random", samples), streams))  # one step of the interpreter: no Ctrl-C within
    return np.stack(rows)


def rewind_uniforms(streams: Iterable[np.random.Generator], samples: int) -> None:
    """Take back the last uniforms of every stream: they will be drawn again."""
    for stream in streams:
        cast(np.random.PCG64, stream.bit_generator).advance(-samples)


def sample(logits: ArrayLike, uniforms: ArrayLike, sampling: Sampling) -> NDArray[np.int64]:
    """Codes [B] (int64) for logits [B, A] and one uniform in [0, 1) per stream, [B].

    The code drawn is the first, in code order, whose cumulative probability lies above the uniform; so it never has
    probability zero. Raises `ValueError` if the logits hold NaN or +infinity, as those of a broken model do.
    """
    weights = np.array(logits, dtype=np.float64)  # [B, A]; a copy, worked on in place
    best = np.maximum.reduce(weights, axis=1, keepdims=True)  # [B, 1]
    _check_finite(best)
    if sampling.greedy:
        return weights.argmax(axis=1)
    weights -= best
    if sampling.temperature != 1:
        weights /= sampling.temperature
    np.exp(weights, out=weights)  # softmax but for the total; the best code has weight 1
    if sampling.truncates:
        _truncate(weights, np.asarray(logits), sampling)
    cumulative = np.add.accumulate(weights, axis=1)  # [B, A]
    total = cumulative[:, -1]  # [B]
    # uniform < 1 makes uniform * total < total in floating point too, so there always is a code above the uniform
    return (cumulative > (np.asarray(uniforms) * total)[:, np.newaxis]).argmax(axis=1)


def sample_continuous(output: str, numbers: ArrayLike, uniforms: ArrayLike, sampling: Sampling) -> NDArray[np.int64]:
    """16-bit codes [B] (int64) for the numbers [B, A] of a "logistic" or "gaussian" output and uniforms [B].

    The uniform first picks the part of the mixture, as `sample` picks a code; where it lies within that part's share is
    then uniform again, and the quantile there is the sample. The temperature divides the weights' logits and multiplies
    the scales. top_p keeps the middle of each part, which holds that share of it; a top_k there cannot be.
    """
    values = np.array(numbers, dtype=np.float64)
    _check_finite(values)
    check_continuous(sampling)
    drawn = [
        _quantile(output, row, uniform, sampling) for row, uniform in zip(values, np.asarray(uniforms), strict=True)
    ]
    return np.clip(np.rint(np.array(drawn) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int64)


def check_continuous(sampling: Sampling) -> None:
    """Raises `ValueError` for options that 16-bit outputs have not."""
    if sampling.top_k is not None:
        raise ValueError("top_k: a 16-bit output has no list of codes to choose from; use temperature or top_p")


def _quantile(output: str, numbers: NDArray[np.float64], uniform: float, sampling: Sampling) -> float:
    """The sample, in full scale, of one stream's numbers [A]."""
    if output == "gaussian":
        mean, log_scale = numbers.tolist()
    else:
        logits, means, log_scales = numbers.reshape(3, -1)
        part, uniform = _pick(logits, uniform, sampling)
        mean, log_scale = means[part], log_scales[part]
    if sampling.greedy:
        return float(mean)
    if sampling.top_p is not None:
        uniform = 0.5 + (uniform - 0.5) * sampling.top_p
    uniform = min(max(uniform, LEAST_TAIL), 1 - LEAST_TAIL)
    quantile = NormalDist().inv_cdf(uniform) if output == "gaussian" else math.log(uniform / (1 - uniform))
    scale = math.exp(min(max(log_scale, MIN_LOG_SCALE), MAX_LOG_SCALE))
    return float(mean + sampling.temperature * scale * quantile)


def _pick(logits: NDArray[np.float64], uniform: float, sampling: Sampling) -> tuple[int, float]:
    """The part of a mixture that a uniform picks, and where in its share, from 0 to 1, the uniform lies."""
    if sampling.greedy:
        return int(logits.argmax()), 0.5
    cumulative = np.add.accumulate(np.exp((logits - logits.max()) / sampling.temperature))
    wanted = uniform * cumulative[-1]
    part = int((cumulative > wanted).argmax())
    before = cumulative[part - 1] if part else 0.0
    return part, float((wanted - before) / (cumulative[part] - before))


def _truncate(weights: NDArray[np.float64], logits: NDArray[Any], sampling: Sampling) -> None:
    """Set the weights [B, A] of the codes that top-k and top-p exclude to zero, in place.

    Ranks by logits [B, A]: where the temperature is very high or low, weights that differ are rounded to the same
    number.
    """
    order = np.argsort(-logits, axis=1, kind="stable")  # [B, A]: most probable first, lower code first among equals
    ranked = np.take_along_axis(weights, order, axis=1)
    if sampling.top_k is not None:
        ranked[:, sampling.top_k :] = 0
    if sampling.top_p is not None and sampling.top_p < 1:
        reached = np.add.accumulate(ranked, axis=1)
        wanted = reached[:, -1:] * (sampling.top_p * (1 - MASS_ROUNDING))
        ranked[:, 1:][reached[:, :-1] >= wanted] = 0  # a code goes if those before it are enough
    np.put_along_axis(weights, order, ranked, axis=1)


def _check_finite(values: NDArray[np.float64]) -> None:
    # four times faster than np.isfinite(...).all() for one stream, where every microsecond is half a percent
    if not all(map(math.isfinite, values.ravel().tolist())):
        raise ValueError("the model's logits are not finite; its weights or its training are broken")


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _plain(name: str, value: Any) -> float | None:
    """A real number as a float, None for what is no number. Raises `ValueError` for one that is too large."""
    try:
        return float(value) if _is_real(value) else None
    except OverflowError:
        raise ValueError(f"{name}: the number is too large") from None


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
