"""The residual stack with a hand-written backward pass: the same values as `wavenet.model`, in less time and memory.

The definition (`ResidualLayer` in `wavenet/model.py`) is plain autograd, which keeps every intermediate result and
computes one operation at a time. Here every layer, and the skip projection, is one `torch.autograd.Function`:

- B streams of T samples are one matrix of N = T x B rows, **time first**: row t * B + b is sample t of stream b. The
  sample d steps earlier is d * B rows above, so a dilated convolution is one matrix product per tap on a slice of the
  same memory. Nothing is copied, and the zero padding is never multiplied.
- The backward pass needs of a layer its x, z and sigmoid(b): tanh(a) is the quotient of the last two.
- Every layer writes its z into its own columns of one matrix [N, L*G], so that the skip sum over all layers is one
  product. In the backward pass each layer multiplies the gradient of the sum by its own columns of the projection, so
  that the gradient of all z is never in memory at once. That gradient reaches the layers along a chain that starts at
  the skip sum: in the forward pass it is a tensor of zeros without memory.
- The conditioning is interpolated to sample rate in the memory of the convolution's output, which it initialises.
- The gradients of a layer's weights are ready when its backward pass ends: distributed training exchanges them during
  that of the earlier layers.

The equations are computed by PyTorch, or in float32 on processors with AVX2 or AVX-512 by `wavenet.nn.kernels`.

Not supported, and a reason for `WaveNet.fused = False`: forward and backward hooks on layers, second derivatives,
autocast except to bfloat16 on a GPU, and `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavenet.nn import kernels
from wavenet.nn.conditioning import GateBias


class LayerWeights(NamedTuple):
    """The tensors of one residual layer; the last layer has no residual projection."""

    dilated: Tensor  # [K, 2G, R], the last tap on the current sample
    dilated_bias: Tensor  # [2G]
    residual: Tensor | None  # [R, G]
    residual_bias: Tensor | None  # [R]


def supports(x: Tensor) -> bool:
    """Whether the fused stack can compute an input like this here: eager, in float32 or float64.

    Under autocast on a GPU in bfloat16: with large batches it is 1.1 times as fast as the definition there, and takes
    0.57 of its memory (H100). Float16 has too small a range: sigmoid(b) could be zero.
    """
    return (
        x.device.type in ("cpu", "cuda")
        and x.dtype in (torch.float32, torch.float64)
        and (not torch.is_autocast_enabled(x.device.type) or _is_autocast_to_bfloat16(x))
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not torch._C._are_functorch_transforms_active()  # `torch.func`: grad, vmap, jvp
    )


def _is_autocast_to_bfloat16(x: Tensor) -> bool:
    return torch.is_autocast_enabled("cuda") and x.is_cuda and torch.get_autocast_dtype("cuda") == torch.bfloat16


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
    return residual_layers(x, layers, dilations, skip_weight, skip_bias, gate_bias)[1]


def residual_layers(
    x: Tensor,
    layers: Sequence[LayerWeights],
    dilations: Sequence[int],
    skip_weight: Tensor,
    skip_bias: Tensor,
    gate_bias: GateBias | None = None,
) -> tuple[Tensor, Tensor]:
    """`residual_stack` of L consecutive layers: x [B, T, R] -> x of the layer after them, and their skip sum."""
    if not _is_autocast_to_bfloat16(x):
        return _residual_layers(x, layers, dilations, skip_weight, skip_bias, gate_bias)
    x, skip_weight, skip_bias = x.bfloat16(), skip_weight.bfloat16(), skip_bias.bfloat16()
    cast = [LayerWeights._make(None if part is None else part.bfloat16() for part in layer) for layer in layers]
    with torch.autocast("cuda", enabled=False):
        return _residual_layers(x, cast, dilations, skip_weight, skip_bias, gate_bias)


def _residual_layers(
    x: Tensor,
    layers: Sequence[LayerWeights],
    dilations: Sequence[int],
    skip_weight: Tensor,
    skip_bias: Tensor,
    gate_bias: GateBias | None,
) -> tuple[Tensor, Tensor]:
    streams, samples, _ = x.shape
    rows = x.transpose(0, 1).reshape(samples * streams, -1)  # [N, R]
    gated = rows.new_empty(len(rows), skip_weight.shape[1])  # [N, L*G]
    own = [part.data for part in gated.chunk(len(layers), 1)]  # each is kept, although the others are written later
    chain = rows.new_zeros(()).expand(len(rows), len(skip_weight))  # [N, S]
    frames = [None] * len(layers) if gate_bias is None else gate_bias.frames.unbind()  # [F, B, 2G] each
    columns = skip_weight.detach().chunk(len(layers), 1)  # the gradient of this weight is that of the skip sum
    for layer, dilation, bias, z, skip in zip(layers, dilations, frames, own, columns, strict=True):
        rows, chain = _Layer.apply(rows, chain, z, skip, dilation * streams, gate_bias, bias, *layer)
    total = _SkipSum.apply(chain, gated, skip_weight, skip_bias)  # [N, S]
    next_x, skip_sum = (tensor.view(samples, streams, -1).transpose(0, 1).contiguous() for tensor in (rows, total))
    return next_x, skip_sum


class _Layer(torch.autograd.Function):
    """rows [N, R] -> the next rows. Writes z [N, G]. Kept for the backward pass: x, z and sigmoid(b)."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        chain: Tensor,
        z: Tensor,
        skip: Tensor,
        shift: int,
        gate_bias: GateBias | None,
        frames: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        layer = LayerWeights(*weights)
        bias = None
        if gate_bias is not None and frames is not None:
            bias = _new_rows(gate_bias, frames + layer.dilated_bias, len(rows)).to(rows.dtype)  # [N, 2G]
        forward = kernels.layer_forward if kernels.support_layer(rows, skip) else layer_forward
        next_rows, sigmoid = forward(rows, z, shift, layer, bias)
        ctx.save_for_backward(rows, sigmoid, z, skip, *weights)
        ctx.shift, ctx.gate_bias = shift, gate_bias
        ctx.set_materialize_grads(False)  # the last layer has no next rows
        return next_rows, rows.new_zeros(()).expand_as(chain)

    @staticmethod
    def backward(ctx: Any, grad_rows: Tensor | None, grad_skip: Tensor) -> tuple[Tensor | None, ...]:
        kernels.check_order()
        rows, sigmoid, z, skip, *weights = ctx.saved_tensors
        layer, gate_bias = LayerWeights(*weights), ctx.gate_bias
        backward = kernels.layer_backward if kernels.support_layer(rows, skip) else layer_backward
        grad_rows, grad_gates, grads = backward(grad_rows, grad_skip, skip, rows, sigmoid, z, ctx.shift, layer)
        grad_frames = None
        if gate_bias is not None:
            by_stream = grad_gates.to(gate_bias.frames.dtype).view(gate_bias.samples, -1, grad_gates.shape[1])
            grad_frames = gate_bias.upsample_backward(by_stream)
        return grad_rows, grad_skip, None, None, None, None, grad_frames, *grads


