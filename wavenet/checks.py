"""Checks of configurations: field types and ranges, unknown keys, and values as error messages show them.

Every check raises `ConfigError` with a message of one line that names the field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import numbers
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_SHOWN = 60  # characters of a value that an error message shows
MAX_SHOWN_BITS = 128  # an integer of more is described by its number of digits
MAX_LISTED = 10  # names in a list
TYPE_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text", tuple: "a list of names"}

C = TypeVar("C", bound="DataclassInstance")


class ConfigError(ValueError):
    """An invalid configuration: the message names the field and the values it may have."""


class _ShortRepr(reprlib.Repr):
    """`repr` of bounded length, also for integers of more digits than Python converts to text."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 1, 3, 3, 3
        self.maxstring = self.maxother = MAX_SHOWN

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > MAX_SHOWN_BITS:
            return f"<an integer of about {round(x.bit_length() * 0.30103):,} digits>"
        return repr(x)


_SHORT = _ShortRepr()


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number: an int or NumPy's, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def shown(value: object) -> str:
    """The value as error messages show it: its `repr`, on one line, with the middle of long values left out."""
    return " ".join(line.strip() for line in _SHORT.repr(value).splitlines())  # those of arrays have several


def listed(names: Iterable[str]) -> str:
    """Names as error messages list them: 'ann, bob and 3 more', on one line, with the middle of long names left out."""
    names = list(names)
    texts = [shown(name)[1:-1] for name in names[:MAX_LISTED]]
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    return ", ".join(texts) + more


def suggest(word: str, known: Iterable[str]) -> str:
    """', did you mean X?' for the nearest known word, or nothing."""
    import difflib  # only needed after a mistake; a start without it is faster

    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {shown(near[0])}?" if near else ""


def from_dict(kind: type[C], values: Mapping[str, Any], section: str = "") -> C:
    """Build a configuration from plain values.

    section: the name of the table that the values come from; error messages put it before the key.
    Raises `ConfigError` for a key that is unknown or missing and for a value that is not allowed.
    """
    prefix = f"{section}." if section else ""
    values = current_names(kind, values)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            name = key if key.isidentifier() and len(key) <= MAX_SHOWN else shown(key)
            raise ConfigError(f"{prefix}{name}: unknown key{suggest(key, known)}; known: {', '.join(known)}")
    for field in dataclasses.fields(kind):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ConfigError(f"{prefix}{field.name}: missing")
    try:
        return kind(**values)
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith(prefix) else prefix + message) from None


def current_names(kind: type[DataclassInstance], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the current field names: files of earlier versions use those in `kind.FORMER_NAMES`."""
    former: Mapping[str, str] = getattr(kind, "FORMER_NAMES", {})
    return {former.get(name, name): value for name, value in values.items()}


def check_types(config: DataclassInstance) -> None:
    """Check the type of every field. An integer is accepted for a float, and converted."""
    for field in dataclasses.fields(config):
        check_type(config, field.name)


def check_type(config: DataclassInstance, name: str) -> None:
    """Check the type of one field."""
    value, hint = getattr(config, name), _type_hints(type(config))[name]
    if hint is float and type(value) is int:
        try:
            object.__setattr__(config, name, float(value))
        except OverflowError:
            raise ConfigError(f"{name} = {shown(value)}: too large") from None
        return
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = tuple(typing.get_origin(kind) or kind for kind in allowed)
    if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
        names = " or ".join(TYPE_NAMES.get(kind, "a table") for kind in plain if kind is not types.NoneType)
        raise ConfigError(f"{name} = {shown(value)}: expected {names}")
    if isinstance(value, str):
        check_text(name, value)


@cache
def _type_hints(kind: type[DataclassInstance]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def check_text(name: str, text: str) -> None:
    """Check that text can be stored in a file: names of files that are not UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{name} = {shown(text)}: not valid Unicode (UTF-8); rename it") from None


def check_choice(config: object, name: str, known: tuple[str, ...]) -> None:
    """Check that a field has one of the known values."""
    value = getattr(config, name)
    if value not in known:
        raise ConfigError(f"{name} = {shown(value)}: unknown{suggest(value, known)}; known: {', '.join(known)}")


def check_range(config: object, name: str, low: float, high: float) -> None:
    """Check that low <= field <= high, which NaN is not."""
    value = getattr(config, name)
    if not low <= value <= high:
        raise ConfigError(f"{name} = {shown(value)}: must be between {low:,} and {high:,}")


def check_interval(config: object, name: str, low: float, high: float) -> None:
    """Check that a field is two finite numbers with low <= first <= second <= high, and convert it to floats."""
    value = getattr(config, name)
    numbers = list(value) if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or any(type(number) not in (int, float) for number in numbers):
        raise ConfigError(f"{name} = {shown(value)}: expected two numbers, such as [{low:g}, {high:g}]")
    first, second = numbers
    if not low <= first <= second <= high:
        raise ConfigError(f"{name} = {shown(value)}: must be two numbers in ascending order from {low:g} to {high:g}")
    object.__setattr__(config, name, (float(first), float(second)))
