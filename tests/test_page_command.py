"""`wavenet page`: the folder of a page, its manifest, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from browser import wasm
from commands import SAMPLE_RATE, Capture, error_of, run, save_model, save_vocoder
from labellers import small_labeller

from wavenet import checkpoint, web
from wavenet.web import site


@pytest.fixture(autouse=True)
def _module() -> None:
    wasm()


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "models.json").read_text(encoding="utf-8"))
    return content


def test_a_page_is_complete(tmp_path: Path) -> None:
    model, folder = save_model(tmp_path / "speech.safetensors"), tmp_path / "page"
    assert run("page", model, "-o", folder) == 0
    found = manifest(folder)
    content = model.read_bytes()
    assert found["models"] == [
        {
            "name": "speech",
            "file": "speech.safetensors",
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "sampleRate": SAMPLE_RATE,
            "kind": "voice",
            "source": "browser",
            "speed": None,
        }
    ]
    names = {path.name for path in folder.iterdir()}
    assert names == set(found["files"])
    static = Path(web.__file__).parent / "static"
    assert names == {path.name for path in static.iterdir()} | {"wavenet.wasm", "models.json", "speech.safetensors"}
    assert (folder / "speech.safetensors").read_bytes() == content
    (tmp_path / "other").mkdir()
    assert folder.stat().st_mode == (tmp_path / "other").stat().st_mode  # a web server may read it


def test_names_are_distinct_and_of_any_language(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "meine Stimme ü.safetensors", tmp_path / "b" / "meine Stimme ü.safetensors"]
    paths += [tmp_path / "run 1" / "model.safetensors", tmp_path / "c" / "50%?#.safetensors"]
    for path in paths:
        path.parent.mkdir()
        save_model(path)
    folder = tmp_path / "page"
    assert run("page", *paths[:2], paths[2].parent, paths[3], "-o", folder) == 0
    entries = manifest(folder)["models"]
    assert [entry["name"] for entry in entries] == ["meine Stimme ü", "meine Stimme ü 2", "run 1", "50---"]
    assert all((folder / unquote(entry["file"])).is_file() and entry["file"].isascii() for entry in entries)
    assert site.UNSAFE.sub("-", "\udcffa") == "-a"  # of a name that is not UTF-8


def test_kinds_and_the_clip_of_vocoders(tmp_path: Path, capsys: Capture) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, 0.1 * np.ones((2000, 2)), 16_000)
    models = save_model(tmp_path / "voice.safetensors"), save_vocoder(tmp_path / "vocoder.safetensors")
    folder = tmp_path / "page"
    assert run("page", *models, "-o", folder, "--clip", clip) == 0
    voice, vocoder = manifest(folder)["models"]
    assert (voice["kind"], vocoder["kind"]) == ("voice", "vocoder")
    assert "clip" not in voice
    samples, sample_rate = soundfile.read(folder / vocoder["clip"])
    assert sample_rate == vocoder["sampleRate"]
    assert samples.shape == (2000 * sample_rate // 16_000,)
    capsys.readouterr()
    message = error_of(capsys, "page", models[0], "-o", tmp_path / "other", "--clip", clip)
    assert message.endswith("none of the models is a vocoder, which would resynthesise it")


def test_an_older_page_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    assert run("page", save_model(tmp_path / "one.safetensors"), "-o", folder) == 0
    assert run("page", save_model(tmp_path / "two.safetensors"), "-o", folder) == 0
    assert [path.name for path in folder.glob("*.safetensors")] == ["two.safetensors"]
    assert {path.name for path in tmp_path.iterdir()} == {"page", "one.safetensors", "two.safetensors"}


def test_the_page_behind_a_link_is_replaced(tmp_path: Path) -> None:
    model, folder, link = save_model(tmp_path / "one.safetensors"), tmp_path / "page", tmp_path / "link"
    assert run("page", model, "-o", folder) == 0
    try:
        link.symlink_to(folder, target_is_directory=True)
    except OSError as error:
        pytest.skip(str(error))
    before = folder.stat().st_ino
    assert run("page", model, "-o", link) == 0
    assert link.is_symlink() and folder.stat().st_ino != before
    assert {path.name for path in tmp_path.iterdir()} == {"page", "link", "one.safetensors"}


def test_what_is_refused_changes_nothing(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = save_model(tmp_path / "one.safetensors"), tmp_path / "page"
    labeller = tmp_path / "labels.safetensors"
    checkpoint.save_model(labeller, small_labeller().network)
    assert "labeller" in error_of(capsys, "page", model, labeller, "-o", folder)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no model")
    assert error_of(capsys, "page", broken, "-o", folder).startswith(f"wavenet: {broken}: ")
    assert "no such file" in error_of(capsys, "page", tmp_path / "none.safetensors", "-o", folder)
    assert not folder.exists()
    assert run("page", model, "-o", folder) == 0
    capsys.readouterr()
    (folder / "mine.txt").write_text("mine")
    assert "holds other things, such as 'mine.txt'" in error_of(capsys, "page", model, "-o", folder)
    assert "is a file" in error_of(capsys, "page", model, "-o", model)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert "is the current folder" in error_of(capsys, "page", model, "-o", ".")
    assert (folder / "mine.txt").read_text() == "mine"
    foreign = tmp_path / "foreign"
    shutil.copytree(folder, foreign)
    (foreign / "models.json").write_text("[]")
    assert "holds other things" in error_of(capsys, "page", model, "-o", foreign)


def test_without_the_module_one_line_says_how_to_get_it(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Path:
        raise FileNotFoundError(f"{name} was not built: it needs Zig's compiler")

    monkeypatch.setattr(site.web, "file", missing)
    message = error_of(capsys, "page", save_model(tmp_path / "one.safetensors"), "-o", tmp_path / "page")
    assert message == "wavenet: wavenet.wasm was not built: it needs Zig's compiler"
