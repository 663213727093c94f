"""Generator and Session: the same sound from the same seed, whichever way it is asked for."""

import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wavenet import mulaw
from wavenet.config import MelConfig, ModelConfig
from wavenet.generate import Generator, silent_share
from wavenet.model import WaveNet
from wavenet.nn.linear_prediction import voiced

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
    # the played samples fed back, with the uniforms that were left after them
    replay = generator.session(seed=2)
    replay.next(100)
    rest = generator.session(seed=0, prime=played)
    rest._uniforms = replay._uniforms
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


# ---- generators that are told what to play -------------------------------------------------------------------------

HOP, BANDS = 20, 6
MEL = {"fft": 64, "window": 64, "hop": HOP, "bands": BANDS}


def told_generator(**values: Any) -> Generator:
    torch.manual_seed(4)
    shape: dict[str, Any] = {"cycles": 2, "layers_per_cycle": 3, "residual_channels": 8, "skip_channels": 16}
    model = WaveNet(ModelConfig(**shape, sample_rate=8_000, **values))
    with torch.no_grad():
        if model.config.output == "mulaw":
            model.head.output.weight.mul_(100)
        else:
            model.head.output.bias[-model.config.components :] -= 3  # scales of a twentieth
    return Generator.from_model(model, engine="torch")


def frames_of(count: int, seed: int = 0, streams: tuple[int, ...] = ()) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(-5, 2, (*streams, BANDS, count)).astype(np.float32)


@pytest.fixture(
    scope="module",
    params=[
        {"features": MEL},
        {"features": MEL, "speakers": ("ann", "bob"), "output": "logistic", "mixtures": 2},
        {"features": MEL, "frame_network": "parallel", "output": "gaussian", "linear_prediction": 6},
    ],
    ids=["mulaw", "speakers", "predicted"],
)
def vocoder(request: pytest.FixtureRequest) -> Generator:
    return told_generator(**request.param)


def whom(generator: Generator) -> dict[str, Any]:
    return {"speaker": "bob"} if generator.config.speakers else {}


def test_features_are_copied_from_the_first_to_the_last(vocoder: Generator) -> None:
    features = frames_of(41)  # over a chunk's end, at 32 frames
    sound = vocoder.render(features=features, seed=3, **whom(vocoder))
    assert sound.shape == (41 * HOP,)
    assert np.abs(sound).max() <= 1 and len(np.unique(sound)) > 50
    assert not np.array_equal(vocoder.render(features=frames_of(41, 1), seed=3, **whom(vocoder)), sound)
    # what is later said changes nothing before: half a frame is blended, and more is heard by the frame network
    changed = features.copy()
    changed[:, -1] += 3
    after = vocoder.render(features=changed, seed=3, **whom(vocoder))
    heard = (41 - 1 - vocoder.config.frame_reach) * HOP - HOP // 2
    if heard > 0:
        np.testing.assert_array_equal(after[:heard], sound[:heard])
    assert not np.array_equal(after, sound)
    part = vocoder.render(0.01, features=features, seed=3, **whom(vocoder))
    np.testing.assert_array_equal(part, sound[:80])
    blocks = list(vocoder.stream(block=300, features=features, seed=3, **whom(vocoder)))
    assert [len(block) for block in blocks] == [300, 300, 220]
    np.testing.assert_array_equal(np.concatenate(blocks), sound)


def test_streams_side_by_side_have_their_own_features(vocoder: Generator) -> None:
    own = frames_of(5, 2, (3,))
    batch = vocoder.render(features=own, seed=7, count=3, **whom(vocoder))
    assert batch.shape == (3, 5 * HOP)
    for stream in range(3):
        single = vocoder.render(features=own[stream], seed=7 + stream, **whom(vocoder))
        # the last bits of a float32 differ between batches: mu-law hides that, 16 bits show a step
        np.testing.assert_allclose(batch[stream], single, atol=0 if vocoder.config.output == "mulaw" else 2e-4)


