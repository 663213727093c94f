"""wavenet info."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wavenet.cli.console import duration
from wavenet.cli.models import network_of

if TYPE_CHECKING:
    from wavenet.config import ModelConfig
    from wavenet.training.recipe import Recipe


@click.command()
@click.argument("what", metavar="MODEL|RECIPE")
def command(what: str) -> None:
    """What MODEL or RECIPE is: layers, dilations, receptive field, parameters, cost per sample, speed here.

    For a recipe also what training it needs on this machine, measured over a few steps.

    \b
    wavenet info runs/speech
    wavenet info large
    """
    from wavenet.engine import create, native_installed
    from wavenet.evaluation.bench import generation_speed

    model, recipe = network_of(what)
    for name, value in _facts(model.config):
        _line(name, value)
    for engine, precision in (("native", "f32"), ("native", "int8")) if native_installed() else (("torch", "f32"),):
        speed = generation_speed(create(engine, model.config, model.state_dict(), precision))
        _line(
            "speed here",
            f"{speed.samples_per_second:,.0f} samples/s, {speed.times_real_time:.2f} x real time ({speed.engine} "
            f"engine, {speed.precision}, {speed.threads} thread{'s' if speed.threads > 1 else ''})",
        )
    if recipe is not None:
        for name, value in _training_facts(recipe):
            _line(name, value)


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
        ("parameters", f"{config.parameters:,} ({config.parameters * 4 / 1e6:.1f} MB in float32)"),
        ("cost", f"{config.macs_per_sample:,} multiply-adds per sample"),
    ]


def _conditioning_facts(config: ModelConfig) -> list[tuple[str, str]]:
    facts = []
    if config.speakers:
        facts.append(("speakers", ", ".join(config.speakers)))
    mel = config.features
    if mel is not None:
        facts += [
            (
                "features",
                f"ln of {mel.bands} mel bands, {mel.low:g} to {mel.high:g} Hz ({mel.scale} scale, "
                f"{'area' if mel.area else 'peak'} 1), of magnitude^{mel.power:g}, at least {mel.floor:g}; every "
                f"{mel.hop} samples ({1000 * mel.hop / mel.sample_rate:g} ms), Hann window {mel.window}, fft {mel.fft}",
            ),
            (
                "frame network",
                f"{config.frame_network}, {config.frame_channels} channels, sees {config.frame_reach} frames to each "
                f"side; {config.macs_per_frame:,} multiply-adds per frame",
            ),
        ]
    if config.linear_prediction:
        pitch = f", {config.pitch_taps} samples a pitch period ago" if config.pitch_taps else ""
        facts.append(("prediction", f"linear, of order {config.linear_prediction}{pitch}, computed from the features"))
    return facts


def _training_facts(recipe: Recipe) -> list[tuple[str, str]]:
    from wavenet.evaluation.training_cost import training_cost

    training = recipe.training
    try:
        cost = training_cost(recipe.model, training)
    except MemoryError as error:
        return [("training here", str(error))]
    if training.steps:
        budget = f"{training.steps:,} steps, about {duration(training.steps * cost.seconds_per_step)} here"
    else:
        budget = f"{training.minutes:g} minutes, about {60 * training.minutes / cost.seconds_per_step:,.0f} steps here"
    return [
        ("training", f"{budget}; {training.batch} x {training.crop:,} samples a step"),
        (
            "training here",
            f"{cost.samples_per_second:,.0f} samples/s, about {cost.megabytes:,.0f} MB of memory, on the CPU",
        ),
    ]


def _line(name: str, value: str) -> None:
    click.echo(f"{name:16} {value}")
