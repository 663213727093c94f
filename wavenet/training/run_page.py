"""The page of a run, `index.html`: the verdict, curves, clips with their pictures, and settings.

What the page of a labeller's run shows is in `wavenet.training.labelling_page`. The studio shows the same `Contents`.

It is static, loads nothing but the clips and pictures beside it, and works from the disk. Everything that comes from
files is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from wavenet import checkpoint
from wavenet.data.errors import printable
from wavenet.evaluation.spectrogram import ticks
from wavenet.training import curves
from wavenet.training.curves import Records
from wavenet.training.run_directory import RunDirectory, is_number

Curve = Sequence[tuple[float, float]]  # (minutes, a loss or another figure)


@dataclass(frozen=True)
class Chart:
    """A chart as HTML."""

    title: str
    html: str


@dataclass(frozen=True)
class Entry:
    """A validation: its figures, the verdict, and the names in the run directory of its clip and its picture, or ""."""

    step: int
    result: str
    text: str
    audio: str
    picture: str
    shows: str  # what the picture shows


@dataclass(frozen=True)
class Contents:
    """What is shown of a run, in plain text but for the charts."""

    latest: Entry | None
    charts: Sequence[Chart]
    title: str  # of the entries
    entries: Sequence[Entry]  # the newest first


MakeContents = Callable[[RunDirectory, Records], Contents]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 800, 300, 56, 40, 12  # of the chart, in its units
MOST_POINTS = 400  # of a curve
MARGIN = 0.08  # above and below the curves, of their range
COMMON = 95  # percentile of the training bits below which the chart shows all; the first steps are far above
PER = {"bits": "sample", "nats": "frame"}
REFERENCES = {
    "bits": {"histogram": "a histogram of codes", "pairs": "a table of code pairs"},
    "nats": {"repeat": "repeating the last frame", "linear": "linear prediction"},
}
STYLE = """
:root{color-scheme:light dark;--text:#222;--page:#fff;--line:#ccc;--held:#c2410c;--training:#2563eb;--faint:#666}
@media(prefers-color-scheme:dark){:root{--text:#ddd;--page:#15171a;--line:#444;--held:#fb923c;--training:#7aa2f7;
--faint:#999}}
body{font:16px/1.5 sans-serif;color:var(--text);background:var(--page);max-width:820px;margin:0 auto;padding:1rem}
h1,h2{line-height:1.2;overflow-wrap:anywhere}img,svg,audio{width:100%;height:auto}audio{height:40px}
pre{overflow-x:auto;border:1px solid var(--line);padding:.7rem}p{overflow-wrap:anywhere}
.verdict{font-size:1.1rem;border-left:4px solid var(--held);padding-left:.8rem}.faint{color:var(--faint)}
svg text{font:15px sans-serif;fill:var(--text)}svg path{fill:none;stroke-width:1.5}
"""
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def generator_contents(run: RunDirectory, records: Records) -> Contents:
    """Of a generator's run: its bits per sample, and clips."""
    validations = [record for record in records if record["event"] == "validation"]
    entries = [_entry(run, record) for record in reversed(validations)]
    charts = [Chart("Bits per sample", _chart_of(records, validations, "bits"))]
    if any(is_number(curves.losses(record).get("nats")) for record in records):
        charts.append(Chart("Frame model: nats per frame", _chart_of(records, validations, "nats")))
    return Contents(next(iter(entries), None), charts, "Clips", entries)


def write(run: RunDirectory, recipe: str, records: Records, make_contents: MakeContents = generator_contents) -> None:
    """Replace the page of a run; arguments as of `page`. Raises `CheckpointError` if it cannot be written.

    What fails while it is made must not end a training: the page then says so.
    """
    try:
        content = page(run, recipe, records, make_contents).encode()
    except Exception as error:
        content = (
            f"<!DOCTYPE html>\n<p>This page could not be made: {html.escape(printable(repr(error)))}</p>\n".encode()
        )
    checkpoint.write_bytes(run.page, content)


def page(run: RunDirectory, recipe: str, records: Records, make_contents: MakeContents = generator_contents) -> str:
    """The page of a run as HTML.

    recipe: its TOML. records: the lines of its log, see `RunDirectory.read_log`. make_contents: what is between the
    name and the settings.
    """
    name = html.escape(printable(run.path.absolute().name))
    parts = _body(make_contents(run, records))
    settings = f"<h2>Settings</h2>\n<pre>{html.escape(recipe)}</pre>"
    return TEMPLATE.format(name=name, style=STYLE, body="\n".join([f"<h1>{name}</h1>", *parts, settings]))


def after(record: Mapping[str, Any]) -> str:
    """When a validation was."""
    return f", after {record['seconds'] / 60:.1f} minutes" if is_number(record.get("seconds")) else ""


def picture(run: RunDirectory, record: Mapping[str, Any]) -> str:
    """The name of the picture of a validation; empty if there is none."""
    return _name_of(run, run.picture(record["step"]))


def _name_of(run: RunDirectory, file: Path) -> str:
    return file.relative_to(run.path).as_posix() if file.exists() else ""


def _entry(run: RunDirectory, record: Mapping[str, Any]) -> Entry:
    verdict = record.get("verdict")  # not in logs of earlier versions
    text = str(verdict.get("text", "")) if isinstance(verdict, Mapping) else ""
    step = record["step"]
    audio, drawn = _name_of(run, run.sample(step)), picture(run, record)
    return Entry(step, _result(record), text, audio, drawn, "spectrograms of the clip and of a recording")


def _result(record: Mapping[str, Any]) -> str:
    bits = f"{record['bits']:.3f} bits per sample held out" if is_number(record.get("bits")) else "nothing held out"
    best = ", the best so far" if record.get("is_best") and is_number(record.get("bits")) else ""
    frames = record.get("frames")
    of_frames = ""
    if isinstance(frames, Mapping) and is_number(frames.get("nats")):
        of_frames = f"; {frames['nats']:.2f} nats per frame{', the best so far' if frames.get('is_best') else ''}"
    return f"step {record['step']:,}{after(record)}: {bits}{best}{of_frames}"


def _body(contents: Contents) -> list[str]:
    """Parts of the page as HTML."""
    latest = contents.latest
    return [
        *([f'<p class="verdict">{html.escape(latest.text)}</p>'] if latest and latest.text else []),
        *([_faint(latest.result)] if latest else []),
        *(f"<h2>{chart.title}</h2>\n{chart.html}" for chart in contents.charts),
        f"<h2>{contents.title}</h2>",
        *(map(_entry_html, contents.entries) if contents.entries else ["<p>None yet.</p>"]),
    ]


def _faint(text: str) -> str:
    return f'<p class="faint">{html.escape(text)}</p>'


def _entry_html(entry: Entry) -> str:
    """Player, picture and words of a validation."""
    parts = [f"<h3>Step {entry.step:,}</h3>", _faint(entry.result)]
    if entry.text:
        parts.append(f"<p>{html.escape(entry.text)}</p>")
    if entry.audio:
        parts.append(f'<audio controls preload="metadata" src="{entry.audio}"></audio>')
    if entry.picture:
        parts.append(f'<img loading="lazy" src="{entry.picture}" alt="{entry.shows}">')
    return "\n".join(parts)


def _references(validations: Records, loss: str) -> dict[str, float]:
    """The reference levels of the last validation, by what they are."""
    record = validations[-1] if validations else {}
    levels = (curves.losses(record) if loss == "nats" else record).get("references")
    found = levels if isinstance(levels, Mapping) else {}
    return {text: found[key] for key, text in REFERENCES[loss].items() if is_number(found.get(key))}


def _chart_of(records: Records, validations: Records, loss: str) -> str:
    """The chart of bits per sample or of nats per frame."""
    training, held_out = (curves.points(records, event, loss) for event in ("train", "validation"))
    return chart(training, held_out, _references(validations, loss), f"{loss} per {PER[loss]}", rollbacks(records))


def rollbacks(records: Records) -> dict[float, str]:
    """When the run went back to an earlier state after a jump of the loss, in minutes, and the reason."""
    found = (record for record in records if record["event"] == "rollback" and is_number(record.get("seconds")))
    return {record["seconds"] / 60: str(record.get("text", "")) for record in found}


def chart(
    training: Curve,
    held_out: Curve,
    references: Mapping[str, float],
    unit: str,
    marks: Mapping[float, str] = MappingProxyType({}),
) -> str:
    """Held-out figures and training losses against minutes, as SVG, and the reference levels.

    unit: of the figures. marks: minutes with vertical lines, and what they mean.
    """
    if not training and not held_out:
        return "<p>No figures yet.</p>"
    every = math.ceil(len(training) / MOST_POINTS) or 1
    scale = _Scale([*training, *held_out], _limits(training, held_out))
    lines = [
        f'<path d="{scale.line(training[::-1][::every][::-1])}" stroke="var(--training)"/>',
        f'<path d="{scale.line(held_out)}" stroke="var(--held)"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="var(--held)"/>' for x, y in map(scale.at, held_out)),
        *map(scale.level, references.values()),
        *map(scale.mark, marks),
    ]
    levels = ", ".join(f"{name} {bits:.2f}" for name, bits in references.items())
    levels = f". Reference levels, dashed where they are in the chart: {levels}" if levels else ""
    smoothed = ' and <b style="color:var(--training)">training</b> (smoothed)' if training else ""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{unit} against minutes">'
        f'<clipPath id="area"><rect x="{LEFT}" y="0" width="{WIDTH - LEFT}" height="{HEIGHT - BOTTOM}"/></clipPath>'
        f'{scale.axes()}<g clip-path="url(#area)">{"".join(lines)}</g></svg>\n'
        '<p class="faint"><b style="color:var(--held)">Held out</b>'
        f"{smoothed}, against minutes{levels}.</p>"
        + "".join(
            f'\n<p class="faint">{minutes:.1f} min: {html.escape(printable(text))}</p>'
            for minutes, text in marks.items()
        )
    )


def _limits(training: Curve, held_out: Curve) -> tuple[float, float]:
    """The lowest and the highest bits per sample of the chart."""
    values = [bits for _, bits in held_out]
    if training:
        bits = [bits for _, bits in training]
        values += [min(bits), float(np.percentile(bits, COMMON))]
    margin = MARGIN * (max(values) - min(values)) or MARGIN
    return min(values) - margin, max(values) + margin


class _Scale:
    """From (minutes, bits) to the chart's coordinates."""

    def __init__(self, points: Curve, limits: tuple[float, float]) -> None:
        self.minutes = max(minutes for minutes, _ in points) or 1.0
        self.low, self.high = limits

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        minutes, bits = point
        x = LEFT + (WIDTH - LEFT - TOP) * minutes / self.minutes
        return x, TOP + (HEIGHT - BOTTOM - TOP) * (self.high - bits) / (self.high - self.low)

    def line(self, points: Curve) -> str:
        return "".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(map(self.at, points)))

    def level(self, bits: float) -> str:
        """A dashed line; nothing if it is outside of the chart."""
        if not self.low <= bits <= self.high:
            return ""
        _, y = self.at((0, bits))
        return f'<path d="M{LEFT} {y:.1f}H{WIDTH}" stroke="var(--faint)" stroke-dasharray="6 4"/>'

    def mark(self, minutes: float) -> str:
        """A vertical dashed line."""
        x, _ = self.at((min(minutes, self.minutes), self.low))
        return f'<path d="M{x:.1f} 0V{HEIGHT - BOTTOM}" stroke="var(--faint)" stroke-dasharray="2 4"/>'

    def axes(self) -> str:
        """Grid, minutes and bits."""
        parts = []
        for minutes in ticks(self.minutes, 8):
            x, _ = self.at((minutes, self.low))
            unit = " min" if not minutes else ""
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{minutes:g}{unit}</text>')
        step = ticks(self.high - self.low, 5)[1]
        for index in range(math.ceil(self.low / step), math.floor(self.high / step) + 1):
            _, y = self.at((0, index * step))
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH}" stroke="var(--line)"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{index * step:.5g}</text>')
        return "".join(parts)
