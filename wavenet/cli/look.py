"""wavenet look: pictures of networks, clips and runs."""

from __future__ import annotations

import click

from wavenet.cli.console import print_result
from wavenet.cli.look_clip import clip
from wavenet.cli.look_model import influence, scales
from wavenet.cli.look_run import run
from wavenet.cli.models import load_config


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Draw pictures that show what a network sees and hears, clips, and the curves of runs.

    They need matplotlib: pip install 'wavenet-toolkit[plots]'

    \b
    wavenet look receptive-field speech -o field.png
    wavenet look scales runs/speech clip.wav -o scales.png
    wavenet look clip a.wav b.wav -o clips.png
    wavenet look run runs/speech -o run.png
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("receptive-field")
@click.argument("what", metavar="[MODEL|RECIPE]", required=False)
@click.option(
    "-o",
    "--output",
    default="-",
    show_default=True,
    help="The picture: a .png or .svg file; -: text, a line for each layer.",
)
@click.option("--set", "overrides", multiple=True, metavar="a.b=value", help="Override a key of the recipe.")
def receptive_field(what: str | None, output: str, overrides: tuple[str, ...]) -> None:
    """What the dilated layers of MODEL or RECIPE see of the past, in samples and milliseconds.

    Small stacks are drawn as the tree of connections to one output. Of large ones the growth by layer is drawn, beside
    that of convolutions without dilation and that of a stride of 2 in every layer, as with pooling. Without MODEL and
    RECIPE it is the default network, which --set changes. Of a model of two tiers both are shown.

    \b
    wavenet look receptive-field runs/speech
    wavenet look receptive-field large -o field.svg
    wavenet look receptive-field --set model.cycles=1 --set model.layers_per_cycle=4 -o tree.png
    """
    from wavenet.evaluation.receptive_field import stacks_of, table

    if output != "-":
        from wavenet.plots import canvas
        from wavenet.plots.receptive_field import receptive_field_figure

        canvas.check_picture(output)
    stacks = stacks_of(load_config(what, overrides))
    if output != "-":
        canvas.save(output, receptive_field_figure(stacks))
        return
    for stack in stacks:
        if len(stacks) > 1:
            print_result(f"{stack.name}:")
        for line in table(stack):
            print_result(line)


command.add_command(scales)
command.add_command(influence)
command.add_command(clip)
command.add_command(run)
