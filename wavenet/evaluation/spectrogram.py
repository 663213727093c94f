"""Spectrograms as pictures: SVG with an axis of seconds and one of frequency, and the pixels in a PNG inside it.

A browser shows them, and so do most viewers of pictures; no package for drawing is needed. In a dark environment they
are dark.
"""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wavenet.data.errors import printable

WINDOW_SECONDS = 0.032
ROWS, COLUMNS = 200, 720  # pixels of a spectrogram, at most
RANGE_DB = 80.0  # from black to the loudest point of all spectrograms of a picture
SHADES = 64
COLOURS = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))  # from quiet to loud
WIDTH, LEFT, RIGHT, TITLE, AXIS = 800, 52, 12, 26, 30  # of a panel in the picture, in its units
HEIGHT = 200  # of a spectrogram in the picture
TICKS = 8  # on the axis of time, at most
STYLE = (
    "text{font:13px sans-serif;fill:#222}.page{fill:#fff}path{stroke:#888;fill:none}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.page{fill:#15171a}}"
)


def picture(panels: Sequence[tuple[str, NDArray[np.floating[Any]]]], sample_rate: int) -> str:
    """An SVG of one spectrogram above the other: pairs of a title and audio [samples], one at least.

    Colours and seconds have the same scale in all of them.
    """
    powers = [decibels(audio, sample_rate) for _, audio in panels]
    loudest = max(float(power.max()) for power in powers)
    seconds = max(len(audio) for _, audio in panels) / sample_rate
    height = TITLE + HEIGHT + AXIS
    parts = []
    for index, ((title, audio), power) in enumerate(zip(panels, powers, strict=True)):
        width = (WIDTH - LEFT - RIGHT) * len(audio) / sample_rate / seconds
        parts += [group(height * index + TITLE, title), image(power, loudest, width)]
        parts += [seconds_axis(seconds, HEIGHT), frequency_axis(sample_rate / 2), "</g>"]
    return document(parts, height * len(panels))


def document(parts: Sequence[str], height: float, style: str = "") -> str:
    """An SVG of `parts`, `WIDTH` wide. style: rules besides those of the texts and axes."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"><style>{STYLE}{style}</style>'
            f'<rect class="page" width="{WIDTH}" height="{height}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def group(top: float, title: str) -> str:
    """The beginning of a panel: a title, and below it, at `top`, the origin of what follows; ends with `</g>`."""
    return f'<g transform="translate({LEFT},{top})">\n<text y="-8">{escaped(title)}</text>'


def image(power: NDArray[np.float64], loudest: float, width: float) -> str:
    """The pixels of a power spectrogram [bins, frames] in dB, `HEIGHT` high; `loudest` dB is the brightest colour."""
    scaled = np.clip((power - loudest) / RANGE_DB + 1, 0, 1)  # [bins, frames]
    return (
        f'<image width="{width:.1f}" height="{HEIGHT}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{base64.b64encode(png(scaled[::-1])).decode()}"/>'
    )


def escaped(text: str) -> str:
    """A text for an SVG, on one line."""
    return html.escape(printable(text))


def decibels(audio: NDArray[np.floating[Any]], sample_rate: int) -> NDArray[np.float64]:
    """Power spectrogram of audio [samples], at least one, in dB relative to a full-scale sine, [bins, frames].

    Hann windows of 32 ms. The first and last windows are completed with zeros.
    """
    window = max(4, round(WINDOW_SECONDS * sample_rate))
    hop = max(window // 4, math.ceil(len(audio) / COLUMNS))
    padded = np.pad(np.asarray(audio, np.float64), (window // 2, window))
    frames = sliding_window_view(padded, window)[: len(audio) : hop]  # [frames, window]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(window))) / (window / 4)
    return 20 * np.log10(np.maximum(spectrum, 1e-10)).T


def png(pixels: NDArray[np.floating[Any]]) -> bytes:
    """A PNG (ISO/IEC 15948) with a palette, of pixels [height, width] from 0, dark, to 1, bright. Rows are averaged."""
    rows = min(ROWS, len(pixels))
    edges = np.linspace(0, len(pixels), rows + 1).astype(int)[:-1]
    means = np.add.reduceat(pixels, edges, axis=0) / np.diff([*edges, len(pixels)])[:, None]
    shades = np.rint(means * (SHADES - 1)).astype(np.uint8)  # [rows, width]
    shares = np.linspace(0, len(COLOURS) - 1, SHADES)
    palette = [np.interp(shares, range(len(COLOURS)), channel) for channel in zip(*COLOURS, strict=True)]
    header = struct.pack(">2I5B", shades.shape[1], rows, 8, 3, 0, 0, 0)  # 8 bits; colour type 3: a palette
    lines = np.pad(shades, ((0, 0), (1, 0)))  # each begins with its filter, 0: none
    chunks = {
        b"IHDR": header,
        b"PLTE": np.rint(palette).T.astype(np.uint8).tobytes(),
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


def ticks(largest: float, count: int) -> list[float]:
    """Round numbers from 0 to `largest`, at most count + 1, in steps of 1, 2 or 5 times a power of ten."""
    rough = largest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [step * index for index in range(math.floor(largest / step * (1 + 1e-9)) + 1)]


def seconds_axis(seconds: float, top: float) -> str:
    """An axis of time below a panel that is `top` high."""
    scale = (WIDTH - LEFT - RIGHT) / seconds
    values = ticks(seconds, TICKS)
    marks = "".join(f"M{value * scale:.1f} {top}v4" for value in values)
    texts = "".join(
        f'<text x="{value * scale:.1f}" y="{top + 18}" text-anchor="middle">{value:g}{" s" * (not value)}</text>'
        for value in values
    )
    return f'<path d="{marks}"/>{texts}'


def frequency_axis(highest: float) -> str:
    """An axis of frequency, in kHz, left of a spectrogram up to `highest` Hz."""
    values = ticks(highest, 5)
    marks = "".join(f"M0 {HEIGHT * (1 - value / highest):.1f}h-4" for value in values)
    texts = "".join(
        f'<text x="-8" y="{HEIGHT * (1 - value / highest) + 4:.1f}" text-anchor="end">{value / 1000:g}'
        f"{' kHz' * (value == values[-1])}</text>"
        for value in values[1:]
    )
    return f'<path d="{marks}"/>{texts}'
