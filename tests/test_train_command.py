"""`wavenet train`: options, help, messages, and Ctrl-C."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import SMALL, trainer_for, write_tones, write_voices

from wavenet import cli
from wavenet.cli.train import _Reporter, _suggestion
from wavenet.config import ModelConfig
from wavenet.evaluation.likelihood import ReferenceLevels
from wavenet.evaluation.verdict import Verdict
from wavenet.training.events import Progress, Validation, ValidationProgress
from wavenet.training.run_directory import RunDirectory

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "clips")


def train(*arguments: object) -> int:
    overrides = [word for override in SMALL for word in ("--set", override)]
    return cli.main(["train", *map(str, arguments), *overrides])


def test_ctrl_c_saves_and_says_how_to_continue(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "wavenet", "train", str(folder), "--out", str(run), "--steps", "1000000"]
    for override in [*SMALL, "training.validate_steps=3"]:
        command += ["--set", override]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:  # until the first validation is reported
        lines.append(line)
        if line.startswith("step 3,"):
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, lines
    assert "the same command continues there" in rest
    assert "Traceback" not in rest
    assert trainer_for(folder, run, "training.steps=1000000").state.step >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "2", "--set", "training.steps=-1"], "--steps and --set training.steps=-1 contradict each other"),
        (["--minutes", "2", "--set", "training.steps=9"], "--minutes and --set training.steps=9 contradict each other"),
        (["--seed", "2", "--set", " training.seed =9"], "--seed and --set"),
        (["--speakers", "folders", "--set", "data.speakers=x.csv"], "--speakers and --set"),
        (["--steps", "2", "--minutes", "1"], "one of them is the budget"),
        (["--steps", "-1"], "x>=1"),
        (["--minutes", "0"], "x>0"),
        (["--minutes", "nan"], "training.minutes"),
        (["--set", "training.batch=65536", "--set", "training.crop=16777216"], "lower training.batch (now 65,536)"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: Capture, options: list[str], message: str
) -> None:
    assert cli.main(["train", str(folder), "--out", str(tmp_path / "run"), *options]) in (1, 2)
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_help_lists_the_recipes_and_the_default_budget_without_torch() -> None:
    code = "import sys, wavenet.cli as cli; cli.main(['train', '--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text = " ".join(done.stdout.split())
    assert text.endswith("False")
    assert "30 without a recipe" in text
    for recipe in ("tiny (3)", "speech (60)", "large (1,440)"):
        assert recipe in text


def test_names_from_folders_do_not_reach_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    """A speaker whose name holds an escape sequence and DEL: everything works, and nothing of it is printed."""
    for name in ("plain", "\x1b[31mred\x7f"):
        write_tones(tmp_path / "clips").rename(tmp_path / "moved")
        (tmp_path / "voices").mkdir(exist_ok=True)
        (tmp_path / "moved").rename(tmp_path / "voices" / name)
    options = ["--out", tmp_path / "run", "--speakers", "folders"]
    assert train(tmp_path / "voices", *options, "--steps", 1) == 0
    assert train(tmp_path / "voices", *options, "--steps", 2) == 0  # its recipe.toml is read
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert "\x7f" not in printed
    assert "--speaker plain" in printed


def test_the_suggested_command_names_a_speaker_of_the_recordings() -> None:
    """A model that was started from another one also has speakers that there are no recordings of."""
    model = ModelConfig(speakers=("ann", "bob", "\x1b"))
    assert _suggestion(model, Path("my run"), ["\x1b", "bob"]) == "wavenet generate 'my run' -o new.wav --speaker bob"
    assert _suggestion(model, Path("run"), ["\x1b"]).endswith("--speaker NAME")
    assert _suggestion(ModelConfig(), Path("run"), ["bob"]) == "wavenet generate run -o new.wav"


def test_a_finished_run_says_how_to_continue(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    assert train(folder, "--out", tmp_path / "run", "--steps", 2) == 0
    assert RunDirectory(tmp_path / "run").skipped.read_text() == "path,reason\n"
    assert train(folder, "--out", tmp_path / "run", "--steps", 2) == 0
    assert "the budget is spent" in capsys.readouterr().err


def test_a_run_from_a_model_says_so_and_continues_without_it(tmp_path: Path, capsys: Capture) -> None:
    folder = write_voices(tmp_path / "two voices")
    assert train(folder, "--out", tmp_path / "first run", "--steps", 2) == 0
    command = [folder, "--from", tmp_path / "first run", "--out", tmp_path / "my run", "--speakers", "folders"]
    capsys.readouterr()
    assert train(*command, "--steps", 2, "--set", "training.batch=3") == 0
    printed = capsys.readouterr().err
    first = tmp_path / "first run"
    assert f"starting from {first} with default settings and a learning rate of 0.0012 (--set" in printed
    assert "speakers that it does not have yet: high, low" in printed
    shutil.rmtree(first)
    assert train(*command, "--steps", 4, "--set", "training.batch=3") == 0
    printed = capsys.readouterr().err
    assert "continuing at step 2 of 4" in printed
    assert "starting from" not in printed
    assert cli.main(["info", str(tmp_path / "my run")]) == 0
    assert f"started from     {first}" in capsys.readouterr().out
    for options in (["--fresh"], ["--out", str(tmp_path / "new")]):  # start again, but the model is gone
        assert train(*command, *options) == 2
        assert f"{first}: no such file" in capsys.readouterr().err
    assert RunDirectory(tmp_path / "my run").summary().step == 4


def test_bases_that_cannot_be_are_refused_in_one_line_before_files_are_read(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    assert train(folder, "--out", run, "--steps", 2) == 0
    state = RunDirectory(run).state
    for base, options, message in [
        (tmp_path / "gone", [], "no such file; MODEL is"),
        (folder, [], "no model.safetensors in this folder"),
        (folder / "0.wav", [], "not a complete .safetensors file"),
        (state, [], "not a model of this toolkit"),
        (run, ["--recipe", "vocoder"], "model.output = 'mulaw' (not 'logistic')"),
        (run, ["--set", "model.skip_channels=9"], "model.skip_channels = 16 (not 9)"),
        (run, ["--out", str(run)], "is this run itself"),
        (run, ["--out", str(run), "--fresh"], "is this run itself"),
        (state, ["--out", str(run)], "was started from random weights"),
    ]:
        capsys.readouterr()
        out = [] if "--out" in options else ["--out", str(tmp_path / "other")]
        assert cli.main(["train", str(folder), "--from", str(base), *out, *options]) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "other").exists()
    assert RunDirectory(run).summary().step == 2


class Terminal:
    """Standard error that is a terminal of 80 columns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.text = ""
        monkeypatch.setattr("sys.stderr", self)
        monkeypatch.setattr("wavenet.cli.console.REDRAW_SECONDS", 0.0)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def fileno(self) -> int:
        raise OSError


