"""wavenet look clip."""

from __future__ import annotations

from pathlib import Path

import click

from wavenet.cli.console import ProgressLine, print_result
from wavenet.cli.options import PICTURE
from wavenet.data.errors import printable

MOST_CLIPS = 12  # in one picture


@click.command()
@click.argument("clips", metavar="CLIP...", nargs=-1, required=True, type=click.Path(path_type=Path))
@PICTURE
def clip(clips: tuple[Path, ...], output: str) -> None:
    """Draw recordings side by side on the same axes: waveform, spectrogram, level and pitch.

    Their formats, sample rates and lengths may differ. Length, levels, silent and voiced shares and the median pitch of
    each are printed.

    \b
    wavenet look clip a.wav b.flac -o clips.png
    """
    from wavenet.plots import canvas
    from wavenet.plots.clips import clips_figure

    if len(clips) > MOST_CLIPS:
        raise click.UsageError(f"{len(clips)} clips: at most {MOST_CLIPS} fit into one picture")
    canvas.check_picture(output)
    from wavenet.evaluation.clip_profile import profile

    profiles = []
    for path in clips:
        progress = ProgressLine(path.name, "samples")
        try:
            profiles.append(profile(path, progress))
        finally:
            progress.clear()
        print_result(f"{printable(path.name)}: {profiles[-1].text}")
    canvas.save(output, clips_figure(profiles))
