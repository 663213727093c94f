"""Several processes of a training run in tests: forked from this one, which has imported everything, or by torchrun."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from torch.distributed import TCPStore

from wavenet.training.distributed import Processes
from wavenet.training.process_group import joined

Environment = dict[str, str]
DEAD = "dead"


def environment(rank: int, count: int, port: int) -> Environment:
    """What torchrun says to a process, all of them on this host; the store is that of its agent."""
    numbers = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    agent = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    return {**agent, **{name: str(number) for name, number in numbers.items()}}


def new_store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def forked(count: int, function: Callable[[], Any], if_dead: str = "", store: TCPStore | None = None) -> list[Any]:
    """The results of a function in processes of this environment, by rank; an error of theirs fails the test.

    store: of torchrun's agent, which knows the processes that were started before.
    if_dead: what is the result of a process that dies; empty: that fails the test, too.
    """
    context = multiprocessing.get_context("fork")
    store, started = store or new_store(), []
    for rank in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=_child, args=(function, environment(rank, count, store.port), theirs))
        process.start()
        theirs.close()
        started.append((process, ours))
    results, errors = [], []
    for rank, (process, ours) in enumerate(started):
        try:
            result, error = ours.recv()
        except EOFError:
            result, error = if_dead, "" if if_dead else f"rank {rank} died"
        process.join()
        results.append(result)
        errors.append(error)
    assert not any(errors), "\n".join(errors)
    return results


def _child(function: Callable[[], Any], variables: Environment, pipe: Connection) -> None:
    os.environ.update(variables)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 -- not what pytest has put there
    try:
        content = function(), ""
        pickle.dumps(content)
    except BaseException:
        content = None, traceback.format_exc()
    pipe.send(content)
    pipe.close()
    os._exit(0)


def together(count: int, function: Callable[[Processes], Any], store: TCPStore | None = None) -> list[Any]:
    """The results of a function in processes that have joined each other, by rank."""

    def join() -> Any:
        with joined("cpu") as processes:
            return function(processes)

    return forked(count, join, store=store)
