"""The command line from the user's side: results, exit codes, one-line errors, and what it imports."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import Capture, run, save_model

import wavenet
from wavenet import engine
from wavenet.cli import failures
from wavenet.data import audio
from wavenet.engine import EngineUnavailable
from wavenet.evaluation.metrics import MetricUnavailable
from wavenet.play import PlaybackUnavailable


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return save_model(tmp_path / "a model.safetensors")


def test_a_file_holds_what_the_generator_renders(model_file: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "new audio.wav"
    assert run("generate", model_file, "-o", out, "--seconds", 0.1, "--seed", 3, "--temperature", 0.8) == 0
    written, sample_rate = soundfile.read(out, dtype="float32")
    expected = wavenet.Generator.load(model_file).render(0.1, seed=3, temperature=0.8)
    assert sample_rate == 8_000
    assert np.array_equal(audio.to_int16(written), audio.to_int16(expected))
    error_output = capsys.readouterr().err
    assert "samples/s" in error_output
    assert "x real time" in error_output
    assert "peak" in error_output
    assert "RMS" in error_output


@pytest.mark.parametrize("extension", ["flac", "ogg"])
def test_other_formats_by_extension(model_file: Path, tmp_path: Path, extension: str) -> None:
    out = tmp_path / f"new.{extension}"
    assert run("generate", model_file, "-o", out, "--seconds", 0.1) == 0
    assert soundfile.info(out).format == extension.upper()
    assert soundfile.info(out).frames == 800


def test_stream_i_is_that_of_seed_plus_i(model_file: Path, tmp_path: Path) -> None:
    assert run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.05, "--count", 2, "--seed", 5) == 0
    assert run("generate", model_file, "-o", tmp_path / "one.wav", "--seconds", 0.05, "--seed", 6) == 0
    assert (tmp_path / "x-1.wav").read_bytes() == (tmp_path / "one.wav").read_bytes()
    assert (tmp_path / "x-0.wav").read_bytes() != (tmp_path / "one.wav").read_bytes()


def test_more_streams_than_files_may_be_open(model_file: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 400:
        pytest.skip("the hard limit of open files is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        assert run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.01, "--count", 300) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(list(tmp_path.glob("x-*.wav"))) == 300


def test_standard_output_is_raw_16_bit(model_file: Path, tmp_path: Path) -> None:
    run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.05)
    piped = subprocess.run(
        [sys.executable, "-m", "wavenet", "generate", str(model_file), "-o", "-", "--seconds", "0.05"],
        capture_output=True,
        check=True,
    )
    samples, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert np.array_equal(np.frombuffer(piped.stdout, "<i2"), samples)


def test_priming_changes_what_follows(model_file: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.flac"
    soundfile.write(clip, 0.5 * np.sin(np.arange(4_000) / 5), 16_000)
    assert run("generate", model_file, "-o", tmp_path / "a.wav", "--seconds", 0.05) == 0
    assert run("generate", model_file, "-o", tmp_path / "b.wav", "--seconds", 0.05, "--prime", clip) == 0
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()


def test_a_prime_beyond_full_scale_is_reported(model_file: Path, tmp_path: Path, capsys: Capture) -> None:
    tone = np.sin(np.arange(4_410) / 5)
    soundfile.write(tmp_path / "loud.wav", 1.4 * tone, 8_000, subtype="FLOAT")
    soundfile.write(tmp_path / "full.wav", tone, 44_100)  # resampling gives it a peak of 1.01
    arguments = ("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.05, "--prime")
    assert run(*arguments, tmp_path / "loud.wav") == 0
    warning = "wavenet: prime: peaks at 1.40; samples beyond [-1, 1] are clipped"
    assert capsys.readouterr().err.splitlines()[0] == warning
    assert run(*arguments, tmp_path / "full.wav") == 0
    assert "clipped" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "none.safetensors"], "no such file"),
        (["generate", "MODEL", "--temperature", "-1"], "temperature"),
        (["generate", "MODEL", "--top-p", "2"], "top_p"),
        (["generate", "MODEL", "--seconds", "0"], "seconds"),
        (["generate", "MODEL", "--engine", "warp"], "known: auto, native, torch, naive"),
        (["generate", "MODEL", "-o", "x.mid"], "unknown extension"),
        (["generate", "MODEL", "-o", ".wav"], ".wav: only an extension: give a file name, such as new.wav"),
        (["generate", "MODEL", "-o", "x.wav/"], "x.wav/: a directory: give a file name, such as new.wav"),
        (["generate", "MODEL", "-o", ""], "no file name: give one"),
        (["generate", "MODEL", "-o", "."], ".: a directory"),
        (["generate", "MODEL", "-o", "no/such/folder/x.wav"], "no such folder"),
        (["generate", "MODEL", "-o", "-", "--count", "2"], "standard output takes one stream"),
        (["generate", "MODEL", "--prime", "none.wav"], "none.wav"),
        (["generate", "MODEL", "--wrong"], "--wrong"),
        (["generate", "MODEL", "--seconds", "1e308"], "seconds"),
        (["generate", "MODEL", "--threads", "100000"], "threads"),
        (["generate", "MODEL", "--count", "1000000000"], "--count"),
        (["train", ".", "--steps", "3", "--minutes", "1"], "one of them is the budget"),
        (["train", ".", "--out", "MODEL"], "is a file"),
        (["train", ".", "--set", "data.edge_silence=inf"], "edge_silence"),
        (["generate"], "MODEL"),
        (["gennerate"], "known: train, generate"),
        (["train", "none"], "does not exist"),
        (["train", ".", "--recipe", "spech"], "did you mean 'speech'"),
        (["train", ".", "--set", "training.rte=3"], "training.rte"),
        (["evaluate", "MODEL", "none"], "does not exist"),
        (["evaluate", "MODEL", ".", "--voiced-temperature", "-1"], "voiced_temperature = -1.0: must be"),
        (["evaluate", "MODEL", ".", "--seed", "-1"], "--seed"),
        (["info", "spech"], "spech"),
    ],
)
def test_what_the_user_gave_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    model_file: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*[model_file if word == "MODEL" else word for word in arguments]) == 2
    error_output = capsys.readouterr().err
    assert message in error_output
    assert len(error_output.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [model_file.name]


def test_debug_prints_the_traceback(tmp_path: Path, capsys: Capture) -> None:
    assert run("generate", tmp_path / "none.safetensors", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "train", "generate", "vocode", "evaluate", "info", "bench", "look", "page"])
def test_help_has_an_example(command: str, capsys: Capture) -> None:
    assert run(*command.split(), "--help") == 0
    assert "wavenet " + (command or "train") in capsys.readouterr().out.split("Usage:")[1].split("\n", 1)[1]


def test_train_evaluate_info_and_generate_together(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "my recordings" / "deep"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(8):
        tone = 0.4 * np.sin(np.arange(6_000) / (3 + index)) + 0.01 * rng.standard_normal(6_000)
        soundfile.write(folder / f"clip {index}.wav", tone, 22_050)
    (folder / "broken.wav").write_bytes(b"nothing")
    out = folder.parent / "a run"  # clips of a run are not trained on
    steps = ["--out", out, "--set", "training.crop=256", "--set", "training.clip_seconds=0.05"]
    assert run("train", folder.parent, "--recipe", "tiny", "--steps", 3, *steps) == 0
    error_output = capsys.readouterr().err
    assert "kept 8 of 9 recordings" in error_output
    assert "broken.wav" in error_output
    assert "reference levels" in error_output
    assert run("train", folder.parent, "--steps", 5, "--out", out) == 0
    assert "continuing at step 3" in capsys.readouterr().err
    assert run("train", folder.parent, "--steps", 5, "--out", out) == 0
    assert "the budget is spent" in capsys.readouterr().err
    assert run("train", folder.parent, "--steps", 2, "--recipe", "tiny", "--fresh", *steps) == 0
    assert "continuing" not in capsys.readouterr().err
    assert run("evaluate", out, folder) == 0
    printed = capsys.readouterr()
    assert "bits per sample" in printed.out
    assert "table of code pairs" in printed.out
    assert "kept 8 of 9 recordings" in printed.err
    assert "training:" not in printed.err  # nothing is trained
    assert run("info", out) == 0
    facts = capsys.readouterr().out
    assert "receptive field  511 samples, 31.9 ms at 16,000 Hz" in facts
    assert "1, 2, 4, 8, 16, 32, 64, 128" in facts
    assert "x real time" in facts
    best = min(json.loads(line).get("bits", 99) for line in (out / "log.jsonl").read_text().splitlines())
    assert "trained          2 steps in " in facts and "; the budget is 2 steps" in facts
    assert f"validation       {best:.3f} bits per sample at step 2, the best" in facts
    assert f"recordings       {folder.parent}" in facts
    assert run("generate", out, "-o", tmp_path / "x.wav", "--seconds", 0.05) == 0


def test_runs_of_folders_of_one_name_are_not_mixed(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a/clips", "b/clips"):
        (tmp_path / folder).mkdir(parents=True)
        soundfile.write(tmp_path / folder / "x.wav", 0.3 * np.sin(np.arange(9_000) / 9), 16_000)
    small = ["--recipe", "tiny", "--set", "training.crop=256", "--set", "training.clip_seconds=0"]
    assert run("train", "a/clips", "--steps", 1, *small) == 0
    assert run("train", "b/clips", "--steps", 2, *small) == 2
    assert "give another run with --out" in capsys.readouterr().err


def test_a_full_disk_is_not_the_users_mistake(
    model_file: Path, tmp_path: Path, capsys: Capture, fill_disk: Callable[[], None]
) -> None:
    fill_disk()
    out = tmp_path / "x.wav"
    assert run("generate", model_file, "-o", out, "--seconds", 0.01) == 1
    assert not out.exists()
    assert capsys.readouterr().err == f"wavenet: {out}: cannot be written (No space left on device)\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "a\nb"), 1, "a\\nb: cannot be written (No space left on device)"),
        (OSError(30, "Read-only file system", "x.csv"), 1, "x.csv: cannot be written (Read-only file system)"),
        (OSError(5, "Input/output error", "x.wav"), 1, "x.wav: input/output error"),
        (FileNotFoundError(2, "No such file or directory", "x"), 2, "x: no such file or directory"),
        (PermissionError(13, "Permission denied", "x"), 2, "x: permission denied"),
        (ValueError("seconds = 0: must be above 0"), 2, "seconds = 0: must be above 0"),
        (RuntimeError("the sound device stopped"), 1, "the sound device stopped"),
        (KeyError("x"), 1, "KeyError: 'x' (--debug shows where)"),
        (MemoryError(), 1, "out of memory"),
        (EngineUnavailable("not installed"), 2, "not installed"),
        (PlaybackUnavailable("not installed"), 2, "not installed"),
        (MetricUnavailable("not installed"), 2, "not installed"),
    ],
)
def test_exit_codes_and_messages(error: Exception, code: int, message: str) -> None:
    assert failures.exit_code(error) == code
    assert failures.one_line(error) == message


def test_a_full_disk_is_recognised_behind_other_errors() -> None:
    full = OSError(28, "No space left on device")
    error = ValueError("x.npy: cannot be written (No space left on device)")
    error.__context__ = full  # raise ... from None
    assert failures.exit_code(error) == 1
    full.__cause__ = error  # a circle ends
    assert failures.exit_code(error) == 1
    cache = ValueError("the cache cannot be used")
    cache.__cause__ = sqlite3.OperationalError("database or disk is full")
    assert failures.exit_code(cache) == 2
    cache.__cause__.sqlite_errorcode = sqlite3.SQLITE_FULL
    assert failures.exit_code(cache) == 1
    error = ValueError("m.safetensors: not enough free memory")
    error.__cause__ = MemoryError()
    assert failures.exit_code(error) == 1


def test_names_of_speakers_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = save_model(tmp_path / "voices.safetensors", speakers=("ann", "bob"))
    content = voices.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    config = json.loads(header["__metadata__"]["wavenet.config"])
    config["speakers"] = ["\x1b[31mred\x1b]0;title\x07", "n" * 100_000]
    header["__metadata__"]["wavenet.config"] = json.dumps(config)
    encoded = json.dumps(header).encode()
    voices.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + size :])
    monkeypatch.setattr("wavenet.evaluation.bench.GENERATION_SECONDS", 0.02)
    for arguments in (["info"], ["generate"], ["generate", "--speaker", "x"], ["evaluate", str(tmp_path)]):
        run(arguments[0], voices, *arguments[1:])
        printed = capsys.readouterr()
        text = printed.out + printed.err
        assert "\x1b" not in text and "\x07" not in text
        assert len(text) < 5_000


def test_no_arguments_print_the_help(capsys: Capture) -> None:
    assert run() == 0
    assert "Usage: wavenet" in capsys.readouterr().out


def test_a_recipe_that_does_not_fit_says_what_to_lower() -> None:
    from wavenet.training import recipe
    from wavenet.training.training_cost import training_cost

    too_large = recipe.load("large", ["training.batch=65536", "training.crop=1000000"])
    with pytest.raises(MemoryError, match="lower training.batch"):
        training_cost(too_large)


def test_info_of_a_recipe_estimates_its_training(capsys: Capture) -> None:
    assert run("info", "tiny") == 0
    facts = capsys.readouterr().out
    assert "MB of memory" in facts
    assert "steps here" in facts


def test_bench_has_a_row_per_engine_and_precision(
    model_file: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wavenet.evaluation import bench

    monkeypatch.setattr(bench, "GENERATION_SECONDS", 0.05)
    assert run("bench", model_file) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    threads = sorted({"1", str(engine.cores())})
    native = [("native", "f32"), ("native", "int8")] if engine.native_installed() else []
    expected = [*native, ("torch", "f32"), ("naive", "f32")]
    assert [tuple(row[:3]) for row in rows] == [(*kind, number) for kind in expected for number in threads]
    assert all(float(row[3].replace(",", "")) > 0 for row in rows)  # samples/s
    assert all(row[-1].endswith("%") for row in rows if row[0] == "native")  # share of the peak


def test_a_reader_that_closes_standard_output_is_no_error(model_file: Path) -> None:
    head = shutil.which("head")
    command = f"{sys.executable} -m wavenet generate '{model_file}' -o - --seconds 3 | {head} -c 100 > /dev/null"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_named(model_file: Path) -> None:
    command = [sys.executable, "-m", "wavenet", "generate", str(model_file), "-o", "-"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "wavenet: standard output: cannot be written (No space left on device)\n"


def test_importing_is_light() -> None:
    code = "import sys, wavenet, wavenet.cli; print('torch' in sys.modules, wavenet.ModelConfig().layers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "20"]


@pytest.mark.parametrize("arguments", [["info", "MODEL"], ["info", "tiny"], ["bench", "MODEL"]])
def test_no_command_imports_torchaudio(arguments: list[str], model_file: Path) -> None:
    words = [str(model_file) if word == "MODEL" else word for word in arguments]
    code = (
        "import sys; from wavenet import cli; from wavenet.evaluation import bench; bench.GENERATION_SECONDS = 0.01\n"
        "assert cli.main(sys.argv[1:]) == 0; print('torch' in sys.modules, 'torchaudio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True False"
