"""A static page that plays models: `build` writes it into a folder, for any web server.

The folder holds the plain modules of `static/`, `wavenet.wasm`, the models, and `models.json`, which lists them:

    {"models": [{"name": "speech", "file": "speech.safetensors", "bytes": 1670888, "sha256": "...", "sampleRate": 16000,
                 "kind": "voice", "source": "browser", "speed": null}], "files": ["engine.js", ...]}
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wavenet import web
from wavenet.checkpoint import MODEL_NAME, CheckpointError, model_file, read_model
from wavenet.config import ModelConfig
from wavenet.data import files
from wavenet.data.errors import printable
from wavenet.extras import Unavailable

MANIFEST, WASM = "models.json", "wavenet.wasm"
CLIP = "clip"  # the stem of the files of the clip that vocoders begin with
# Characters that some file system or address does not take; surrogates stand for bytes that are not UTF-8.
UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|#%\ud800-\udfff]')


def build(models: Sequence[str | os.PathLike[str]], folder: Path, clip: Path | None = None) -> list[dict[str, Any]]:
    """Write the page into `folder`, which must be new, empty, or such a page. Returns the entries of `models.json`.

    models: model files or run directories. clip: a recording, which the vocoders among them resynthesise at first.
    Raises `CheckpointError` for a file that is no model, or a labeller, `ValueError` for a folder that holds other
    things and for a clip without a vocoder, `Unavailable` without `wavenet.wasm`, and `OSError`. The folder is then as
    it was.
    """
    static = page_files()
    check_folder(folder)
    folder = Path(os.path.realpath(folder))  # the folder behind a link is exchanged, not the link
    entries, contents = [], {}
    for path, name in zip(models, names_of(models), strict=True):
        entry, content = described(path, name)
        entries.append(entry)
        contents[f"{name}.safetensors"] = content
    if clip is not None:
        contents.update(_add_clip(entries, clip))
    files_of_page = sorted([*static, *contents, MANIFEST])
    manifest = json.dumps({"models": entries, "files": files_of_page}, ensure_ascii=False, indent=1)
    temporary = files.temporary_name(folder.absolute())
    try:
        temporary.mkdir(parents=True)
        for name, source in static.items():
            shutil.copyfile(source, temporary / name)
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        (temporary / MANIFEST).write_text(manifest + "\n", encoding="utf-8")
        _exchange(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return entries


def page_files() -> dict[str, Path]:
    """The files of every page by their names. Raises `Unavailable` if `wavenet.wasm` was not built."""
    try:
        return {WASM: web.file(WASM), **static_files()}
    except FileNotFoundError as error:
        raise Unavailable(str(error)) from None


def static_files() -> dict[str, Path]:
    """Those without `wavenet.wasm`."""
    return {path.name: path for path in web.file("index.html").parent.iterdir() if path.is_file()}


def described(path: str | os.PathLike[str], name: str) -> tuple[dict[str, Any], bytes]:
    """The entry of a model file or run directory under this name, and the bytes of the file; errors as of `build`."""
    file = model_file(path)
    config, _ = read_model(file)  # checks all of it
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{printable(path)}: cannot be read ({error.strerror})") from error
    entry = entry_of(config, name, quote(f"{name}.safetensors"), len(content))
    return entry | {"sha256": hashlib.sha256(content).hexdigest(), "source": "browser"}, content


def entry_of(config: ModelConfig, name: str, file: str, size: int) -> dict[str, Any]:
    """What `models.json` says of every model. file: its address, relative to the page; size: in bytes."""
    return {
        "name": name,
        "file": file,
        "bytes": size,
        "sampleRate": config.sample_rate,
        "kind": kind_of(config),
        "speed": None,  # not measured
    }


def kind_of(config: ModelConfig) -> str:
    """What a page calls a model of this configuration."""
    if config.frame_model is not None:
        return "two tiers"
    if config.features is not None:
        return "vocoder"
    return "speakers" if config.speakers else "voice"


def names_of(models: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Names for models, each its own: those of the files or run directories, with numbers where they are the same."""
    names: list[str] = []
    for path in models:
        file = model_file(path)
        stem = file.resolve().parent.name if file.name == MODEL_NAME else file.stem
        plain = UNSAFE.sub("-", stem).strip(" .") or "model"
        name, number = plain, 1
        while name.casefold() in (other.casefold() for other in (*names, CLIP)):
            number += 1
            name = f"{plain} {number}"
        names.append(name)
    return names


def check_folder(folder: Path) -> None:
    """Raises `ValueError` unless `folder` is new, empty, or a page that `build` wrote, without anything else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{printable(folder)}: is a file; give a folder")
    if folder.samefile(Path.cwd()):
        raise ValueError(f"{printable(folder)}: is the current folder, which cannot be exchanged; give another one")
    found = {path.name for path in folder.iterdir()}
    try:
        known = set(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        known = set()
    others = sorted(found - known)
    if others:
        raise ValueError(f"{printable(folder)}: holds other things, such as {others[0]!r}; give a new folder")


def _add_clip(entries: list[dict[str, Any]], clip: Path) -> dict[str, bytes]:
    """Names the clip in the entries of vocoders; returns its files, one for each of their sample rates."""
    import io

    import soundfile

    from wavenet.data import audio

    vocoders = [entry for entry in entries if entry["kind"] == "vocoder"]
    if not vocoders:
        raise ValueError(f"{printable(clip)}: none of the models is a vocoder, which would resynthesise it")
    contents = {}
    for sample_rate in {entry["sampleRate"] for entry in vocoders}:
        content = io.BytesIO()
        soundfile.write(content, audio.read(clip, sample_rate), sample_rate, "PCM_16", format="WAV")
        contents[f"{CLIP}-{sample_rate}.wav"] = content.getvalue()
    for entry in vocoders:
        entry["clip"] = f"{CLIP}-{entry['sampleRate']}.wav"
    return contents


def _exchange(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`; what was there is deleted after that."""
    if not folder.exists():
        new.rename(folder)
        return
    old = files.temporary_name(folder.absolute())
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)
