"""Ctrl-C at every point of a call: the state is that before or after a whole sample, and the audio continues from it.

A trace function raises KeyboardInterrupt before bytecode instructions of the package, evenly spread over the call.
Real signals come at some of them only.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from builders import random_model
from numpy.typing import NDArray

import wavenet
from wavenet.config import ModelConfig
from wavenet.engine.base import Exclusive
from wavenet.engine.sampling import Uniforms, uniform_generator
from wavenet.generate import Generator, Session

NAMES = ("native", "torch", "naive")
SHAPE: dict[str, Any] = {"cycles": 1, "layers_per_cycle": 2, "residual_channels": 4, "skip_channels": 6}
MEL: dict[str, Any] = {"window": 20, "fft": 80, "hop": 3, "bands": 5}
MODELS = {
    "mulaw": ModelConfig(**SHAPE),
    "vocoder": ModelConfig(
        **SHAPE,
        output="logistic",
        mixtures=2,
        features=MEL,
        speakers=("ann", "bob"),
        linear_prediction=3,
        pitch_taps=3,
        frame_channels=4,
    ),
}
START, SAMPLES, FOLLOWING = 94, 4, 8  # a chunk of 32 frames of 3 samples ends within the call
INTERRUPTIONS = 120
PACKAGE = str(Path(wavenet.__file__).parent)


class Interrupter:
    """Runs a call and raises KeyboardInterrupt before its n-th bytecode instruction in the package; 0: before none."""

    def __init__(self, instruction: int = 0) -> None:
        self.instruction, self.counted = instruction, 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.counted += 1
            if self.counted == self.instruction:
                raise KeyboardInterrupt
        return self

    def interrupts(self, call: Callable[[], object]) -> bool:
        """Whether it was interrupted, or had come to its end before."""
        before = sys.gettrace()
        try:
            sys.settrace(self)
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def interruptions(session: Session, call: Callable[[Session], object]) -> Iterator[Session]:
    """Copies of a session, in each of which the call was interrupted at another place, all over the call."""
    counter, branch = Interrupter(), session.copy()
    counter.interrupts(lambda: call(branch))
    assert counter.counted > INTERRUPTIONS
    # an odd stride, so that it comes to every place of a loop; and the last one, behind all samples
    for instruction in (*range(1, counter.counted, counter.counted // INTERRUPTIONS | 1), counter.counted):
        branch = session.copy()
        assert Interrupter(instruction).interrupts(lambda branch=branch: call(branch))  # type: ignore[misc]
        yield branch


@pytest.fixture(params=list(MODELS.values()), ids=list(MODELS))
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return request.param


@pytest.fixture(params=NAMES)
def session(request: pytest.FixtureRequest, config: ModelConfig) -> Session:
    options: dict[str, Any] = {}
    if config.features is not None:
        features = np.random.default_rng(0).normal(-6, 2, (5, 80)).clip(-11, -4.5).astype(np.float32)
        options = {"features": features, "speaker": "ann"}
    generator = Generator.from_model(random_model(config), engine=request.param, threads=1)
    session = generator.session(seed=3, count=2, **options)
    session.next(START)
    return session


def audio(session: Session, samples: int) -> NDArray[np.float32]:
    """The next samples, while the session stays where it is."""
    return session.copy().next(samples)


def test_an_interrupted_call_has_generated_whole_samples(session: Session) -> None:
    expected = audio(session, SAMPLES + FOLLOWING)
    threads, positions = torch.get_num_threads(), set()
    for branch in interruptions(session, lambda branch: branch.next(SAMPLES)):
        done = branch.position - START
        positions.add(done)
        np.testing.assert_array_equal(branch.next(FOLLOWING), expected[:, done : done + FOLLOWING])
        assert torch.get_num_threads() == threads
        assert not torch.is_inference_mode_enabled()
    assert {0, SAMPLES} <= positions


def test_an_interrupted_prime_is_complete_or_has_changed_nothing(session: Session) -> None:
    clip = np.linspace(-0.5, 0.5, 30)
    primed = session.copy()
    primed.prime(clip)
    expected = {START: audio(session, FOLLOWING), START + len(clip): audio(primed, FOLLOWING)}
    for branch in interruptions(session, lambda branch: branch.prime(clip)):
        np.testing.assert_array_equal(branch.next(FOLLOWING), expected[branch.position - FOLLOWING])


def test_an_interrupted_copy_changes_nothing(session: Session) -> None:
    expected = audio(session, FOLLOWING)
    for branch in interruptions(session, lambda branch: branch.copy(seed=5)):
        np.testing.assert_array_equal(branch.next(FOLLOWING), expected)


@pytest.mark.parametrize("config", [MODELS["vocoder"]], ids=["vocoder"])
def test_an_interrupted_change_of_speaker_is_complete_or_has_changed_nothing(session: Session) -> None:
    def change(branch: Session) -> None:
        branch.speaker = "bob"

    changed = session.copy()
    change(changed)
    expected = {"ann": audio(session, FOLLOWING), "bob": audio(changed, FOLLOWING)}
    assert not np.array_equal(expected["ann"], expected["bob"])
    for branch in interruptions(session, change):
        speaker: Any = branch.speaker
        np.testing.assert_array_equal(branch.next(FOLLOWING), expected[speaker])


@pytest.mark.parametrize("config", [MODELS["vocoder"]], ids=["vocoder"])
def test_a_call_with_a_voiced_temperature_may_be_interrupted(session: Session) -> None:
    session.temperature, session.voiced_temperature = 1.2, 0.5
    expected = audio(session, SAMPLES + FOLLOWING)
    for branch in interruptions(session, lambda branch: branch.next(SAMPLES)):
        done = branch.position - START
        np.testing.assert_array_equal(branch.next(FOLLOWING), expected[:, done : done + FOLLOWING])


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer")
def test_signals_at_any_time(session: Session) -> None:
    expected = audio(session, 130)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)  # which raises KeyboardInterrupt
    try:
        for wait in np.linspace(2e-5, 0.02, 60):
            branch, interrupted = session.copy(), False
            try:
                signal.setitimer(signal.ITIMER_REAL, wait)
                while branch.position < START + 100:
                    branch.next(3)
                signal.setitimer(signal.ITIMER_REAL, 0)  # within the block: the signal may come as late as here
            except KeyboardInterrupt:
                interrupted = True
            done = branch.position - START
            np.testing.assert_array_equal(branch.next(20), expected[:, done : done + 20])
            assert interrupted or done >= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_uniform_numbers_are_addressed_by_their_index() -> None:
    expected = np.stack([uniform_generator(seed).random(30) for seed in (7, 8, 9)])
    uniforms = Uniforms(7, 3)
    for first, count in ((0, 5), (5, 5), (20, 10), (3, 4), (7, 1), (0, 30)):  # continued, ahead and back
        np.testing.assert_array_equal(uniforms.read(first, count), expected[:, first : first + count])
    instruction, interrupted = 0, True
    while interrupted:
        instruction += 1
        uniforms = Uniforms(7, 3)
        uniforms.read(0, 5)
        interrupted = Interrupter(instruction).interrupts(lambda uniforms=uniforms: uniforms.read(5, 5))  # type: ignore
        np.testing.assert_array_equal(uniforms.read(5, 9), expected[:, 5:14])
    assert instruction > 20


def test_an_exclusive_block_is_entered_by_one_thread_at_a_time() -> None:
    """It checks and takes in one operation: with a check before, two of these threads would soon be inside."""
    exclusive, inside, refused = Exclusive("thing"), [0, 0], []
    switching = sys.getswitchinterval()

    def enter() -> None:
        for _ in range(2_000):
            try:
                with exclusive:
                    inside[0] += 1
                    inside[1] = max(inside[1], inside[0])
                    inside[0] -= 1
            except RuntimeError as error:
                refused.append(str(error))

    workers = [threading.Thread(target=enter) for _ in range(4)]
    try:
        sys.setswitchinterval(1e-6)
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(switching)
    assert inside == [0, 1]
    assert set(refused) <= {"another thread is advancing this thing"}
    assert not exclusive.locked()


def test_an_exclusive_block_that_was_interrupted_can_be_entered_again() -> None:
    exclusive, instruction, interrupted = Exclusive("thing"), 0, True

    def enter() -> None:
        with exclusive:
            pass

    while interrupted:
        instruction += 1
        interrupted = Interrupter(instruction).interrupts(enter)
        with exclusive:
            assert exclusive.locked()
        assert not exclusive.locked()
    assert instruction > 10