def test_where_the_features_end_nothing_is_made_and_nothing_changes(vocoder: Generator) -> None:
    features = frames_of(10)
    session = vocoder.session(seed=5, features=features, **whom(vocoder))
    whole = vocoder.render(features=features, seed=5, **whom(vocoder))
    assert session.left == 200
    np.testing.assert_array_equal(session.next(130), whole[:130])
    assert session.left == 70
    for samples in (71, 10_000):
        with pytest.raises(ValueError, match=f"end after 200 samples .10 frames.* 70 left, not {samples:,}"):
            session.next(samples)
    with pytest.raises(ValueError, match="the features end after 200 samples"):
        session.prime(np.zeros(71))
    assert (session.left, session.position) == (70, 130)
    np.testing.assert_array_equal(session.next(70), whole[130:])  # with the uniforms that were not used
    assert session.left == 0
    with pytest.raises(ValueError, match="0 left, not 1"):
        session.next(1)


def test_features_begin_with_the_primed_sound(vocoder: Generator) -> None:
    features, options = frames_of(10), whom(vocoder)
    session = vocoder.session(seed=5, features=features, **options)
    played = session.next(110)
    rest = vocoder.session(seed=0, features=features, prime=played, **options)
    assert rest.left == 90
    rest._uniforms = session._uniforms
    expected = session.copy().next(90)
    np.testing.assert_allclose(rest.next(90), expected, atol=0 if vocoder.config.output == "mulaw" else 1e-3)
    assert vocoder.render(features=features, prime=played, **options).shape == (90,)
    for ask in (vocoder.render, vocoder.stream):
        with pytest.raises(ValueError, match="the features end with the primed sound"):
            ask(features=features, prime=np.zeros(200), **options)


def test_sound_longer_than_its_features_is_refused_at_once(vocoder: Generator) -> None:
    for ask in (vocoder.render, vocoder.stream):
        with pytest.raises(ValueError, match="the features last for 200 samples, not for 201: leave seconds out"):
            ask(201 / 8_000, features=frames_of(10), **whom(vocoder))


