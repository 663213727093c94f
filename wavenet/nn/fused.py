"""The residual stack with a hand-written backward pass: the same values as `wavenet.model`, in less time and memory.

The definition (`ResidualLayer` in `wavenet/model.py`) is plain autograd, which keeps every intermediate result and
computes one operation at a time. Here all layers and the skip projection are one `torch.autograd.Function`:

- B streams of T samples are one matrix of N = T x B rows, **time first**: row t * B + b is sample t of stream b. The
  sample d steps earlier is d * B rows above, so a dilated convolution is one matrix product per tap on a slice of the
  same memory. Nothing is copied, and the zero padding is never multiplied.
- tanh and sigmoid overwrite the convolution's output in place; the backward pass needs only their results.
- Every layer writes its z into its own columns of one matrix [N, L*G], so that the skip sum over all layers is one
  product, and so is its gradient.
- The conditioning is interpolated to sample rate in the memory of the convolution's output, which it initialises.

Not supported, and a reason for `WaveNet.fused = False`: forward and backward hooks on layers, second derivatives, mixed
precision, `torch.compile`, and gradients that become ready layer by layer (here all of them are ready at the end).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from wavenet.nn.conditioning import GateBias


class LayerWeights(NamedTuple):
    """The tensors of one residual layer; the last layer has no residual projection."""

    dilated: Tensor  # [K, 2G, R], the last tap on the current sample
    dilated_bias: Tensor  # [2G]
    residual: Tensor | None  # [R, G]
    residual_bias: Tensor | None  # [R]


def supports(x: Tensor) -> bool:
    """Whether the fused stack can compute an input like this here: eager, in float32 or float64, without autocast."""
    return (
        x.device.type in ("cpu", "cuda")
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(x.device.type)
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not torch._C._are_functorch_transforms_active()  # `torch.func`: grad, vmap, jvp
    )


def residual_stack(
    x: Tensor,
    layers: Sequence[LayerWeights],
    dilations: Sequence[int],
    skip_weight: Tensor,
    skip_bias: Tensor,
    gate_bias: GateBias | None = None,
) -> Tensor:
    """All residual layers and the skip sum: x [B, T, R] -> [B, T, S], as `WaveNet.residual_stack`.

    skip_weight [S, L*G], skip_bias [S]. There are gradients for x, all weights, and the frames of the gate bias.
    Second derivatives raise `RuntimeError`.
    """
    streams, samples, _ = x.shape
    frames = None
    if gate_bias is not None:  # the layers' own biases are added per frame
        own = torch.stack([layer.dilated_bias for layer in layers])  # [L, 2G]
        frames = (gate_bias.frames + own[:, None, None]).contiguous()  # [L, F, B, 2G], each layer's in one piece
    shifts = tuple(dilation * streams for dilation in dilations)
    rows = x.transpose(0, 1).reshape(samples * streams, -1)  # [N, R]
    weights = [tensor for layer in layers for tensor in layer]
    skip = _Stack.apply(rows, skip_weight, skip_bias, shifts, frames, gate_bias, *weights)  # [N, S]
    return skip.view(samples, streams, -1).transpose(0, 1).contiguous()  # once, for all products behind it


def _forward(x: Tensor, z: Tensor, shift: int, layer: LayerWeights, gate_bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The equations of a layer. Writes z [N, G]; returns the next rows [N, R], and [tanh(a), sigmoid(b)] as [N, 2G].

    a, b = bias + sum over taps k of dilated[k] x[n - (K - 1 - k) * shift],  with zeros above the first row of x
    """
    taps = layer.dilated  # [K, 2G, R]
    gates = x @ taps[-1].t() if gate_bias is None else gate_bias.addmm_(x, taps[-1].t())  # [N, 2G]
    for tap, past in _past_taps(len(taps), shift, len(x)):
        gates[past:].addmm_(x[:-past], taps[tap].t())
    if gate_bias is None:
        gates.add_(layer.dilated_bias)
    a, b = gates.chunk(2, dim=1)  # [N, G] each
    a.mul_(2)
    gates.sigmoid_()
    a.mul_(2).sub_(1)  # tanh(a) = 2 sigmoid(2a) - 1, several times faster than tanh
    torch.mul(a, b, out=z)
    if layer.residual is None or layer.residual_bias is None:
        return x, gates
    return torch.addmm(x, z, layer.residual.t()).add_(layer.residual_bias), gates


def _past_taps(kernel_size: int, shift: int, rows: int) -> list[tuple[int, int]]:
    """The past taps that fall within the rows at all: (tap, rows back)."""
    taps = [(tap, (kernel_size - 1 - tap) * shift) for tap in range(kernel_size - 1)]
    return [(tap, past) for tap, past in taps if past < rows]


