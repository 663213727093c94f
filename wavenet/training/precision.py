"""Mixed precision: the products of a training step in bfloat16 or float16, and everything that is kept in float32.

Autocast (`torch.autocast`) computes matrix products in the lower precision from copies of the weights. The weights
themselves, their gradients, the optimizer, the averaged weights, the losses and the model file stay float32.

bfloat16 has the range of float32. float16 does not: the gradients of activations can be too small for it. So the loss
is multiplied by a scale, and the gradients of the weights are divided by it before they are clipped. The scale is
halved whenever a gradient is not finite, in a step that is skipped, and doubled after GROWTH_STEPS steps without one
(Micikevicius et al. 2018, "Mixed Precision Training", section 3.2). It stays on the device: nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

TYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_SCALE = 2.0**16
LARGEST_SCALE = 2.0**24  # a power of two, like all scales: dividing by it is exact
GROWTH_STEPS = 2_000
COMPILER = "inductor"  # of `torch.compile`


class Precision:
    """The precision of a training step: one of `training_config.PRECISIONS`, on a device.

    A step computes outputs and losses within `autocast()`, calls `scaled(loss).backward()`, then `clip` and, with
    whether the step was finite, `update`. `state` and `restore` save and restore what changes with a step.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.scale = torch.tensor(FIRST_SCALE if name == "fp16" else 1.0, device=device)  # of the loss
        self.good_steps = torch.tensor(0.0, device=device)  # finite ones since the scale was changed

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which the network is evaluated."""
        return torch.autocast(self.device.type, TYPES[self.name], enabled=self.name != "float32")

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss whose gradients are computed."""
        return loss * self.scale if self.name == "fp16" else loss

    def clip(self, weights: Sequence[Tensor], norm: float) -> Tensor:
        """Undo the scaling of the gradients, and scale down those of a larger norm. Returns their norm, a scalar.

        The norm is not finite if any gradient is not; it is on the device, and nothing waits for it.
        """
        if self.name == "fp16":
            torch._foreach_mul_([weight.grad for weight in weights if weight.grad is not None], 1 / self.scale)
        return torch.nn.utils.clip_grad_norm_(weights, norm)

    def update(self, finite: Tensor) -> None:
        """Choose the next scale after a step; finite: bool scalar on the device, whether its gradients were finite."""
        if self.name != "fp16":
            return
        self.good_steps.add_(1).mul_(finite)
        grown = self.good_steps >= GROWTH_STEPS
        self.scale.mul_(torch.where(finite, 1.0 + grown, 0.5)).clamp_(1.0, LARGEST_SCALE)
        self.good_steps.mul_(~grown)

    def state(self) -> list[float]:
        """The scale, and the finite steps since it was changed; empty where nothing is scaled."""
        return [float(self.scale), float(self.good_steps)] if self.name == "fp16" else []

    def restore(self, state: Sequence[float]) -> None:
        """Continue with a saved `state`, which `check_scale` accepts."""
        if state and self.name == "fp16":  # a run may go on in another precision
            self.scale.fill_(state[0])
            self.good_steps.fill_(state[1])


def check_scale(state: Sequence[object]) -> None:
    """Raises `ValueError` for what is no `Precision.state`."""
    if not state:
        return
    scale, steps = state if len(state) == 2 else (None, None)
    if (
        not (isinstance(scale, float) and isinstance(steps, float))
        or not 1 <= scale <= LARGEST_SCALE
        or not 0 <= steps < GROWTH_STEPS
    ):
        raise ValueError("the scale of the loss is impossible")


def compiled(network: nn.Module) -> nn.Module:
    """The network compiled by `torch.compile` at its first call, which takes about a minute; it has the same weights.

    It is compiled for the shapes of a batch, which are the same in every step. The layers are those of the definition.
    """
    return torch.compile(network, backend=COMPILER, dynamic=False)  # type: ignore[return-value]