def rippled(hop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features of frames with and without harmonics, and which have them."""
    pitched = np.array([0, 0, 1, 1, 1, 0, 1, 0, 0, 1], bool)
    ripple = np.array([6, -6, 0, 0, 0, 0])  # by band; few bands hear few harmonics, so it is a strong one
    features = (-5 + np.where(pitched, 2 * ripple[:, None], 0)).astype(np.float32)
    np.testing.assert_array_equal(voiced(features.T, MelConfig(sample_rate=8_000, high=4_000.0, **MEL)), pitched)
    return features, pitched


def test_frames_with_a_pitch_have_their_own_temperature(vocoder: Generator) -> None:
    features, pitched = rippled(HOP)
    told = {"features": features, "seed": 4, **whom(vocoder)}
    by_hand = vocoder.session(temperature=1.2, **told)
    parts = []
    for frame in pitched:
        by_hand.temperature = 0.3 if frame else 1.2
        parts.append(by_hand.next(HOP))
    whole = vocoder.render(temperature=1.2, voiced_temperature=0.3, **told)
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, vocoder.render(temperature=1.2, **told))
    for block in (1, 7, HOP, 3 * HOP + 1):
        blocks = list(vocoder.stream(block=block, temperature=1.2, voiced_temperature=0.3, **told))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)
    same = vocoder.render(count=2, temperature=1.2, voiced_temperature=0.3, **told)
    np.testing.assert_allclose(same[0], whole, atol=0 if vocoder.config.output == "mulaw" else 2e-4)


def test_the_voiced_temperature_may_change_between_calls(vocoder: Generator) -> None:
    features, _ = rippled(HOP)
    told = {"features": features, "seed": 4, **whom(vocoder)}
    plain = vocoder.render(**told)
    session = vocoder.session(voiced_temperature=0.2, **told)
    branch = session.copy()
    assert (session.voiced_temperature, session.temperature) == (0.2, 1.0)
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="^voiced_temperature = "):
            session.voiced_temperature = wrong
        assert session.voiced_temperature == 0.2
    session.voiced_temperature = None
    np.testing.assert_array_equal(session.next(200), plain)
    assert not np.array_equal(branch.next(200), plain)
    session = vocoder.session(voiced_temperature=0.2, **told)
    with pytest.raises(ValueError, match="0 left|200 left, not 201"):
        session.next(201)  # whose frames differ: none is made of the first ones either
    assert session.position == 0


def test_a_voiced_temperature_needs_one_set_of_features(vocoder: Generator) -> None:
    with pytest.raises(ValueError, match="voiced_temperature: streams side by side must have the same features"):
        vocoder.session(features=frames_of(5, 2, (3,)), count=3, voiced_temperature=0.5, **whom(vocoder))
    with pytest.raises(ValueError, match="voiced_temperature: this model is driven by no features"):
        told_generator().session(voiced_temperature=0.5)


def test_without_features_somebody_says_how_long() -> None:
    generator = told_generator(speakers=("ann", "bob"))
    assert generator.session(speaker="ann").left is None
    with pytest.raises(ValueError, match="seconds: say how long"):
        generator.render(speaker="ann")
    endless = generator.stream(block=10, speaker="ann")
    assert [len(next(endless)) for _ in range(3)] == [10] * 3


@pytest.mark.parametrize("features", [None, MEL])
def test_the_speaker_may_change_between_calls(features: dict[str, int] | None) -> None:
    generator = told_generator(speakers=("ann", "bob"), features=features)
    told = {} if features is None else {"features": frames_of(20)}
    ann, bob = (generator.render(0.03, seed=6, speaker=name, **told) for name in ("ann", "bob"))
    assert not np.array_equal(ann, bob)
    session = generator.session(seed=6, speaker="ann", **told)
    np.testing.assert_array_equal(session.next(100), ann[:100])
    stays, blended = session.copy(), session.copy()
    session.speaker = "bob"
    assert (session.speaker, stays.speaker) == ("bob", "ann")
    changed = session.next(140)
    np.testing.assert_array_equal(stays.next(140), ann[100:])  # a copy is not told
    assert not np.array_equal(changed, ann[100:])
    at_once = generator.session(seed=6, speaker="ann", **told)
    at_once.speaker = "bob"
    np.testing.assert_array_equal(at_once.next(240), bob)
    blended.speaker = {"ann": 1, "bob": 3}
    whole_bob = blended.copy()
    mixed = blended.next(140)
    assert not np.array_equal(mixed, changed) and not np.array_equal(mixed, ann[100:])
    whole_bob.speaker = {"bob": 9}  # a blend of one is that one
    np.testing.assert_array_equal(whole_bob.next(140), changed)


def test_a_speaker_that_is_not_known_changes_nothing() -> None:
    generator = told_generator(speakers=("ann", "bob"))
    expected = generator.render(0.01, seed=1, speaker="ann")
    session = generator.session(seed=1, speaker="ann")
    for wrong in ("bop", None, {"ann": -1}, {}):
        with pytest.raises(ValueError, match="speaker"):
            session.speaker = wrong
        assert session.speaker == "ann"
    np.testing.assert_array_equal(session.next(80), expected)


def test_a_model_without_speakers_has_none(generator: Generator, vocoder: Generator) -> None:
    session = generator.session()
    assert (session.speaker, session.left) == (None, None)
    session.speaker = None
    with pytest.raises(ValueError, match="this model knows no speakers"):
        session.speaker = "ann"
    with pytest.raises(ValueError, match="features: this model is driven by none"):
        generator.session(features=frames_of(3))
    with pytest.raises(ValueError, match="features: this model is driven by a mel spectrogram"):
        vocoder.session(**whom(vocoder))


def test_sixteen_bit_sound_has_no_top_k() -> None:
    generator = told_generator(output="gaussian")
    session = generator.session(seed=2)
    sound = session.next(50)
    assert np.array_equal(sound * 32_768, np.rint(sound * 32_768))
    assert len(np.unique(sound)) > 45
    with pytest.raises(ValueError, match="top_k: a 16-bit output"):
        generator.session(top_k=5)
    with pytest.raises(ValueError, match="top_k: a 16-bit output"):
        session.top_k = 5
    assert session.top_k is None
    codes = generator.session(seed=2).next_codes(50)
    np.testing.assert_array_equal(codes / 32_768, sound)
