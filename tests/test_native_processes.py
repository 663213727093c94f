"""The C++ engine in its process: Python threads, interrupts, forks, the interpreter's exit, lifetimes and memory."""

import itertools
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from builders import draw, random_codes, random_model

from wavenet.config import ModelConfig
from wavenet.engine.native import NativeEngine
from wavenet.engine.sampling import Sampling

SCRIPT = """
import gc, os, signal, sys, threading, time
import numpy as np
from wavenet.config import ModelConfig
from wavenet.engine.native import NativeEngine
from wavenet.engine.sampling import Sampling
def make_engine(config, threads=2):
    generator = np.random.default_rng(0)
    weights = {n: generator.normal(0, 0.1, s).astype(np.float32) for n, s in config.shapes.items()}
    return NativeEngine(config, weights, threads=threads)
def wait_until_it_runs(state):  # or has run
    try:
        while state.native.position == 0:
            pass
    except RuntimeError:  # another thread is advancing it
        pass
engine = make_engine(ModelConfig(2, 6, 2, 32, skip_channels=64))
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run_script(body: str, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT + body, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def small_engine(threads: int = 1, precision: str = "f32") -> NativeEngine:
    config = ModelConfig(2, 4, 2, 16, skip_channels=32)
    return NativeEngine(config, random_model(config).state_dict(), precision, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_engines_run_side_by_side_in_python_threads(threads: int) -> None:
    engines = [small_engine(threads), small_engine(threads), small_engine(threads, "int8")]
    engines.append(engines[0])  # and one engine in two threads
    expected = [draw(engine, engine.new_state(), 3_000) for engine in engines]
    codes: list[Any] = [None] * len(engines)

    def generate(index: int) -> None:
        codes[index] = draw(engines[index], engines[index].new_state(), 3_000)

    workers = [threading.Thread(target=generate, args=(index,)) for index in range(len(engines))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one, other in zip(codes, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_two_threads_cannot_advance_or_copy_one_state() -> None:
    engine = small_engine()
    state = engine.new_state()
    worker = threading.Thread(target=lambda: engine.generate(state, np.full((1, 300_000), 0.5), Sampling()))
    worker.start()
    running = False
    while worker.is_alive() and not running:
        try:
            _ = state.native.position
        except RuntimeError:
            running = True
    assert running
    with pytest.raises(RuntimeError, match="another thread is advancing this state"):
        engine.generate(state, np.full((1, 1), 0.5), Sampling())
    with pytest.raises(RuntimeError, match="another thread"):
        engine.prime(state, random_codes(engine.config, 1, 1_000))  # longer than the receptive field
    with pytest.raises(RuntimeError, match="another thread"):
        state.copy()
    worker.join()
    assert (state.position, state.skipped) == (300_000, 0)


def test_a_call_waits_while_another_thread_reads_the_state() -> None:
    engine = small_engine()
    state, one, done = engine.new_state(), np.full((1, 1), 0.5), threading.Event()

    def read() -> None:
        while not done.is_set():
            for use in (state.native.copy, lambda: state.native.position):  # copying takes longest
                with suppress(RuntimeError):  # while the state is advanced
                    use()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3_000):
            engine.generate(state, one, Sampling())
    finally:
        done.set()
        reader.join()
    assert state.position == 3_000


@pytest.mark.parametrize("streams", [1, 4])
def test_ctrl_c_ends_a_call_and_leaves_the_state_usable(streams: int) -> None:
    process = run_script(
        """
