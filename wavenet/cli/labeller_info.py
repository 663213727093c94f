"""What wavenet info prints of a labeller."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wavenet.cli.console import duration, short_name
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.labelling import Labeller
    from wavenet.labelling_config import LabellerConfig
    from wavenet.training.recipe import Recipe

MOST_CLASSES = 50  # that are listed
MEASURED_BLOCKS = 2

Facts = list[tuple[str, str]]


def labeller_facts(what: str, labeller: Labeller, recipe: Recipe | None) -> Facts:
    """The network; for a run directory the progress of its training; the speed on this machine; a recipe's budget."""
    facts = _network_facts(labeller)
    if recipe is None:
        facts += _run_facts(Path(what))
    facts.append(("speed here", f"{_times_real_time(labeller):,.0f} x real time"))
    if recipe is not None:
        training = recipe.training
        budget = f"{training.steps:,} steps" if training.steps else f"{training.minutes:g} minutes"
        facts.append(("training", f"{budget}; {training.batch} x {training.crop:,} samples a step"))
    return facts


def _network_facts(labeller: Labeller) -> Facts:
    config = labeller.config
    stack, (before, after) = config.stack, config.context_frames
    cycle = ", ".join(f"{dilation:,}" for dilation in stack.dilations[: stack.layers_per_cycle])
    unit = "frames" if config.input == "mel" else "samples"
    names = [short_name(name) for name in config.classes[:MOST_CLASSES]]
    more = [f"and {len(config.classes) - MOST_CLASSES:,} more"] if len(config.classes) > MOST_CLASSES else []
    sides = "causal" if config.causal else "two-sided"
    return [
        ("labels", f"{', '.join(names + more) or 'those of the recordings'}; a frame may have none"),
        ("frames", f"{config.hop:,} samples, {1000 * config.frame_seconds:g} ms at {config.sample_rate:,} Hz"),
        ("input", _input(config)),
        ("network", f"{stack.layers} layers, {stack.cycles} x {stack.layers_per_cycle}, {sides}"),
        ("kernel size", f"{stack.kernel_size}"),
        ("dilations", f"{cycle} {unit} in each cycle"),
        ("head", f"{config.head}, {config.head_channels} channels"),
        (
            "context",
            f"{before:,} frames ({before * config.frame_seconds:.2f} s) before a frame and {after:,} "
            f"({after * config.frame_seconds:.2f} s) after it; look-ahead {labeller.look_ahead:.2f} s",
        ),
        ("channels", f"residual {stack.residual_channels}, gate {stack.gate}, skip {stack.skip_channels}"),
        ("parameters", f"{config.parameters:,} ({config.parameters * 4 / 1e6:.1f} MB in float32)"),
        ("cost", f"{config.macs_per_frame:,} multiply-adds per frame"),
    ]


def _input(config: LabellerConfig) -> str:
    mel = config.features
    if mel is None:
        joint = f", with the loss of next-sample prediction times {config.joint_loss:g}" if config.joint_loss else ""
        return f"samples, averaged over frames behind the layers{joint}"
    return f"ln of {mel.bands} mel bands, {mel.low:g} to {mel.high:g} Hz, Hann window {mel.window}, fft {mel.fft}"


def _run_facts(path: Path) -> Facts:
    """Progress and results of a run directory; nothing for a model file."""
    from wavenet.training.run_directory import RunDirectory

    run = RunDirectory(path)
    if not run.exists():
        return []
    summary = run.summary()
    budget = f"{summary.steps:,} steps" if summary.steps else f"{summary.minutes:g} minutes"
    facts = [("trained", f"{summary.step:,} steps in {duration(summary.seconds)}; the budget is {budget}")]
    best = [line for line in run.read_log() if line["event"] == "validation" and line.get("is_best")]
    figures = best[-1].get("figures") if best else None
    if isinstance(figures, dict) and all(isinstance(figures.get(name), float) for name in ("accuracy", "macro_f1")):
        text = f"frame accuracy {100 * figures['accuracy']:.1f}%, macro F1 {figures['macro_f1']:.3f}"
        facts.append(("validation", f"{text} at step {best[-1]['step']:,}, the best"))
    if summary.folder is not None:
        facts.append(("recordings", printable(summary.folder)))
    return facts


def _times_real_time(labeller: Labeller) -> float:
    """Seconds of audio labelled in a second, measured on noise."""
    seconds = MEASURED_BLOCKS * labeller.block_seconds
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * labeller.sample_rate)).astype(np.float32)
    labeller(noise[: len(noise) // 8])  # the first call is slower
    started = time.perf_counter()
    labeller(noise)
    return seconds / (time.perf_counter() - started)
