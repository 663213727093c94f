"""The whole network: the one definition, and the oracle that every engine is tested against.

    code of sample t -> embedding -> layer 0 -> layer 1 -> ... -> layer L-1        x: the residual path, R channels
                                        |          |                 |
                                        z_0        z_1      ...     z_(L-1)        z: gated activations, G channels
                                         \\__________|________________/
                                                  skip: one product over all layers, S channels
                                                  head: relu, H, relu, A logits for sample t + 1

Source: van den Oord et al., "WaveNet: A Generative Model for Raw Audio" (2016), sections 2.1 to 2.5. What a network is
told to play, a speaker or a spectrogram, joins at every gate; `conditioning.py` makes it.

Inside, a batch of B streams of T samples is one matrix of N = T x B rows, **time first**: row t * B + b is sample t of
stream b. The sample d steps earlier is then the row d * B rows above, so a dilated convolution is one plain matrix
product per tap on a slice of the same memory: no copies, and the zero padding is never multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import MU_LAW_CODES, MelConfig, ModelConfig
from wavenet.data.pcm import FULL_SCALE
from wavenet.nn.conditioning import Conditioning, GateBias
from wavenet.nn.linear_prediction import MOST_INPUT, rows_of

# dilated weight and bias, residual weight and bias
LayerWeights = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
SMOOTHEST_CYCLES = 8.0  # highest frequency of the first embedding, in cycles over all codes
QUIET_SCALE = 10.0  # of a scalar input's first map: speech has an RMS of about a tenth


class WaveNet(nn.Module):
    """A stack of dilated causal convolutions that predicts every next sample: [B, T] codes -> [B, T, A] logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.input_channels, config.residual_channels)
        last = config.layers - 1
        self.layers = nn.ModuleList(ResidualLayer(config, d, index == last) for index, d in enumerate(config.dilations))
        self.skip = nn.Linear(config.layers * config.gate, config.skip_channels)
        self.head = Head(config)
        if config.conditioned:
            self.conditioning = Conditioning(config)
        self.reset_parameters()

    @property
    def stack(self) -> list[ResidualLayer]:
        """The layers, typed."""
        return [cast(ResidualLayer, layer) for layer in self.layers]

    def reset_parameters(self) -> None:
        """Every path carries unit-sized signals, and the head's numbers are close to zero: 8 bits for mu-law.

        Codes are loudness on a scale, so their embedding starts as a smooth curve: each channel is a sine of the code,
        of random frequency and phase, and neighbouring codes look alike. Against independent random vectors this saved
        0.13 bits per sample after 700 steps on speech.
        """
        channels = self.config.residual_channels
        with torch.no_grad():
            if self.config.output == "mulaw":
                frequency = torch.rand(channels) * SMOOTHEST_CYCLES  # over the range of codes
                phase = torch.rand(channels)
                scale = torch.arange(MU_LAW_CODES)[:, None] / MU_LAW_CODES  # [256, 1]
                self.embedding.weight.copy_(math.sqrt(2) * torch.sin(2 * math.pi * (frequency * scale + phase)))
            else:  # samples are small numbers, what a predictor has normalised is not
                self.embedding.weight.normal_(std=1.0 if self.config.linear_prediction else QUIET_SCALE)
        for layer in self.stack:
            layer.reset_parameters()
        # z = tanh . sigmoid of unit inputs has a standard deviation of about 0.3
        nn.init.normal_(self.skip.weight, std=3 / math.sqrt(self.skip.in_features))
        nn.init.zeros_(self.skip.bias)
        self.head.reset_parameters()
        if self.config.conditioned:
            self.conditioning.reset_parameters()

    def forward(
        self, codes: Tensor, speaker: Tensor | None = None, local: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """Logits, or the numbers of another output distribution, [B, T, A] of int64 codes [B, T].

        Position t predicts sample t + 1 from samples <= t. Before the first sample everything is zero, as in the
        generator's empty queues.

        speaker: indices [B], or shares [B, speakers] of a blend, where the model knows speakers.
        local: features [B, bands, N] of a whole recording, or of some seconds of one, where the model is driven by
            them. Position t is told what frame (first + t) // hop says, the frame of the sample that it predicts,
            blended with its neighbours; frames beyond the ends are silent.
        first: which sample of `local` the first position predicts.
        Raises `ValueError` for another shape, and for conditioning that is missing or that this model has not.
        """
        if codes.dim() != 2 or codes.shape[1] == 0:
            raise ValueError(f"codes must be [B, T] with T >= 1, not {list(codes.shape)}")
        streams, samples = codes.shape
        added = None
        if self.config.conditioned:
            added = self.conditioning(speaker, local, streams, first, samples)
        elif speaker is not None or local is not None:
            raise ValueError("this model is not conditioned: leave out speaker and local")
        prediction = None
        if self.config.linear_prediction and local is not None:
            prediction = predict(self.config, codes, local, first)
        weights = [weight for layer in self.stack for weight in layer.weights()]
        shifts = tuple(layer.dilation * streams for layer in self.stack)
        rows = self.embed(codes, prediction)  # [N, R]
        frames, interpolation_weights = (None, None) if added is None else (added.rows(self.gate_bias()), added)
        skip = _Stack.apply(
            rows, self.skip.weight, self.skip.bias, shifts, frames, interpolation_weights, *weights
        )  # [N, S]
        numbers = self.head(skip).view(samples, streams, -1).transpose(0, 1)  # [N, A] -> [B, T, A]
        return numbers if prediction is None else shifted(self.config, numbers, prediction)

    def gate_bias(self) -> Tensor:
        """The gates' own biases of all layers, [L, 2G]."""
        return torch.stack([layer.dilated.bias for layer in self.stack])

    def embed(self, codes: Tensor, prediction: Prediction | None = None) -> Tensor:
        """Codes [B, T] -> the first layer's input rows [N, R], time first: a table for mu-law, else a linear map."""
        if self.config.output == "mulaw":
            return self.embedding(codes.t().reshape(-1))
        samples = codes.t().reshape(-1, 1).to(self.embedding.weight.dtype) / FULL_SCALE  # [N, 1]
        if prediction is not None:
            samples = prediction.inputs.transpose(0, 1).flatten(0, 1)  # [N, 3 + pitch taps]
        return samples @ self.embedding.weight


class Prediction(NamedTuple):
    """What a linear predictor, computed from the features, says about samples [B, T] of a recording."""

    sample: Tensor  # [B, T] the prediction, in full scale
    gain: Tensor  # [B, T] RMS of what it leaves over
    # [B, T, 3 + pitch taps] of the network: last sample, prediction, what was left over just now, and a period ago
    inputs: Tensor


def predict(config: ModelConfig, codes: Tensor, local: Tensor, first: int) -> Prediction:
    """The prediction of the sample behind every one of `codes` [B, T]; `local` and `first` as of `WaveNet.forward`.

    Before the first code lie zeros, and the first one counts as predicted: of a crop, the first `order` + 1 positions
    are told wrong things, and hear of them again a pitch period later.
    """
    mel, order, samples = cast(MelConfig, config.features), config.linear_prediction, codes.shape[1]
    begin, end = first // mel.hop, (first + samples - 1) // mel.hop + 1
    inside = local[..., begin:end].transpose(1, 2)  # [B, F, bands]
    silent = F.pad(inside, (0, 0, 0, end - begin - inside.shape[1]), value=mel.silence)
    rows = torch.from_numpy(rows_of(silent.numpy(force=True), mel, order)).to(codes.device)  # [B, F, order + 3]
    frame = torch.arange(first, first + samples, device=codes.device) // mel.hop - begin
    last = codes.double() / FULL_SCALE  # [B, T]
    past = F.pad(last, (order - 1, 0)).unfold(1, order, 1).flip(2)  # [B, T, order], the last sample first
    sample = (past * rows[:, frame, :order]).sum(2)  # [B, T]
    left = F.pad(last[:, 1:] - sample[:, :-1], (1, 0))
    gain, level = rows[:, frame, order], rows[:, frame, order + 1]
    inputs = torch.stack([last / level, sample / level, left / gain], dim=2)
    if config.pitch_taps:
        half = config.pitch_taps // 2
        place = torch.arange(1, samples + 1, device=codes.device) - rows[:, frame, order + 2].long()  # a period ago
        places = place[..., None] + torch.arange(-half, half + 1, device=codes.device)  # [B, T, pitch taps]
        earlier = left.gather(1, places.clamp_min(0).flatten(1)).view(places.shape) * (places >= 0)
        inputs = torch.cat([inputs, earlier / gain[..., None]], dim=2)
    return Prediction(sample.to(local), gain.to(local), inputs.clamp(-MOST_INPUT, MOST_INPUT).to(local))


def shifted(config: ModelConfig, numbers: Tensor, prediction: Prediction) -> Tensor:
    """The head's numbers [B, T, A], which describe what a predictor leaves over, as those of the sound itself."""
    parts = config.components
    logits, means, log_scales = numbers[..., : -2 * parts], numbers[..., -2 * parts : -parts], numbers[..., -parts:]
    means = prediction.sample[..., None] + prediction.gain[..., None] * means
    return torch.cat([logits, means, log_scales + prediction.gain.log()[..., None]], dim=-1)


class ResidualLayer(nn.Module):
    """One layer: z = tanh(a) . sigmoid(b) with a, b = dilated convolution of x; x + Q z goes on, z goes to the skip."""

    def __init__(self, config: ModelConfig, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.depth = config.layers
        self.dilated = DilatedConv(config.residual_channels, 2 * config.gate, config.kernel_size)
        self.residual = None if last else nn.Linear(config.gate, config.residual_channels)

    def reset_parameters(self) -> None:
        self.dilated.reset_parameters()
        if self.residual is not None:  # L layers add up: each adds 1 / sqrt(L) of a unit
            nn.init.normal_(self.residual.weight, std=3 / math.sqrt(self.residual.in_features * self.depth))
            nn.init.zeros_(self.residual.bias)

    def weights(self) -> LayerWeights:
        """The layer's four tensors; the last layer has no residual product."""
        residual = (None, None) if self.residual is None else (self.residual.weight, self.residual.bias)
        return self.dilated.weight, self.dilated.bias, *residual

    def forward(self, rows: Tensor, streams: int, told: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One layer alone, without gradients: rows [N, R] of B streams -> the next layer's rows [N, R] and z [N, G].

        told [N, 2G]: what the conditioning adds, the gates' bias included; overwritten.
        """
        z = rows.new_empty(len(rows), self.dilated.bias.numel() // 2)
        with torch.no_grad():
            rows, _ = _layer(rows, z, self.dilation * streams, *self.weights(), told)
        return rows, z


class DilatedConv(nn.Module):
    """The weights of a causal convolution: K taps `dilation` samples apart, tap K - 1 on the current sample."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel_size, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def reset_parameters(self) -> None:
        kernel_size, _, inputs = self.weight.shape
        nn.init.normal_(self.weight, std=1 / math.sqrt(kernel_size * inputs))
        nn.init.zeros_(self.bias)


def _layer(
    x: Tensor,
    z: Tensor,
    shift: int,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    residual_bias: Tensor | None,
    told: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The layer's mathematics. Writes z [N, G]; returns the next rows [N, R] and [tanh(a), sigmoid(b)] as [N, 2G].

    a, b = bias + sum over taps k of weight[k] x[n - (K - 1 - k) * shift],  x being zero above its first row

    told [N, 2G]: what the conditioning adds, the bias included; overwritten by the factors.
    """
    factors = x @ weight[-1].t() if told is None else told.addmm_(x, weight[-1].t())
    for tap, past in _past_taps(len(weight), shift, len(x)):
        factors[past:].addmm_(x[:-past], weight[tap].t())
    if told is None:
        factors.add_(bias)
    a, b = factors.chunk(2, dim=1)
    a.mul_(2)
    factors.sigmoid_()
    a.mul_(2).sub_(1)  # tanh(a) = 2 sigmoid(2a) - 1, several times faster than tanh
    torch.mul(a, b, out=z)
    if residual is None or residual_bias is None:
        return x, factors
    return torch.addmm(x, z, residual.t()).add_(residual_bias), factors


def _past_taps(kernel_size: int, shift: int, rows: int) -> list[tuple[int, int]]:
    """Taps before the current sample that still reach a row: (tap, how many rows back)."""
    taps = [(tap, (kernel_size - 1 - tap) * shift) for tap in range(kernel_size - 1)]
    return [(tap, past) for tap, past in taps if past < rows]


class _Stack(torch.autograd.Function):
    """All layers and the skip product as one step of autograd: rows [N, R] -> skip sums [N, S].

    Every layer writes its z into its own columns of one matrix [N, L*G], so the skip sum over all layers is one
    product, and so is its gradient. Kept for the backward pass: the rows, the two factors and z of each layer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        skip_weight: Tensor,
        skip_bias: Tensor,
        shifts: tuple[int, ...],
        frames: Tensor | None,
        added: GateBias | None,
        *weights: Tensor | None,
    ) -> Tensor:
        gated = rows.new_empty(len(rows), skip_weight.shape[1])  # [N, L*G]
        kept = []
        told = None
        for index, (z, layer) in enumerate(zip(gated.chunk(len(shifts), dim=1), _by_layer(weights), strict=True)):
            kept.append(rows)
            if added is not None and frames is not None:
                told = added.upsample(frames[index])  # [N, 2G]
            rows, factors = _layer(rows, z, shifts[index], *layer, told)
            kept.append(factors)
        ctx.save_for_backward(gated, skip_weight, *kept, *weights)
        ctx.shifts, ctx.added = shifts, added
        return torch.addmm(skip_bias, gated, skip_weight.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        depth = len(ctx.shifts)
        gated, skip_weight, *saved = ctx.saved_tensors
        kept, layers = saved[: 2 * depth], _by_layer(saved[2 * depth :])
        z, grad_z = gated.chunk(depth, dim=1), (grad @ skip_weight).chunk(depth, dim=1)  # depth x [N, G]
        grad_rows: Tensor | None = None  # nothing reads the rows after the last layer
        grads: list[Tensor | None] = []
        grad_frames: list[Tensor] = []
        for index in reversed(range(depth)):
            rows, factors = kept[2 * index : 2 * index + 2]
            grad_rows, grad_factors, grad_layer = _layer_backward(
                grad_rows, grad_z[index], z[index], rows, factors, ctx.shifts[index], *layers[index]
            )
            if ctx.added is not None:
                grad_frames.insert(0, ctx.added.upsample_backward(grad_factors))
            else:
                grad_layer = (grad_layer[0], grad_factors.sum(0), *grad_layer[2:])
            grads[:0] = grad_layer
        told = torch.stack(grad_frames) if grad_frames else None
        return grad_rows, grad.t() @ gated, grad.sum(0), None, told, None, *grads


def _layer_backward(
    grad_rows: Tensor | None,
    grad_z: Tensor,
    z: Tensor,
    x: Tensor,
    factors: Tensor,
    shift: int,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    residual_bias: Tensor | None,
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]]:
    """`_layer` backwards: from the gradients of the next rows and of z to those of x, of [a, b] and of the weights.

    The bias has that of [a, b], summed, which is left to the caller. Adds into `grad_rows` and `grad_z`, which nobody
    else reads.
    """
    grad_residual = grad_residual_bias = None
    if grad_rows is not None and residual is not None:
        grad_residual, grad_residual_bias = grad_rows.t() @ z, grad_rows.sum(0)
        grad_z.addmm_(grad_rows, residual)
    (a, b), grad_factors = factors.chunk(2, dim=1), torch.empty_like(factors)
    grad_a, grad_b = grad_factors.chunk(2, dim=1)
    torch.mul(grad_z, b, out=grad_a)
    torch.mul(grad_z, a, out=grad_b)
    torch.ops.aten.tanh_backward.grad_input(grad_a, a, grad_input=grad_a)  # times 1 - a a
    torch.ops.aten.sigmoid_backward.grad_input(grad_b, b, grad_input=grad_b)  # times b (1 - b)
    grad_weight = torch.zeros_like(weight)
    torch.mm(grad_factors.t(), x, out=grad_weight[-1])
    grad_x = grad_factors @ weight[-1] if grad_rows is None else grad_rows.addmm_(grad_factors, weight[-1])
    for tap, past in _past_taps(len(weight), shift, len(x)):
        torch.mm(grad_factors[past:].t(), x[:-past], out=grad_weight[tap])
        grad_x[:-past].addmm_(grad_factors[past:], weight[tap])
    return grad_x, grad_factors, (grad_weight, None, grad_residual, grad_residual_bias)


def _by_layer(weights: Sequence[Tensor | None]) -> list[LayerWeights]:
    return [cast(LayerWeights, tuple(weights[first : first + 4])) for first in range(0, len(weights), 4)]


class Head(nn.Module):
    """From the skip sum to the logits of the next sample: relu, H channels, relu, A channels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(config.skip_channels, config.head)
        self.output = nn.Linear(config.head, config.output_channels)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.hidden.weight, std=math.sqrt(2 / self.hidden.in_features))
        nn.init.normal_(self.output.weight, std=0.01 / math.sqrt(self.output.in_features))
        nn.init.zeros_(self.hidden.bias)
        nn.init.zeros_(self.output.bias)
        if self.config.output == "logistic":  # parts that start alike would stay alike
            with torch.no_grad():
                self.output.bias.view(3, -1)[1] = torch.linspace(-0.5, 0.5, self.config.mixtures)

    def forward(self, skip: Tensor) -> Tensor:
        """Skip sums [N, S] -> logits [N, A]."""
        return self.output(F.relu(self.hidden(F.relu(skip))))
