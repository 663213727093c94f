"""Output distributions: the likelihood of the next code, given the network's A output parameters per sample.

"mulaw"     logits of 256 classes (van den Oord et al. 2016, section 2.2)
"logistic"  M logits, M means and M log scales of a mixture of logistic distributions (Salimans et al. 2017,
            "PixelCNN++", section 2.1)
"gaussian"  a mean and a log scale (Ping et al. 2019, "ClariNet", section 3.1)

The last two are distributions over the 65,536 codes of 16-bit audio: the probability of a code is that of its interval,
half a step to each side of it; the intervals of the lowest and the highest code extend to infinity. So their losses are
of the same events and can be compared. For a comparison with mu-law: a mu-law code q represents n(q) 16-bit codes, and
distinguishing those takes log2 n(q) more bits. `mu_law_remainder` is the mean of that over recordings, to be added to
the bits per sample of a mu-law model.

Means and scales are relative to full scale. Codes are drawn in `wavenet.engine.sampling`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from wavenet import mulaw
from wavenet.config import MAX_LOG_SCALE, MIN_LOG_SCALE
from wavenet.data.pcm import FULL_SCALE

HALF_STEP = 0.5 / FULL_SCALE  # half of the interval of a 16-bit code
NARROW = 0.1  # standard deviations: for narrower intervals, density times width is more exact than a difference
FAR = 1e6  # standard deviations from which on the loss of a Gaussian grows linearly: finite in float32


def negative_log_likelihood(output: str, parameters: Tensor, codes: Tensor) -> Tensor:
    """-ln p [N], in nats, of int64 codes [N] given output parameters [N, A]. Half precision is computed in float32."""
    if parameters.dtype in (torch.float16, torch.bfloat16):
        parameters = parameters.float()
    if output == "mulaw":
        return F.cross_entropy(parameters, codes, reduction="none")
    target = codes.to(parameters.dtype) / FULL_SCALE  # exact in float32
    lowest, highest = codes <= -FULL_SCALE, codes >= FULL_SCALE - 1
    if output == "gaussian":
        mean, log_scale = parameters.unbind(1)
        return -_log_gaussian(target - mean, log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE), lowest, highest)
    logits, means, log_scales = parameters.chunk(3, dim=1)  # [N, M]
    log_scales = log_scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)
    components = _log_logistic(target[:, None] - means, log_scales, lowest[:, None], highest[:, None])  # [N, M]
    return -torch.logsumexp(F.log_softmax(logits, dim=1) + components, dim=1)


def masked_loss(parameters: Tensor, targets: Tensor, mask: Tensor, output: str = "mulaw") -> Tensor:
    """Mean nats per sample of codes [B, T] given output parameters [B, T, A], where the mask [B, T] is true."""
    losses = negative_log_likelihood(output, parameters.flatten(0, 1), targets.flatten())  # [B*T]
    return (losses * mask.flatten()).sum() / mask.sum().clamp_min(1)


def _log_logistic(distance: Tensor, log_scale: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """ln of the probability of an interval around `distance` from the mean, as a sum of three terms that cannot cancel.

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^-(a - b)); beyond the edges one of the first two is 1.
    """
    sharpness = torch.exp(-log_scale)
    above, below = (distance + HALF_STEP) * sharpness, (distance - HALF_STEP) * sharpness
    to_highest, from_lowest = F.logsigmoid(-below), F.logsigmoid(above)
    inside = from_lowest + to_highest + torch.log(-torch.expm1(-2 * HALF_STEP * sharpness))
    return torch.where(lowest, from_lowest, torch.where(highest, to_highest, inside))


def _log_gaussian(distance: Tensor, log_scale: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """ln of the probability of the interval from half a step below to half a step above `distance` from the mean."""
    sharpness = torch.exp(-log_scale)
    middle, width = distance.abs() * sharpness, 2 * HALF_STEP * sharpness  # the distribution is symmetric
    # Narrow: density in the middle times width; over the interval it falls like e^(-middle u), whose mean is sinh, and
    # like e^(-u u / 2), whose mean is 1 - width^2 / 24.
    slope = (middle * width / 2).clamp(1e-4, 40)
    narrow = -_half_square(middle) - 0.5 * math.log(2 * math.pi) + width.clamp_max(NARROW).log()
    narrow = narrow + torch.log(torch.sinh(slope) / slope) - width.clamp_max(NARROW).square() / 24
    # Wide: ln(Q(near) - Q(far)) with Q(x) the probability above x, the larger one factored out.
    log_near, log_far = _log_normal_cdf(width / 2 - middle), _log_normal_cdf(-width / 2 - middle)
    wide = log_near + torch.log(-torch.expm1((log_far - log_near).clamp_max(-1e-6)))
    inside = torch.where(width < NARROW, narrow, wide)
    above, below = (distance + HALF_STEP) * sharpness, (distance - HALF_STEP) * sharpness
    edge = _log_normal_cdf(torch.where(lowest, above, -below))
    return torch.where(lowest | highest, edge, inside)


def _log_normal_cdf(x: Tensor) -> Tensor:
    """ln of the standard normal distribution function, linear below -FAR.

    PyTorch's own `log_ndtr` is as good, but its gradient is the exponential of a difference of squares: in float32 some
    per cent off at x = -1,000, and infinite from -46,000 on.
    """
    tail = x.clamp_max(-1.0)  # erfcx(-x / sqrt 2) e^(-x x / 2) / 2
    scaled = torch.special.erfcx(tail.clamp_min(-FAR) * -math.sqrt(0.5))
    return torch.where(
        x < -1, scaled.log() - math.log(2) - _half_square(tail), torch.special.log_ndtr(x.clamp_min(-1.0))
    )


def _half_square(x: Tensor) -> Tensor:
    """x^2 / 2, continued linearly beyond +-FAR: the gradient is never zero but at 0, and stays finite."""
    limited = x.clamp(-FAR, FAR)
    return limited * (x - 0.5 * limited)


def mu_law_remainders() -> NDArray[np.float64]:
    """Bits that distinguish the 16-bit codes with the same mu-law code, float64 [256]: log2 of their number."""
    return np.log2(np.bincount(_all_mu_law_codes(), minlength=mulaw.CODES))


def mu_law_remainder(codes: ArrayLike) -> float:
    """Mean bits per sample that 16-bit codes (integers [N]) need in addition to their mu-law codes."""
    indices = np.asarray(codes, np.int64).ravel() + FULL_SCALE
    return float(mu_law_remainders()[_all_mu_law_codes()[indices]].mean())


def _all_mu_law_codes() -> NDArray[np.int64]:
    """The mu-law code of every 16-bit code, int64 [65,536]."""
    return mulaw.encode(np.arange(-FULL_SCALE, FULL_SCALE) / np.float64(FULL_SCALE))
