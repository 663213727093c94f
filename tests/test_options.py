"""Options that several commands share: sizes with units."""

from __future__ import annotations

import click
import pytest

from wavenet.cli.options import size_in_bytes

OPTION = click.Option(["--memory"])
CONTEXT = click.Context(click.Command("train"))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * 10**9),
        ("500M", 5 * 10**8),
        ("1.5GB", 15 * 10**8),
        ("8GiB", 8 * 2**30),
        ("64 mib", 2**26),
        ("8kB", 8_000),
        ("2T", 2 * 10**12),
        (".5K", 500),
    ],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert size_in_bytes(CONTEXT, OPTION, text) == size


@pytest.mark.parametrize("text", ["8000000000", "8", "", "G", "-1G", "0G", "8X", "1e9", "8 G G", "8Gi", "nan", "infG"])
def test_other_sizes_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(click.UsageError, match="expected a number with a unit, such as 8G") as caught:
        size_in_bytes(CONTEXT, OPTION, text)
    assert caught.value.message.startswith("--memory ")
    assert "\n" not in caught.value.message


def test_a_size_that_is_not_given_is_none() -> None:
    assert size_in_bytes(CONTEXT, OPTION, None) is None
