"""Processes that are started again find each other in a store that holds the keys of those before them."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from wavenet.training.process_start import store_of_this_start


def start(store: HashStore, delays: list[float]) -> list[str]:
    """Each of some processes writes its rank at one key, in its store of the start; what each of them reads there."""
    read = [""] * len(delays)

    def run(rank: int) -> None:
        time.sleep(delays[rank])
        own = store_of_this_start(store, rank, len(delays), 30.0)
        own.set(f"address/{rank}", f"{rank} after {delays[rank]}")
        read[rank] = " ".join(own.get(f"address/{other}").decode() for other in range(len(delays)))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(delays))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return read


def test_keys_of_an_earlier_start_are_not_read() -> None:
    store = HashStore()
    store.set_timeout(timedelta(seconds=30))
    for delays in ([0.0, 0.1, 0.05], [0.1, 0.0, 0.05], [0.05, 0.1, 0.0]):  # whichever comes first
        assert start(store, delays) == [" ".join(f"{rank} after {delays[rank]}" for rank in range(3))] * 3


def test_a_process_that_does_not_come_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="rank 1 did not join"):
        store_of_this_start(HashStore(), 0, 2, 0.1)
