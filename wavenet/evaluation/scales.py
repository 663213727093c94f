"""What each layer of a WaveNet responds to on a clip, and what is lost without it.

The clip is predicted with teacher forcing, each sample from the true samples before it. Of the gated output z of each
layer the strength and the spectrum are measured. Layers, dilations of all cycles, and cycles are then muted in turn
(z = 0): the increase in bits per sample is what the rest of the network cannot replace. The network was not trained
without them: a large increase does not mean that a network without them would be as bad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from wavenet.engine.conditioning import Speaker
from wavenet.evaluation.likelihood import PIECE, sample_bits
from wavenet.evaluation.probe import Probe
from wavenet.generate import Generator

WINDOW_SECONDS = 0.064  # of a spectrum
FOLLOWS = 0.5  # absolute rank correlation from which the frequency is said to follow the dilation

Progress = Callable[[int, int], None]  # called with the number of predictions of the clip done, and of all


@dataclass(frozen=True)
class LayerScale:
    """Measurements of a layer."""

    cycle: int
    dilation: int
    strength: float  # RMS of z over all channels and positions
    spectrum: NDArray[np.float64]  # power of z around its mean [bins], mean over the channels
    frequency: float  # Hz below which half of that power is
    lost: float  # bits per sample without this layer


@dataclass(frozen=True)
class Scales:
    """Measurements of all layers, and bits per sample lost without each dilation in all cycles, and each cycle."""

    sample_rate: int
    bits: float  # per sample, nothing muted
    layers: list[LayerScale]
    dilations: dict[int, float]
    cycles: list[float]

    def table(self) -> list[str]:
        """The measurements as text: a line for each layer, dilation and cycle, and what they show."""
        lines = [f"layer  cycle  dilation  {'ms':>8}  {'RMS of z':>8}  {'median Hz':>9}  {'bits lost':>9}"]
        for index, layer in enumerate(self.layers):
            lines.append(
                f"{index:5}  {layer.cycle:5}  {layer.dilation:8,}  {1000 * layer.dilation / self.sample_rate:8.4g}  "
                f"{layer.strength:8.3f}  {layer.frequency:9,.0f}  {layer.lost:9.3f}"
            )
        if len(self.cycles) > 1:
            lines += [f"dilation {dilation:,} in all cycles: {lost:.3f}" for dilation, lost in self.dilations.items()]
            lines += [f"cycle {cycle}: {lost:.3f}" for cycle, lost in enumerate(self.cycles)]
        return [*lines, *self.reading()]

    def reading(self) -> list[str]:
        """What the measurements show, in words."""
        most = max(self.dilations, key=lambda dilation: self.dilations[dilation])
        least = min(self.dilations, key=lambda dilation: self.dilations[dilation])
        lines = [
            f"With all layers {self.bits:.3f} bits per sample. Dilation {most:,} is missed most when muted "
            f"({self.dilations[most]:.3f} bits per sample), dilation {least:,} least ({self.dilations[least]:.3f})."
        ]
        if len(self.cycles) > 1:
            order = sorted(range(len(self.cycles)), key=lambda cycle: -self.cycles[cycle])
            lines.append(
                f"Cycle {order[0]} is missed most ({self.cycles[order[0]]:.3f}), cycle {order[-1]} least "
                f"({self.cycles[order[-1]]:.3f})."
            )
        if len(self.layers) > 2 and len(self.dilations) > 1:
            lines.append(self._frequencies())
        return lines

    def _frequencies(self) -> str:
        """Whether the frequency of z follows the dilation."""
        correlation = self.rank_correlation
        trend = "does not follow the dilation"
        if correlation <= -FOLLOWS:
            trend = "falls as the dilation grows"
        elif correlation >= FOLLOWS:
            trend = "rises as the dilation grows"
        low, high = (
            float(np.mean([layer.frequency for layer in self.layers if layer.dilation == dilation]))
            for dilation in (min(self.dilations), max(self.dilations))
        )
        return (
            f"The median frequency of z {trend} (rank correlation {correlation:+.2f}): {low:,.0f} Hz at dilation "
            f"{min(self.dilations):,}, {high:,.0f} Hz at dilation {max(self.dilations):,}."
        )

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of dilation and median frequency over the layers; 0 where one of them is constant."""
        found = spearmanr([layer.dilation for layer in self.layers], [layer.frequency for layer in self.layers])
        return float(np.nan_to_num(found.statistic))


