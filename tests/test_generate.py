"""Generator and Session: the same audio from the same seed for every way of generating it."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_model

from wavenet import mulaw
from wavenet.checkpoint import save_model
from wavenet.config import ModelConfig
from wavenet.engine.sampling import Sampling
from wavenet.generate import Generator, silent_share
from wavenet.model import WaveNet

CONFIG = ModelConfig(2, 3, 2, 8, skip_channels=16, sample_rate=8_000)


@pytest.fixture(scope="module")
def model() -> WaveNet:
    return random_model(CONFIG, seed=3)


@pytest.fixture(scope="module")
def generator(model: WaveNet) -> Generator:
    return Generator.from_model(model)


def test_properties_of_a_generator(generator: Generator) -> None:
    assert (generator.config, generator.sample_rate) == (CONFIG, 8_000)
    assert (generator.engine, generator.precision) == ("native", "f32")


def test_render_returns_the_seconds_asked_for(generator: Generator) -> None:
    audio = generator.render(seconds=0.1003, seed=5)
    assert audio.shape == (802,)  # 0.1003 s x 8,000 Hz = 802.4
    assert audio.dtype == np.float32
    assert np.abs(audio).max() <= 1 and len(np.unique(audio)) > 50
    assert generator.render(seconds=0.01, count=1).shape == (1, 80)
    assert generator.render(seconds=0.01, count=3).shape == (3, 80)


def test_same_seed_same_audio_in_every_block_size_and_engine(model: WaveNet, generator: Generator) -> None:
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


def test_a_stream_is_endless_or_ends_with_a_shorter_block(generator: Generator) -> None:
    endless = generator.stream(block=50, seed=1)
    assert [len(next(endless)) for _ in range(12)] == [50] * 12
    assert [len(block) for block in generator.stream(seconds=0.02, block=60)] == [60, 60, 40]
    assert [block.shape for block in generator.stream(seconds=0.01, block=50, count=2)] == [(2, 50), (2, 30)]


def test_progress_counts_up_to_the_end(generator: Generator) -> None:
    calls: list[tuple[int, int]] = []
    generator.render(0.12, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(400, 960), (800, 960), (960, 960)]


def test_prime_is_continued(generator: Generator) -> None:
    clip = np.sin(np.arange(100) / 5) * 0.5
    first = generator.session(seed=2)
    played = first.next(100)
    expected = first.next(40)
    # The same samples as a prime, which uses no uniform numbers; the uniform numbers of the rest follow in the next 40.
    replay = generator.session(seed=2)
    replay.next(100)
    rest = generator.session(seed=0, prime=played)
    uniforms = replay._uniforms.read(100, 40)
    codes = rest._engine.generate(rest._progress.state, uniforms, Sampling())
    np.testing.assert_array_equal(mulaw.decode(codes[0]), expected)
    single = generator.render(0.01, seed=4, prime=clip)
    assert single.shape == (80,)  # the clip itself is not part of the audio
    shared = generator.render(0.01, seed=4, count=2, prime=clip)
    own = generator.render(0.01, seed=4, count=2, prime=np.stack([clip, -clip]))
    np.testing.assert_array_equal(shared[0], single)
    np.testing.assert_array_equal(own[0], single)
    np.testing.assert_array_equal(own[1], generator.render(0.01, seed=5, prime=-clip))


def test_next_decodes_the_codes_of_next_codes(generator: Generator) -> None:
    codes = generator.session(seed=6, count=2).next_codes(30)
    np.testing.assert_array_equal(mulaw.decode(codes), generator.session(seed=6, count=2).next(30))


def test_a_copy_continues_with_the_same_audio_and_is_independent(generator: Generator) -> None:
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


def test_sampling_options_may_change_between_calls(generator: Generator) -> None:
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


@pytest.mark.parametrize("name", ["particles", "seed", "temprature"])
def test_what_a_session_cannot_change_is_refused(generator: Generator, name: str) -> None:
    session = generator.session(seed=12)
    with pytest.raises(AttributeError, match=f"'{name}' of a session cannot be changed"):
        setattr(session, name, 5)
    session.next(10)


def test_a_call_during_that_of_another_thread_is_refused_and_changes_nothing(generator: Generator) -> None:
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


@pytest.mark.parametrize(("name", "value"), [("temperature", -1.0), ("top_k", 0), ("top_p", 1.5)])
def test_a_wrong_option_is_refused_at_assignment(generator: Generator, name: str, value: float) -> None:
    session = generator.session()
    before = getattr(session, name)
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        setattr(session, name, value)
    assert getattr(session, name) == before


CALLS: dict[str, Callable[[Generator, Any], object]] = {
    **{
        name: lambda generator, value, name=name: generator.session(**{name: value})  # type: ignore[misc]
        for name in ("seed", "temperature", "top_k", "top_p", "count", "speaker")
    },
    "samples": lambda generator, value: generator.session().next(value),
    "seconds": lambda generator, value: generator.stream(seconds=value),
    "block": lambda generator, value: generator.stream(block=value),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "value", ["x\n\x1b[31m" * 10_000, -(10**5_000), np.zeros(40) - 1], ids=["text", "integer", "array"]
)
def test_long_values_are_shortened_on_one_line(generator: Generator, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}") as caught:
        CALLS[name](generator, value)
    message = str(caught.value)
    assert len(message) < 300
    assert message.isprintable()


WRONG_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"seed": -1}, "seed = -1"),
    ({"seed": None}, "seed = None"),
    ({"temperature": float("nan")}, "temperature = nan"),
    ({"top_k": 0}, "top_k = 0"),
    ({"top_p": 0.0}, "top_p = 0.0"),
    ({"count": 0}, "count = 0: must be a whole number from 1 to 65,536"),
    ({"count": 1.5}, "count = 1.5: must be a whole number"),
    ({"count": True}, "count = True: must be a whole number"),
    ({"count": 65_537}, "count = 65537"),
    ({"prime": np.zeros(0)}, "prime: the audio is empty"),
    ({"prime": np.zeros((3, 5))}, "prime: must be"),
    ({"prime": np.zeros(5, dtype=np.int16)}, "prime: must be floating-point"),
    ({"prime": np.full(5, np.nan)}, "NaN"),
    ({"prime": "own.wav"}, "prime = 'own.wav': must be samples, not a path; read them with wavenet.audio.read"),
    ({"prime": Path("own.wav")}, "must be samples, not a path"),
    ({"prime": np.array([0.0, -20_000.0])}, "prime: peaks at 2e.04; .* divide 16-bit samples by 32,768 first"),
]


@pytest.mark.parametrize(("options", "named"), WRONG_OPTIONS)
def test_wrong_options_are_one_line(generator: Generator, options: dict[str, Any], named: str) -> None:
    for ask in (generator.session, generator.stream, lambda **given: generator.render(0.01, **given)):
        with pytest.raises(ValueError, match=named) as error:
            ask(**options)
        assert "\n" not in str(error.value)


def test_a_prime_beyond_full_scale_is_clipped_with_a_warning(generator: Generator) -> None:
    clip = 1.4 * np.sin(np.arange(100) / 5)
    with pytest.warns(UserWarning, match=r"prime: peaks at 1.40; samples beyond \[-1, 1\] are clipped"):
        audio = generator.render(0.01, prime=clip)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(generator.render(0.01, prime=clip.clip(-1, 1)), audio)


def test_counts_may_be_numpys_integers(generator: Generator) -> None:
    count: Any = np.int64(2)
    seed: Any = np.uint8(255)
    expected = generator.render(0.01, count=2, seed=255)
    np.testing.assert_array_equal(generator.render(0.01, count=count, seed=seed), expected)  # seed + 1 is 256
    blocks = generator.stream(0.01, block=np.int16(50), count=count, seed=seed)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.concatenate(list(blocks), axis=1), expected)
    session = generator.session(count=count, seed=seed)
    np.testing.assert_array_equal(session.next(np.int32(80)), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), 1e-6, 1e308, 10**400, None.__class__])
def test_wrong_lengths_are_one_line(generator: Generator, seconds: Any) -> None:
    for ask in (generator.render, generator.stream):
        with pytest.raises(ValueError, match="seconds = ") as error:
            ask(seconds)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("samples", [0, -1, 1600.0, True, "2"])
def test_wrong_numbers_of_samples_are_one_line(generator: Generator, samples: Any) -> None:
    with pytest.raises(ValueError, match=f"block = {samples!r}: must be a whole number of samples from 1"):
        generator.stream(block=samples)
    with pytest.raises(ValueError, match=f"samples = {samples!r}: must be a whole number from 1"):
        generator.session().next(samples)


def test_audio_that_does_not_fit_into_memory_is_refused(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavenet.engine.base.memory", lambda: 1_000_000_000)
    with pytest.raises(ValueError, match=r"8,000,000,000,000,000,000 samples need .* GB of memory .* with stream$"):
        generator.render(1e15)
    session = generator.session()
    for samples in (10**8, np.int64(2**62), 10**30):
        with pytest.raises(ValueError, match="samples at once need .* GB of memory .* ask for fewer"):
            session.next(samples)  # type: ignore[arg-type]
    assert session.position == 0
    assert len(next(generator.stream(1e15))) == 1_600  # block by block it is possible


def test_silent_share_counts_20_ms_frames_below_minus_50_dbfs() -> None:
    sample_rate = 1_000  # a frame is 20 samples
    loud, faint = np.full(20, 0.0033), np.full(20, 0.0031)  # -50 dBFS is 10^(-50/20) = 0.00316
    assert silent_share(np.concatenate([loud, faint, faint, faint]), sample_rate) == 0.75
    assert silent_share(np.concatenate([loud, faint, np.ones(19)]), sample_rate) == 0.5  # the last frame is not full
    assert silent_share(np.stack([loud, faint]), sample_rate) == 0.5
    assert silent_share(np.zeros(3), sample_rate) == 1.0
    with pytest.raises(ValueError, match="empty"):
        silent_share(np.zeros(0), sample_rate)


def test_deep_copies_are_copies_and_pickles_are_refused() -> None:
    import copy
    import pickle

    session = Generator.from_model(WaveNet(ModelConfig(1, 3, 2, 4, skip_channels=8))).session(seed=1)
    session.next(20)
    branch, twin = session.copy(), copy.deepcopy(session)
    expected = session.next(30)
    assert np.array_equal(branch.next(30), expected)
    assert np.array_equal(twin.next(30), expected)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(session)


def test_playing_with_the_native_engine_imports_no_pytorch(tmp_path: Path, model: WaveNet) -> None:
    save_model(tmp_path / "model.safetensors", model)
    code = """
import sys
from wavenet.generate import Generator
generator = Generator.load(sys.argv[1], engine="native")
assert generator.render(0.01).shape == (80,)
print(*{"torch", "torchaudio", "scipy", "librosa", "numba"} & {*sys.modules})
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model.safetensors")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"