state = engine.new_state(int(sys.argv[1]))
uniforms = np.full((state.streams, 40_000_000 // state.streams), 0.5)
def interrupt():
    wait_until_it_runs(state)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    engine.generate(state, uniforms, Sampling())
except KeyboardInterrupt:
    before = state.position
    engine.generate(state, uniforms[:, :10], Sampling())
    print("stopped", 0 < before < uniforms.shape[1] and state.position == before + 10)
""",
        streams,
    )
    assert process.stdout == "stopped True\n", process.stderr


@pytest.mark.parametrize("daemon", [True, False], ids=["daemon", "not a daemon"])
@pytest.mark.parametrize("call", ["short calls", "one call", "logits", "batch", "create", "peak"])
def test_the_interpreter_exits_with_its_code_while_threads_generate(call: str, daemon: bool) -> None:
    """Python unwinds the stack of a daemon thread that asks for the interpreter's lock, which aborts C++."""
    process = run_script(
        """
call, daemon = sys.argv[1], sys.argv[2] == "True"
state = engine.new_state(4 if call == "batch" else 1)
many, few = np.full((state.streams, 3_000_000), 0.5), np.full((state.streams, 50), 0.5)
ending = threading.Event()
def generate():
    while daemon or not ending.is_set():
        if call == "create":
            make_engine(engine.config)
        elif call == "peak":
            engine.peak()
        elif call == "logits":
            engine.logits(state, np.zeros((1, 3_000), dtype=np.int64))
        else:
            engine.generate(state, many if call == "one call" and daemon else few, Sampling())
workers = [threading.Thread(target=generate, daemon=daemon)]
if call == "create":
    workers.append(threading.Thread(target=generate, daemon=daemon))
for worker in workers:
    worker.start()
if call not in ("create", "peak"):
    wait_until_it_runs(state)
time.sleep(0.05)
ending.set()
sys.exit(3)
""",
        call,
        daemon,
    )
    assert (process.returncode, process.stderr) == (3, "")


def test_functions_registered_for_the_exit_can_still_generate() -> None:
    process = run_script(
        """
import atexit
def last():
    print(engine.generate(engine.new_state(), np.full((1, 20), 0.5), Sampling()).shape, flush=True)
state = engine.new_state()
def forever():
    while True:
        engine.generate(state, np.full((1, 50), 0.5), Sampling())
atexit.register(last)
threading.Thread(target=forever, daemon=True).start()
wait_until_it_runs(state)
"""
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "(1, 20)\n", "")


@needs_fork
def test_a_forked_process_continues_without_the_threads_of_its_parent() -> None:
    process = run_script(
        """
state = engine.new_state()
first = engine.generate(state, np.full((1, 3000), 0.5), Sampling())
branch = state.copy()
child = os.fork()
later = engine.generate(branch if child else state, np.full((1, 3000), 0.3), Sampling())
many = engine.generate(engine.new_state(5), np.full((5, 100), 0.3), Sampling())
if child:
    assert os.waitpid(child, 0)[1] == 0
print(int(later.sum()), int(many.sum()), flush=True)
"""
    )
    lines = process.stdout.splitlines()
    assert process.returncode == 0 and len(lines) == 2 and lines[0] == lines[1], process.stderr


@needs_fork
def test_a_process_forked_while_another_thread_generates_can_generate_and_exit() -> None:
    process = run_script(
        """
state, other = engine.new_state(), engine.new_state()
expected = engine.generate(other.copy(), np.full((1, 500), 0.3), Sampling())
def forever():
    while True:
        engine.generate(state, np.full((1, 50), 0.5), Sampling())
threading.Thread(target=forever, daemon=True).start()
wait_until_it_runs(state)
child = os.fork()
codes = engine.generate(other, np.full((1, 500), 0.3), Sampling())
assert (codes == expected).all()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.exit(5)
"""
    )
    assert (process.returncode, process.stderr) == (5, "")


def test_a_state_belongs_to_its_engine() -> None:
    first, second = small_engine(), small_engine()
    state = first.new_state()
    with pytest.raises(ValueError, match="another engine"):
        second.generate(state, np.zeros((1, 3)), Sampling())
    with pytest.raises(ValueError, match="another engine"):
        second.native.feed(state.native, 0, 3, None, 0, None, np.zeros((1, 3), dtype=np.int64), True)


@pytest.mark.parametrize("order", list(itertools.permutations(["engine", "state", "copy"])), ids=" ".join)
def test_engine_state_and_copy_may_be_deleted_in_any_order(order: tuple[str, ...]) -> None:
    engine = small_engine()
    expected = draw(engine, engine.new_state(), 50)
    state = engine.new_state()
    alive: dict[str, Any] = {"engine": engine.native, "state": state.native, "copy": state.native.copy()}
    codes, uniforms = np.empty((1, 50), np.int64), np.random.Generator(np.random.PCG64(7)).random((1, 50))
    del engine, state
    for name in order:
        del alive[name]
        for other in alive.keys() - {"engine"}:
            branch = alive[other].copy()
            assert branch.position == 0
            if "engine" in alive:
                alive["engine"].generate(branch, 0, 50, None, 0, None, uniforms, 1.0, None, 0, 1.0, codes, True)
                np.testing.assert_array_equal(codes, expected)


def test_a_copy_does_not_keep_its_ancestors_alive() -> None:
    process = run_script(
        """
import resource
def megabytes_after(copies):
    global state
    for _ in range(copies):
        state = state.copy()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
state = engine.new_state()
engine.generate(state, np.full((1, 100), 0.5), Sampling())
before = megabytes_after(100)
print((megabytes_after(3_000) - before) / before, state.position)
"""
    )
    growth, position = process.stdout.split()
    assert float(growth) < 0.05 and position == "100", process.stderr


def test_a_long_chain_of_copies_can_be_deleted() -> None:
    process = run_script(
        """
state = make_engine(ModelConfig(1, 1, 2, 1, skip_channels=1)).new_state()
for _ in range(200_000):
    state = state.copy()
del state
gc.collect()
print("deleted")
"""
    )
    assert (process.returncode, process.stdout) == (0, "deleted\n"), process.stderr


def test_memory_does_not_grow_with_the_audio() -> None:
    process = run_script(
        """
import resource
state = engine.new_state()
def generate(blocks):
    for _ in range(blocks):
        engine.generate(state, np.full((1, 1_600), 0.5), Sampling())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
before = generate(20)
print((generate(200) - before) / before)
"""
    )
    assert float(process.stdout) < 0.02, process.stderr
