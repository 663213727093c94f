"""Settings of all tests: the same examples in every run, no deadlines, and never the user's own cache."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
torch.set_num_threads(1)  # small networks; a busy machine makes threads wait for each other


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # processes of the tests import what is installed, not the checkout