def mutes_of(cycles: int, layers_per_cycle: int) -> dict[str, tuple[int, ...]]:
    """What is muted in turn: no layer, each dilation in all cycles and, if there are several, each cycle."""
    layers = range(cycles * layers_per_cycle)
    mutes: dict[str, tuple[int, ...]] = {"nothing-muted": ()}
    for scale in range(layers_per_cycle):
        mutes[f"dilation-{2**scale}-muted"] = tuple(layers[scale::layers_per_cycle])
    for cycle in range(cycles) if cycles > 1 else ():
        mutes[f"cycle-{cycle}-muted"] = tuple(layers[cycle * layers_per_cycle : (cycle + 1) * layers_per_cycle])
    return mutes


def measure(probe: Probe, progress: Progress | None = None) -> Scales:
    """Measure the layers of a model on a clip. Raises `ValueError` for a clip shorter than a window, 64 ms."""
    config = probe.model.config
    window = round(WINDOW_SECONDS * config.sample_rate)
    if len(probe.codes) < window:
        raise ValueError(f"the clip is too short: it has {len(probe.codes):,} of the {window:,} samples needed, 64 ms")
    groups = mutes_of(config.cycles, config.layers_per_cycle)
    wanted = {(), *((layer,) for layer in range(config.layers)), *groups.values()}
    monitors = [_Monitor(window, len(probe.codes)) for _ in range(config.layers)]
    bits: dict[tuple[int, ...], float] = {}
    for done, mute in enumerate(sorted(wanted, key=lambda mute: (len(mute), mute))):
        hooked = [] if mute else zip(probe.model.layers, monitors, strict=True)
        hooks = [layer.register_forward_hook(monitor) for layer, monitor in hooked]
        try:
            bits[mute] = float(sample_bits(probe.model, probe.codes, probe.conditioning, mute).mean())
        finally:
            for hook in hooks:
                hook.remove()
        if progress:
            progress(done + 1, len(wanted))
    lost = {mute: value - bits[()] for mute, value in bits.items()}
    layers = [
        monitor.measured(index // config.layers_per_cycle, dilation, config.sample_rate, lost[(index,)])
        for index, (monitor, dilation) in enumerate(zip(monitors, config.dilations, strict=True))
    ]
    scales = {2**scale: lost[groups[f"dilation-{2**scale}-muted"]] for scale in range(config.layers_per_cycle)}
    cycles = [lost[mute] for name, mute in groups.items() if name.startswith("cycle")]
    return Scales(config.sample_rate, bits[()], layers, scales, cycles)


class _Monitor:
    """A hook that measures the z of a layer, piece by piece of the clip, without the context before each piece."""

    def __init__(self, window: int, samples: int) -> None:
        self.window, self.left = window, samples
        self.energy, self.values, self.frames = 0.0, 0, 0
        self.power = np.zeros(window // 2 + 1)

    def __call__(self, layer: Any, inputs: Any, outputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        """outputs: the next layer's x, and z [1, T, G]."""
        new = min(PIECE, self.left)
        self.left -= new
        z = outputs[1][0, -new:].double().numpy(force=True).T  # [G, new]
        self.energy += float(np.square(z).sum())
        self.values += z.size
        shape = np.hanning(self.window + 1)[:-1]
        for start in range(0, new - self.window + 1, self.window // 2):
            frame = z[:, start : start + self.window]
            bins = np.fft.rfft((frame - frame.mean(1, keepdims=True)) * shape)  # [G, bins]
            self.power += np.square(np.abs(bins)).mean(0)
            self.frames += 1

    def measured(self, cycle: int, dilation: int, sample_rate: int, lost: float) -> LayerScale:
        """The measurements of the layer."""
        spectrum = self.power / max(self.frames, 1)
        shares = np.cumsum(spectrum) / max(float(spectrum.sum()), 1e-300)
        frequency = float(np.searchsorted(shares, 0.5)) * sample_rate / self.window
        return LayerScale(cycle, dilation, (self.energy / self.values) ** 0.5, spectrum, frequency, lost)


def muted_audio(
    generator: Generator,
    seconds: float,
    seed: int = 0,
    speaker: Speaker | None = None,
    features: NDArray[np.float32] | None = None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Audio [samples] of a model with each of `mutes_of` in turn, and its name; all with the same seed.

    features: [bands, N], for a model that is conditioned on them. Errors as of `Generator.render`.
    """
    config = generator.config
    render = partial(generator.render, seed=seed, speaker=speaker, features=features)
    for name, mute in mutes_of(config.cycles, config.layers_per_cycle).items():
        yield name, render(seconds, mute=mute)
