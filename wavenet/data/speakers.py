"""The speaker of each recording of a folder: from its sub-folder or from a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from wavenet.checks import check_text
from wavenet.config import ConfigError, shown
from wavenet.data import audio
from wavenet.data.cached_samples import DatasetError

Lookup = Callable[[str], tuple[str, str]]  # path below the folder -> speaker, or why the file has none


def speaker_lookup(root: Path, setting: str, names: Iterable[str]) -> Lookup:
    """A function that returns the speaker of a file by its path below the folder, for `data.speakers` = `setting`.

    names: paths of all recordings. Raises `DatasetError` for a table that cannot be used, and for a sub-folder whose
    name cannot be the name of a speaker.
    """
    if not setting:
        return lambda name: ("", "")
    if setting == "folders":
        for folder in sorted({name.partition(os.sep)[0] for name in names if os.sep in name}):
            _check_folder_name(root, folder)
        return lambda name: (name.partition(os.sep)[0], "") if os.sep in name else ("", "in no speaker's folder")
    table = next((path for path in (Path(setting), root / setting) if os.path.isfile(path)), None)
    if table is None:
        raise DatasetError(f"data.speakers = {shown(setting)}: must be 'folders', or a file of lines path,speaker")
    speakers = _read_table(table)
    reason = f"not listed: {audio.printable(table.name)} names no speaker"
    return lambda name: (speakers[name], "") if name in speakers else ("", reason)


def _check_folder_name(root: Path, folder: str) -> None:
    try:
        check_text("folder", folder)
    except ConfigError:
        path = audio.printable(root / folder)
        raise DatasetError(f"{path}: a folder that names a speaker must have a name in UTF-8; rename it") from None


def _read_table(path: Path) -> dict[str, str]:
    """Speakers by normalised path, from lines path,speaker."""
    printed = audio.printable(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{printed}: cannot be read as lines of path,speaker ({error})") from None
    for number, line in lines:
        if len(line) != 2 or not line[1].strip():
            raise DatasetError(f"{printed}: line {number} is not path,speaker: {shown(','.join(line))}")
    speakers: dict[str, str] = {}
    for number, (name, speaker) in lines:
        if speakers.setdefault(os.path.normpath(name.strip()), speaker.strip()) != speaker.strip():
            raise DatasetError(f"{printed}: line {number} gives {shown(name)} another speaker than an earlier line")
    return speakers
