"""The studio's view of training runs: progress, curves, clips and pictures, while they are written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_client import Client, client_of, write_run
from training_runs import at_step, trainer_for, write_tones

from wavenet.training.run_directory import RunDirectory
from wavenet.web import catalogue, runs


@pytest.fixture(autouse=True)
def _always_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "RESCAN_SECONDS", 0.0)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "runs").mkdir()
    with client_of(tmp_path / "runs") as opened:
        yield opened


def test_a_run_is_watched_while_it_trains(client: Client, tmp_path: Path) -> None:
    """The view during a training, at a step after its first validation, and at its end."""
    assert client.get("/runs").json == {"runs": []}
    seen: list[Any] = []

    def look() -> None:
        (listed,) = client.get("/runs").json["runs"]
        seen.append((listed, client.get(f"/runs/{listed['id']}").json))

    settings = ["training.steps=60", "training.validate_steps=30"]
    trainer = trainer_for(write_tones(tmp_path / "tones"), tmp_path / "runs" / "mine", *settings)
    trainer.train(at_step(40, look))
    look()
    (during, _), (after, details) = seen
    assert during["name"] == "mine" and during["state"] == "training" and 0 <= during["step"] <= 40
    assert (after["step"], after["state"], after["fraction"], after["secondsLeft"]) == (60, "finished", 1.0, None)
    assert (
        after["validations"] >= 1 and 0 < after["bits"] < 9 and after["changed"] == pytest.approx(time.time(), abs=600)
    )
    (chart,) = details["charts"]
    assert chart["title"] == "Bits per sample" and chart["html"].startswith("<svg") and "<circle" in chart["html"]
    entry = details["entries"][0]
    assert entry["step"] == 60 and "bits per sample held out" in entry["result"]
    address = f"/runs/{after['id']}"
    clip = client.get(f"{address}/{entry['audio']}")
    assert clip.headers["content-type"] == "audio/wav"
    assert clip.body == (tmp_path / "runs" / "mine" / entry["audio"]).read_bytes()
    picture = client.get(f"{address}/{entry['picture']}")
    assert picture.headers["content-type"].startswith("image/svg+xml") and b"<svg" in picture.body
    assert "steps = 60" in details["settings"]
    assert [model["name"] for model in client.get("/models.json").json["models"]] == ["mine"]


def test_figures_of_a_run(client: Client, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", "clip: <b>murmurs</b>")
    (listed,) = client.get("/runs").json["runs"]
    assert (listed["state"], listed["step"], listed["fraction"], listed["secondsLeft"]) == ("training", 12, 0.5, 61.0)
    assert (listed["bits"], listed["validations"], listed["seconds"]) == (5.0, 1, 61.0)
    details = client.get(f"/runs/{listed['id']}").json
    assert details["latest"]["text"] == "clip: <b>murmurs</b>"  # as text, which the page escapes
    assert details["latest"]["result"] == "step 10, after 1.0 minutes: 5.000 bits per sample held out, the best so far"
    assert "a table of code pairs 4.75" in details["charts"][0]["html"]
    assert (details["entries"][0]["audio"], details["title"]) == ("samples/step_10.wav", "Clips")


def test_states_and_order(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    quiet, now = write_run(folder / "quiet"), time.time()
    os.utime(quiet.log, (now - 2 * runs.QUIET_SECONDS,) * 2)
    done = write_run(folder / "done", "", "training.steps=12")
    os.utime(done.log, (now - 60,) * 2)
    write_run(folder / "live")
    new = RunDirectory(folder / "new")
    new.path.mkdir()
    new.recipe.write_text("")
    os.utime(new.recipe, (now - 3_600,) * 2)
    states = {run["name"]: run["state"] for run in client.get("/runs").json["runs"]}
    assert list(states.items()) == [
        ("live", "training"),
        ("done", "finished"),
        ("quiet", "stopped"),
        ("new", "not started"),
    ]


def test_logs_and_recipes_that_are_damaged(client: Client, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "a")
    with open(run.log, "a") as log:
        log.write('{"event": "train", "step": 13, "seconds": NaN, "bits": "few"}\n{"event": "tr')
    run.recipe.write_text("[model]\ncycles = -1\n")
    (listed,) = client.get("/runs").json["runs"]
    assert (listed["step"], listed["fraction"], listed["secondsLeft"]) == (13, None, None)
    assert "cycles" in client.get(f"/runs/{listed['id']}").json["settings"]
    run.log.unlink()
    run.log.mkdir()
    assert client.get("/runs").json["runs"][0]["step"] == 0


def test_a_log_is_read_again_only_after_a_change(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, reads = write_run(tmp_path / "runs" / "a"), []
    read = RunDirectory.read_log

    def counting(self: RunDirectory) -> Any:
        reads.append(self.path)
        return read(self)

    monkeypatch.setattr(RunDirectory, "read_log", counting)
    for _ in range(3):
        client.get("/runs")
    assert len(reads) == 1
    run.append_log({"event": "train", "step": 99})
    assert client.get("/runs").json["runs"][0]["step"] == 99 and len(reads) == 2
    monkeypatch.setattr(runs, "MOST_LOG_BYTES", 10)
    assert client.get("/runs").json["runs"][0]["state"] == "not started"


@pytest.mark.parametrize(
    "name",
    [
        "step_11.wav",
        "step_10.txt",
        "..%2f..%2frecipe.toml",
        "%2e%2e",
        "step_10.wav%00",
        "step_010.wav",
        "step_%EF%BC%91%EF%BC%90.wav",  # full-width digits
        "link",
    ],
)
def test_other_files_of_a_run_are_not_served(client: Client, tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "runs" / "a")
    (listed,) = client.get("/runs").json["runs"]
    address = f"/runs/{listed['id']}/samples"
    assert client.get(f"{address}/step_10.wav").status == 200
    assert client.get(f"{address}/{name}").status == 404
    assert client.get(f"/runs/{listed['id']}/recipe.toml").status == 404
    assert client.get("/runs/other/samples/step_10.wav").status == 404


def test_links_out_of_a_run_are_not_followed(client: Client, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "a")
    (tmp_path / "secret").write_text(json.dumps({"event": "train", "step": 1_000}) + "\n")
    run.sample(10).unlink()
    run.sample(10).symlink_to(tmp_path / "secret")
    run.log.unlink()
    run.log.symlink_to(tmp_path / "secret")
    (listed,) = client.get("/runs").json["runs"]
    assert listed["step"] == 0
    assert client.get(f"/runs/{listed['id']}/samples/step_10.wav").status == 404
    assert client.get(f"/runs/{listed['id']}/samples/step_10.svg").status == 200
