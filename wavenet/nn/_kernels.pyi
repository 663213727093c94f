"""The extension module of wavenet/nn/cpp/binding.cpp. Matrices are given by the addresses of their memory."""

def name() -> str: ...
def layer_forward(
    rows: int,
    shift: int,
    taps: int,
    residual: int,
    gate: int,
    x: int,
    dilated: int,
    bias: int,
    bias_per_row: bool,
    projection: int,
    projection_bias: int,
    sigmoid: int,
    z: int,
    z_stride: int,
    next: int,
    /,
) -> None: ...
def layer_backward(
    rows: int,
    shift: int,
    taps: int,
    residual: int,
    gate: int,
    skip_channels: int,
    x: int,
    sigmoid: int,
    z: int,
    z_stride: int,
    dilated: int,
    projection: int,
    skip: int,
    grad_skip: int,
    grad_rows: int,
    grad_gates: int,
    grad_dilated: int,
    grad_bias: int,
    grad_projection: int,
    grad_projection_bias: int,
    /,
) -> None: ...
def linear_forward(
    rows: int, inputs: int, outputs: int, relu: bool, x: int, weight: int, bias: int, y: int, /
) -> None: ...
def linear_backward(
    rows: int,
    inputs: int,
    outputs: int,
    relu: bool,
    x: int,
    grad: int,
    weight: int,
    grad_x: int,
    grad_weight: int,
    grad_bias: int,
    /,
) -> None: ...