class _SkipSum(torch.autograd.Function):
    """z of all layers [N, L*G] -> skip sums [N, S]. The gradient of these is returned as that of the chain."""

    @staticmethod
    def forward(ctx: Any, chain: Tensor, gated: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(gated, weight)
        if kernels.support(gated, weight, weight.t()):
            return kernels.linear_forward(gated, weight, bias)
        return torch.addmm(bias, gated, weight.t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kernels.check_order()
        gated, weight = ctx.saved_tensors
        if kernels.support(gated, weight, weight.t()):
            return grad, None, *kernels.linear_backward(gated, grad, weight, inputs=False)[1:]
        return grad, None, grad.t() @ gated, grad.sum(0)


def layer_forward(
    x: Tensor, z: Tensor, shift: int, layer: LayerWeights, gate_bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The equations of a layer. Writes z [N, G]; returns the next rows [N, R], and sigmoid(b) [N, G].

    a, b = bias + sum over taps k of dilated[k] x[n - (K - 1 - k) * shift],  with zeros above the first row of x
    """
    taps = layer.dilated  # [K, 2G, R]
    gates = x @ taps[-1].t() if gate_bias is None else gate_bias.addmm_(x, taps[-1].t())  # [N, 2G]
    for tap, past in _past_taps(len(taps), shift, len(x)):
        gates[past:].addmm_(x[:-past], taps[tap].t())
    if gate_bias is None:
        gates.add_(layer.dilated_bias)
    a, b = gates.chunk(2, dim=1)  # [N, G] each
    sigmoid = b.sigmoid()
    a.mul_(2).sigmoid_().mul_(2).sub_(1)  # tanh(a) = 2 sigmoid(2a) - 1, several times faster than tanh
    torch.mul(a, sigmoid, out=z)
    if layer.residual is None or layer.residual_bias is None:
        return x, sigmoid
    return torch.addmm(x, z, layer.residual.t()).add_(layer.residual_bias), sigmoid


def _past_taps(kernel_size: int, shift: int, rows: int) -> list[tuple[int, int]]:
    """The past taps that fall within the rows at all: (tap, rows back)."""
    taps = [(tap, (kernel_size - 1 - tap) * shift) for tap in range(kernel_size - 1)]
    return [(tap, past) for tap, past in taps if past < rows]


def layer_backward(
    grad_rows: Tensor | None,
    grad_skip: Tensor,
    skip: Tensor,
    x: Tensor,
    sigmoid: Tensor,
    z: Tensor,
    shift: int,
    layer: LayerWeights,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The backward pass of `layer_forward`.

    grad_rows, grad_skip: gradients of the next rows (None without them; changed in place: nothing else reads it), and
    of the skip sum. skip [S, G]: the layer's columns of the skip projection.
    Returns the gradients of x, of a and b [N, 2G], and of the layer's weights.
    """
    taps = layer.dilated
    grad_z = grad_skip @ skip  # [N, G]
    grad_residual = grad_residual_bias = None
    if grad_rows is not None and layer.residual is not None:
        grad_residual, grad_residual_bias = grad_rows.t() @ z, grad_rows.sum(0)
        grad_z.addmm_(grad_rows, layer.residual)
    tanh = z / sigmoid  # which is never zero
    grad_gates = x.new_empty(len(x), 2 * z.shape[1])  # [N, 2G]
    grad_a, grad_b = grad_gates.chunk(2, dim=1)
    torch.mul(grad_z, sigmoid, out=grad_a)
    torch.ops.aten.tanh_backward.grad_input(grad_a, tanh, grad_input=grad_a)  # times 1 - tanh(a)^2
    torch.mul(grad_z, tanh, out=grad_b)
    torch.ops.aten.sigmoid_backward.grad_input(grad_b, sigmoid, grad_input=grad_b)  # times s (1 - s)
    grad_taps = torch.zeros_like(taps)
    torch.mm(grad_gates.t(), x, out=grad_taps[-1])
    grad_x = grad_gates @ taps[-1] if grad_rows is None else grad_rows.addmm_(grad_gates, taps[-1])
    for tap, past in _past_taps(len(taps), shift, len(x)):
        torch.mm(grad_gates[past:].t(), x[:-past], out=grad_taps[tap])
        grad_x[:-past].addmm_(grad_gates[past:], taps[tap])
    return grad_x, grad_gates, [grad_taps, grad_gates.sum(0), grad_residual, grad_residual_bias]


def _new_rows(gate_bias: GateBias, frames: Tensor, rows: int) -> Tensor:
    """A layer's gate bias in new memory, which the layer overwrites: frames [F, B, 2G] -> [N, 2G], time first."""
    samples = gate_bias.upsample(frames.contiguous())  # [T, B, 2G]; [1, B, 2G] for speakers alone
    if gate_bias.weights is None:
        samples = samples.repeat(gate_bias.samples, 1, 1)
    return samples.view(rows, -1)
