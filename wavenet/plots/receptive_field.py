"""Pictures of receptive fields: the tree of connections of a small stack, the growth by layer of a large one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wavenet.evaluation.receptive_field import Stack, amount, headline
from wavenet.plots.canvas import BLACK, BLUE, FAINT, GREEN, GRID, RED, new_figure, style, with_commas

LARGEST_TREE = 300  # positions of a stack of one cycle that is drawn as a tree
ALL_CONNECTIONS = 40  # of any stack; then connections that do not lead to the output are drawn, too
ROOM = 8.0  # the axis of a growth ends so many times above what the stack sees: pooling may leave it
WIDTH = 9.0  # inches


def receptive_field_figure(stacks: Sequence[Stack]) -> Figure:
    """One picture below the other for each stack: the tree of its connections if it is small, otherwise its growth."""
    small = [stack.total <= (LARGEST_TREE if _one_cycle(stack) else ALL_CONNECTIONS) for stack in stacks]
    heights = [2.2 + 0.5 * len(stack.dilations) if tree else 5.8 for stack, tree in zip(stacks, small, strict=True)]
    with style():
        figure = new_figure(WIDTH, sum(heights))
        outer = figure.add_gridspec(len(stacks), 1, height_ratios=heights)
        for index, (stack, tree) in enumerate(zip(stacks, small, strict=True)):
            if tree:
                _draw_tree(figure.add_subplot(outer[index]), stack)
            else:
                inner = outer[index].subgridspec(2, 1, height_ratios=(3, 1))
                growth = figure.add_subplot(inner[0])
                _draw_growth(growth, stack)
                _draw_resolution(figure.add_subplot(inner[1], sharex=growth), stack)
    return figure


def _one_cycle(stack: Stack) -> bool:
    return stack.cycle in (0, len(stack.dilations))


def _title(stack: Stack) -> str:
    note = f"\n{stack.note}" if stack.note else ""
    return f"{stack.name.capitalize()}: {headline(stack)}{note}"


def _draw_tree(axes: Axes, stack: Stack) -> None:
    """The connections through all layers to one output, as in figure 3 of van den Oord et al. 2016."""
    levels, top = stack.tree(), len(stack.dilations)
    detailed, size = stack.total <= ALL_CONNECTIONS, max(1.2, min(7.0, 200 / stack.total))
    if detailed:
        _draw_all_connections(axes, stack, size)
    for level, dilation in enumerate(stack.dilations):
        pairs = [(source, position) for position in levels[level + 1] for source in stack.sources(position, dilation)]
        _connect(axes, pairs, level, BLUE, 1.2 if detailed else 0.8)
    for level, connected in enumerate(levels):
        axes.plot(connected, [level] * len(connected), "o", markersize=size, color=BLUE)
    axes.plot([0], [top], "o", markersize=max(size, 5) + 2, color=RED)
    _draw_plain(axes, stack)

    names = [f"layer {index}, dilation {dilation:,}" for index, dilation in enumerate(stack.dilations)]
    axes.set_yticks(range(top + 1), ["input", *names])
    seen = axes.secondary_yaxis("right")
    seen.set_yticks(range(top + 1), [f"{total:,}" for total in (1, *(layer.total for layer in stack.layers))])
    seen.set_ylabel(f"receptive field, {stack.unit}")
    for side in (axes, seen):
        side.tick_params(axis="y", length=0)
        for spine in side.spines.values():
            spine.set_visible(False)
    axes.set_ylim(-1.1, top + 0.5)
    axes.set_xlabel(f"position relative to the output, {stack.unit}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(_title(stack), pad=12)
    milliseconds = axes.secondary_xaxis("top", functions=(stack.milliseconds, _positions(stack)))
    milliseconds.set_xlabel("ms")
    milliseconds.spines["top"].set_visible(True)


def _draw_all_connections(axes: Axes, stack: Stack, size: float) -> None:
    """All positions and connections, also those that do not lead to the output."""
    positions = range(-stack.before, stack.after + 1)
    for level, dilation in enumerate(stack.dilations):
        pairs = [(source, position) for position in positions for source in stack.sources(position, dilation)]
        _connect(axes, [pair for pair in pairs if pair[0] in positions], level, FAINT, 0.5)
    for level in range(len(stack.dilations) + 1):
        axes.plot(positions, [level] * stack.total, "o", ms=size, mfc="white", mec=FAINT, mew=0.8)


def _draw_plain(axes: Axes, stack: Stack) -> None:
    """A bar below the input: what a stack of as many layers without dilation sees."""
    plain, after = stack.layers[-1].plain, stack.ahead * len(stack.dilations)
    axes.plot([after + 1 - plain, after], [-0.4, -0.4], color=GREEN, linewidth=3, solid_capstyle="butt")
    axes.annotate(
        f"without dilation: {plain:,} {stack.unit}",
        (after + (1 - plain) / 2 if stack.ahead else after, -0.4),
        xytext=(0, -4),
        textcoords="offset points",
        ha="center" if stack.ahead else "right",
        va="top",
        color=GREEN,
    )


def _connect(axes: Axes, pairs: Sequence[tuple[int, int]], level: int, colour: str, width: float) -> None:
    """Lines between positions (source, position) of two levels, as one path."""
    x = [value for source, position in pairs for value in (source, position, float("nan"))]
    axes.plot(x, [level, level + 1, float("nan")] * len(pairs), color=colour, linewidth=width, zorder=1)


def _positions(stack: Stack) -> Callable[[float], float]:
    return lambda milliseconds: milliseconds * stack.rate / 1000


def _draw_growth(axes: Axes, stack: Stack) -> None:
    """What the outputs of each layer see, beside stacks without dilation and with a stride."""
    layers, ceiling = stack.layers, ROOM * stack.total
    pooled = [layer.pooled for layer in layers if _drawn(stack, layer.pooled)]
    for label, values, colour, mark in (
        ("stride 2 in every layer (pooling)", pooled, RED, "s--"),
        ("dilated", [layer.total for layer in layers], BLUE, "o-"),
        ("plain convolution: no dilation", [layer.plain for layer in layers], GREEN, "^:"),
    ):
        axes.plot(range(len(values)), values, mark, color=colour, label=label, markersize=4)
    axes.axhline(stack.total, color=BLACK, linewidth=0.6)
    axes.annotate(f"{stack.total:,} {stack.unit}", (0, stack.total), xytext=(0, 3), textcoords="offset points")
    axes.set_yscale("log")
    axes.set_ylim(1, ceiling)
    axes.set_ylabel(f"receptive field, {stack.unit}")
    with_commas(axes.yaxis)
    milliseconds = axes.secondary_yaxis("right", functions=(stack.milliseconds, _positions(stack)))
    milliseconds.set_ylabel(f"receptive field, ms at {amount(stack, 1).rpartition(' at ')[2]}")
    with_commas(milliseconds.yaxis)
    axes.legend(loc="lower right")
    axes.set_title(_title(stack))
    axes.tick_params(labelbottom=False)
    _draw_cycles(axes, stack)


def _drawn(stack: Stack, pooled: int) -> bool:
    """Whether a point of the curve of pooling is near enough to the others to be drawn."""
    return pooled <= 64 * ROOM * stack.total


def _draw_resolution(axes: Axes, stack: Stack) -> None:
    """What the growth by a stride costs: outputs that are further and further apart."""
    strides = [layer.stride for layer in stack.layers if _drawn(stack, layer.pooled)]
    axes.plot(range(len(strides)), strides, "s--", color=RED, markersize=4)
    axes.plot(range(len(stack.dilations)), [1] * len(stack.dilations), "o-", color=BLUE, markersize=4)
    axes.set_yscale("log")
    axes.set_ylim(0.6, max(strides) * 1.6)
    axes.set_ylabel(f"{stack.unit}\nper output")
    with_commas(axes.yaxis)
    axes.set_xlabel(f"layer ({_dilations(stack)})")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"What a stride costs: {stack.unit} for which there is one output")
    _draw_cycles(axes, stack)


def _dilations(stack: Stack) -> str:
    """The dilations in words."""
    largest = max(stack.dilations)
    if largest == 1:
        return "no dilation"
    return f"dilations of 1 to {largest:,}{'' if _one_cycle(stack) else ' in each cycle'}"


def _draw_cycles(axes: Axes, stack: Stack) -> None:
    """A grid, and lines between the cycles."""
    axes.grid(axis="y", color=GRID)
    for start in range(stack.cycle, len(stack.dilations), stack.cycle) if stack.cycle > 1 else ():
        axes.axvline(start - 0.5, color=FAINT, linewidth=0.8)
