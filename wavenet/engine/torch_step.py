"""One step of the torch engine: rearranged weights, the ring buffer of the queues, and a list of PyTorch calls.

Layer l reads its inputs up to (K - 1) * d_l samples back, so it owns that many slots of one ring tensor, and one more:
a step writes to the slot that it does not read, and can therefore be repeated. Per sample:

    ring --index_select--> past inputs --one batched product--> `work`: the past taps' contribution to every layer
    layer 0, 1, ...: three small operations each (below)
    `work` --index_copy--> ring: one slot per layer;   z of all layers --> skip --> head --> output parameters

A PyTorch call takes one or two microseconds however small it is, so the time of a step is the number of calls. Three
rearrangements of the weights, made once by `PackedWeights`, save half of the calls:

1. sigmoid(b) = (1 + tanh(b / 2)) / 2, so one call of tanh computes both halves of the gate, with the weights of b
   halved: with t = tanh(a) and u = tanh(b / 2), 2 z = t + t u; the weights that are multiplied by z are halved.
2. z and x are adjacent in memory, so that x' = x + Q z is one product, [Q, 1] [z; x], and in narrow networks the
   current tap W of the next layer is folded into it: [W x'; x'] = [[W Q, W], [Q, 1]] [z; x].
3. The embedding is only used by layer 0, so its table contains [W_0 x; x].

In a conditioned network the gate bias of the sample, interpolated between two frames, replaces the convolution's bias.
Nothing is allocated per sample: a step is a fixed list of calls on fixed buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wavenet.config import ModelConfig
from wavenet.engine.conditioning import ConditioningFrames
from wavenet.model import WaveNet
from wavenet.nn.linear_prediction import LinearPredictor

# Matrix products of one to three rows sum in another order than larger ones. Unused rows are added to small batches, so
# that a stream is the same to the last bit alone and in a batch; a single stream is a third slower for it.
LEAST_ROWS = 4
# Weights per layer up to which the tap is folded in: it saves a call, but adds half as many weights again, and in wider
# layers reading those takes longer than a call.
FOLD_UP_TO = 32_768


class PackedWeights:
    """The network's weights, rearranged for a step. A row of `work` has the width W = 2G + R: [a | b | x]."""

    folded: bool  # whether `onward` computes a whole row, or x only, from which `now` then computes a and b
    table: Tensor  # [256, W], or [input channels, W] for 16 bits: contribution of an input code or channel to layer 0
    past: Tensor  # [K-1, L, R, W]: past taps, tap 0 (the oldest) first; zero for the x part
    bias: Tensor  # [L, 1, W]
    onward: list[Tensor]  # L-1 times [W or R, G+R]: from [z; x] of a layer to the next one's row or x
    now: list[Tensor]  # L-1 times [2G, R]: current tap of layers 1, 2, ...
    skip: Tensor  # [S, L*G]
    halves: Tensor  # [2G]: factors of a (1) and b (1/2)
    folded_bias: Tensor  # [L, 1, 2G]: the part of `bias` that is not the convolution's own

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
        weights = {name: tensor.double() for name, tensor in tensors.items()}  # rounded to float32 once, at the end
        layers, gate, width = config.layers, config.gate, 2 * config.gate + config.residual_channels
        self.folded = width * (gate + config.residual_channels) <= FOLD_UP_TO
        halves = torch.ones_like(weights["layers.0.dilated.bias"])  # [2G]
        halves[gate:] = 0.5
        taps = [weights[f"layers.{layer}.dilated.weight"] * halves[:, None] for layer in range(layers)]  # [K, 2G, R]
        biases = [weights[f"layers.{layer}.dilated.bias"] * halves for layer in range(layers)]  # [2G]
        rows = [F.pad(bias, (0, width - 2 * gate)) for bias in biases]  # [W]
        identity = torch.eye(config.residual_channels).to(halves)
        self.onward, self.now = [], []
        for layer in range(layers - 1):
            q, q_bias = weights[f"layers.{layer}.residual.weight"], weights[f"layers.{layer}.residual.bias"]
            now = taps[layer + 1][-1]
            reached = torch.cat([now, identity]) if self.folded else identity  # [W or R, R]: what x' adds to the row
            self.onward.append((reached @ torch.cat([q / 2, identity], dim=1)).float())
            self.now.append(now.float())
            rows[layer + 1][-len(reached) :] += reached @ q_bias
        table = weights["embedding.weight"]
        past = torch.stack([tap[:-1].transpose(1, 2) for tap in taps], dim=1)  # [K-1, L, R, 2G]
        self.table = torch.cat([table @ taps[0][-1].t(), table], dim=1).float()
        self.past = F.pad(past, (0, width - 2 * gate)).float().contiguous()
        self.bias = torch.stack(rows)[:, None].float()
        self.halves = halves.float()
        self.folded_bias = (torch.stack(rows)[:, : 2 * gate] - torch.stack(biases))[:, None].float()
        self.skip = (weights["skip.weight"] / 2).float()

    def gate_bias(self, frames: ConditioningFrames) -> Tensor:
        """The gate biases of a chunk, rearranged for a step: [CHUNK + 2 or 1, L, B, 2G]."""
        bias = torch.from_numpy(frames.gate_bias).to(self.halves.device).permute(1, 2, 0, 3)  # [F, L, B, 2G]
        return torch.addcmul(self.folded_bias, bias, self.halves)


