"""Output distributions: what the network's A numbers per sample say about the next code, as the loss needs it.

"mulaw"     logits of 256 classes (van den Oord et al. 2016, section 2.2)
"logistic"  M logits, M means and M log scales of a mixture of logistic distributions (Salimans et al. 2017,
            "PixelCNN++", section 2.1)
"gaussian"  a mean and a log scale (Ping et al. 2019, "ClariNet", section 3.1)

The last two are distributions over the 65,536 codes of 16-bit sound: a code stands for the interval of half a step to
each side of it, the lowest and the highest for all that lies beyond as well, and its probability is that of its
interval. So their losses are of the same events and can be compared with each other. To compare with mu-law: a mu-law
code covers a number n(q) of 16-bit codes, and says nothing about which of them; telling that costs log2 n(q) bits more.
`mu_law_remainder` is the mean of it over recordings, to be added to the bits per sample of a mu-law model.

Means and scales are in full scale: 1 is the loudest sample. How codes are drawn is in `wavenet.engine.sampling`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from wavenet import mulaw
from wavenet.data.pcm import FULL_SCALE
from wavenet.engine.sampling import LEAST_LOG_SCALE, MOST_LOG_SCALE

HALF_STEP = 0.5 / FULL_SCALE  # half of the interval of a 16-bit code
NARROW = 0.1  # in standard deviations: below, the density times the width is more exact than a difference in float32


def nats(output: str, numbers: Tensor, codes: Tensor) -> Tensor:
    """What codes cost: -ln p [N] of int64 codes [N] under the network's numbers [N, A]."""
    if output == "mulaw":
        return F.cross_entropy(numbers, codes, reduction="none")
    target = codes.to(numbers.dtype) / FULL_SCALE  # exact in float32
    lowest, highest = codes <= -FULL_SCALE, codes >= FULL_SCALE - 1
    if output == "gaussian":
        mean, log_scale = numbers.unbind(1)
        return -_log_gaussian(target - mean, log_scale.clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE), lowest, highest)
    weights, means, log_scales = numbers.chunk(3, dim=1)  # [N, M]
    scales = log_scales.clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE)
    each = _log_logistic(target[:, None] - means, scales, lowest[:, None], highest[:, None])
    return -torch.logsumexp(F.log_softmax(weights, dim=1) + each, dim=1)


def masked_loss(logits: Tensor, targets: Tensor, mask: Tensor, output: str = "mulaw") -> Tensor:
    """Mean nats per sample of output parameters [B, T, A] for codes [B, T], over the samples where mask [B, T] is true.

    output: what distribution the parameters describe, as in `nats`.
    """
    flat = logits.transpose(0, 1).reshape(-1, logits.shape[-1])  # [T*B, A]; time first, as in the network: no copy
    losses = nats(output, flat, targets.t().reshape(-1))  # [T*B]
    return (losses * mask.t().reshape(-1)).sum() / mask.sum().clamp_min(1)


def _log_logistic(distance: Tensor, log_scale: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """ln of sigmoid(above) - sigmoid(below), as a product of three numbers that cannot cancel.

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^-(a - b)); beyond the edges one of the first two is 1.
    """
    sharpness = torch.exp(-log_scale)
    above, below = (distance + HALF_STEP) * sharpness, (distance - HALF_STEP) * sharpness
    to_highest, from_lowest = F.logsigmoid(-below), F.logsigmoid(above)
    inside = from_lowest + to_highest + torch.log(-torch.expm1(-2 * HALF_STEP * sharpness))
    return torch.where(lowest, from_lowest, torch.where(highest, to_highest, inside))


def _log_gaussian(distance: Tensor, log_scale: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """ln of the normal distribution's share between half a step below and above a code."""
    sharpness = torch.exp(-log_scale)
    middle, width = distance.abs() * sharpness, 2 * HALF_STEP * sharpness  # the distribution is symmetric
    near, far = (middle - width / 2).clamp_max(1e6), (middle + width / 2).clamp_max(1e6)
    # Narrow: density in the middle times width; over the interval it falls like e^(-middle u), whose mean is sinh, and
    # like e^(-u u / 2), whose mean is 1 - width^2 / 24.
    slope = (middle * width / 2).clamp(1e-4, 40)
    narrow = -0.5 * middle.clamp_max(1e6).square() - 0.5 * math.log(2 * math.pi) + width.clamp_max(NARROW).log()
    narrow = narrow + torch.log(torch.sinh(slope) / slope) - width.clamp_max(NARROW).square() / 24
    # Wide: ln(Q(near) - Q(far)) with Q(x) the share above x, the larger one taken out.
    log_near, log_far = _log_normal_share(-near), _log_normal_share(-far)
    wide = log_near + torch.log(-torch.expm1((log_far - log_near).clamp_max(-1e-6)))
    inside = torch.where(width < NARROW, narrow, wide)
    above, below = (distance + HALF_STEP) * sharpness, (distance - HALF_STEP) * sharpness
    edge = _log_normal_share(torch.where(lowest, above, -below).clamp_min(-1e6))
    return torch.where(lowest | highest, edge, inside)


def _log_normal_share(x: Tensor) -> Tensor:
    """ln of the standard normal distribution's share below x >= -1e6.

    PyTorch's own `log_ndtr` is as good, but its gradient is the exponential of a difference of squares: in float32 some
    per cent off at x = -1,000, and infinite from -46,000 on.
    """
    tail = x.clamp_max(-1.0)  # share = erfcx(-x / sqrt 2) e^(-x x / 2) / 2
    far = torch.special.erfcx(tail * -math.sqrt(0.5)).log() - math.log(2) - 0.5 * tail.square()
    return torch.where(x < -1, far, torch.special.log_ndtr(x.clamp_min(-1.0)))


def mu_law_remainders() -> NDArray[np.float64]:
    """Bits that each mu-law code leaves open about the 16-bit code, float64 [256]: log2 of how many share it."""
    return np.log2(np.bincount(_all_mu_law_codes(), minlength=mulaw.CODES))


def mu_law_remainder(codes: ArrayLike) -> float:
    """Mean bits per sample that mu-law codes leave open about 16-bit codes (integers [N])."""
    levels = np.asarray(codes, np.int64).ravel() + FULL_SCALE
    return float(mu_law_remainders()[_all_mu_law_codes()[levels]].mean())


def _all_mu_law_codes() -> NDArray[np.int64]:
    """The mu-law code of every 16-bit code, int64 [65,536]."""
    return mulaw.encode(np.arange(-FULL_SCALE, FULL_SCALE) / np.float64(FULL_SCALE))
