"""Audio that `generate` writes while it is generated: in constant memory, and kept after Ctrl-C and on a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import BLOCK, FIRST, SAMPLE_RATE, Capture, run, save_model

from wavenet.data import audio, files
from wavenet.data.audio_writer import AudioWriter
from wavenet.engine import native_installed
from wavenet.generate import Session

ENGINE = "native" if native_installed() else "torch"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return save_model(tmp_path / "a model.safetensors")


def generate(model: Path, *arguments: object) -> int:
    """The exit code of `wavenet generate`, with an engine that prints no advice."""
    return run("generate", model, *arguments, "--engine", ENGINE)


def fail_after(monkeypatch: pytest.MonkeyPatch, calls: int, error: BaseException) -> None:
    """Let `Session.next` raise the error after so many calls."""
    original, left = Session.next, [calls]

    def next_samples(session: Session, samples: int) -> np.ndarray:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return original(session, samples)

    monkeypatch.setattr(Session, "next", next_samples)


def test_memory_does_not_grow_with_the_length(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "next", lambda _, samples: np.full((2, samples), 0.1, np.float32))  # costs no time
    peaks = []
    for seconds in (1, 1, 600):  # the first one imports modules
        tracemalloc.start()
        assert generate(model_file, "-o", tmp_path / "x.wav", "--seconds", seconds, "--count", 2) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert soundfile.info(tmp_path / "x-1.wav").frames == 4_800_000  # 38 MB as float32, both together
    assert peaks[2] - peaks[1] < 500_000


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg"])
def test_an_interruption_keeps_what_was_generated(
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    extension: str,
) -> None:
    out = tmp_path / f"new.{extension}"
    out.write_bytes(b"old")
    assert generate(model_file, "-o", tmp_path / f"whole.{extension}", "--seconds", 1) == 0
    capsys.readouterr()
    fail_after(monkeypatch, 9, KeyboardInterrupt())
    assert generate(model_file, "-o", out, "--seconds", 1e5) == 130
    assert capsys.readouterr().err == f"interrupted: kept 0.8 s in {out}\n"
    kept = audio.read(out, SAMPLE_RATE)
    assert len(kept) == FIRST + 8 * BLOCK
    if extension != "ogg":
        assert np.array_equal(kept, audio.read(tmp_path / f"whole.{extension}", SAMPLE_RATE)[: len(kept)])
    assert not list(tmp_path.glob(".*"))


def test_an_interruption_keeps_every_stream(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fail_after(monkeypatch, 2, KeyboardInterrupt())
    assert generate(model_file, "-o", tmp_path / "x.wav", "--count", 3) == 130
    error_output = f"interrupted: kept 0.1 s in each of 3 files, {tmp_path / 'x-0.wav'} to {tmp_path / 'x-2.wav'}\n"
    assert capsys.readouterr().err == error_output
    assert [soundfile.info(tmp_path / f"x-{index}.wav").frames for index in range(3)] == [FIRST + BLOCK] * 3


def test_an_old_file_stays_where_nothing_was_generated(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "x.wav").write_bytes(b"old")
    fail_after(monkeypatch, 0, KeyboardInterrupt())
    assert generate(model_file, "-o", tmp_path / "x.wav") == 130
    assert capsys.readouterr().err == "interrupted: nothing was generated yet\n"
    assert (tmp_path / "x.wav").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_keeps_what_was_generated(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    fail_after(monkeypatch, 5, RuntimeError("the engine failed"))
    assert generate(model_file, "-o", tmp_path / "x.wav") == 1
    assert capsys.readouterr().err == f"kept 0.4 s in {tmp_path / 'x.wav'}\nwavenet: the engine failed\n"
    assert soundfile.info(tmp_path / "x.wav").frames == FIRST + 4 * BLOCK


def sizes(folder: Path) -> list[int]:
    """The sizes of unfinished files; one that only tries whether a folder can be written may vanish meanwhile."""
    found = []
    for path in folder.glob(".*.partial"):
        with suppress(FileNotFoundError):
            found.append(path.stat().st_size)
    return found


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent in another way")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_a_terminal(model_file: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "new.wav"
    command = [
        sys.executable,
        "-m",
        "wavenet",
        "generate",
        str(model_file),
        "-o",
        str(out),
        "--seconds",
        "1e5",
        "--engine",
        ENGINE,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not any(size > 10_000 for size in sizes(tmp_path)):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, error_output = process.communicate()
    assert process.returncode == 130
    assert error_output.startswith("interrupted: kept ") and error_output.endswith(f" s in {out}\n")
    assert len(audio.read(out, SAMPLE_RATE)) > 1_000
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg"])
def test_a_full_disk_keeps_what_it_holds(model_file: Path, tmp_path: Path, extension: str) -> None:
    pytest.importorskip("resource", reason="needs a limit of the size of files")
    out = tmp_path / f"x.{extension}"
    code = (
        "import resource, sys; from wavenet import cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "generate",
        str(model_file),
        "-o",
        str(out),
        "--seconds",
        "100",
        "--engine",
        ENGINE,
    ]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    kept, error = done.stderr.splitlines()
    assert error == f"wavenet: {out}: cannot be written (File too large)"
    samples = len(audio.read(out, SAMPLE_RATE))
    assert kept == f"kept {samples / SAMPLE_RATE:.1f} s in {out}"
    assert samples > 10_000
    assert not list(tmp_path.glob(".*"))


def test_a_read_only_disk_is_not_the_users_mistake(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "open", read_only, raising=False)
    assert generate(model_file, "-o", tmp_path / "x.wav") == 1
    error_output = capsys.readouterr().err
    assert error_output == f"wavenet: {tmp_path / 'x.wav'}: cannot be written (Read-only file system)\n"


def test_a_folder_without_permission_is_named(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)  # the user who runs the tests may have every permission
    assert generate(model_file, "-o", tmp_path / "x.wav") == 2
    assert capsys.readouterr().err == f"wavenet: {tmp_path / 'x.wav'}: no permission to write in its folder\n"


@pytest.mark.parametrize(
    ("name", "seconds", "message"),
    [
        ("x.wav", 1e15, "can hold 74.6 hours at 8,000 Hz, not 277,777,777,777.8: write a shorter file\n"),
        ("x.wav", 3e5, "can hold 74.6 hours at 8,000 Hz, not 83.3: write a shorter file, or .flac\n"),
        ("x.flac", 1e15, "write a shorter file\n"),
        ("x.ogg", 1e15, "write a shorter file\n"),
    ],
)
def test_more_than_a_file_can_hold_is_refused_before_the_first_sample(
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    name: str,
    seconds: float,
    message: str,
) -> None:
    fail_after(monkeypatch, 0, AssertionError("a sample was generated"))
    assert generate(model_file, "-o", tmp_path / name, "--seconds", seconds) == 2
    error_output = capsys.readouterr().err
    assert error_output.startswith(f"wavenet: {tmp_path / name}: ") and error_output.endswith(message)
    assert len(error_output.splitlines()) == 1


def test_silence_advises_what_the_training_had_not(tmp_path: Path, capsys: Capture) -> None:
    model = save_model(tmp_path / "model.safetensors", silent=True)
    shutil.copy(model, tmp_path / "alone.safetensors")
    advice = {}
    for joined in ("true", "false"):
        (tmp_path / "recipe.toml").write_text(f"[data]\njoin = {joined}\n")
        assert generate(tmp_path, "-o", tmp_path / "x.wav", "--seconds", 0.2) == 0
        advice[joined] = capsys.readouterr().err.splitlines()[-1]
    assert generate(tmp_path / "alone.safetensors", "-o", tmp_path / "x.wav", "--seconds", 0.2) == 0
    advice["unknown"] = capsys.readouterr().err.splitlines()[-1]
    assert all("100% of this is silence" in line for line in advice.values())
    assert advice["true"].endswith("if that does not help, train longer")
    assert "or with --set data.join=true" in advice["false"]
    assert advice["unknown"].endswith("train longer, and with data.join=true if the model was trained without")


def test_a_writer_appends_blocks(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).uniform(-1, 1, (7, 1_000)).astype(np.float32)
    with AudioWriter(tmp_path / "a.flac", 16_000) as file:
        for block in blocks:
            file.write(block)
        assert not (tmp_path / "a.flac").exists()
    assert file.samples == 7_000 and file.complete
    assert os.listdir(tmp_path) == ["a.flac"]
    assert np.array_equal(audio.to_int16(audio.read(tmp_path / "a.flac", 16_000)), audio.to_int16(blocks).reshape(-1))


def test_a_writer_without_samples_makes_no_file(tmp_path: Path) -> None:
    with AudioWriter(tmp_path / "a.wav", 16_000) as file:
        pass
    assert not file.complete
    assert os.listdir(tmp_path) == []


def test_a_writer_can_discard_what_an_error_cut_short(tmp_path: Path) -> None:
    def fail() -> None:
        with AudioWriter(tmp_path / "a.wav", 16_000, keep=False) as file:
            file.write(np.zeros(100))
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        fail()
    assert os.listdir(tmp_path) == []


def test_a_second_ctrl_c_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", impatient)
    with pytest.raises(KeyboardInterrupt), AudioWriter(tmp_path / "a.wav", 16_000) as file:
        file.write(np.zeros(100))
    assert os.listdir(tmp_path) == ["a.wav"]
    assert soundfile.info(tmp_path / "a.wav").frames == 100