class RingLayout:
    """The slots of each layer in the ring. The input of sample t is in slot t mod `sizes` of a layer."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        dilations = torch.tensor(config.dilations, device=device)
        back = torch.arange(1 - config.kernel_size, 1, device=device)  # [K]: of tap 0, 1, ..., in dilations
        self.taps = back[:, None] * dilations  # [K, L]: from the current sample to the input of each tap, in samples
        self.sizes = 1 - self.taps[0]  # [L] slots of each layer
        self.first = self.sizes.cumsum(0) - self.sizes  # [L] first slot of each layer
        self.total = int(self.sizes.sum())

    def newest(self, layer: int, position: int) -> Tensor:
        """The slots of a layer that a step at `position` may read, [(K-1) d], in the order of their samples."""
        size = int(self.sizes[layer])
        times = torch.arange(position - size + 1, position, device=self.sizes.device)
        return times % size + self.first[layer]


class StepProgram:
    """The ring, the buffers of one step, and the step itself: a list of calls on them.

    B is at least `LEAST_ROWS` here; rows beyond the streams are unused. ring: [slots, B, R]. work: [L, B, W]; a row is
    [a | b | x] before a layer's gate and [t | 2z | x] after it.

    The caller sets `codes` (mu-law) or `samples` (16 bits) and the gate bias, then calls `run`.
    """

    def __init__(self, model: WaveNet, packed: PackedWeights, layout: RingLayout, streams: int) -> None:
        config, device = model.config, packed.bias.device
        rows = max(streams, LEAST_ROWS)
        self.model, self.packed, self.layout, self.streams = model, packed, layout, streams
        self.all_codes: NDArray[np.int64] = np.zeros(rows, dtype=np.int64)
        self.all_samples = torch.zeros(rows, config.input_channels if config.output != "mulaw" else 0)
        self.codes = self.all_codes[:streams]  # mu-law input
        self.samples = self.all_samples[:streams]  # 16-bit input
        self.ring = torch.zeros(layout.total, rows, config.residual_channels, device=device)
        self.slots = torch.empty_like(layout.taps)  # [K, L]: slots of the past taps, then of the new inputs
        self.work = torch.empty(config.layers, rows, 2 * config.gate + config.residual_channels, device=device)
        self.outputs = torch.empty(rows, config.output_channels, device=device)  # [B, A]
        self.result = self.outputs[:streams]  # on the CPU `run` returns this memory
        self.bias = packed.bias.repeat(1, rows, 1) if config.conditioned else packed.bias  # [L, B or 1, W]
        self.loaded: tuple[ConditioningFrames, Tensor] | None = None  # a chunk, and its gate biases
        self.predictor = LinearPredictor(config, streams) if config.linear_prediction else None
        self.before, self.after = self._begin_rows(), [*self._store(), *self._head()]  # of the layers
        self.muted: tuple[int, ...] = ()
        self.calls = [*self.before, *self._layers(), *self.after]

    def copy(self) -> StepProgram:
        """An independent program with the same queues."""
        other = StepProgram(self.model, self.packed, self.layout, self.streams)
        other.ring.copy_(self.ring)
        return other

    def set_gate_bias(self, frames: ConditioningFrames, row: int, weight: float) -> None:
        """Set the gate bias of the next sample: see `NumpyConditioningState.neighbours`."""
        gates = self.bias[:, : self.streams, : 2 * self.model.config.gate]  # [L, B, 2G]
        if self.loaded is None or self.loaded[0] is not frames:
            bias = self.packed.gate_bias(frames)  # [CHUNK + 2 or 1, L, B, 2G]
            if len(bias) == 1:
                gates.copy_(bias[0])
            self.loaded = frames, bias  # last: an interrupted call is then repeated
        bias = self.loaded[1]
        if len(bias) > 1:
            torch.lerp(bias[row], bias[row + 1], weight, out=gates)

    def mute(self, layers: tuple[int, ...]) -> None:
        """Mute these layers, and no others, from the next sample on."""
        if layers != self.muted:
            self.muted = layers
            self.calls = [*self.before, *self._layers(), *self.after]

    def run(self, position: int) -> NDArray[np.float32]:
        """Compute the output parameters [streams, A] of the sample at `position`, and store the layers' inputs.

        The result is overwritten by the next call.
        """
        torch.add(self.layout.taps, position, out=self.slots)
        for call in self.calls:
            call()
        return self.result.numpy(force=True)

    def _begin_rows(self) -> list[Callable[[], Any]]:
        """Initialise the rows of `work`: the bias and the past taps of every layer, and the input of layer 0."""
        packed, slots = self.packed, self.slots
        past_slots = slots[:-1].view(-1)
        past = self.ring.new_empty(len(slots) - 1, slots.shape[1], *self.ring.shape[1:])  # [K-1, L, B, R]
        added = self.work.new_empty(self.work.shape[1:])  # [B, W]
        if self.model.config.output == "mulaw":
            codes = torch.from_numpy(self.all_codes).to(self.ring.device)
            read = [
                partial(codes.copy_, torch.from_numpy(self.all_codes)),  # on the CPU both are the same memory
                partial(torch.index_select, packed.table, 0, codes, out=added),
            ]
        else:
            samples = self.all_samples.to(self.ring.device)
            read = [partial(samples.copy_, self.all_samples), partial(torch.mm, samples, packed.table, out=added)]
        return [
            partial(slots.remainder_, self.layout.sizes),
            partial(slots.add_, self.layout.first),
            partial(torch.index_select, self.ring, 0, past_slots, out=past.view(-1, *self.ring.shape[1:])),
            partial(torch.baddbmm, self.bias, past[0], packed.past[0], out=self.work),
            *(partial(self.work.baddbmm_, past[tap], packed.past[tap]) for tap in range(1, len(past))),
            *read,
            partial(self.work[0].add_, added),
        ]

    def _layers(self) -> list[Callable[[], Any]]:
        packed, gate = self.packed, self.model.config.gate
        calls: list[Callable[[], Any]] = []
        for layer, row in enumerate(self.work):  # [B, W]
            t, u = row[:, :gate], row[:, gate : 2 * gate]
            if layer in self.muted:
                calls.append(u.zero_)
            else:
                calls.append(row[:, : 2 * gate].tanh_)
                calls.append(partial(torch.addcmul, t, t, u, out=u))  # 2z, in place of u
            if layer + 1 == len(self.work):
                break
            following = self.work[layer + 1]
            if packed.folded:
                calls.append(_add_product(following, row[:, gate:], packed.onward[layer]))
            else:
                following_x = following[:, 2 * gate :]
                calls.append(_add_product(following_x, row[:, gate:], packed.onward[layer]))
                calls.append(_add_product(following[:, : 2 * gate], following_x, packed.now[layer]))
        return calls

    def _store(self) -> list[Callable[[], Any]]:
        inputs = self.work[:, :, 2 * self.model.config.gate :]  # [L, B, R]
        return [partial(self.ring.index_copy_, 0, self.slots[-1], inputs)]

    def _head(self) -> list[Callable[[], Any]]:
        config, head, rows = self.model.config, self.model.head, self.work.shape[1]
        gated = self.work.new_empty(rows, config.layers * config.gate)  # [B, L*G]
        by_layer = gated.view(rows, config.layers, config.gate).transpose(0, 1)  # [L, B, G]
        skip = gated.new_empty(rows, config.skip_channels)
        hidden = gated.new_empty(rows, config.head)
        return [
            partial(by_layer.copy_, self.work[:, :, config.gate : 2 * config.gate]),
            _affine(skip, gated, self.packed.skip, self.model.skip.bias),
            _in_place(head.activation, skip),
            _affine(hidden, skip, head.hidden.weight, head.hidden.bias),
            _in_place(head.activation, hidden),
            _affine(self.outputs, hidden, head.output.weight, head.output.bias),
        ]


def _in_place(activation: Callable[[Tensor], Tensor], target: Tensor) -> Callable[[], Tensor]:
    """The call that applies the activation to target."""
    return target.relu_ if activation is F.relu else lambda: target.copy_(activation(target))


def _add_product(target: Tensor, source: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """The call that adds source [B, in] times weight [out, in], transposed, to target [B, out]."""
    return partial(target.addmm_, source, weight.t())


def _affine(target: Tensor, source: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """The call that sets target [B, out] to bias [out] plus source [B, in] times weight [out, in], transposed."""
    return partial(torch.addmm, bias, source, weight.t(), out=target)
