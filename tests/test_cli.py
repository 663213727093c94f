"""The command line as a user meets it: exit codes, one-line errors, sound in files and on standard output."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet import checkpoint, cli
from wavenet.config import ModelConfig
from wavenet.data import audio


@pytest.fixture
def model_file(tmp_path):
    torch.manual_seed(0)
    model = wavenet.WaveNet(
        ModelConfig(cycles=1, layers_per_cycle=4, residual_channels=6, skip_channels=8, sample_rate=8_000)
    )
    model.head.output.weight.data.normal_()
    path = tmp_path / "a model.safetensors"
    checkpoint.save_model(path, model)
    return path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_a_sound_is_what_the_generator_renders(model_file, tmp_path, capsys):
    out = tmp_path / "new sound.wav"
    assert run("generate", model_file, "-o", out, "--seconds", 0.1, "--seed", 3, "--temperature", 0.8) == 0
    sound, rate = soundfile.read(out, dtype="float32")
    expected = wavenet.Generator.load(model_file).render(0.1, seed=3, temperature=0.8)
    assert rate == 8_000
    assert np.array_equal(audio.to_int16(sound), audio.to_int16(expected))
    said = capsys.readouterr().err
    assert "samples/s" in said
    assert "x real time" in said
    assert "peak" in said
    assert "RMS" in said


@pytest.mark.parametrize("extension", ["flac", "ogg"])
def test_other_formats_by_extension(model_file, tmp_path, extension):
    out = tmp_path / f"new.{extension}"
    assert run("generate", model_file, "-o", out, "--seconds", 0.1) == 0
    assert soundfile.info(out).format == extension.upper()
    assert soundfile.info(out).frames == 800


def test_counted_sounds_are_those_of_the_seeds(model_file, tmp_path):
    assert run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.05, "--count", 2, "--seed", 5) == 0
    assert run("generate", model_file, "-o", tmp_path / "one.wav", "--seconds", 0.05, "--seed", 6) == 0
    assert (tmp_path / "x-1.wav").read_bytes() == (tmp_path / "one.wav").read_bytes()
    assert (tmp_path / "x-0.wav").read_bytes() != (tmp_path / "one.wav").read_bytes()


def test_standard_output_is_raw_16_bit(model_file, tmp_path):
    run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.05)
    piped = subprocess.run(
        [sys.executable, "-m", "wavenet", "generate", str(model_file), "-o", "-", "--seconds", "0.05"],
        capture_output=True,
        check=True,
    )
    samples, _ = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert np.array_equal(np.frombuffer(piped.stdout, "<i2"), samples)


def test_priming_changes_what_follows(model_file, tmp_path):
    soundfile.write(tmp_path / "clip.flac", 0.5 * np.sin(np.arange(4_000) / 5), 16_000)
    assert run("generate", model_file, "-o", tmp_path / "a.wav", "--seconds", 0.05) == 0
    assert (
        run("generate", model_file, "-o", tmp_path / "b.wav", "--seconds", 0.05, "--prime", tmp_path / "clip.flac") == 0
    )
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()


def test_mostly_silence_is_said(tmp_path, capsys):
    model = wavenet.WaveNet(ModelConfig(cycles=1, layers_per_cycle=1, residual_channels=2, skip_channels=2))
    model.head.output.bias.data[128] = 50.0
    checkpoint.save_model(tmp_path / "m.safetensors", model)
    assert run("generate", tmp_path / "m.safetensors", "-o", tmp_path / "x.wav", "--seconds", 0.1) == 0
    said = capsys.readouterr().err
    assert "100% of this is silence" in said
    assert "--prime" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "none.safetensors"], "no such file"),
        (["generate", "MODEL", "--temperature", "-1"], "temperature"),
        (["generate", "MODEL", "--top-p", "2"], "top_p"),
        (["generate", "MODEL", "--seconds", "0"], "seconds"),
        (["generate", "MODEL", "--engine", "warp"], "known: auto, native, torch, naive"),
        (["generate", "MODEL", "-o", "x.mid"], "unknown extension"),
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
        (["info", "spech"], "spech"),
    ],
)
def test_what_the_user_gave_is_refused_in_one_line(arguments, message, model_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*[model_file if word == "MODEL" else word for word in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [model_file.name]


def test_debug_shows_where(tmp_path, capsys):
    assert run("generate", tmp_path / "none.safetensors", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "train", "generate", "evaluate", "info", "bench"])
def test_help_has_an_example(command, capsys):
    assert run(*command.split(), "--help") == 0
    assert "wavenet " + (command or "train") in capsys.readouterr().out.split("Usage:")[1].split("\n", 1)[1]


def test_train_evaluate_info_and_generate_together(tmp_path, capsys):
    folder = tmp_path / "my recordings" / "deep"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(8):
        tone = 0.4 * np.sin(np.arange(6_000) / (3 + index)) + 0.01 * rng.standard_normal(6_000)
        soundfile.write(folder / f"clip {index}.wav", tone, 22_050)
    (folder / "broken.wav").write_bytes(b"nothing")
    out = folder.parent / "a run"  # its clips are not learnt from
    steps = ["--out", out, "--set", "training.crop=256", "--set", "training.clip_seconds=0.05"]
    assert run("train", folder.parent, "--recipe", "tiny", "--steps", 3, *steps) == 0
    said = capsys.readouterr().err
    assert "kept 8 of 9 recordings" in said
    assert "broken.wav" in said
    assert "reference levels" in said
    assert run("train", folder.parent, "--steps", 5, "--out", out) == 0
    assert "continuing at step 3" in capsys.readouterr().err
    assert run("train", folder.parent, "--steps", 5, "--out", out) == 0
    assert "its budget is spent" in capsys.readouterr().err
    assert run("train", folder.parent, "--steps", 2, "--recipe", "tiny", "--fresh", *steps) == 0
    assert "continuing" not in capsys.readouterr().err
    assert run("evaluate", out, folder) == 0
    figures = capsys.readouterr().out
    assert "bits per sample" in figures
    assert "table of code pairs" in figures
    assert run("info", out) == 0
    told = capsys.readouterr().out
    assert "receptive field  511 samples, 31.9 ms at 16,000 Hz" in told
    assert "1, 2, 4, 8, 16, 32, 64, 128" in told
    assert "x real time" in told
    assert run("generate", out, "-o", tmp_path / "x.wav", "--seconds", 0.05) == 0


def test_runs_of_folders_of_one_name_are_not_mixed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a/clips", "b/clips"):
        (tmp_path / folder).mkdir(parents=True)
        soundfile.write(tmp_path / folder / "x.wav", 0.3 * np.sin(np.arange(9_000) / 9), 16_000)
    small = ["--recipe", "tiny", "--set", "training.crop=256", "--set", "training.clip_seconds=0"]
    assert run("train", "a/clips", "--steps", 1, *small) == 0
    assert run("train", "b/clips", "--steps", 2, *small) == 2
    assert "name another run with --out" in capsys.readouterr().err


def test_a_full_disk_is_not_the_users_mistake(model_file, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.01) == 1
    assert not (tmp_path / "x.wav").exists()


def test_no_arguments_are_helped(capsys):
    assert run() == 0
    assert "Usage: wavenet" in capsys.readouterr().out


def test_a_recipe_that_does_not_fit_says_what_to_lower(capsys):
    from wavenet.evaluation.training_cost import training_cost
    from wavenet.training import recipe

    too_large = recipe.load("large", ["training.batch=65536", "training.crop=1000000"])
    with pytest.raises(MemoryError, match="lower training.batch"):
        training_cost(too_large.model, too_large.training)


def test_info_of_a_recipe_estimates_its_training(capsys):
    assert run("info", "tiny") == 0
    told = capsys.readouterr().out
    assert "MB of memory" in told
    assert "steps here" in told


def test_bench_has_a_row_per_engine(model_file, capsys, monkeypatch):
    from wavenet.evaluation import bench

    monkeypatch.setattr(bench, "GENERATION_SECONDS", 0.05)
    assert run("bench", model_file) == 0
    told = capsys.readouterr().out
    assert "torch" in told
    assert "naive" in told


def test_a_reader_that_goes_away_is_no_error(model_file):
    head = shutil.which("head")
    command = f"{sys.executable} -m wavenet generate '{model_file}' -o - --seconds 3 | {head} -c 100 > /dev/null"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_importing_is_light():
    code = "import sys, wavenet, wavenet.cli; print('torch' in sys.modules, wavenet.ModelConfig().layers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "20"]
