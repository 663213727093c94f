"""Cached queues in PyTorch: every layer runs once per sample (Le Paine et al. 2016, "Fast Wavenet Generation").

Layer l looks (K - 1) * d_l samples back, so it owns that many slots of one ring tensor; its oldest input lies in the
slot that its newest input will overwrite. Per sample:

    ring --index_select--> past inputs --one batched product--> `work`: what the past adds to every layer
    layer 0, 1, ...: three small operations each (below)
    `work` --index_copy--> ring: one slot per layer;   z of all layers --> skip --> head --> logits

A PyTorch call costs one or two microseconds however small it is, so the cost is the number of calls. Three
rearrangements of the weights, made once by `PackedWeights`, save half of them:

1. sigmoid(b) = (1 + tanh(b / 2)) / 2, so one tanh serves both halves of the gate, the weights of b being halved:
   with t = tanh(a) and u = tanh(b / 2), 2 z = t + t u; the weights that read z are halved.
2. z and x lie side by side, so that x' = x + Q z is one product, [Q, 1] [z; x], and in narrow networks the current
   tap W of the next layer is folded into it: [W x'; x'] = [[W Q, W], [Q, 1]] [z; x].
3. The embedding is only ever read through layer 0, so its table holds [W_0 x; x].

Nothing is allocated per sample: all buffers belong to the state, and a step is a fixed list of calls on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from wavenet.config import ModelConfig
from wavenet.engine.base import State
from wavenet.engine.stepped import SteppedEngine, fed_codes
from wavenet.mulaw import SILENCE

# Products of one to three rows add in another order than larger ones. With idle rows beside a few streams, a stream is
# the same to the last bit alone and in a batch, which costs a single stream a third of its speed.
LEAST_ROWS = 4
# Weights per layer up to which the tap is folded in: it saves a call and adds half as many weights again, which in
# wider layers take longer to read than a call takes.
FOLD_UP_TO = 32_768


class PackedWeights:
    """The network's weights as a step reads them. A row of `work` has the width W = 2G + R: [a | b | x]."""

    folded: bool  # whether `onward` makes a whole row, or x only, which `now` then takes to a and b
    table: Tensor  # [256, W]: what each input code adds to layer 0's row
    past: Tensor  # [K-1, L, R, W]: from the past inputs, tap 0 (the oldest) first; adds nothing to the x part
    bias: Tensor  # [L, 1, W]
    onward: list[Tensor]  # L-1 times [W or R, G+R]: from [z; x] of a layer to the next one's row or x
    now: list[Tensor]  # L-1 times [2G, R]: current tap of layers 1, 2, ...
    skip: Tensor  # [S, L*G]

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
        self.skip = (weights["skip.weight"] / 2).float()


