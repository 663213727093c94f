"""The definition of the network, to be read beside the paper. Every faster implementation is tested against it.

    code of sample t -> embedding -> layer 0 -> layer 1 -> ... -> layer L-1        x: the residual path, R channels
                                        |          |                 |
                                        z_0        z_1      ...     z_(L-1)        z: gated activations, G channels
                                         \\__________|________________/
                                              skip sum over all layers             S channels
                                              head: ReLU, H, ReLU, A               output parameters of sample t + 1

Source: van den Oord et al., "WaveNet: A Generative Model for Raw Audio" (2016), sections 2.1 to 2.5.

Symbols: B streams, T samples, R residual, G gate, S skip, H head and A output channels, K taps, L layers.

The residual stack has two implementations with the same values and gradients: the one here, and `wavenet.nn.fused`,
which has a hand-written backward pass and is used automatically where it can be (see `WaveNet.fused`). Conditioning is
in `wavenet.nn.conditioning`, losses are in `wavenet.nn.outputs`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wavenet.config import MU_LAW_CODES, ModelConfig
from wavenet.data.pcm import FULL_SCALE
from wavenet.nn import fused, kernels
from wavenet.nn.conditioning import Conditioning, GateBias
from wavenet.nn.fused import LayerWeights
from wavenet.nn.linear_prediction import predict
from wavenet.nn.predicted_samples import PredictedSamples

EMBEDDING_CYCLES = 8.0  # highest frequency of the initial embedding, in cycles over all codes
SAMPLE_SCALE = 10.0  # initial weights of a 16-bit sample: speech has an RMS of about a tenth


class DilatedConv(nn.Module):
    """A dilated convolution: y_t = bias + sum over taps k of weight[k] x_(t - (K - 1 - ahead - k) dilation).

    Source: section 2.1. Outside of the recording x is zero. In a causal network no tap is ahead: the last one is on the
    current sample.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, dilation: int, ahead: int = 0) -> None:
        """ahead: number of taps after the current sample."""
        super().__init__()
        self.dilation, self.ahead = dilation, ahead
        self.weight = nn.Parameter(torch.empty(kernel_size, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, inputs] -> [B, T, outputs]"""
        current = len(self.weight) - 1 - self.ahead
        y = F.linear(x, self.weight[current], self.bias)
        for tap, weight in enumerate(self.weight):
            if tap != current:
                y = y + F.linear(delayed(x, (current - tap) * self.dilation), weight)
        return y

    def reset_parameters(self) -> None:
        """Initialise: inputs of unit variance give outputs of unit variance."""
        kernel_size, _, inputs = self.weight.shape
        nn.init.normal_(self.weight, std=1 / math.sqrt(kernel_size * inputs))
        nn.init.zeros_(self.bias)


def delayed(x: Tensor, samples: int) -> Tensor:
    """x [B, T, C] delayed by a number of samples, with zeros in front: y_t = x_(t - samples).

    A negative number advances it, with zeros behind.
    """
    before, behind = max(samples, 0), max(-samples, 0)
    return F.pad(x, (0, 0, before, behind))[:, behind : behind + x.shape[1]]


class ResidualLayer(nn.Module):
    """One layer: a, b = W * x + V c + U g;  z = tanh(a) . sigmoid(b);  next x = x + Q z.

    Sources: section 2.3 (gates), section 2.4 and figure 4 (residual and skip connections), section 2.5 (conditioning).

    `wavenet.nn.fused` contains the same equations. To use others, put instances of a subclass into `WaveNet.layers`:
    the fused stack is then not used. After an edit of this class, set `WaveNet.fused = False`.
    """

    def __init__(self, config: ModelConfig, dilation: int, last: bool, ahead: int = 0) -> None:
        """ahead: taps after the current sample, see `DilatedConv`."""
        super().__init__()
        self.depth = config.layers
        self.dilated = DilatedConv(config.residual_channels, 2 * config.gate, config.kernel_size, dilation, ahead)
        self.residual = None if last else nn.Linear(config.gate, config.residual_channels)

    def forward(self, x: Tensor, gate_bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, R] and the gate bias of conditioning [B, T, 2G] -> the next layer's x [B, T, R], and z [B, T, G]."""
        gates = self.dilated(x)  # W * x: [B, T, 2G]
        if gate_bias is not None:
            gates = gates + gate_bias  # + V c_t + U g
        a, b = gates.chunk(2, dim=-1)  # [B, T, G] each
        z = torch.tanh(a) * torch.sigmoid(b)
        return (x if self.residual is None else x + self.residual(z)), z

    def bypass(self, x: Tensor) -> Tensor:
        """The next layer's x [B, T, R] of a muted layer, whose z is zero."""
        return x if self.residual is None else x + self.residual.bias

    def reset_parameters(self) -> None:
        """Initialise: the L residual outputs, which are summed, have a variance of about 1 / L each."""
        self.dilated.reset_parameters()
        if self.residual is not None:
            nn.init.normal_(self.residual.weight, std=3 / math.sqrt(self.residual.in_features * self.depth))
            nn.init.zeros_(self.residual.bias)

    def weights(self) -> LayerWeights:
        """The layer's tensors; the last layer has no residual projection."""
        residual = (None, None) if self.residual is None else (self.residual.weight, self.residual.bias)
        return LayerWeights(self.dilated.weight, self.dilated.bias, *residual)


def _global_hooks() -> bool:
    """Whether there are hooks for every module of the process, as those of profilers are."""
    hooks = nn.modules.module
    return any(
        (
            hooks._global_forward_hooks,
            hooks._global_forward_pre_hooks,
            hooks._global_backward_hooks,
            hooks._global_backward_pre_hooks,
        )
    )


def is_customised(modules: Iterable[nn.Module], known: tuple[type[nn.Module], ...]) -> bool:
    """Whether there are hooks, subclasses or other modules than those known, which have to be called."""
    return _global_hooks() or any(
        type(module) not in known
        or "forward" in vars(module)
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in modules
    )


class Head(nn.Module):
    """From the skip sum to the output parameters of the next sample. Source: section 2.4, figure 4.

    The engines "torch" and "naive" use this activation, too; in the native engine it is always ReLU.
    """

    activation: Callable[[Tensor], Tensor] = staticmethod(F.relu)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(config.skip_channels, config.head)
        self.output = nn.Linear(config.head, config.output_channels)

    def forward(self, skip: Tensor) -> Tensor:
        """[..., S] -> [..., A]"""
        hidden = self.hidden(self.activation(skip))  # [..., H]
        return self.output(self.activation(hidden))

    @property
    def is_plain(self) -> bool:
        """Whether `fused` computes the same: there are no hooks, subclasses or other activations."""
        return self.activation is F.relu and not is_customised(self.modules(), (Head, nn.Linear))

    def fused(self, skip: Tensor) -> Tensor:
        """`forward` by `wavenet.nn.kernels`."""
        hidden = kernels.linear(skip, self.hidden.weight, self.hidden.bias, relu=True)
        return kernels.linear(hidden, self.output.weight, self.output.bias, relu=True)

    def reset_parameters(self) -> None:
        """Initialise: the output parameters are close to zero."""
        nn.init.normal_(self.hidden.weight, std=math.sqrt(2 / self.hidden.in_features))
        nn.init.normal_(self.output.weight, std=0.01 / math.sqrt(self.output.in_features))
        nn.init.zeros_(self.hidden.bias)
        nn.init.zeros_(self.output.bias)
        if self.config.output == "logistic":  # mixture components that start alike would stay alike
            with torch.no_grad():
                self.output.bias.view(3, -1)[1] = torch.linspace(-0.5, 0.5, self.config.mixtures)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # NumPy; codes are integers: there are no gradients
def linear_prediction(
    config: ModelConfig, codes: Tensor, local: Tensor | None, first: int, weight: Tensor
) -> PredictedSamples:
    """Apply linear prediction (`wavenet.nn.linear_prediction`) to codes [B, T]; arguments as of `WaveNet.forward`.

    It is computed on the CPU. The result is on the device of the weight, and of its type.
    """
    features = None if local is None else local.double().numpy(force=True)
    predicted = PredictedSamples.of(predict(config, codes.numpy(force=True), features, first), weight.dtype)
    return PredictedSamples(*(tensor.to(weight) for tensor in predicted))


class WaveNet(nn.Module):
    """A stack of dilated causal convolutions that predicts every next sample: codes [B, T] -> [B, T, A].

    fused: whether the layers run in `wavenet.nn.fused`. None: if it supports the input, and the stack has no hooks,
        subclasses or replaced modules. True or False, set on the class or an instance, force one or the other. Second
        derivatives and forward-mode differentiation need False.
    recomputed: whether the backward pass computes the activations of a cycle of layers again, and the forward pass
        keeps only what enters it: less memory for more time, with the same values and gradients to rounding.
    """

    fused: bool | None = None
    recomputed: bool = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.input_channels, config.residual_channels)
        last = config.layers - 1
        self.layers = nn.ModuleList(ResidualLayer(config, d, index == last) for index, d in enumerate(config.dilations))
        self.skip = nn.Linear(config.layers * config.gate, config.skip_channels)  # P of all layers side by side
        self.head = Head(config)
        if config.conditioned:
            self.conditioning = Conditioning(config)
        self.reset_parameters()

    def forward(
        self,
        codes: Tensor,
        speaker: Tensor | None = None,
        local: Tensor | None = None,
        first: int = 0,
        muted: Tensor | None = None,
        prediction: PredictedSamples | None = None,
    ) -> Tensor:
        """Output parameters [B, T, A] of int64 codes [B, T]: logits for mu-law, else see `wavenet.nn.outputs`.

        Position t predicts sample t + 1 from samples <= t. Before the first sample everything is zero, as in the
        empty queues of a generator.

        speaker: indices [B], or weights of all speakers [B, speakers], for a model with speakers.
        local: features [B, bands, N] of a whole recording, or of a part of one, for a model with features. Position t
            is conditioned on frame (first + t) // hop, which contains the sample that it predicts, interpolated with
            the neighbouring frames; frames beyond the ends are silent.
        first: index in `local`, or in the recording, of the sample that the first position predicts. Without features
            it is only used by backward-adaptive prediction, which is updated at multiples of a number of samples.
        muted: bool [T, L] of every position, or [L]: the layers whose z is zero.
        prediction: the linear prediction of these codes; None: a model that has one computes it, on the CPU.
        Raises `ValueError` for wrong shapes, and for conditioning that is missing or that this model does not have.
        """
        if codes.dim() != 2 or codes.shape[1] == 0:
            raise ValueError(f"codes must be [B, T] with T >= 1, not {list(codes.shape)}")
        gate_bias = None
        if self.config.conditioned:
            gate_bias = self.conditioning(speaker, local, codes.shape[0], first, codes.shape[1])
        elif speaker is not None or local is not None:
            raise ValueError("this model is not conditioned: leave out speaker and local")
        if self.config.linear_prediction and prediction is None:
            prediction = linear_prediction(self.config, codes, local, first, self.embedding.weight)
        x = self.embed(codes, None if prediction is None else prediction.inputs)  # [B, T, R]
        if muted is not None:
            skip = self.residual_stack(x, gate_bias, muted)
        elif self.recomputed and torch.is_grad_enabled():
            skip = self._recomputed_stack(x, gate_bias)
        elif self.uses_fused_stack(x):
            skip = self.fused_stack(x, gate_bias)
        else:
            skip = self.residual_stack(x, gate_bias)
        fused_head = muted is None and self.uses_fused_stack(x) and self.head.is_plain
        parameters = (self.head.fused if fused_head else self.head)(skip)  # [B, T, S] -> [B, T, A]
        return parameters if prediction is None else prediction.to_samples(parameters, self.config)

    def embed(self, codes: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Codes [B, T] -> the first layer's x [B, T, R]: an embedding of mu-law codes, a linear map of 16-bit samples.

        inputs [B, T, input channels]: the inputs computed by linear prediction, which replace the samples.
        """
        if self.config.output == "mulaw":
            return self.embedding(codes)
        weight = self.embedding.weight  # [input channels, R]
        if inputs is None:
            inputs = codes[..., None].to(weight) / FULL_SCALE  # [B, T, 1]
        return inputs @ weight

    def residual_stack(self, x: Tensor, gate_bias: GateBias | None = None, muted: Tensor | None = None) -> Tensor:
        """All layers and the skip sum: x [B, T, R] -> [B, T, S]. muted: as of `forward`."""
        gated = []
        for index, layer in enumerate(self.typed_layers):
            bias = None if gate_bias is None else gate_bias.at_samples(index)
            y, z = layer(x, bias)
            if muted is not None:
                here = muted[..., index, None]  # [T or 1, 1]
                y, z = torch.where(here, layer.bypass(x), y), z.masked_fill(here, 0.0)
            x = y
            gated.append(z)
        return self.skip(torch.cat(gated, dim=-1))  # the sum over layers of P_l z_l + p_l, as one product

    def fused_stack(self, x: Tensor, gate_bias: GateBias | None = None) -> Tensor:
        """`residual_stack` by `wavenet.nn.fused`."""
        layers = [layer.weights() for layer in self.typed_layers]
        dilations = [layer.dilated.dilation for layer in self.typed_layers]
        return fused.residual_stack(x, layers, dilations, self.skip.weight, self.skip.bias, gate_bias)

    def _recomputed_stack(self, x: Tensor, gate_bias: GateBias | None) -> Tensor:
        """`residual_stack` cycle by cycle, see `recomputed`: x [B, T, R] -> [B, T, S]."""
        skip: Tensor = self.skip.bias
        for first in range(0, self.config.layers, self.config.layers_per_cycle):
            layers = slice(first, first + self.config.layers_per_cycle)
            x, share = checkpoint(
                self._some_layers, x, gate_bias, layers, use_reentrant=False, preserve_rng_state=False
            )
            skip = skip + share
        return skip

    def _some_layers(self, x: Tensor, gate_bias: GateBias | None, layers: slice) -> tuple[Tensor, Tensor]:
        """Some layers: x [B, T, R] -> x of the layer after them, and their share [B, T, S] of the skip sum."""
        chosen, gate = self.typed_layers[layers], self.config.gate
        weight = self.skip.weight[:, layers.start * gate : layers.stop * gate]
        if gate_bias is not None:
            gate_bias = replace(gate_bias, frames=gate_bias.frames[layers])
        if self.uses_fused_stack(x):
            weights, dilations = [layer.weights() for layer in chosen], [layer.dilated.dilation for layer in chosen]
            return fused.residual_layers(x, weights, dilations, weight, weight.new_zeros(len(weight)), gate_bias)
        gated = []
        for index, layer in enumerate(chosen):
            x, z = layer(x, None if gate_bias is None else gate_bias.at_samples(index))
            gated.append(z)
        return x, F.linear(torch.cat(gated, dim=-1), weight)

    def uses_fused_stack(self, x: Tensor) -> bool:
        """Whether `forward` computes the layers of an input like x [B, T, R] with the fused stack; see `fused`."""
        return self.fused if self.fused is not None else fused.supports(x) and not self._stack_is_customised()

    def _stack_is_customised(self) -> bool:
        known = (ResidualLayer, DilatedConv, nn.Linear, nn.ModuleList)
        return is_customised((*self.layers.modules(), self.skip), known)

    @property
    def typed_layers(self) -> list[ResidualLayer]:
        """The layers, typed."""
        return [cast(ResidualLayer, layer) for layer in self.layers]

    def reset_parameters(self) -> None:
        """Initialise: all activations have about unit variance, and the output parameters are close to zero (8 bits).

        Mu-law codes are ordered by amplitude, so their embedding is initialised to a smooth curve: each channel is a
        sine of the code, of random frequency and phase, and neighbouring codes have similar vectors. Compared with
        independent random vectors this saved 0.13 bits per sample after 700 steps on speech.
        """
        channels = self.config.residual_channels
        with torch.no_grad():
            if self.config.output == "mulaw":
                frequency = torch.rand(channels) * EMBEDDING_CYCLES  # over the range of codes
                phase = torch.rand(channels)
                position = torch.arange(MU_LAW_CODES)[:, None] / MU_LAW_CODES  # [256, 1]
                self.embedding.weight.copy_(math.sqrt(2) * torch.sin(2 * math.pi * (frequency * position + phase)))
            else:  # samples are small; the inputs of a linear predictor are normalised
                self.embedding.weight.normal_(std=1.0 if self.config.linear_prediction else SAMPLE_SCALE)
        for layer in self.typed_layers:
            layer.reset_parameters()
        # z = tanh . sigmoid of unit inputs has a standard deviation of about 0.3
        nn.init.normal_(self.skip.weight, std=3 / math.sqrt(self.skip.in_features))
        nn.init.zeros_(self.skip.bias)
        self.head.reset_parameters()
        if self.config.conditioned:
            self.conditioning.reset_parameters()
