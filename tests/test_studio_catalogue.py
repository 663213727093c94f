"""What the studio finds in a folder: models, runs, what cannot be played, links; and that large folders are bounded."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from commands import save_model
from labellers import small_labeller
from studio_client import client_of

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.web import catalogue, studio
from wavenet.web.catalogue import Catalogue


@pytest.fixture(autouse=True)
def _always_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "RESCAN_SECONDS", 0.0)


def found(path: Path) -> dict[str, str]:
    """The reasons, "" for models that can be played, by the names of models."""
    return {model.name: model.reason for model in Catalogue(path).contents().models.values()}


def make_run(path: Path, model: bool = True) -> Path:
    path.mkdir(parents=True)
    (path / "recipe.toml").write_text("[model]\n")
    if model:
        save_model(path / "model.safetensors")
    return path


def test_files_and_runs_in_nested_folders(tmp_path: Path) -> None:
    save_model(tmp_path / "b.safetensors")
    make_run(tmp_path / "deep" / "er" / "run")
    make_run(tmp_path / "new", model=False)
    save_model(tmp_path / "deep" / "ä.safetensors")
    (tmp_path / ".hidden").mkdir()
    save_model(tmp_path / ".hidden" / "c.safetensors")
    (tmp_path / "text.txt").write_text("")
    assert found(tmp_path) == {"b": "", "deep/er/run": "", "deep/ä": ""}
    assert [run.name for run in Catalogue(tmp_path).contents().runs.values()] == ["deep/er/run", "new"]


def test_a_model_and_a_run_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert found(run) == {"run": ""}
    assert [entry.name for entry in Catalogue(run).contents().runs.values()] == ["run"]
    assert found(run / "model.safetensors") == {"model": ""}
    assert found(save_model(tmp_path / "one.safetensors")) == {"one": ""}


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(CheckpointError, match="text.txt: not a complete .safetensors file"):
        Catalogue(tmp_path / "text.txt")
    with pytest.raises(CheckpointError, match="nothing: no such file or folder"):
        Catalogue(tmp_path / "nothing")


def test_broken_models_and_labellers_are_listed_with_the_reason(tmp_path: Path) -> None:
    whole = save_model(tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-10])
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "pickle.safetensors").write_bytes(b"PK\x03\x04")
    (tmp_path / "folder.safetensors").mkdir()
    checkpoint.save_model(tmp_path / "labels.safetensors", small_labeller().network)
    os.mkfifo(tmp_path / "pipe.safetensors")
    tensors, metadata = checkpoint.read_tensors(tmp_path / "whole.safetensors")
    tensors.pop("skip.bias")
    checkpoint.write_tensors(tmp_path / "missing.safetensors", tensors, metadata)
    reasons = found(tmp_path)
    assert reasons.pop("whole") == ""
    assert reasons.pop("labels") == "a labeller, which generates no audio"
    assert reasons.pop("missing") == "the tensor 'skip.bias' is missing"
    assert "truncated" in reasons.pop("cut") and reasons.pop("empty") == "the file is empty"
    assert "pickle" in reasons.pop("pickle")
    assert reasons == {}
    with client_of(tmp_path) as client:
        manifest = client.get("/models.json").json
        assert [entry["name"] for entry in manifest["models"]] == ["whole"]
        assert {entry["name"] for entry in manifest["unplayable"]} == {"cut", "empty", "labels", "missing", "pickle"}


def test_links_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    save_model(outside / "far.safetensors")
    save_model(inside / "near.safetensors")
    make_run(outside / "run")
    make_run(inside / "own")
    (inside / "own" / "model.safetensors").unlink()
    (inside / "own" / "model.safetensors").symlink_to(outside / "far.safetensors")
    (inside / "link.safetensors").symlink_to(outside / "far.safetensors")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "dangling.safetensors").symlink_to(inside / "nothing")
    (inside / "again.safetensors").symlink_to(inside / "near.safetensors")
    assert found(inside) == {"near": "", "again": ""}
    assert [run.name for run in Catalogue(inside).contents().runs.values()] == ["own"]
    assert found(inside / "link.safetensors") == {"link": ""}  # this one was asked for


def test_a_file_that_becomes_a_link_is_not_served(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    save_model(folder / "m.safetensors")
    with client_of(folder) as client:
        address = f"/models/{client.identifier('m')}.safetensors"
        assert client.get(address).body == (folder / "m.safetensors").read_bytes()
        (folder / "m.safetensors").unlink()
        (folder / "m.safetensors").symlink_to(tmp_path / "secret")
        assert client.get(address).status == 404


def test_new_models_appear_and_changed_ones_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = checkpoint.read_config

    def counting(path: Path) -> Any:
        reads.append(path.name)
        return read(path)

    monkeypatch.setattr(checkpoint, "read_config", counting)
    save_model(tmp_path / "a.safetensors")
    shown = Catalogue(tmp_path)
    first = shown.contents().models
    save_model(tmp_path / "b.safetensors")
    second = shown.contents().models
    assert first.keys() < second.keys() and reads == ["a.safetensors", "b.safetensors"]
    save_model(tmp_path / "a.safetensors", speakers=("ann",))
    (tmp_path / "b.safetensors").unlink()
    (last,) = shown.contents().models.values()
    assert last.config is not None and last.config.speakers == ("ann",)
    assert reads == ["a.safetensors", "b.safetensors", "a.safetensors"]


def test_a_large_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(10_000):
        (tmp_path / f"{index:05}.txt").touch()
    save_model(tmp_path / "m.safetensors")
    assert found(tmp_path) == {"m": ""} and Catalogue(tmp_path).contents().complete
    monkeypatch.setattr(catalogue, "MOST_ENTRIES", 1_000)
    contents = Catalogue(tmp_path).contents()
    assert not contents.complete and len(contents.models) <= 1
    shutil.copy(tmp_path / "m.safetensors", tmp_path / "n.safetensors")
    monkeypatch.setattr(catalogue, "MOST_ENTRIES", 100_000)
    monkeypatch.setattr(catalogue, "MOST_MODELS", 1)
    contents = Catalogue(tmp_path).contents()
    assert [model.name for model in contents.models.values()] == ["m"] and not contents.complete
    deep = tmp_path.joinpath(*["d"] * (catalogue.DEEPEST + 1))
    deep.mkdir(parents=True)
    save_model(deep / "below.safetensors")
    monkeypatch.setattr(catalogue, "MOST_MODELS", 10)
    assert set(found(tmp_path)) == {"m", "n"}


def test_requests_are_answered_while_a_folder_is_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "m.safetensors")
    with client_of(tmp_path) as client:
        identifier, started, go_on = client.identifier("m"), threading.Event(), threading.Event()

        def slow(root: Path) -> Any:
            started.set()
            assert go_on.wait(60)
            return [], [], True

        with client.connect() as connection:
            monkeypatch.setattr(catalogue, "_found", slow)
            scanning = threading.Thread(target=client.get, args=("/models.json",))
            scanning.start()
            assert started.wait(60)
            connection.send('{"start": 1}')
            assert "load a model first" in str(connection.recv(60)) and identifier
            assert client.get("/").status == 200
            go_on.set()
            scanning.join(60)


def test_the_source_follows_the_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio, "page_files", lambda: {"index.html": tmp_path, "wavenet.wasm": tmp_path})
    save_model(tmp_path / "m.safetensors")
    entries = []
    for macs, size in ((1e12, 1e9), (1.0, 1e9), (1e12, 1.0)):
        monkeypatch.setattr(studio, "TOO_MANY_MACS", macs)
        monkeypatch.setattr(studio, "TOO_MANY_BYTES", size)
        with client_of(tmp_path) as client:
            manifest = client.get("/models.json").json
            entries += manifest["models"]
    assert [entry["source"] for entry in entries] == ["browser", "server", "server"]
    assert entries[0]["sources"] == ["browser", "server"]
    assert (entries[0]["kind"], entries[0]["sampleRate"]) == ("voice", 8_000)
    assert entries[0]["bytes"] == (tmp_path / "m.safetensors").stat().st_size
    assert (manifest["socket"], manifest["runs"]) == ("stream", "runs")
    monkeypatch.setattr(studio, "page_files", lambda: {"index.html": tmp_path})  # the module was not built
    monkeypatch.setattr(studio, "TOO_MANY_BYTES", 1e9)
    with client_of(tmp_path) as client:
        (entry,) = client.get("/models.json").json["models"]
        assert (entry["source"], entry["sources"]) == ("server", ["server"])