class _Stack(torch.autograd.Function):
    """rows [N, R] -> skip sums [N, S]. Kept for the backward pass: of each layer x, z, and tanh(a) and sigmoid(b)."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        skip_weight: Tensor,
        skip_bias: Tensor,
        shifts: tuple[int, ...],
        frames: Tensor | None,
        gate_bias: GateBias | None,
        *weights: Tensor | None,
    ) -> Tensor:
        gated = rows.new_empty(len(rows), skip_weight.shape[1])  # [N, L*G]
        kept = []
        for index, (z, layer) in enumerate(zip(gated.chunk(len(shifts), dim=1), _by_layer(weights), strict=True)):
            kept.append(rows)
            bias = None
            if gate_bias is not None and frames is not None:
                bias = _new_rows(gate_bias, frames[index], len(rows))  # [N, 2G]
            rows, gates = _forward(rows, z, shifts[index], layer, bias)
            kept.append(gates)
        ctx.save_for_backward(gated, skip_weight, *kept, *weights)
        ctx.shifts, ctx.gate_bias = shifts, gate_bias
        return torch.addmm(skip_bias, gated, skip_weight.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("the fused stack has no gradients of gradients: set WaveNet.fused = False")
        depth, gate_bias = len(ctx.shifts), ctx.gate_bias
        gated, skip_weight, *saved = ctx.saved_tensors
        kept, layers = saved[: 2 * depth], _by_layer(saved[2 * depth :])
        z, grad_z = gated.chunk(depth, dim=1), (grad @ skip_weight).chunk(depth, dim=1)  # depth x [N, G]
        grad_rows: Tensor | None = None  # the last layer has no residual output
        grads: list[Tensor | None] = []
        grad_frames: list[Tensor] = []
        for index in reversed(range(depth)):
            rows, gates = kept[2 * index : 2 * index + 2]
            grad_rows, grad_gates, grad_layer = _backward(
                grad_rows, grad_z[index], z[index], rows, gates, ctx.shifts[index], layers[index]
            )
            if gate_bias is None:
                grad_layer[1] = grad_gates.sum(0)  # of the layer's own bias; with conditioning it is part of `stacked`
            else:
                by_stream = grad_gates.view(gate_bias.samples, -1, grad_gates.shape[1])  # [T, B, 2G]
                grad_frames.insert(0, gate_bias.upsample_backward(by_stream))
            grads[:0] = grad_layer
        stacked = torch.stack(grad_frames) if grad_frames else None  # [L, F, B, 2G]
        return grad_rows, grad.t() @ gated, grad.sum(0), None, stacked, None, *grads


def _backward(
    grad_rows: Tensor | None, grad_z: Tensor, z: Tensor, x: Tensor, gates: Tensor, shift: int, layer: LayerWeights
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The backward pass of `_forward`: gradients of the next rows and of z -> those of x, [a, b], and the weights.

    The gradient of the dilated bias, the sum of that of [a, b], is computed by the caller. `grad_rows` and `grad_z` are
    changed in place: nothing else reads them.
    """
    taps = layer.dilated
    grad_residual = grad_residual_bias = None
    if grad_rows is not None and layer.residual is not None:
        grad_residual, grad_residual_bias = grad_rows.t() @ z, grad_rows.sum(0)
        grad_z.addmm_(grad_rows, layer.residual)
    (a, b), grad_gates = gates.chunk(2, dim=1), torch.empty_like(gates)  # a, b: tanh(a), sigmoid(b)
    grad_a, grad_b = grad_gates.chunk(2, dim=1)
    torch.mul(grad_z, b, out=grad_a)
    torch.mul(grad_z, a, out=grad_b)
    torch.ops.aten.tanh_backward.grad_input(grad_a, a, grad_input=grad_a)  # times 1 - a a
    torch.ops.aten.sigmoid_backward.grad_input(grad_b, b, grad_input=grad_b)  # times b (1 - b)
    grad_taps = torch.zeros_like(taps)
    torch.mm(grad_gates.t(), x, out=grad_taps[-1])
    grad_x = grad_gates @ taps[-1] if grad_rows is None else grad_rows.addmm_(grad_gates, taps[-1])
    for tap, past in _past_taps(len(taps), shift, len(x)):
        torch.mm(grad_gates[past:].t(), x[:-past], out=grad_taps[tap])
        grad_x[:-past].addmm_(grad_gates[past:], taps[tap])
    return grad_x, grad_gates, [grad_taps, None, grad_residual, grad_residual_bias]


def _new_rows(gate_bias: GateBias, frames: Tensor, rows: int) -> Tensor:
    """A layer's gate bias in new memory, which the layer overwrites: frames [F, B, 2G] -> [N, 2G], time first."""
    samples = gate_bias.upsample(frames)  # [T, B, 2G]; [1, B, 2G] for speakers alone
    if gate_bias.weights is None:
        samples = samples.repeat(gate_bias.samples, 1, 1)
    return samples.view(rows, -1)


def _by_layer(weights: Sequence[Tensor | None]) -> list[LayerWeights]:
    size = len(LayerWeights._fields)
    return [LayerWeights(*cast(Any, weights[first : first + size])) for first in range(0, len(weights), size)]