def test_progress_of_training_and_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(monkeypatch)
    reporter = _Reporter()
    reporter(Progress(1, 0.01, 7.5, 1e-3, 9_000.0, 2.0, 198.0, 0))
    assert "1%" in terminal.text
    assert "3:18 left" in terminal.text
    assert "7.500 bits" in terminal.text
    reporter(Progress(99, 0.9999, 3.5, 1e-3, 9_000.0, 198.0, 0.02, 4))
    assert "100%" not in terminal.text
    reporter(ValidationProgress(99, "validating", 0.25))
    assert "validating" in terminal.text.splitlines()[-1]
    assert "25%" in terminal.text
    reporter(ValidationProgress(99, "generating a clip", 0.5))
    assert "generating a clip" in terminal.text
    reporter(Validation(99, 3.25, 3.25, True, 200.0, 4, ReferenceLevels(5.0, 4.0)))
    assert "step 99, 3:20: 3.250 bits per sample held out (best), 4 steps skipped\n" in terminal.text
    verdict = Verdict("clip: -20 dBFS: speaks; flat", note="no picture\x1b")
    reporter(Validation(99, 3.25, 3.25, True, 200.0, 4, ReferenceLevels(5.0, 4.0), 3.0, verdict))
    assert "  clip: -20 dBFS: speaks; flat\n  note: no picture\\x1b\n" in terminal.text
