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

What a conditioned network is told takes the place of the biases, blended sample by sample from the rows of two frames.

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
from wavenet.data.pcm import FULL_SCALE
from wavenet.engine.base import State
from wavenet.engine.conditioning import (
    ConditioningFrames,
    ConditioningInputs,
    ConditioningState,
    interpolation_position,
)
from wavenet.engine.stepped import SteppedEngine, fed_codes
from wavenet.nn import fused
from wavenet.nn.linear_prediction import LinearPredictor, Prediction

# Products of one to three rows add in another order than larger ones. With idle rows beside a few streams, a stream is
# the same to the last bit alone and in a batch, which costs a single stream a third of its speed.
LEAST_ROWS = 4
# Weights per layer up to which the tap is folded in: it saves a call and adds half as many weights again, which in
# wider layers take longer to read than a call takes.
FOLD_UP_TO = 32_768


class PackedWeights:
    """The network's weights as a step reads them. A row of `work` has the width W = 2G + R: [a | b | x]."""

    folded: bool  # whether `onward` makes a whole row, or x only, which `now` then takes to a and b
    table: Tensor  # [256, W]: what each input code, or each number of a 16-bit input, adds to layer 0's row
    past: Tensor  # [K-1, L, R, W]: from the past inputs, tap 0 (the oldest) first; adds nothing to the x part
    bias: Tensor  # [L, 1, W]
    onward: list[Tensor]  # L-1 times [W or R, G+R]: from [z; x] of a layer to the next one's row or x
    now: list[Tensor]  # L-1 times [2G, R]: current tap of layers 1, 2, ...
    skip: Tensor  # [S, L*G]
    halves: Tensor  # [2G]: what the gates' sums are scaled by
    folds: Tensor  # [L, 1, 2G]: the part of the gates' bias that is not their own

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
        self.folds = (torch.stack(rows)[:, : 2 * gate] - torch.stack(biases))[:, None].float()
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

    def __init__(self, engine: QueueEngine, streams: int, conditioning: ConditioningState | None) -> None:
        super().__init__(streams, engine.silence, conditioning)
        config, device = engine.config, engine.device
        self.engine = engine
        rows = max(streams, LEAST_ROWS)
        self.inputs = np.full(rows, engine.silence)
        self.codes = self.inputs[:streams]
        self.ring = torch.zeros(engine.slots.total, rows, config.residual_channels, device=device)
        self.clock = -engine.slots.lags
        self.work = torch.empty(config.layers, rows, 2 * config.gate + config.residual_channels, device=device)
        self.logits = torch.empty(rows, config.output_channels, device=device)
        self.numbers = torch.zeros(rows, config.input_channels if config.output != "mulaw" else 0)  # 16-bit input
        self.predictor = LinearPredictor(config, streams) if config.linear_prediction else None
        self.prediction: Prediction | None = None  # of the sample that a step makes
        self.bias = engine.packed.bias
        self.told: ConditioningFrames | None = None  # the chunk that `frames` were made of
        if conditioning is not None:
            self.bias = self.bias.repeat(1, rows, 1)  # [L, B, W]
        self.calls = [*self._begin_rows(), *self._layers(), *self._store(), *self._head()]

    def copy(self) -> Self:
        with self.engine.running():
            other = type(self)(self.engine, self.streams, self.conditioning and self.conditioning.copy())
            other.ring.copy_(self.ring)
            other.clock.copy_(self.clock)
        if self.predictor is not None:
            other.predictor = self.predictor.copy()
        other.codes[:] = self.codes
        other.position = self.position
        return other

    def _begin_rows(self) -> list[Callable[[], Any]]:
        """Every row of `work` begins with its bias and what the queues add to it; layer 0's also with the input."""
        slots, packed = self.engine.slots, self.engine.packed
        due = torch.empty_like(self.clock)  # [K-1, L] slots of the past taps
        past = self.ring.new_empty(*due.shape, *self.ring.shape[1:])  # [K-1, L, B, R]
        added = self.work.new_empty(self.work.shape[1:])  # [B, W]
        self.oldest = due[0]  # [L] these slots are read first and then take the new inputs
        if self.engine.config.output == "mulaw":
            codes = torch.from_numpy(self.inputs).to(self.ring.device)
            read = [
                partial(codes.copy_, torch.from_numpy(self.inputs)),  # on the CPU both are the same memory
                partial(torch.index_select, packed.table, 0, codes, out=added),
            ]
        else:
            numbers = self.numbers.to(self.ring.device)
            read = [partial(numbers.copy_, self.numbers), partial(torch.mm, numbers, packed.table, out=added)]
        return [
            partial(torch.remainder, self.clock, slots.sizes, out=due),
            partial(due.add_, slots.first),
            partial(self.clock.add_, 1),
            partial(torch.index_select, self.ring, 0, due.view(-1), out=past.view(-1, *self.ring.shape[1:])),
            partial(torch.baddbmm, self.bias, past[0], packed.past[0], out=self.work),
            *(partial(self.work.baddbmm_, past[tap], packed.past[tap]) for tap in range(1, len(past))),
            *read,
            partial(self.work[0].add_, added),
        ]

    def listen(self) -> None:
        """Bring the biases, and the numbers that a 16-bit network is given, to the next sample."""
        told = None
        if self.conditioning is not None:
            told = self.conditioning.told(self.position)
            self._tell(told)
        if self.engine.config.output == "mulaw":
            return
        given: NDArray[np.float64] = self.codes[:, None] / FULL_SCALE
        if self.predictor is not None:
            self.prediction = self.predictor.advance(given, self.predictors(told)[:, None])
            given = self.prediction.inputs[:, 0]
        self.numbers[: self.streams] = torch.from_numpy(given.astype(np.float32))

    def predictors(self, told: ConditioningFrames | None) -> NDArray[np.float64]:
        """The predictor's rows [B, order + 3] for the next sample."""
        assert told is not None and told.predictors is not None
        return told.predictors[:, self.offset() // self.engine.config.hop]

    def offset(self) -> int:
        """Where in its chunk the next sample lies."""
        assert self.engine.conditioner is not None
        return self.position % (self.engine.conditioner.samples or 1)

    def _tell(self, told: ConditioningFrames) -> None:
        gates = self.bias[:, : self.streams, : 2 * self.engine.config.gate]  # [L, B, 2G]
        if told is not self.told:
            self.frames = self.engine.told_rows(told)  # [CHUNK + 2 or 1, L, B, 2G]
            self.told = told
            if len(self.frames) == 1:
                gates.copy_(self.frames[0])
        if len(self.frames) > 1:
            frame, along = interpolation_position(self.offset(), self.engine.config.hop)
            torch.lerp(self.frames[frame], self.frames[frame + 1], along, out=gates)

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

    def new_state(self, streams: int = 1, conditions: ConditioningInputs | None = None) -> QueueState:
        if self.device.type == "cpu":
            config = self.config
            row = 2 * config.gate + config.residual_channels  # of `work`
            past = (config.kernel_size - 1) * config.layers * config.residual_channels
            queued = (config.receptive_field - 1) * config.residual_channels
            self.check_memory(
                streams, 4 * (queued + past + config.layers * (row + config.gate)) + 8 * config.pitch_reach
            )
        with self.running():
            return QueueState(self, streams, self.conditioning_state(streams, conditions))

    def step(self, state: QueueState) -> NDArray[np.float32]:
        state.listen()
        for call in state.calls:
            call()
        state.position += 1
        numbers = state.logits[: state.streams].numpy(force=True)
        if state.prediction is None:
            return numbers
        factors, offsets = state.prediction.transform(self.config, np.float32)  # [B, 1, A]
        return numbers * factors[:, 0] + offsets[:, 0]

    def told_rows(self, told: ConditioningFrames) -> Tensor:
        """A chunk's rows as a step reads them: [CHUNK + 2 or 1, L, B, 2G], in the place of the gates' biases."""
        rows = torch.from_numpy(told.rows).to(self.device).permute(1, 2, 0, 3)  # [F, L, B, 2G]
        return torch.addcmul(self.packed.folds, rows, self.packed.halves)

    def prime(self, state: QueueState, codes: ArrayLike) -> None:
        """One parallel pass through the model's own layers, each reading on from what its queue holds.

        Inputs older than the receptive field reach no queue any more and are skipped, so that a clip of any length
        takes the time and memory of one receptive field.
        """
        codes = self.checked_codes(state, codes)
        samples = codes.shape[1]
        self.check_features(state, samples)
        if not samples:
            return
        inputs = fed_codes(state.codes, codes)[:, -self.config.context :]  # [B, N]
        end = state.position + samples
        start = end - inputs.shape[1]
        with self.running():
            rows, told = self._heard(state, inputs, start)
            for index, layer in enumerate(self.model.typed_layers):
                queue = state.ring[self.slots.of_layer(index, start), : state.streams].flatten(0, 1)  # [size*B, R]
                joined = torch.cat([queue, rows])
                newest = joined[-len(queue) :].unflatten(0, (-1, state.streams))  # [size, B, R]
                state.ring[self.slots.of_layer(index, end), : state.streams] = newest
                added = None
                if told is not None:  # nothing is read off the rows of the queue
                    added = torch.cat([torch.zeros(len(queue), told.shape[-1], device=self.device), told[index]])
                shift = layer.dilation * state.streams
                rows = fused.layer_forward(joined, shift, layer.weights(), added)[0][len(queue) :]
            state.clock.add_(samples)
        state.codes[:] = codes[:, -1]
        state.position = end

    def _heard(self, state: QueueState, inputs: NDArray[np.int64], start: int) -> tuple[Tensor, Tensor | None]:
        """The first layer's rows [N*B, R] for inputs [B, N] from `start` on, and what layers are told, [L, N*B, 2G]."""
        state.position = start
        told, given = [], []
        if state.predictor is not None and inputs.shape[1] == self.config.context:  # what lies between was not heard
            state.predictor = LinearPredictor(self.config, state.streams)
        for last in inputs.T if self.conditioner is not None else ():
            assert state.conditioning is not None
            chunk = state.conditioning.told(state.position)
            if len(chunk.rows[0]) > 1:
                frame, along = interpolation_position(state.offset(), self.config.hop)
                told.append((1 - along) * chunk.rows[:, frame] + along * chunk.rows[:, frame + 1])  # [B, L, 2G]
            else:
                told.append(chunk.rows[:, 0])
            if state.predictor is not None:
                samples = last[:, None] / FULL_SCALE
                prediction = state.predictor.advance(samples, state.predictors(chunk)[:, None])
                given.append(prediction.inputs[:, 0].astype(np.float32))  # [B, 3 + pitch taps]
            state.position += 1
        layers = None
        if told:
            layers = torch.from_numpy(np.stack(told, axis=0)).to(self.device).float()  # [N, B, L, 2G]
            layers = layers.permute(2, 0, 1, 3).flatten(1, 2)
        if given:
            return torch.from_numpy(np.concatenate(given)).to(self.device) @ self.model.embedding.weight, layers
        embedded = self.model.embed(torch.from_numpy(inputs).to(self.device))  # [B, N, R]
        return embedded.transpose(0, 1).flatten(0, 1), layers


def _add_product(target: Tensor, source: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """The call that adds source [B, in] times weight [out, in], transposed, to target [B, out]."""
    return partial(target.addmm_, source, weight.t())


def _affine(target: Tensor, source: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """The call that sets target [B, out] to bias [out] plus source [B, in] times weight [out, in], transposed."""
    return partial(torch.addmm, bias, source, weight.t(), out=target)
