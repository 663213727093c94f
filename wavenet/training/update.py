"""The update of weights at the end of a step, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def update_weights(
    optimizer: torch.optim.Adam, weights: Sequence[Tensor], average: Sequence[Tensor], finite: Tensor, decay: float
) -> None:
    """Let a fused optimizer use the gradients of the weights, and move the averaged weights towards the new ones.

    finite: bool scalar on the device, whether the gradients are finite. If they are not, neither the weights nor the
    moments of the optimizer nor the average change.
    """
    # A fused optimizer reads on the device whether to skip the step: this is how torch.amp.GradScaler tells it to.
    optimizer.found_inf = (~finite).float().to(weights[0].device)  # type: ignore[attr-defined]
    optimizer.step()
    with torch.no_grad():
        change = torch._foreach_sub(list(weights), list(average))
        torch._foreach_mul_(change, finite * (1 - decay))
        torch._foreach_add_(list(average), change)