class Slots:
    """Which slots of the ring belong to which layer; the layout never changes."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        dilations = torch.tensor(config.dilations, device=device)
        back = torch.arange(
            config.kernel_size - 1, 0, -1, device=device
        )  # [K-1]: dilations that tap 0, 1, ... looks back
        self.lags = back[:, None] * dilations  # [K-1, L] samples
        self.sizes = self.lags[0]  # [L] slots of each layer
        self.first = self.sizes.cumsum(0) - self.sizes  # [L] first slot of each layer
        self.total = int(self.sizes.sum())

    def of_layer(self, layer: int, position: int) -> Tensor:
        """All slots of a layer, [(K-1) d], in the order of the samples they hold just before `position`."""
        size = int(self.sizes[layer])
        times = torch.arange(position - size, position, device=self.sizes.device)
        return times % size + self.first[layer]


class QueueState(State):
    """The ring, the buffers of one step, and the step itself: a list of calls on them.

    B counts at least `LEAST_ROWS` here; rows beyond the streams are idle. ring: [slots, B, R]. clock: [K-1, L],
    position minus lag of every past tap. work: [L, B, W], a row being [a | b | x] before a layer's gate and
    [t | 2z | x] after it.
    """

    def __init__(self, engine: QueueEngine, streams: int) -> None:
        super().__init__(streams)
        config, device = engine.config, engine.device
        self.engine = engine
        rows = max(streams, LEAST_ROWS)
        self.inputs = np.full(rows, SILENCE)
        self.codes = self.inputs[:streams]
        self.ring = torch.zeros(engine.slots.total, rows, config.residual_channels, device=device)
        self.clock = -engine.slots.lags
        self.work = torch.empty(config.layers, rows, 2 * config.gate + config.residual_channels, device=device)
        self.logits = torch.empty(rows, config.output_channels, device=device)
        self.calls = [*self._begin_rows(), *self._layers(), *self._store(), *self._head()]

    def copy(self) -> Self:
        with self.engine.running():
            other = type(self)(self.engine, self.streams)
            other.ring.copy_(self.ring)
            other.clock.copy_(self.clock)
        other.codes[:] = self.codes
        other.position = self.position
        return other

    def _begin_rows(self) -> list[Callable[[], Any]]:
        """Every row of `work` begins with its bias and what the queues add to it; layer 0's also with the input."""
        slots, packed = self.engine.slots, self.engine.packed
        due = torch.empty_like(self.clock)  # [K-1, L] slots of the past taps
        past = self.ring.new_empty(*due.shape, *self.ring.shape[1:])  # [K-1, L, B, R]
        codes = torch.from_numpy(self.inputs).to(self.ring.device)
        added = self.work.new_empty(self.work.shape[1:])  # [B, W]
        self.oldest = due[0]  # [L] these slots are read first and then take the new inputs
        return [
            partial(codes.copy_, torch.from_numpy(self.inputs)),  # on the CPU both are the same memory
            partial(torch.remainder, self.clock, slots.sizes, out=due),
            partial(due.add_, slots.first),
            partial(self.clock.add_, 1),
            partial(torch.index_select, self.ring, 0, due.view(-1), out=past.view(-1, *self.ring.shape[1:])),
            partial(torch.baddbmm, packed.bias, past[0], packed.past[0], out=self.work),
            *(partial(self.work.baddbmm_, past[tap], packed.past[tap]) for tap in range(1, len(past))),
            partial(torch.index_select, packed.table, 0, codes, out=added),
            partial(self.work[0].add_, added),
        ]

    def _layers(self) -> list[Callable[[], Any]]:
        packed, gate = self.engine.packed, self.engine.config.gate
        calls: list[Callable[[], Any]] = []
        for layer, row in enumerate(self.work):  # [B, W]
            t, u = row[:, :gate], row[:, gate : 2 * gate]
            calls.append(row[:, : 2 * gate].tanh_)
            calls.append(partial(torch.addcmul, t, t, u, out=u))  # 2z, in the place of u
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
        inputs = self.work[:, :, 2 * self.engine.config.gate :]  # [L, B, R]
        return [partial(self.ring.index_copy_, 0, self.oldest, inputs)]

    def _head(self) -> list[Callable[[], Any]]:
        config, head = self.engine.config, self.engine.model.head
        gated = self.work.new_empty(len(self.inputs), config.layers * config.gate)
        by_layer = gated.view(len(self.inputs), config.layers, config.gate).transpose(0, 1)  # [L, B, G]
        skip = gated.new_empty(len(self.inputs), config.skip_channels)
        hidden = gated.new_empty(len(self.inputs), config.head)
        return [
            partial(by_layer.copy_, self.work[:, :, config.gate : 2 * config.gate]),
            _affine(skip, gated, self.engine.packed.skip, self.engine.model.skip.bias),
            skip.relu_,
            _affine(hidden, skip, head.hidden.weight, head.hidden.bias),
            hidden.relu_,
            _affine(self.logits, hidden, head.output.weight, head.output.bias),
        ]


class QueueEngine(SteppedEngine[QueueState]):
    """The fastest PyTorch can do sample by sample without compiling anything."""

    name = "torch"
    states = QueueState
    # A step's products take microseconds. A second thread hardly speeds them up, and where another process holds its
    # core every product waits for it: a hundred times slower in batches.
    default_threads = 1

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(config, weights, threads)
        self.packed = PackedWeights(config, self.model.state_dict())
        self.slots = Slots(config, self.device)

    def new_state(self, streams: int = 1) -> QueueState:
        if self.device.type == "cpu":
            config = self.config
            row = 2 * config.gate + config.residual_channels  # of `work`
            past = (config.kernel_size - 1) * config.layers * config.residual_channels
            queued = (config.receptive_field - 1) * config.residual_channels
            self.check_memory(streams, 4 * (queued + past + config.layers * (row + config.gate)))
        with self.running():
            return QueueState(self, streams)

    def step(self, state: QueueState) -> NDArray[np.float32]:
        for call in state.calls:
            call()
        state.position += 1
        return state.logits[: state.streams].numpy(force=True)

    def prime(self, state: QueueState, codes: ArrayLike) -> None:
        """One parallel pass through the model's own layers, each reading on from what its queue holds.

        Inputs older than the receptive field reach no queue any more and are skipped, so that a clip of any length
        takes the time and memory of one receptive field.
        """
        codes = self.checked_codes(state, codes)
        samples = codes.shape[1]
        if not samples:
            return
        inputs = fed_codes(state.codes, codes)[:, -self.config.receptive_field :]  # [B, N]
        end = state.position + samples
        start = end - inputs.shape[1]
        with self.running():
            rows = self.model.embed(torch.from_numpy(inputs).to(self.device))  # [N*B, R], time first
            for index, layer in enumerate(self.model.layers):
                queue = state.ring[self.slots.of_layer(index, start), : state.streams].flatten(0, 1)  # [size*B, R]
                joined = torch.cat([queue, rows])
                newest = joined[-len(queue) :].unflatten(0, (-1, state.streams))  # [size, B, R]
                state.ring[self.slots.of_layer(index, end), : state.streams] = newest
                rows = layer(joined, state.streams)[0][len(queue) :]
            state.clock.add_(samples)
        state.codes[:] = codes[:, -1]
        state.position = end


def _add_product(target: Tensor, source: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """The call that adds source [B, in] times weight [out, in], transposed, to target [B, out]."""
    return partial(target.addmm_, source, weight.t())


def _affine(target: Tensor, source: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """The call that sets target [B, out] to bias [out] plus source [B, in] times weight [out, in], transposed."""
    return partial(torch.addmm, bias, source, weight.t(), out=target)
