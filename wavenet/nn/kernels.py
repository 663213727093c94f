"""Layers of training in float32 on processors with AVX2 or AVX-512: the equations of `wavenet.nn.fused` in C++.

The extension module (wavenet/nn/cpp) computes a layer for blocks of rows that stay in the processor's caches, where
PyTorch passes over the whole matrix once per operation, and its matrix products are as fast on processors of all
vendors. It runs on the calling thread alone, without the interpreter's lock. Matrices whose numbers of channels are no
multiples of 16, other types and devices, and installations without the module are left to PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from wavenet.nn.fused import LayerWeights

try:
    from wavenet.nn import _kernels
except ImportError:  # built without a compiler for them
    _kernels = None  # type: ignore[assignment]

PANEL = 16  # channels are computed in vectors of so many

enabled = _kernels is not None and bool(_kernels.name())  # False: PyTorch computes everything


def support(*matrices: Tensor) -> bool:
    """Whether matrices of these numbers of columns, types and devices can be computed here."""
    return enabled and all(
        matrix.dtype == torch.float32 and matrix.device.type == "cpu" and matrix.shape[1] % PANEL == 0
        for matrix in matrices
    )


def support_layer(rows: Tensor, skip: Tensor) -> bool:
    """Whether a layer of rows [N, R] with the skip projection [S, G] can be computed here."""
    return support(rows, skip, skip.t())


def layer_forward(
    x: Tensor, z: Tensor, shift: int, layer: LayerWeights, gate_bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `wavenet.nn.fused.layer_forward`."""
    sigmoid = x.new_empty(z.shape)
    projection = None if layer.residual is None else layer.residual.t()  # [G, R]
    next_rows = x if projection is None else torch.empty_like(x)
    bias = layer.dilated_bias if gate_bias is None else gate_bias
    held = _contiguous(x, layer.dilated.transpose(1, 2), bias, projection, layer.residual_bias)
    taken, dilated, start, matrix, offset = map(_address, held)
    sizes = len(x), shift, len(layer.dilated), x.shape[1], z.shape[1]
    made = _address(sigmoid), _address(z), z.stride(0), _address(next_rows)
    _kernels.layer_forward(*sizes, taken, dilated, start, gate_bias is not None, matrix, offset, *made)
    return next_rows, sigmoid


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
    """As `wavenet.nn.fused.layer_backward`."""
    residual = None if grad_rows is None else layer.residual
    grad_x = torch.zeros_like(x) if grad_rows is None else grad_rows  # in place
    grad_gates = x.new_empty(len(x), 2 * z.shape[1])
    grads = [None if weight is None else _zeros(weight) for weight in layer]
    if residual is None:
        grads[2:] = [None, None]
    held = _contiguous(x, sigmoid, layer.dilated, residual, skip, grad_skip)
    taken, kept, *matrices = map(_address, held)
    sizes = len(x), shift, len(layer.dilated), x.shape[1], z.shape[1], len(skip)
    made = map(_address, (grad_x, grad_gates, *grads))
    _kernels.layer_backward(*sizes, taken, kept, _address(z), z.stride(0), *matrices, *made)
    return grad_x, grad_gates, grads


def linear(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """f(x) weight^T + bias: x [..., K] -> [..., M], with f ReLU or the identity; weight [M, K], bias [M].

    Where it is computed here, gradients of gradients raise `RuntimeError`.
    """
    rows = x.reshape(-1, x.shape[-1])
    if not support(rows, weight, weight.t()):
        return F.linear(F.relu(x) if relu else x, weight, bias)
    y: Tensor = _Linear.apply(rows, weight, bias, relu)
    return y.view(*x.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.relu = relu
        return linear_forward(x, weight, bias, relu)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        check_order()
        x, weight = ctx.saved_tensors
        return *linear_backward(x, grad, weight, ctx.relu, ctx.needs_input_grad[0]), None


def linear_forward(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """As `linear`: x [N, K] -> [N, M]."""
    y = x.new_empty(len(x), len(weight))
    held = _contiguous(x, weight.t(), bias)
    taken, matrix, offset = map(_address, held)
    _kernels.linear_forward(len(x), x.shape[1], len(weight), relu, taken, matrix, offset, _address(y))
    return y


def linear_backward(
    x: Tensor, grad: Tensor, weight: Tensor, relu: bool = False, inputs: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """From the gradient of y [N, M] to those of x (None unless `inputs`), the weight and the bias."""
    grads = torch.empty_like(x) if inputs else None, _zeros(weight), x.new_zeros(len(weight))
    held = _contiguous(x, grad, weight)
    taken, given, matrix = map(_address, held)
    _kernels.linear_backward(len(x), x.shape[1], len(weight), relu, taken, given, matrix, *map(_address, grads))
    return grads


def check_order() -> None:
    """In a backward pass: raises `RuntimeError` for gradients of gradients (create_graph=True)."""
    if torch.is_grad_enabled():
        raise RuntimeError("the fused stack has no gradients of gradients: set WaveNet.fused = False")


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors in row-major memory; the list keeps copies alive while their addresses are used."""
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _zeros(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight, memory_format=torch.contiguous_format)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
