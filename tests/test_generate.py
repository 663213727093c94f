"""Generator and Session: the same sound from the same seed, whichever way it is asked for."""

import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch

from wavenet import mulaw
from wavenet.config import ModelConfig
from wavenet.generate import Generator, silent_share
from wavenet.model import WaveNet

CONFIG = ModelConfig(2, 3, 2, 8, skip_channels=16, sample_rate=8_000)


@pytest.fixture(scope="module")
def model() -> WaveNet:
    torch.manual_seed(3)
    model = WaveNet(CONFIG)
    with torch.no_grad():
        model.head.output.weight.mul_(200)
    return model


@pytest.fixture(scope="module")
def generator(model: WaveNet) -> Generator:
    return Generator.from_model(model)


def test_what_a_generator_says_of_itself(generator: Generator) -> None:
    assert (generator.config, generator.sample_rate) == (CONFIG, 8_000)
    assert (generator.engine, generator.precision) == ("native", "f32")


def test_render_makes_the_seconds_asked_for(generator: Generator) -> None:
    audio = generator.render(seconds=0.1003, seed=5)
    assert audio.shape == (802,)  # 0.1003 s x 8,000 Hz = 802.4
    assert audio.dtype == np.float32
    assert np.abs(audio).max() <= 1 and len(np.unique(audio)) > 50
    assert generator.render(seconds=0.01, count=1).shape == (1, 80)
    assert generator.render(seconds=0.01, count=3).shape == (3, 80)


def test_same_seed_same_sound_however_it_is_cut(model: WaveNet, generator: Generator) -> None:
    whole = generator.render(0.05, seed=9, temperature=0.9)
    session = generator.session(seed=9, temperature=0.9)
    np.testing.assert_array_equal(np.concatenate([session.next(n) for n in (1, 150, 49, 200)]), whole)
    for block in (7, 128, 1_000):
        np.testing.assert_array_equal(
            np.concatenate(list(generator.stream(0.05, block, seed=9, temperature=0.9))), whole
        )
    naive = Generator.from_model(model, engine="naive", threads=1)
    np.testing.assert_array_equal(naive.render(0.05, seed=9, temperature=0.9), whole)
    assert not np.array_equal(generator.render(0.05, seed=10, temperature=0.9), whole)


def test_stream_i_of_a_batch_has_seed_plus_i(generator: Generator) -> None:
    batch = generator.render(0.02, seed=30, count=3)
    for stream in range(3):
        np.testing.assert_array_equal(batch[stream], generator.render(0.02, seed=30 + stream))


def test_stream_goes_on_for_ever_or_ends_with_a_shorter_block(generator: Generator) -> None:
    endless = generator.stream(block=50, seed=1)
    assert [len(next(endless)) for _ in range(12)] == [50] * 12
    assert [len(block) for block in generator.stream(seconds=0.02, block=60)] == [60, 60, 40]
    assert [block.shape for block in generator.stream(seconds=0.01, block=50, count=2)] == [(2, 50), (2, 30)]


def test_progress_counts_up_to_the_end(generator: Generator) -> None:
    seen: list[tuple[int, int]] = []
    generator.render(0.12, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(400, 960), (800, 960), (960, 960)]


def test_prime_is_continued(generator: Generator) -> None:
    clip = np.sin(np.arange(100) / 5) * 0.5
    first = generator.session(seed=2)
    played = first.next(100)
    expected = first.next(40)
    # the played samples fed back, with the coins that were left after them
    replay = generator.session(seed=2)
    replay.next(100)
    rest = generator.session(seed=0, prime=played)
    rest._coins = replay._coins
    np.testing.assert_array_equal(rest.next(40), expected)
    single = generator.render(0.01, seed=4, prime=clip)
    assert single.shape == (80,)  # the clip itself is not part of the sound
    shared = generator.render(0.01, seed=4, count=2, prime=clip)
    own = generator.render(0.01, seed=4, count=2, prime=np.stack([clip, -clip]))
    np.testing.assert_array_equal(shared[0], single)
    np.testing.assert_array_equal(own[0], single)
    np.testing.assert_array_equal(own[1], generator.render(0.01, seed=5, prime=-clip))


def test_codes_and_sound_are_the_same_thing(generator: Generator) -> None:
    codes = generator.session(seed=6, count=2).next_codes(30)
    np.testing.assert_array_equal(mulaw.decode(codes), generator.session(seed=6, count=2).next(30))


def test_a_copy_continues_alike_and_is_independent(generator: Generator) -> None:
    session = generator.session(seed=8)
    session.next(60)
    same, other = session.copy(), session.copy(seed=77)
    same_later = same.copy()
    expected = session.next(50)
    np.testing.assert_array_equal(same.next(50), expected)
    diverged = other.next(50)
    assert not np.array_equal(diverged, expected)
    other.temperature = 0.0
    other.next(50)
    np.testing.assert_array_equal(same_later.next(50), expected)
    assert session.temperature == 1.0 and session.position == 110


