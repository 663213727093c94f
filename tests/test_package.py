"""The package as a whole: what `import wavenet` offers and loads, its version, and which copy of it tests import."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wavenet
from wavenet import cli

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_loads_no_submodule(tmp_path: Path) -> None:
    code = "import sys, wavenet; print(*(n for n in sys.modules if n.startswith(('wavenet', 'torch', 'numpy'))))"
    assert python(code, tmp_path) == "wavenet"


@pytest.mark.parametrize("name", sorted(set(wavenet.__all__)))
def test_every_public_name_is_available(name: str) -> None:
    assert getattr(wavenet, name) is not None
    assert name in dir(wavenet)


def test_audio_is_the_module_that_reads_files() -> None:
    samples = wavenet.audio.read(ROOT / "samples" / "speech" / "vm-next.flac", 8_000)
    assert samples.ndim == 1
    assert samples.dtype == "float32"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'wavenet' has no attribute 'nothing'"):
        wavenet.nothing  # noqa: B018


def test_the_version_is_that_of_pyproject(capsys: pytest.CaptureFixture[str]) -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert wavenet.__version__ == stated
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"wavenet, version {stated}\n"


def test_ctrl_c_during_the_imports_of_the_command_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    command = [sys.executable, "-m", "wavenet", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"] == {
        "wavenet": "wavenet.__main__:main"
    }


def test_python_m_pytest_in_a_clone_imports_the_installed_package(tmp_path: Path) -> None:
    (tmp_path / "wavenet").mkdir()
    (tmp_path / "wavenet" / "__init__.py").write_text("raise RuntimeError('the source tree')\n")
    (tmp_path / "tests").mkdir()
    for module in set(ROOT.glob("tests/*.py")) - set(ROOT.glob("tests/test_*.py")):  # conftest.py and what it imports
        shutil.copy(module, tmp_path / "tests")
    (tmp_path / "tests" / "test_import.py").write_text("def test_import():\n    import wavenet.mulaw\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_documents_name_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:wavenet|recipes|samples|benchmarks|tests|docs)/[\w./-]*)`", text)
    linked = re.findall(r"\]\((?!https?:)([\w./-]+)(?:#[\w.-]*)?\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [name for name in linked if not (document.parent / name).exists()]
    assert not missing
