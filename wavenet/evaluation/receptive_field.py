"""The arithmetic of receptive fields: what each layer of a dilated stack sees, and what other stacks would see.

A kernel of K taps at dilation d spans (K - 1) d + 1 positions. Each layer adds (K - 1) d to what the layers below it
see, so a stack sees 1 + (K - 1) x the sum of the dilations (van den Oord et al. 2016, section 2.1; Yu and Koltun 2016,
"Multi-scale context aggregation by dilated convolutions"). Positions are samples, or frames in a network over frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wavenet.config import ModelConfig
from wavenet.frame_model_config import KERNEL_SIZE
from wavenet.labelling_config import LabellerConfig


class Layer(NamedTuple):
    """A layer of a stack, and the receptive field of its outputs; all but `dilation` and `stride` in positions.

    Of two other stacks of the same kernel size, `plain` has no dilation, and `pooled` has a stride of 2 in every layer,
    as if pooling by 2 followed it: it sees as much as doubling dilations, but has one output for `stride` positions.
    """

    dilation: int
    span: int  # of its kernel alone
    total: int  # with the layers below it
    plain: int
    pooled: int
    stride: int


@dataclass(frozen=True)
class Stack:
    """A stack of dilated convolutions.

    name: of the network or of its part. rate: positions per second. unit: what positions are. ahead: taps of each
    kernel after the current position. cycle: layers until the dilations start again. note: what outputs depend on
    besides.
    """

    name: str
    dilations: tuple[int, ...]
    kernel_size: int
    rate: float
    unit: str = "samples"
    ahead: int = 0
    cycle: int = 0
    note: str = ""

    @property
    def layers(self) -> list[Layer]:
        """All layers from the input on."""
        reach, layers = self.kernel_size - 1, []
        total = 1
        for depth, dilation in enumerate(self.dilations, 1):
            total += reach * dilation
            layers.append(
                Layer(
                    dilation=dilation,
                    span=reach * dilation + 1,
                    total=total,
                    plain=1 + reach * depth,
                    pooled=1 + reach * (2**depth - 1),
                    stride=2**depth,
                )
            )
        return layers

    @property
    def total(self) -> int:
        """Positions that an output of the whole stack sees, its own among them."""
        return 1 + (self.kernel_size - 1) * sum(self.dilations)

    @property
    def before(self) -> int:
        """Positions before its own that an output sees."""
        return self.total - 1 - self.after

    @property
    def after(self) -> int:
        """Positions after its own that an output sees."""
        return self.ahead * sum(self.dilations)

    @property
    def as_deep_as_pooling(self) -> Layer:
        """The layer of a stack with stride 2 in every layer that first sees as much as this stack."""
        depth = sum(self.dilations).bit_length()
        return dataclasses.replace(self, dilations=tuple(2**layer for layer in range(depth))).layers[-1]

    def milliseconds(self, positions: float) -> float:
        """The duration of so many positions."""
        return 1000 * positions / self.rate

    def tree(self) -> list[list[int]]:
        """The positions at which each level is connected to the output at position 0, in order; the input comes first.

        Element l is the input of layer l, the last one the output. Negative positions are the past.
        """
        levels = [[0]]
        for dilation in reversed(self.dilations):
            levels.append(sorted({source for position in levels[-1] for source in self.sources(position, dilation)}))
        return levels[::-1]

    def sources(self, position: int, dilation: int) -> Iterable[int]:
        """The positions that the taps of a kernel at a position are on, from the past on."""
        last = position + self.ahead * dilation
        return range(last - (self.kernel_size - 1) * dilation, last + 1, dilation)


def stacks_of(config: ModelConfig | LabellerConfig) -> list[Stack]:
    """The stacks of a network: one, or those of both tiers if it has a frame model."""
    if isinstance(config, LabellerConfig):
        return [_of_labeller(config)]
    more = config.context - config.receptive_field
    stack = Stack(
        name="network",
        dilations=config.dilations,
        kernel_size=config.kernel_size,
        rate=config.sample_rate,
        cycle=config.layers_per_cycle,
        note=f"linear prediction sees {more:,} samples besides" if more else "",
    )
    frames = config.frame_model
    if frames is None:
        return [stack]
    frame_rate = config.sample_rate / config.hop
    slow = Stack("frame model", frames.dilations, KERNEL_SIZE, frame_rate, unit="frames", cycle=frames.layers_per_cycle)
    return [stack, slow]


def _of_labeller(config: LabellerConfig) -> Stack:
    in_frames = config.input == "mel"
    before, after = config.context_frames
    return Stack(
        name="labeller",
        dilations=config.stack.dilations,
        kernel_size=config.kernel_size,
        rate=1 / config.frame_seconds if in_frames else config.sample_rate,
        unit="frames" if in_frames else "samples",
        ahead=config.taps_ahead,
        cycle=config.layers_per_cycle,
        note=f"with the head, a label depends on {before:,} frames before its own and {after:,} after it",
    )


def table(stack: Stack) -> list[str]:
    """A stack as text: a line for each layer, numbered from 0, then what it sees, and what other stacks would."""
    unit = stack.unit
    lines = [f"layer  dilation  {'span, ' + unit:>13}  {'total, ' + unit:>14}  {'total, ms':>10}"]
    lines += [
        f"{index:5}  {layer.dilation:8,}  {layer.span:13,}  {layer.total:14,}  {_ms(stack, layer.total):>10}"
        for index, layer in enumerate(stack.layers)
    ]
    return [*lines, *summary(stack)]


def summary(stack: Stack) -> list[str]:
    """What the stack sees, and what stacks without dilation and with pooling would see, as sentences."""
    pooled, plain = stack.as_deep_as_pooling, sum(stack.dilations)
    sides = f", {stack.before:,} before its own and {stack.after:,} after it" if stack.ahead else ""
    lines = [
        f"{headline(stack)}{sides}.",
        f"Without dilation: {amount(stack, stack.layers[-1].plain)}; to see as much takes {plain:,} "
        f"layer{'s' if plain > 1 else ''}.",
        f"With a stride of 2 in every layer instead: {pooled.pooled:,} {stack.unit} after layer "
        f"{pooled.stride.bit_length() - 2}, but one output for every {pooled.stride:,}.",
    ]
    return [*lines, *([f"{stack.note[0].upper()}{stack.note[1:]}."] if stack.note else [])]


def headline(stack: Stack) -> str:
    """What the whole stack sees, such as "8 layers of kernel size 2 see 256 samples, 16 ms at 16,000 Hz"."""
    layers = len(stack.dilations)
    verb = "layers of kernel size {} see" if layers > 1 else "layer of kernel size {} sees"
    return f"{layers} {verb.format(stack.kernel_size)} {amount(stack, stack.total)}"


def amount(stack: Stack, positions: int) -> str:
    """A number of positions and its duration, such as "256 samples, 16 ms at 16,000 Hz"."""
    rate = f"{stack.rate:,.6g} Hz" if stack.unit == "samples" else f"{stack.rate:,.6g} frames/s"
    return f"{positions:,} {stack.unit}, {_ms(stack, positions)} ms at {rate}"


def _ms(stack: Stack, positions: int) -> str:
    value = stack.milliseconds(positions)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