def test_knobs_take_effect_between_calls(generator: Generator) -> None:
    session = generator.session(seed=12)
    session.next(40)
    plain, greedy = session.copy(), session.copy()
    session.temperature = 0.0
    greedy.top_k = 1
    cold = session.next(40)
    np.testing.assert_array_equal(greedy.next(40), cold)  # both are argmax
    assert not np.array_equal(plain.next(40), cold)
    fixed = generator.session(seed=12, top_p=1e-9)
    assert not np.array_equal(fixed.next(40), generator.session(seed=12).next(40))
    fixed.top_p = None
    assert (fixed.temperature, fixed.top_k, fixed.top_p) == (1.0, None, None)


def test_a_refused_call_uses_no_coins_and_primes_nothing(generator: Generator) -> None:
    session, alone = generator.session(seed=4, count=2), generator.session(seed=4, count=2)
    worker = threading.Thread(target=session.next, args=(300_000,))
    worker.start()
    while not session._lock.locked() and worker.is_alive():
        pass
    for call in (lambda: session.next(30), lambda: session.prime(np.zeros(40)), session.copy):
        with pytest.raises(RuntimeError, match="another thread is advancing this session"):
            call()
    worker.join()
    alone.next(300_000)
    assert session.position == 300_000
    np.testing.assert_array_equal(session.next(50), alone.next(50))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer")
@pytest.mark.parametrize("count", [None, 3])
@pytest.mark.parametrize("seconds", [0.001, 0.004, 0.1])
def test_after_ctrl_c_the_coins_are_those_of_the_samples_made(
    generator: Generator, count: int | None, seconds: float
) -> None:
    session, alone = generator.session(seed=4, count=count), generator.session(seed=4, count=count)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)  # which raises KeyboardInterrupt

    def interrupted() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        session.next(2_000_000)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert session.position < 2_000_000
    if session.position:
        alone.next(session.position)
    np.testing.assert_array_equal(session.next(50), alone.next(50))


@pytest.mark.parametrize(("knob", "value"), [("temperature", -1.0), ("top_k", 0), ("top_p", 1.5)])
def test_a_wrong_knob_is_refused_at_assignment(generator: Generator, knob: str, value: float) -> None:
    session = generator.session()
    before = getattr(session, knob)
    with pytest.raises(ValueError, match=f"{knob} = {value}"):
        setattr(session, knob, value)
    assert getattr(session, knob) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": -1}, "seed = -1"),
        ({"seed": None}, "seed = None"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"count": 0}, "count = 0"),
        ({"prime": np.zeros(0)}, "prime: the sound is empty"),
        ({"prime": np.zeros((3, 5))}, "prime: must be"),
        ({"prime": np.zeros(5, dtype=np.int16)}, "prime: must be floating-point"),
        ({"prime": np.full(5, np.nan)}, "NaN"),
    ],
)
def test_wrong_options_are_one_line(generator: Generator, options: dict[str, Any], named: str) -> None:
    for ask in (generator.session, generator.stream, lambda **given: generator.render(0.01, **given)):
        with pytest.raises(ValueError, match=named) as error:
            ask(**options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), 1e-6])
def test_wrong_lengths_are_one_line(generator: Generator, seconds: float) -> None:
    for ask in (generator.render, generator.stream):
        with pytest.raises(ValueError, match="seconds = "):
            ask(seconds)
    with pytest.raises(ValueError, match="block = 0"):
        generator.stream(block=0)
    with pytest.raises(ValueError, match="samples = 0"):
        generator.session().next(0)


def test_silent_share_counts_20_ms_frames_below_minus_50_dbfs() -> None:
    rate = 1_000  # a frame is 20 samples
    loud, faint = np.full(20, 0.0033), np.full(20, 0.0031)  # -50 dBFS is 10^(-50/20) = 0.00316
    assert silent_share(np.concatenate([loud, faint, faint, faint]), rate) == 0.75
    assert silent_share(np.concatenate([loud, faint, np.ones(19)]), rate) == 0.5  # the last frame is not full
    assert silent_share(np.stack([loud, faint]), rate) == 0.5
    assert silent_share(np.zeros(3), rate) == 1.0
    with pytest.raises(ValueError, match="empty"):
        silent_share(np.zeros(0), rate)


def test_deep_copies_are_copies_and_pickles_are_refused() -> None:
    import copy
    import pickle

    session = Generator.from_model(WaveNet(ModelConfig(1, 3, 2, 4, skip_channels=8))).session(seed=1)
    session.next(20)
    branch, twin = session.copy(), copy.deepcopy(session)
    expected = session.next(30)
    assert np.array_equal(branch.next(30), expected)
    assert np.array_equal(twin.next(30), expected)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(session)
