"""Recipes: what to train and how, as TOML files with the tables [model], [data] and [training].

The recipe of a labeller has [labeller] instead of [model].

Every key has a default, so a recipe contains only what differs. Errors name the key.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wavenet.config import ConfigError, DataConfig, ModelConfig, TrainingConfig, from_dict, suggest
from wavenet.data.errors import printable
from wavenet.labelling_config import LabellerConfig

SECTIONS = {"model": ModelConfig, "labeller": LabellerConfig, "data": DataConfig, "training": TrainingConfig}
LONGEST_TEXT = 100  # characters of a name or value in a message


@dataclass(frozen=True)
class Recipe:
    """The configurations of a training run. labeller: of a run that trains one, and not `model`."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    labeller: LabellerConfig | None = None

    def __post_init__(self) -> None:
        if self.labeller is not None:
            self._check_labeller(self.labeller)
            return
        reach, crop = self.model.prediction_reach, self.training.crop
        if self.training.past + crop <= reach:
            raise ConfigError(
                f"training.crop = {crop}: must be above {reach}, as the first {reach} samples of a crop are only the "
                "past that the linear prediction needs"
            )

    def _check_labeller(self, labeller: LabellerConfig) -> None:
        """Raises `ConfigError` for settings with which labels would not be where the audio is, or have no effect."""
        if self.model != ModelConfig():
            raise ConfigError("[model] and [labeller]: a recipe has one of them")
        if self.data.trim_db or self.data.pitch_shift != (1.0, 1.0):
            raise ConfigError("data.trim_db and data.pitch_shift: move the audio, but not its labels; leave them out")
        if self.data.speakers:
            raise ConfigError("data.speakers: a labeller has no speakers; leave it out")
        if self.training.crop < labeller.samples_per_frame:
            raise ConfigError(f"training.crop = {self.training.crop}: must be a frame, {labeller.hop}, or more")

    def to_toml(self) -> str:
        """The recipe with every key resolved, as TOML that `load` reads back to an equal one."""
        lines: list[str] = []
        for section in SECTIONS:
            if section == ("labeller" if self.labeller is None else "model"):
                continue
            config = getattr(self, section)
            has_lists = isinstance(config, ModelConfig | LabellerConfig)
            lines += _table(section, config.to_dict() if has_lists else dataclasses.asdict(config))
        return "\n".join(lines)


def names() -> list[str]:
    """Names of the recipes that are part of the package."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def load(name: str | os.PathLike[str] | None, overrides: Iterable[str] = ()) -> Recipe:
    """Load a recipe by name or path and apply `section.key=value` overrides. None: start from the defaults.

    Raises `ConfigError`, one line that names the file and the key.
    """
    tables = read(name)
    override(tables, overrides)
    return build(tables)


def read(name: str | os.PathLike[str] | None) -> dict[str, dict[str, Any]]:
    """The tables of a recipe as they are in its file; None: no tables. Raises `ConfigError`."""
    return {} if name is None else _read(_find(os.fspath(name)))


def override(tables: dict[str, dict[str, Any]], overrides: Iterable[str]) -> None:
    """Apply `section.key=value` overrides to the tables of a recipe. Raises `ConfigError`."""
    for text in overrides:
        keys, value = _parse_override(text)
        table: dict[str, Any] = tables
        for key in keys[:-1]:
            inside = table.setdefault(key, {})
            if not isinstance(inside, dict):
                raise ConfigError(f"--set {printable(text, LONGEST_TEXT)}: {key} is not a table")
            table = inside
        table[keys[-1]] = value


def sampling_overrides(overrides: Iterable[str]) -> list[str]:
    """Those overrides that change the recommended sampling options."""
    return [text for text in overrides if text.strip().startswith("model.sampling.")]


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    """A table of TOML, and the tables inside it; keys whose value is None are left out."""
    inside = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    flat = {key: value for key, value in values.items() if value is not None and key not in inside}
    lines = [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in flat.items()), ""]
    for key, value in inside.items():
        lines += _table(f"{name}.{key}", value)
    return lines


def _toml(value: Any) -> str:
    """A number, string, boolean or flat list as TOML.

    JSON is the same here, if only control characters are escaped: its escapes of characters beyond 16 bits are not
    those of TOML. DEL has to be escaped in TOML, which JSON does not do. Text that no TOML file can contain
    (surrogates, from file names that are not UTF-8) is refused by the configurations.
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def build(tables: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe that the tables describe. Raises `ConfigError`."""
    for section, table in tables.items():
        if section not in SECTIONS:
            known = f"{suggest(section, SECTIONS)}; known: {', '.join(SECTIONS)}"
            raise ConfigError(f"[{printable(section, LONGEST_TEXT)}]: unknown table{known}")
        if not isinstance(table, Mapping):
            text = printable(f"{section} = {table!r}", LONGEST_TEXT)
            raise ConfigError(f"{text}: a key outside of the tables [{'], ['.join(SECTIONS)}]")
    return Recipe(**{section: from_dict(SECTIONS[section], table, section) for section, table in tables.items()})


def _find(name: str) -> Path:
    path = Path(name)
    if path.suffix == ".toml" or os.sep in name:
        if not path.is_file():
            raise ConfigError(f"{printable(name)}: no such recipe file")
        return path
    if name not in names():
        known = f"{suggest(name, names())}; known: {', '.join(names())}, or FILE.toml"
        raise ConfigError(f"'{printable(name, LONGEST_TEXT)}': no such recipe{known}")
    return _folder() / f"{name}.toml"


def _folder() -> Path:
    """The folder of the recipes: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]  # wavenet
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
        build(tables)  # here, so that the message names the file
        return tables
    except OSError as error:
        raise ConfigError(f"{printable(path)}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{printable(path)}: {error}") from None


def _parse_override(text: str) -> tuple[list[str], Any]:
    """Split section.key=value into its keys, two or more, and the value."""
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        shown = printable(text, LONGEST_TEXT)
        raise ConfigError(f"--set {shown}: expected section.key=value, such as training.batch=4")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()  # a bare word is a string
    return keys, parsed
