"""Datasets in shards at addresses: requests of byte ranges, failures, and processes that are forked."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE
from shard_data import assert_same, pack_noise

from wavenet.config import DataConfig
from wavenet.data import storage
from wavenet.data.crops import random_crops
from wavenet.data.dataset import DatasetError, open_folder

pytest.importorskip("webdataset", reason="the extra shards is not installed")
fsspec = pytest.importorskip("fsspec", reason="the extra shards is not installed")
AsyncFileSystem = pytest.importorskip("fsspec.asyn").AsyncFileSystem
MEMORY = "memory://bucket/shards"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A memory file system in which reading fails as often as the list has entries."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    failures: list[str] = []
    cat_file = type(system).cat_file

    def failing(self: object, path: str, **options: object) -> bytes:
        if failures:
            raise ConnectionError(failures.pop())
        return cat_file(self, path, **options)

    monkeypatch.setattr(type(system), "cat_file", failing)
    monkeypatch.setattr(storage, "RETRY_SECONDS", (0.0, 0.0))
    return failures


def test_shards_at_an_address(folder: Path, packed: Path, no_network: list[str]) -> None:
    pack_noise(folder, MEMORY)
    system = fsspec.filesystem("memory")
    for path in packed.iterdir():
        if path.suffix != ".json" or path.name == "index.json":
            assert system.cat_file(f"/bucket/shards/{path.name}") == path.read_bytes()
    data = DataConfig(validation=0.3, split="files")
    recordings = open_folder(MEMORY, SAMPLE_RATE, data)
    assert_same(recordings, open_folder(packed, SAMPLE_RATE, data))
    assert_same(open_folder(f"file://{packed}", SAMPLE_RATE, data), recordings)
    assert pickle.loads(pickle.dumps(recordings.train)).clip(0).tobytes() == recordings.train.clip(0).tobytes()
    train = open_folder(MEMORY, SAMPLE_RATE, ALL_TRAINING).train
    system.rm("/bucket/shards/shard-000001.tar")
    assert "missing: " in open_folder(MEMORY, SAMPLE_RATE, data).summary.skipped[0][1]
    with pytest.raises(DatasetError, match="shard-000001.tar was removed while it was in use"):
        list(train)


def test_the_crops_of_a_batch_are_requested_at_the_same_time(
    folder: Path, packed: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_noise(folder, MEMORY)
    remote, local = (open_folder(where, SAMPLE_RATE, ALL_TRAINING).train for where in (MEMORY, packed))
    cat_file, together = fsspec.filesystem("memory").cat_file, threading.Barrier(4)

    def waiting(*arguments: Any, **options: Any) -> bytes:
        together.wait(timeout=60)  # until four are here
        return cat_file(*arguments, **options)

    monkeypatch.setattr(fsspec.filesystem("memory"), "cat_file", waiting)
    crops = [random_crops(clips, 4, 100, np.random.default_rng(0)) for clips in (remote, local)]
    for first, second in zip(*crops, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_network_that_fails_is_tried_again(folder: Path, packed: Path, no_network: list[str]) -> None:
    pack_noise(folder, MEMORY)
    train = open_folder(MEMORY, SAMPLE_RATE, ALL_TRAINING).train
    expected = train.clip(0)
    no_network += ["reset"] * 2
    np.testing.assert_array_equal(train.clip(0), expected)
    no_network += ["reset"] * 3
    with pytest.raises(DatasetError, match=r"bucket/shards cannot be reached \(reset\): tried 3 times") as caught:
        train.clip(0)
    assert len(str(caught.value).splitlines()) == 1


def test_an_address_without_shards(no_network: list[str]) -> None:
    with pytest.raises(DatasetError, match="memory://elsewhere has no shards: write them with wavenet data pack"):
        open_folder("memory://elsewhere", SAMPLE_RATE, ALL_TRAINING)
    with pytest.raises(DatasetError, match="nosuch://x: Protocol not known"):
        open_folder("nosuch://x", SAMPLE_RATE, ALL_TRAINING)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
def test_a_forked_process_connects_again(folder: Path, packed: Path, tmp_path: Path) -> None:
    class Remote(AsyncFileSystem):  # type: ignore[misc,valid-type]
        """Reads `packed` in the thread of its own that fsspec has for networks, which a fork ends."""

        protocol = "remote"

        async def _ls(self, path: str, detail: bool = True, **options: object) -> list[dict[str, Any]]:
            return [{"name": file.name, "size": file.stat().st_size} for file in packed.iterdir()]

        async def _cat_file(  # arguments in the order of s3fs, which is not that of fsspec
            self, path: str, version_id: str = "", start: int | None = None, end: int | None = None
        ) -> bytes:
            assert not version_id
            return (packed / Path(path).name).read_bytes()[start:end]

    fsspec.register_implementation("remote", Remote, clobber=True)
    train = open_folder("remote://shards", SAMPLE_RATE, ALL_TRAINING).train
    first = train.clip(0)
    worker = multiprocessing.get_context("fork").Process(
        target=lambda: (tmp_path / "read").write_bytes(train.clip(0).tobytes())
    )
    worker.start()
    worker.join(timeout=60)
    assert worker.exitcode == 0
    assert (tmp_path / "read").read_bytes() == first.tobytes()
