"""Pictures of labels, SVG: a spectrogram with label tracks below it, and a confusion matrix."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.data.segments import Segment
from wavenet.evaluation.spectrogram import (
    AXIS,
    HEIGHT,
    LEFT,
    RIGHT,
    TITLE,
    WIDTH,
    decibels,
    document,
    escaped,
    frequency_axis,
    group,
    image,
    seconds_axis,
)

TRACK, TRACK_GAP = 22, 18  # height of a label track, and of its title above it
LETTER = 7.0  # width of a letter, roughly: longer labels are shortened to their segment
HUE_STEP = (math.sqrt(5) - 1) / 2  # turns from the hue of a label to that of the next one: the golden ratio
LIGHTNESS, SATURATION = 0.72, 0.65
TRACK_STYLE = ".label{stroke:#888;stroke-width:.5}.label+text{fill:#111;font-size:12px}"
MATRIX_STYLE = ".cell{fill:#1f6fb4}.name{font-size:12px}.share{font-size:11px}.dark{fill:#fff}"
NAMES_WIDTH = 150  # left of a confusion matrix
LARGEST_CELL = 44
FEW_CLASSES = 20  # up to which the cells of a confusion matrix have numbers


def clip_picture(
    title: str,
    audio: NDArray[np.floating[Any]],
    sample_rate: int,
    tracks: Sequence[tuple[str, Sequence[Segment]]],
) -> str:
    """The spectrogram of a clip [samples], and below it label tracks: pairs of a title and segments.

    A label has the same colour in all tracks.
    """
    power, seconds = decibels(audio, sample_rate), len(audio) / sample_rate
    width = WIDTH - LEFT - RIGHT
    parts = [group(TITLE, title), image(power, float(power.max()), width), frequency_axis(sample_rate / 2)]
    labels = sorted({segment.label for _, segments in tracks for segment in segments})
    colours = {label: _colour(index) for index, label in enumerate(labels)}
    bottom = HEIGHT
    for name, segments in tracks:
        top = bottom + TRACK_GAP
        parts.append(f'<text y="{top - 4}" font-size="11">{escaped(name)}</text>')
        parts += [_label(segment, top, width / seconds, colours[segment.label]) for segment in segments]
        bottom = top + TRACK
    parts += [seconds_axis(seconds, bottom), "</g>"]
    return document(parts, TITLE + bottom + AXIS, TRACK_STYLE)


def confusion_picture(confusion: NDArray[np.int64], names: Sequence[str]) -> str:
    """A confusion matrix [C, C], a row for each class of the reference, as shares of the frames of its class.

    Classes that neither the reference has nor were found are left out.
    """
    present = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    counts = confusion[np.ix_(present, present)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # [reference, found]
    size = min(LARGEST_CELL, (WIDTH - NAMES_WIDTH - RIGHT) / max(len(present), 1))
    small = min(12.0, size - 1)
    parts = [
        f'<text x="{NAMES_WIDTH}" y="18">columns: found; rows: reference; percent of the row</text>',
        f'<g transform="translate({NAMES_WIDTH},{NAMES_WIDTH})">',
    ]
    for row, index in enumerate(present.tolist()):
        name, middle = escaped(names[index]), (row + 0.5) * size
        style = f'class="name" style="font-size:{small:.1f}px"'
        parts.append(f'<text {style} x="-6" y="{middle + small / 3:.1f}" text-anchor="end">{name}</text>')
        parts.append(f'<text {style} transform="translate({middle + small / 3:.1f},-6) rotate(-90)">{name}</text>')
        for column, share in enumerate(shares[row].tolist()):
            parts.append(_cell(column * size, row * size, size, share, len(present) <= FEW_CLASSES))
    parts.append(f'<path d="M0 0h{size * len(present):.1f}v{size * len(present):.1f}H0z"/></g>')
    return document(parts, math.ceil(NAMES_WIDTH + size * len(present) + RIGHT), MATRIX_STYLE)


def _label(segment: Segment, top: float, scale: float, colour: str) -> str:
    """A labelled rectangle; scale: units per second."""
    left, width = segment.start * scale, (segment.end - segment.start) * scale
    letters = int(width / LETTER)
    text = segment.label if len(segment.label) <= letters else segment.label[: letters - 1] + "…"
    written = f'<text x="{left + width / 2:.1f}" y="{top + 15}" text-anchor="middle">{escaped(text)}</text>'
    return (
        f'<rect class="label" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{TRACK}" fill="{colour}">'
        f"<title>{escaped(segment.label)}</title></rect>{written if letters >= min(len(segment.label), 3) else ''}"
    )


def _colour(index: int) -> str:
    """The colour of label number `index`."""
    channels = colorsys.hls_to_rgb(index * HUE_STEP % 1, LIGHTNESS, SATURATION)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def _cell(left: float, top: float, size: float, share: float, with_number: bool) -> str:
    if share < 0.0005:
        return ""
    square = (
        f'<rect class="cell" x="{left:.1f}" y="{top:.1f}" width="{size:.1f}" height="{size:.1f}" '
        f'fill-opacity="{share:.3f}"/>'
    )
    if not with_number:
        return square
    dark = " dark" * (share > 0.5)
    return square + (
        f'<text class="share{dark}" x="{left + size / 2:.1f}" y="{top + size / 2 + 4:.1f}" '
        f'text-anchor="middle">{100 * share:.3g}</text>'
    )
