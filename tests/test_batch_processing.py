"""Folders of audio: `vocode`, `generate` and `evaluate` with many files, streams and processes."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from commands import MEL, SAMPLE_RATE, Capture, error_of, run, save_model
from torch.distributed import HashStore

from wavenet.batch import jobs
from wavenet.batch.folder import BatchOptions, BatchProgress, vocode_folder
from wavenet.batch.manifest import Manifest
from wavenet.batch.workers import Workers
from wavenet.checkpoint import load_model
from wavenet.data.audio_writer import AudioWriter
from wavenet.engine import create, native_installed
from wavenet.evaluation import clip_bits, copy_synthesis, likelihood
from wavenet.evaluation.clip_bits import Results
from wavenet.evaluation.copy_synthesis import Copy, KeptCopies, copies, evaluate, everywhere
from wavenet.evaluation.metrics import Comparison
from wavenet.generate import Generator

LENGTHS = {"a.wav": 4_000, "sub/b.wav": 3_100, "sub/c.wav": 2_500, "d.wav": 700}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Recordings of different lengths, in a folder and a sub-folder."""
    folder = tmp_path / "recordings"
    (folder / "sub").mkdir(parents=True)
    for seed, (name, samples) in enumerate(LENGTHS.items()):
        seconds = np.arange(samples) / SAMPLE_RATE
        tone = 0.3 * np.sin(2 * np.pi * (150 + 40 * seed) * seconds)
        soundfile.write(folder / name, tone + 0.01 * np.random.default_rng(seed).standard_normal(samples), SAMPLE_RATE)
    return folder


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")}


@pytest.mark.parametrize(
    ("options", "precision"),
    [({"refine": 0}, "f32"), ({"refine": 3}, "int8"), ({"particles": 1}, "f32"), ({"voiced-temperature": 0.4}, "f32")],
)
def test_copies_are_those_of_single_recordings(
    options: dict[str, float], precision: str, recordings: Path, tmp_path: Path
) -> None:
    if not native_installed():
        pytest.skip("16-bit batches are the same sample for sample on the native engine only")
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    model = save_model(tmp_path / "m.safetensors", output="logistic", features=MEL, linear_prediction=8, pitch_taps=1)
    command = ("vocode", model, *given, "--precision", precision, "--seed", 3)
    for streams in (1, 3, 8):
        assert run(*command, recordings, "-o", tmp_path / f"{streams}", "--streams", streams) == 0
    for name in LENGTHS:
        assert run(*command, recordings / name, "-o", tmp_path / "one.wav") == 0
        assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "1" / name).read_bytes(), name
    assert contents(tmp_path / "1") == contents(tmp_path / "3") == contents(tmp_path / "8")
    listed = entries(tmp_path / "8")
    assert [entry["output"] for entry in listed] == sorted(LENGTHS)
    assert [entry["seconds"] for entry in listed] == [LENGTHS[name] / SAMPLE_RATE for name in sorted(LENGTHS)]
    assert {entry["seed"] for entry in listed} == {3}


def test_streams_are_those_of_single_ones(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.safetensors")
    command = ("generate", model, "--seconds", 0.1, "--temperature", 0.9)
    assert run(*command, "-o", f"{tmp_path}/out/", "--count", 5, "--seed", 7, "--streams", 2) == 0
    assert sorted(contents(tmp_path / "out")) == sorted(f"seed-{seed}.wav" for seed in range(7, 12))
    for seed in (7, 11):
        assert run(*command, "-o", tmp_path / "one.wav", "--seed", seed) == 0
        assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "out" / f"seed-{seed}.wav").read_bytes()


