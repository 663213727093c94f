"""How far back a WaveNet really listens: the gradient of its predictions with respect to the past.

The gradient is that of the log-probability of a sample of a clip, in nats, with respect to the network's inputs: to the
embedded code for mu-law, otherwise to the values that the first layer receives. It is computed at many positions, and
its RMS over them is taken for each lag: 1 is the sample before the predicted one, and the last one is the receptive
field. Squared, it is the variance of the log-probability that small independent changes of that input cause: "50% of
the influence" is half of the sum of that over all lags. Compare the effective receptive field of Luo et al. 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavenet.data.quantizers import quantizer_for
from wavenet.engine.stepped import conditioning_tensors
from wavenet.evaluation.probe import Probe
from wavenet.model import linear_prediction
from wavenet.nn.outputs import negative_log_likelihood
from wavenet.nn.predicted_samples import PredictedSamples

SHARES = (0.5, 0.9, 0.99)

Progress = Callable[[int, int], None]  # called with the number of positions done, and of all


@dataclass(frozen=True)
class Influence:
    """Measurements of a model on a clip."""

    sample_rate: int
    positions: int  # that the RMS is over
    gradient: NDArray[np.float64]  # RMS [receptive field]: element i is that of lag i + 1

    @property
    def receptive_field(self) -> int:
        """Samples that a prediction can depend on."""
        return len(self.gradient)

    @property
    def cumulative(self) -> NDArray[np.float64]:
        """Share of the influence within each lag, [receptive field]."""
        power = np.cumsum(np.square(self.gradient))
        return power / max(float(power[-1]), 1e-300)

    def within(self, share: float) -> int:
        """The lag within which a share of the influence lies, in samples."""
        return min(int(np.searchsorted(self.cumulative, share)) + 1, self.receptive_field)

    def milliseconds(self, samples: float) -> float:
        """The duration of so many samples."""
        return 1000 * samples / self.sample_rate

    def table(self) -> list[str]:
        """The lags within which shares of the influence lie, beside the receptive field, as text."""
        lines = [
            f"{share:.0%} of the influence within {self.within(share):,} samples, "
            f"{self.milliseconds(self.within(share)):.4g} ms"
            for share in SHARES
        ]
        last = self.within(SHARES[-1])
        return [
            f"gradient of the log-probability of a sample, RMS over {self.positions:,} positions",
            *lines,
            f"receptive field {self.receptive_field:,} samples, {self.milliseconds(self.receptive_field):.4g} ms: "
            f"{SHARES[-1]:.0%} of the influence lie in {last / self.receptive_field:.2%} of it",
        ]


def measure(probe: Probe, positions: int = 64, progress: Progress | None = None) -> Influence:
    """Measure at positions at equal distances of a clip, each with its whole receptive field inside the clip.

    Raises `ValueError` for a clip that is not longer than the context of a prediction.
    """
    config = probe.model.config
    first, last = config.context, len(probe.codes) - 1  # the samples that are predicted
    if last < first:
        raise ValueError(
            f"the clip is too short: it has {len(probe.codes):,} samples, and a prediction depends on "
            f"{config.context:,}, {1000 * config.context / config.sample_rate:.4g} ms"
        )
    chosen = np.unique(np.linspace(first, last, positions).round().astype(int))
    squares = np.zeros(config.receptive_field)
    for done, position in enumerate(chosen.tolist()):
        squares += np.square(_gradient(probe, position)[-config.receptive_field :]).sum(1)[::-1]
        if progress:
            progress(done + 1, len(chosen))
    return Influence(config.sample_rate, len(chosen), np.sqrt(squares / len(chosen)))


def _gradient(probe: Probe, position: int) -> NDArray[np.float64]:
    """Gradient [context, channels] of the log-probability of the sample at a position."""
    model, config = probe.model, probe.model.config
    device = model.embedding.weight.device
    speaker, local = conditioning_tensors(probe.conditioning, device)
    first = position - config.context + 1  # sample that the first input predicts
    codes = torch.from_numpy(probe.codes[first - 1 : position]).to(device)[None]  # [1, context]
    target = torch.from_numpy(probe.codes[position : position + 1]).to(device)
    with torch.no_grad():
        bias = model.conditioning(speaker, local, 1, first, config.context) if config.conditioned else None
        inputs, prediction = _inputs(probe, codes, local, first)
    leaf = inputs.requires_grad_()  # [1, context, channels]
    x = leaf if config.output == "mulaw" else leaf @ model.embedding.weight  # [1, context, R]
    skip = model.fused_stack(x, bias) if model.uses_fused_stack(x) else model.residual_stack(x, bias)
    parameters = model.head(skip[:, -1])  # [1, A]
    if prediction is not None:
        parameters = PredictedSamples(*(tensor[:, -1] for tensor in prediction)).to_samples(parameters, config)
    (gradient,) = torch.autograd.grad(negative_log_likelihood(config.output, parameters, target).sum(), leaf)
    return cast(NDArray[np.float64], gradient[0].double().numpy(force=True))


def _inputs(probe: Probe, codes: Tensor, local: Tensor | None, first: int) -> tuple[Tensor, PredictedSamples | None]:
    """The network's inputs [1, T, channels], and the linear prediction where it has one."""
    model, config = probe.model, probe.model.config
    weight = model.embedding.weight
    if config.output == "mulaw":
        return model.embedding(codes), None
    if config.linear_prediction:
        prediction = linear_prediction(config, codes, local, first, weight)
        return prediction.inputs, prediction
    samples = quantizer_for(config.output).decode(codes.numpy(force=True))[..., None]
    return torch.from_numpy(samples).to(weight), None
