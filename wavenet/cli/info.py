"""wavenet info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from wavenet.cli.console import duration, print_result, short_name
from wavenet.cli.labeller_info import labeller_facts
from wavenet.cli.models import load_labeller, load_network, parts_text
from wavenet.data.errors import printable

if TYPE_CHECKING:
    from wavenet.config import ModelConfig, RecordedLevels
    from wavenet.training.recipe import Recipe
    from wavenet.training.run_directory import RunSummary


@click.command()
@click.argument("what", metavar="MODEL|RECIPE")
def command(what: str) -> None:
    """Describe MODEL or RECIPE: layers, dilations, receptive field, parameters, cost per sample, speed on this machine.

    For a run directory also the progress of its training and the bits per sample it reached; for a recipe, the time and
    the memory that training takes on this machine, measured over a few steps.

    \b
    wavenet info runs/speech
    wavenet info large
    """
    from wavenet.engine import create, native_installed
    from wavenet.evaluation.bench import generation_speed, other_parts

    if labeller := load_labeller(what):
        _print(labeller_facts(what, *labeller))
        return
    model, recipe = load_network(what)
    memory = [] if recipe is None else _memory_facts(recipe)  # before this process grows
    _print(_facts(model.config))
    if recipe is None:
        _print(_run_facts(Path(what)))
    parts = other_parts(model)
    for engine, precision in (("native", "f32"), ("native", "int8")) if native_installed() else (("torch", "f32"),):
        speed = generation_speed(create(engine, model.config, model.state_dict(), precision))
        threads = f"{speed.threads} thread{'s' if speed.threads > 1 else ''}"
        text = (
            f"{speed.samples_per_second:,.0f} samples/s, {speed.times_real_time:.2f} x real time "
            f"({speed.engine} engine, {speed.precision}, {threads})"
        )
        _print([("speed here", text)])
        if parts.frames or parts.refinement:
            whole = f"{parts.with_network(speed.times_real_time):.2f} x real time"
            _print([(f"{precision} in all", f"{whole}, with {parts_text(parts, model.config.sampling.refine)}")])
    if recipe is not None:
        _print(_training_facts(recipe) + memory)


def _run_facts(path: Path) -> list[tuple[str, str]]:
    """Progress and results of a run directory; nothing for a model file."""
    from wavenet.training.run_directory import RunDirectory

    run = RunDirectory(path)
    return _summary_facts(run.summary()) if run.exists() else []


def _summary_facts(summary: RunSummary) -> list[tuple[str, str]]:
    budget = f"{summary.steps:,} steps" if summary.steps else f"{summary.minutes:g} minutes"
    facts = [("trained", f"{summary.step:,} steps in {duration(summary.seconds)}; the budget is {budget}")]
    if summary.best is not None:
        last = "" if summary.bits is None else f"; {summary.bits:.3f} at the last validation"
        step = "" if summary.best_step is None else f" at step {summary.best_step:,}"
        facts.append(("validation", f"{summary.best:.3f} bits per sample{step}, the best{last}"))
    if summary.folder is not None:
        facts.append(("recordings", printable(summary.folder)))
    if summary.base is not None:
        facts.append(("started from", printable(summary.base)))
    return facts


def _facts(config: ModelConfig) -> list[tuple[str, str]]:
    cycle = config.dilations[: config.layers_per_cycle]
    dilations = ", ".join(f"{dilation:,}" for dilation in cycle)
    return [
        (
            "network",
            f"{config.layers} layers, {config.cycles} x {config.layers_per_cycle}, kernel size {config.kernel_size}",
        ),
        ("dilations", f"{dilations} in each cycle"),
        (
            "receptive field",
            f"{config.receptive_field:,} samples, {config.receptive_field_ms:.1f} ms at {config.sample_rate:,} Hz",
        ),
        (
            "channels",
            f"residual {config.residual_channels}, gate {config.gate}, skip {config.skip_channels}, "
            f"head {config.head}, output {config.output_channels} ({config.output})",
        ),
        *_conditioning_facts(config),
        ("sampling", config.sampling.summary),
        ("parameters", f"{config.parameters:,} ({config.parameters * 4 / 1e6:.1f} MB in float32)"),
        ("cost", f"{config.macs_per_sample:,} multiply-adds per sample"),
    ]


def _conditioning_facts(config: ModelConfig) -> list[tuple[str, str]]:
    facts = []
    if config.speakers:
        facts.append(("speakers", ", ".join(short_name(name) for name in config.speakers)))
    mel = config.features
    if mel is not None:
        before, after = config.frame_context
        facts += [
            (
                "features",
                f"ln of {mel.bands} mel bands, {mel.low:g} to {mel.high:g} Hz ({mel.scale} scale, "
                f"{'area' if mel.area else 'peak'} 1), of magnitude^{mel.power:g}, at least {mel.floor:g}; every "
                f"{mel.hop} samples ({1000 * mel.hop / mel.sample_rate:g} ms), Hann window {mel.window}, fft {mel.fft}",
            ),
            (
                "frame network",
                f"{config.frame_network}, {config.frame_channels} channels, context of {before} frames before "
                f"and {after} after its own; {config.macs_per_frame:,} multiply-adds per frame",
            ),
        ]
    frame_model = config.frame_model
    if frame_model is not None and mel is not None:
        facts.append(
            (
                "frame model",
                f"{frame_model.layers} layers, {frame_model.parameters(len(config.speakers)):,} parameters, receptive "
                f"field {frame_model.receptive_field_seconds(mel):.1f} s, {frame_model.components} components of the "
                "spectrum; draws the features",
            )
        )
    if config.training_range is not None:
        (quiet, loud), (low, high) = config.training_range.level, config.training_range.pitch
        voices = f"voices of {low:.0f} to {high:.0f} Hz" if high else "no voices"
        facts.append(("trained on", f"levels of {quiet:.0f} to {loud:.0f} dB (mean of the mel bands), {voices}"))
    if config.recorded_levels is not None:
        facts.append(("levels", f"{_levels(config.recorded_levels)}, as of the recordings, at every temperature"))
    if config.linear_prediction:
        pitch = f" and {config.pitch_taps} pitch taps" if config.pitch_taps else ""
        source = "the past (backward-adaptive)" if config.backward_adaptive else "the features"
        facts.append(("prediction", f"linear, order {config.linear_prediction}{pitch}, computed from {source}"))
    return facts


def _levels(levels: RecordedLevels) -> str:
    """The levels of the recordings: one for all speakers, or the range."""
    loud = " to ".join(f"{value:.0f}" for value in sorted({min(levels.loud), max(levels.loud)}))
    silent = " to ".join(f"{value:.0%}" for value in sorted({min(levels.silent), max(levels.silent)}))
    return f"{loud} dBFS outside of pauses, {silent} silent"


def _memory_facts(recipe: Recipe) -> list[tuple[str, str]]:
    """The memory that training is predicted to need, and what holds it."""
    from wavenet.training.budget import megabytes
    from wavenet.training.training_memory import training_memory

    memory = training_memory(recipe)
    parts = [
        f"{megabytes(memory.process)} the program",
        f"{megabytes(memory.weights)} weights and optimizer",
        f"then {megabytes(memory.step)} a step or {megabytes(memory.validation)} a validation",
    ]
    if memory.frame_step:
        parts.append(f"{megabytes(memory.frame_step)} a step of the frame model")
    return [("memory", f"about {megabytes(memory.peak)} at the peak: {', '.join(parts)}")]


def _training_facts(recipe: Recipe) -> list[tuple[str, str]]:
    from wavenet.training.training_cost import training_cost

    training = recipe.training
    try:
        cost = training_cost(recipe)
    except MemoryError as error:
        return [("training here", str(error))]
    if training.steps:
        budget = f"{training.steps:,} steps, about {duration(training.steps * cost.seconds_per_step)} here"
    else:
        budget = f"{training.minutes:g} minutes, about {60 * training.minutes / cost.seconds_per_step:,.0f} steps here"
    return [
        ("training", f"{budget}; {training.batch} x {training.crop:,} samples a step"),
        ("training here", f"{cost.samples_per_second:,.0f} samples/s, {cost.megabytes:,.0f} MB of memory, on the CPU"),
    ]


def _print(facts: list[tuple[str, str]]) -> None:
    for name, value in facts:
        print_result(f"{name:16} {value}")