def test_only_what_is_missing_or_different_is_made(
    vocoder: Path, recordings: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    made: list[str] = []
    written = AudioWriter.close

    def close(self: AudioWriter) -> None:
        written(self)
        made.append(Path(self.path).relative_to(out).as_posix())

    monkeypatch.setattr(AudioWriter, "close", close)

    def made_by(*options: object) -> list[str]:
        made.clear()
        assert run("vocode", vocoder, recordings, "-o", out, *options) == 0
        return sorted({*made})

    assert made_by() == sorted(LENGTHS)
    assert made_by() == []
    assert "0 made, 4 complete already" in capsys.readouterr().err
    assert made_by("--streams", 1, "--threads", 1) == []  # the audio does not depend on them
    assert made_by("--seed", 1) == sorted(LENGTHS)
    assert made_by("--seed", 1, "--temperature", 0.7) == sorted(LENGTHS)
    assert made_by() == sorted(LENGTHS)
    (out / "a.wav").unlink()
    (out / "d.wav").write_bytes(b"half")
    assert made_by() == ["a.wav", "d.wav"]
    soundfile.write(recordings / "sub" / "b.wav", np.full(900, 0.1), SAMPLE_RATE)
    assert made_by() == ["sub/b.wav"]
    shutil.copy(save_model(tmp_path / "other", output="gaussian", features=MEL), vocoder)
    assert made_by() == sorted(LENGTHS)


def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_made(
    vocoder: Path, recordings: Path, tmp_path: Path, capsys: Capture
) -> None:
    (recordings / "bad.flac").write_text("no audio")
    assert run("vocode", vocoder, recordings, "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert sum("skipped bad.flac: " in line for line in lines) == 1
    assert lines[-1].startswith("wavenet: 1 recording could not be read")
    assert sorted(contents(tmp_path / "out")) == sorted(LENGTHS)
    errors = {entry["output"]: entry["error"] for entry in entries(tmp_path / "out")}
    assert errors.pop("bad.wav")
    assert {*errors.values()} == {None}
    shutil.copy(recordings / "a.wav", recordings / "bad.flac")
    assert run("vocode", vocoder, recordings, "-o", tmp_path / "out") == 0
    assert not any(entry["error"] for entry in entries(tmp_path / "out"))


def test_an_interrupted_batch_keeps_complete_files_and_continues(
    vocoder: Path, recordings: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def interrupt(self: AudioWriter, audio: object) -> None:
        if Path(self.path).name == "c.wav":
            raise KeyboardInterrupt
        write(self, audio)  # type: ignore[arg-type]

    write = AudioWriter.write
    with monkeypatch.context() as patched:
        patched.setattr(AudioWriter, "write", interrupt)
        assert run("vocode", vocoder, recordings, "-o", out, "--streams", 1) == 130
    assert "run the same command again to continue" in capsys.readouterr().err
    assert sorted(contents(out)) == ["a.wav", "sub/b.wav"]  # the longest ones are made first
    assert [entry["output"] for entry in entries(out)] == ["a.wav", "sub/b.wav"]
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    for name, age in ((".b.wav.0.partial", 7_200), (".c.wav.0.partial", 60)):  # of a process that was killed
        (out / "sub" / name).touch()
        os.utime(out / "sub" / name, (time.time() - age,) * 2)
    assert run("vocode", vocoder, recordings, "-o", out) == 0
    assert [path.name for path in out.rglob("*.partial")] == [".c.wav.0.partial"]  # the other may still be written
    assert "2 made, 2 complete already" in capsys.readouterr().err


def test_two_processes_make_the_same_files(vocoder: Path, recordings: Path, tmp_path: Path) -> None:
    assert run("vocode", vocoder, recordings, "-o", tmp_path / "one") == 0
    (recordings / "bad.wav").write_text("no audio")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "wavenet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    vocode = [*command, "vocode", vocoder, recordings, "-o", tmp_path / "two"]
    result = subprocess.run(vocode, env=environment, capture_output=True, text=True, check=False)
    assert "4 made, 1 failed" in result.stderr
    assert result.returncode != 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert [entry["output"] for entry in entries(tmp_path / "two")] == sorted([*LENGTHS, "bad.wav"])
    assert not [*(tmp_path / "two").glob("*.part-*")]


def test_outputs_never_have_the_same_name() -> None:
    names = ["a.flac", "a.mp3", "b.wav", "x/a.flac", "c.wav.ogg", "c.wav", "D.ogg", "d.wav"]
    expected = ["a.flac.wav", "a.mp3.wav", "b.wav", "x/a.wav", "c.wav.ogg.wav", "c.wav", "D.ogg.wav", "d.wav.wav"]
    found = jobs.output_names(names, ".wav")
    assert len({name.casefold() for name in found}) == len(names)
    assert found == expected


def test_groups_have_similar_lengths_and_every_process_has_some() -> None:
    assert jobs.groups([1, 5, 4, 2, 3.1, 2.9], 3) == [
        [1, 2, 4],
        [5, 3],
        [0],
    ]  # 3 is less than 0.6 x 5 ... 1 than 0.6 x 2
    assert [len(group) for group in jobs.groups([1.0] * 16, 8)] == [8, 8]
    assert [len(group) for group in jobs.groups([1.0] * 16, 8, processes=4)] == [2] * 8
    assert jobs.groups([7_200.0] * 3, 8) == [[0, 1], [2]]  # at most four hours
    assert jobs.groups([10, 6, 6, 6, 10 * 0.89], 8) == [[0, 4, 1, 2], [3]]  # the fifth has less than 0.9 x 10
    assert jobs.groups([10.0] * 4 + [9.5], 8) == [[0, 1, 2, 3, 4]]
    assert jobs.groups([], 8) == []


def test_wrong_arguments_are_refused_in_one_line(
    vocoder: Path, voices: Path, recordings: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert "-o OUT" in error_of(capsys, "vocode", vocoder, recordings)
    assert "--play" in error_of(capsys, "vocode", vocoder, recordings, "-o", out, "--play")
    assert "--save-mel" in error_of(capsys, "vocode", vocoder, recordings, "-o", out, "--save-mel", "x.npy")
    assert "is in the folder" in error_of(capsys, "vocode", vocoder, recordings, "-o", recordings / "copies")
    assert "wavenet generate" in error_of(capsys, "vocode", voices, recordings, "-o", out)
    assert "no speakers" in error_of(capsys, "vocode", vocoder, recordings, "-o", out, "--speaker", "ann")
    (tmp_path / "empty").mkdir()
    assert "no recordings" in error_of(capsys, "vocode", vocoder, tmp_path / "empty", "-o", out)
    assert "--streams" in error_of(capsys, "vocode", vocoder, recordings / "a.wav", "--streams", 2)
    assert "--format" in error_of(capsys, "generate", vocoder, "--format", "flac")
    assert not out.exists()


def test_a_line_that_a_killed_process_left_is_ignored(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "m.jsonl", "output")
    manifest.write([{"output": "b", "finished": "2"}, {"output": "a", "finished": "2"}])
    Manifest(tmp_path / "m.jsonl", "output", 1).add({"output": "b", "finished": "3"})
    with open(tmp_path / "m.part-1.jsonl", "a") as file:
        file.write('{"output": "c", "fin')
    manifest.add({"output": "a", "finished": "1"})
    found = manifest.merge()
    assert {name: entry["finished"] for name, entry in found.items()} == {"a": "2", "b": "3"}
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".jsonl"] == ["m.jsonl"]
    assert Manifest(tmp_path / "m.jsonl", "output").merge() == found


def test_from_python(vocoder: Path, recordings: Path, tmp_path: Path) -> None:
    seen: list[BatchProgress] = []
    result = vocode_folder(
        vocoder, recordings, tmp_path / "out", {"seed": 1}, BatchOptions(extension=".flac"), Workers(), seen.append
    )
    assert (result.made, result.kept, result.failed) == (4, 0, 0)
    assert result.seconds == pytest.approx(sum(LENGTHS.values()) / SAMPLE_RATE)
    assert (seen[-1].files, seen[-1].all_files) == (4, 4)
    assert seen[-1].seconds == pytest.approx(seen[-1].all_seconds)
    assert soundfile.info(tmp_path / "out" / "sub" / "c.flac").frames == 2_500
    with pytest.raises(ValueError, match="streams"):
        BatchOptions(streams=0)


@pytest.mark.parametrize("precision", [None, "f32", "int8"])
def test_bits_side_by_side_are_those_of_each_clip(precision: str | None, tmp_path: Path, recordings: Path) -> None:
    if precision and not native_installed():
        pytest.skip("needs the native engine")
    options = {"output": "gaussian", "features": MEL, "linear_prediction": 8, "speakers": ("ann", "bob")}
    table = tmp_path / "speakers.csv"
    table.write_text("".join(f"{name},{'bob' if '/' in name else 'ann'}\n" for name in LENGTHS))
    model = load_model(save_model(tmp_path / "m.safetensors", **options))
    result = evaluate(model, recordings, precision=precision, speakers=str(table))
    engine = None if precision is None else create("native", model.config, model.state_dict(), precision)
    expected = likelihood.bits_per_sample(engine or model, result.recordings.train)
    assert result.bits == pytest.approx(expected, rel=1e-12)
    store = HashStore()
    with ThreadPoolExecutor(3) as pool:  # three processes, in threads
        shared = [Workers(rank, 3, store) for rank in range(3)]
        calls = [
            pool.submit(evaluate, model, recordings, precision=precision, speakers=str(table), workers=one)
            for one in shared
        ]
        divided = [call.result() for call in calls]
    assert {one.bits for one in divided} == {result.bits}
    assert {one.references for one in divided} == {result.references}


def test_an_interrupted_evaluation_is_continued(
    vocoder: Path, recordings: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluated(*options: object) -> tuple[str, int]:
        """Standard output, and the clips that were predicted."""
        predicted.clear()
        assert run("evaluate", vocoder, recordings, "--copies", 0, *options) == 0
        return capsys.readouterr().out, len(predicted)

    predicted: list[int] = []
    predict = clip_bits.clip_pieces

    def pieces(*arguments: Any) -> Any:
        predicted.append(1)
        if len(predicted) == fails_at:
            raise KeyboardInterrupt
        return predict(*arguments)

    monkeypatch.setattr(clip_bits, "clip_pieces", pieces)
    fails_at, results = 0, tmp_path / "bits.jsonl"
    expected = evaluated()
    assert expected[1] == 4
    fails_at = 3
    predicted.clear()
    assert run("evaluate", vocoder, recordings, "--copies", 0, "-o", results) == 130
    assert "run the same command again" in capsys.readouterr().err
    fails_at = 0
    assert evaluated("-o", results) == (expected[0], 2)
    assert evaluated("-o", results) == (expected[0], 0)
    listed = [json.loads(line) for line in results.read_text().splitlines()]
    assert [entry["file"] for entry in listed] == sorted(LENGTHS)
    soundfile.write(recordings / "d.wav", np.full(900, 0.1), SAMPLE_RATE)
    assert evaluated("-o", results)[1] == 1
    assert evaluated("-o", results, "--precision", "f32")[1] == 0  # by the engine, all of them
    assert {json.loads(line)["precision"] for line in results.read_text().splitlines()} == {"f32"}
    assert "ends in .jsonl" in error_of(capsys, "evaluate", vocoder, recordings, "-o", tmp_path / "bits.csv")


def test_copies_of_an_interrupted_evaluation_are_not_made_again(
    vocoder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(original: object, versions: dict[str, Any], *_: object) -> dict[str, Comparison]:
        copied.append(1)
        if len(copied) == fails_at:
            raise KeyboardInterrupt
        return {method: Comparison(*[float(audio.sum()), *[math.nan] * 6]) for method, (_, audio) in versions.items()}

    def evaluated(*options: object, code: int = 0) -> tuple[str, int]:
        """Standard output, and the recordings that were copied."""
        copied.clear()
        assert run("evaluate", vocoder, folder, "--copies", 3, *options) == code
        return capsys.readouterr().out, len(copied)

    monkeypatch.setattr(copy_synthesis, "_comparisons", compared)
    copied, fails_at, folder, results = list[int](), 0, tmp_path / "long", tmp_path / "bits.jsonl"
    folder.mkdir()
    for seed in range(4):
        noise = 0.1 * np.random.default_rng(seed).standard_normal(12_000)
        soundfile.write(folder / f"{seed}.wav", noise, SAMPLE_RATE)
    expected = evaluated("--csv", tmp_path / "expected.csv")
    assert expected[1] == 3
    fails_at = 3
    assert evaluated("-o", results, code=130)[1] == 3
    fails_at = 0
    assert evaluated("-o", results, "--csv", tmp_path / "found.csv") == (expected[0], 1)
    assert (tmp_path / "found.csv").read_text() == (tmp_path / "expected.csv").read_text()
    assert evaluated("-o", results) == (expected[0], 0)
    listed = [json.loads(line) for line in (tmp_path / "bits.copies.jsonl").read_text().splitlines()]
    assert [entry["file"] for entry in listed] == ["0.wav", "1.wav", "2.wav"]
    lines = (tmp_path / "bits.copies.jsonl").read_text()
    (tmp_path / "bits.copies.jsonl").write_text(lines.replace('"refine"', '"other"', 1))
    assert evaluated("-o", results) == (expected[0], 1)
    assert evaluated("-o", results, "--copies", 4)[1] == 1
    assert evaluated("-o", results, "--save", tmp_path / "saved")[1] == 3  # they are not there yet
    assert evaluated("-o", results, "--save", tmp_path / "saved")[1] == 0
    assert evaluated("-o", results, "--page", tmp_path / "page")[1] == 3
    assert evaluated("-o", results, "--seed", 1)[1] == 3


def test_copies_are_divided_between_processes(vocoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(original: object, versions: dict[str, Any], *_: object) -> dict[str, Comparison]:
        """Figures that cost nothing, different ones for different audio."""
        return {method: Comparison(*[float(audio.sum()), *[math.nan] * 6]) for method, (_, audio) in versions.items()}

    monkeypatch.setattr(copy_synthesis, "_comparisons", compared)
    folder = tmp_path / "long"
    folder.mkdir()
    for seed in range(3):
        noise = 0.1 * np.random.default_rng(seed).standard_normal(12_000)
        soundfile.write(folder / f"{seed}.wav", noise, SAMPLE_RATE)
    model = load_model(vocoder)
    recordings, generator = evaluate(model, folder).recordings, Generator.from_model(model)
    alone = list(copies(generator, recordings, 3))
    results = Results(tmp_path / "copies.jsonl", {})

    def divided(rank: int, store: HashStore) -> list[Copy]:
        workers = Workers(rank, 2, store)
        kept = KeptCopies(results, recordings.train, workers)
        return everywhere(list(copies(generator, recordings, 3, workers=workers, kept=kept)), workers)

    for store in HashStore(), HashStore():  # the second time all of them are known
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(divided, range(2), [store] * 2):
                assert [(copy.file, copy.method) for copy in found] == [(copy.file, copy.method) for copy in alone]
                for one, other in zip(found, alone, strict=True):
                    assert np.array_equal([*vars(one.comparison).values()], [*vars(other.comparison).values()], True)
