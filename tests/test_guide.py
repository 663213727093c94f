"""The guide docs/dilated-convolutions.md: its program runs, its numbers follow from formulas, its commands parse."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import click
import pytest
from commands import Capture, run

from wavenet import checkpoint, cli
from wavenet.config import PARALLEL_DILATIONS, PLAIN_TAPS, POOLED_FRAMES
from wavenet.training import recipe

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "dilated-convolutions.md").read_text(encoding="utf-8")
PROSE = " ".join(GUIDE.split())  # its lines joined
SAMPLES_PER_MS = 16  # at 16 kHz
EIGHT = [2**layer for layer in range(8)]
RECORDER = '#!/bin/sh\nprintf "%s\\037" "$@" >> calls\necho >> calls\n'  # notes its arguments


def receptive_field(kernel_size: int, dilations: list[int]) -> int:
    return 1 + (kernel_size - 1) * sum(dilations)


def cycle(layers: int) -> list[int]:
    return [2**layer for layer in range(layers)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.M)


def table(header: str) -> list[list[str]]:
    """The rows of the table whose first line begins with a header."""
    lines = GUIDE[GUIDE.index(f"\n| {header}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def number(text: str) -> float:
    return float(re.sub(r"[^\d.]", "", text))


def test_the_python_blocks_are_a_program_that_runs() -> None:
    code = blocks("python")
    assert len(code) == 5
    exec(compile("\n".join(code), "dilated-convolutions.md", "exec"), {})


def test_the_table_of_eight_layers() -> None:
    rows = [[number(cell) for cell in row] for row in table("layer |")]
    assert rows == [
        [layer, d, d + 1, (seen := receptive_field(2, EIGHT[: layer + 1])), seen / SAMPLES_PER_MS]
        for layer, d in enumerate(EIGHT)
    ]


def test_the_command_prints_the_table_of_eight_layers(capsys: Capture) -> None:
    (command,) = re.findall(r"^wavenet (look receptive-field .*layers_per_cycle=8) +# prints this table$", GUIDE, re.M)
    assert run(*command.split()) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()[1:9]]
    assert [[float(cell) for cell in line] for line in printed] == [
        [number(cell) for cell in row] for row in table("layer |")
    ]


def test_the_table_of_other_networks() -> None:
    plain, pooled, dilated, recurrent = table("eight layers")
    assert number(plain[1]) == receptive_field(2, [1] * 8)
    assert number(pooled[1]) == 2**8
    assert number(pooled[2]) == 16_000 // 2**8
    assert number(dilated[1]) == receptive_field(2, EIGHT)
    assert {number(row[2]) for row in (plain, dilated, recurrent)} == {16_000}


def test_the_table_of_parallel_branches() -> None:
    frames = [1, *(receptive_field(PLAIN_TAPS, [d]) for d in PARALLEL_DILATIONS), 2 * POOLED_FRAMES + 1]
    rows = table("branch |")
    assert [[number(cell) for cell in row[1:]] for row in rows] == [[count, count / 100] for count in frames]
    assert [int(row[0].split()[-1]) for row in rows[1:-1]] == list(PARALLEL_DILATIONS)
    assert f"average of {POOLED_FRAMES} frames to each side" in rows[-1][0]


def test_the_table_of_the_safari() -> None:
    rows = table("cycles of layers")
    shapes = [[int(part) for part in row[0].split(" x ")] for row in rows]
    assert f"for shape in {' '.join(f'{cycles}x{layers}' for cycles, layers in shapes)}; do" in GUIDE
    tiny = recipe.load("tiny").model
    for (cycles, layers), (_, seen, time, _) in zip(shapes, rows, strict=True):
        config = replace(tiny, cycles=cycles, layers_per_cycle=layers)
        assert number(seen) == receptive_field(2, cycle(layers) * cycles) == config.receptive_field
        assert number(time) == pytest.approx(config.receptive_field / SAMPLES_PER_MS, abs=0.051)
        assert f"equally many parameters, {config.parameters:,}," in PROSE


@pytest.mark.parametrize(
    ("statement", "numbers"),
    [
        (r"pitch of ([\d,]+) Hz repeats every ([\d,]+) samples, ([\d.]+) ms", [200, 16_000 / 200, 1_000 / 200]),
        (r"a fifth of a second has ([\d,]+)\.", [16_000 / 5]),
        (r"eight layers of two taps see (\d+) samples", [receptive_field(2, [1] * 8)]),
        (r"to see (\d+) it takes (\d+) layers", [256, 255]),
        (r"kernel of 3 at dilations ([\d, ]+) spans", [1, 2, 4, 8, 16]),
        (r"16 spans ([\d, ]+) samples", [receptive_field(3, [d]) for d in (1, 2, 4, 8, 16)]),
        (r"five layers of kernel 3 together see (\d+) samples", [receptive_field(3, [1, 2, 4, 8, 16])]),
        (r"Eight layers of kernel 2 see (\d+) samples, (\d+) ms at 16 kHz", [receptive_field(2, EIGHT), 256 / 16]),
        (r"Half a second at 16 kHz takes ([\d,]+) samples", [16_000 / 2]),
        (r"so (\d+) layers, which see ([\d,]+)\.", [13, receptive_field(2, cycle(13))]),
        (r"Ten layers see ([\d,]+) samples, (\d+) ms", [receptive_field(2, cycle(10)), 1_024 / 16]),
        (r"two cycles ([\d,]+); three ([\d,]+)\.", [receptive_field(2, cycle(10) * n) for n in (2, 3)]),
        (r"with dilation 1,024, would see ([\d,]+) as well", [receptive_field(2, cycle(11))]),
        (r"the eight layers are (\d+) filters", [sum(2**level for level in range(8))]),
    ],
)
def test_stated_numbers(statement: str, numbers: list[float]) -> None:
    match = re.search(statement, PROSE)
    assert match is not None
    assert [number(text) for group in match.groups() for text in re.split(", ", group)] == numbers


def test_thirteen_layers_are_the_fewest_for_half_a_second() -> None:
    assert receptive_field(2, cycle(12)) < 8_000 <= receptive_field(2, cycle(13))


def test_samples_and_milliseconds_agree_everywhere() -> None:
    pairs = re.findall(r"([\d,]+) samples(?:,| are| is|:| \() ([\d.]+) ms", PROSE)
    assert len(pairs) >= 3
    assert all(number(samples) / SAMPLES_PER_MS == pytest.approx(number(ms), abs=0.051) for samples, ms in pairs)


def test_the_shipped_speech_model_is_as_described() -> None:
    config = checkpoint.load_model(ROOT / "samples" / "made" / "speech.safetensors").config
    assert f"has {config.layers} layers, and uses each of its weights once: {config.macs_per_sample:,}" in PROSE


def test_measurements_that_are_stated_elsewhere_agree_with_it() -> None:
    measured = "".join(
        (ROOT / "benchmarks" / f"{name}.md").read_text(encoding="utf-8") for name in ("README", "labelling")
    )
    stated = re.findall(r"\b(8\.41\d|[78]\d\.\d%)", PROSE)
    assert len(stated) == 4
    assert all(figure in measured for figure in stated)


def parse(arguments: list[str]) -> None:
    """Parse the arguments of `wavenet` without running anything. Raises `click.ClickException` for what is wrong."""
    command: click.Command = cli.cli
    context = click.Context(command, info_name="wavenet")
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert name is not None and found is not None
        command = found
        context = click.Context(command, info_name=name, parent=context)
    command.parse_args(context, arguments)


def test_commands_parse(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is missing")
    recorder = tmp_path / "wavenet"
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    script = "".join([*blocks("sh"), *(f"{command}\n" for command in re.findall(r"`(wavenet [^`]+)`", PROSE))])
    subprocess.run([bash, "-eu", "-c", f'PATH="{tmp_path}:$PATH"\n{script}'], cwd=tmp_path, check=True)
    calls = [line.split("\037")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]
    assert len(calls) >= script.count("wavenet ")
    for arguments in calls:
        parse(arguments)


def test_pictures_are_small_and_their_commands_are_beside_them() -> None:
    shown = re.findall(r"!\[[^\]]{20,}\]\((pictures/[^)]+)\)", GUIDE)
    for name in shown:
        assert f"-o docs/{name}" in PROSE
        assert (ROOT / "docs" / name).stat().st_size < 80_000
    assert GUIDE.count("](pictures/") == len(shown)  # each has a description
