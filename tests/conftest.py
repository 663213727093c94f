"""Settings of all tests: the same examples in every run, no deadlines, and never the user's own cache."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from wavenet.data import audio

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
torch.set_num_threads(1)  # small networks; a busy machine makes threads wait for each other


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # processes of the tests import what is installed, not the checkout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for recordings, with a name that is not ASCII."""
    path = tmp_path / "my söunds"
    path.mkdir()
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that have been decoded, in any order."""
    names: list[str] = []
    read = audio.read

    def counting(path: Path, *args: float) -> NDArray[np.float32]:
        names.append(Path(path).name)
        return read(path, *args)

    monkeypatch.setattr(audio, "read", counting)
    return names
