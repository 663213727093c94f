"""Settings of all tests: reproducible examples, one thread, a private cache, and the installed package.

`python -m pytest` puts the current directory at the front of `sys.path`. In a clone that is the source tree, in which
the native engine is not built; it is removed when a wavenet package is installed elsewhere.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

CLONE = Path(__file__).resolve().parents[1]

_everywhere = list(sys.path)
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != CLONE]
if importlib.util.find_spec("wavenet") is None:  # not installed: the source tree is all there is
    sys.path[:] = _everywhere

import numpy as np  # noqa: E402 -- these after sys.path is set
import torch  # noqa: E402
from c_library import Library, install  # noqa: E402
from commands import save_model, save_vocoder  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from shard_data import pack_noise, write_recordings  # noqa: E402

from wavenet.data import audio  # noqa: E402

settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
torch.set_num_threads(1)  # small networks; threads would only wait for each other
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell


@pytest.fixture(autouse=True)
def _isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # processes that tests start import the installed package too


@pytest.fixture(scope="session")
def torchaudio() -> ModuleType:
    """torchaudio as a reference; it refuses to be imported beside a torch that it was not built for."""
    try:
        import torchaudio
    except Exception as error:  # an ImportError, OSError or RuntimeError, depending on what does not match
        pytest.skip(f"torchaudio cannot be imported: {str(error).splitlines()[0]}")
    return torchaudio


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for recordings, with a name that is not ASCII."""
    path = tmp_path / "my söunds"
    path.mkdir()
    return path


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    """The shards of the recordings in `folder`."""
    write_recordings(folder)
    pack_noise(folder, tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that have been decoded, in any order."""
    names: list[str] = []
    blocks = audio.blocks

    def counting(path: Path, *options: Any, **named: Any) -> Iterator[NDArray[np.float32]]:
        names.append(Path(path).name)
        return blocks(path, *options, **named)

    monkeypatch.setattr(audio, "blocks", counting)
    return names


@pytest.fixture
def vocoder(tmp_path: Path) -> Path:
    """A model file of a small vocoder."""
    return save_vocoder(tmp_path / "a vocoder.safetensors")


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """A model file of a small network with two speakers."""
    return save_model(tmp_path / "voices.safetensors", speakers=("ann", "bob"))


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which no file can be written."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    return lambda: monkeypatch.setattr("os.fsync", full)


@pytest.fixture(scope="session")
def installed_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which libwavenet is installed, built from its sources."""
    return install(tmp_path_factory.mktemp("libwavenet"))


@pytest.fixture(scope="session")
def library(installed_library: Path) -> Library:
    """libwavenet's shared library."""
    (path,) = (installed_library / "lib").glob("libwavenet.dylib" if sys.platform == "darwin" else "libwavenet.so")
    return Library(path)
