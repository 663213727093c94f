"""Pictures of spectrograms: levels by arithmetic, PNGs that decode, axes with round numbers."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.evaluation.spectrogram import SHADES, decibels, picture, png, ticks

SAMPLE_RATE = 16_000
TONE = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)


def decoded(content: bytes) -> NDArray[np.uint8]:
    """The palette indices [height, width] of a PNG; checks its checksums."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, position = {}, 8
    while position < len(content):
        (size,) = struct.unpack_from(">I", content, position)
        name, body = content[position + 4 : position + 8], content[position + 8 : position + 8 + size]
        assert struct.unpack_from(">I", content, position + 8 + size)[0] == zlib.crc32(name + body)
        chunks[name], position = body, position + 12 + size
    assert [*chunks] == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert len(chunks[b"PLTE"]) == 3 * SHADES
    width, height, *kind = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert kind == [8, 3, 0, 0, 0]
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()  # no filters
    return lines[:, 1:]


def test_a_sine_has_its_level_at_its_frequency() -> None:
    power = decibels(TONE, SAMPLE_RATE)  # [bins, frames], bins of 31.25 Hz
    middle = power[:, power.shape[1] // 2]
    assert middle.argmax() == 32
    assert middle.max() == pytest.approx(-6, abs=0.1)  # half of full scale
    assert middle[100:].max() < -80


def test_pixels_survive() -> None:
    pixels = np.linspace(0, 1, 12).reshape(3, 4)
    assert np.array_equal(decoded(png(pixels)), np.rint(pixels * (SHADES - 1)))
    tall = np.repeat(np.linspace(0, 1, 400)[:, None], 5, axis=1)
    assert decoded(png(tall)).shape == (200, 5)


def test_a_picture_is_valid_and_on_one_scale() -> None:
    svg = picture([("<a> & \x1b", TONE), ("half as long, and faint", TONE[:8_000] / 100)], SAMPLE_RATE)
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<a> & \\x1b" in texts
    assert texts.count("8 kHz") == 2 and texts.count("0 s") == 2 and texts.count("1") == 2
    widths = [float(image.attrib["width"]) for image in root.iter("{http://www.w3.org/2000/svg}image")]
    assert widths[0] == pytest.approx(2 * widths[1])
    loud, faint = (decoded(base64.b64decode(found)) for found in re.findall('base64,(.*?)"', svg))
    assert loud.max() > SHADES - 4
    assert SHADES // 3 < faint.max() < SHADES * 0.6  # 40 of 80 dB lower


@pytest.mark.parametrize("samples", [1, 160, 500_000])
def test_audio_of_any_length_has_a_picture(samples: int) -> None:
    svg = picture([("silence", np.zeros(samples)), ("recording", np.zeros(1))], SAMPLE_RATE)
    assert len(svg) < 100_000


@pytest.mark.parametrize(
    ("largest", "count", "expected"),
    [
        (10, 8, [0, 2, 4, 6, 8, 10]),
        (8_000, 5, [0, 2_000, 4_000, 6_000, 8_000]),
        (0.7, 8, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ],
)
def test_ticks_are_round_numbers(largest: float, count: int, expected: list[float]) -> None:
    assert ticks(largest, count) == pytest.approx(expected)
