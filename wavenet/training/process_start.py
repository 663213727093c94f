"""Keys of a start of the processes in torchrun's store, which outlives them.

When torchrun restarts processes (`--max-restarts`), its store still holds the keys of those that ended, among them the
addresses at which they listened. A process that is quicker than the one that it connects to would read such an old
address. The number of restarts is no key either: on several hosts it differs, because torchrun counts failures of its
own processes only.
"""

from __future__ import annotations

import time
import uuid

from torch._C._distributed_c10d import PrefixStore, Store

POLL_SECONDS = 0.02


def store_of_this_start(store: Store, rank: int, count: int, seconds: float) -> Store:
    """The store with keys that only the processes of this start read; waits until all of them have joined.

    Each process shows a random number, and the first one answers to that number with the name of the start, until the
    process that shows it has confirmed. An answer to a process that has ended is read by nobody.
    Raises `RuntimeError` if a process does not come within so many seconds.
    """
    shown = uuid.uuid4().hex
    if rank:
        store.set(f"wavenet/shown/{rank}", shown)
        name = store.get(f"wavenet/answer/{shown}").decode()  # waits, as long as the store's timeout
        store.set(f"wavenet/confirmed/{name}/{rank}", "")
        return PrefixStore(f"wavenet/{name}", store)
    missing, ends = set(range(1, count)), time.monotonic() + seconds
    while missing:
        missing = {other for other in missing if not store.check([f"wavenet/confirmed/{shown}/{other}"])}
        for other in sorted(missing):
            if store.check([key := f"wavenet/shown/{other}"]):
                store.set(f"wavenet/answer/{store.get(key).decode()}", shown)
        if missing and time.monotonic() > ends:
            raise RuntimeError(f"rank {min(missing)} did not join")
        time.sleep(POLL_SECONDS)
    return PrefixStore(f"wavenet/{shown}", store)
