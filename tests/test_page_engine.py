"""The audio that a page plays: that of `Generator` for the same seed and settings, sample for sample in int8."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from page_engine import (
    RATE,
    SPEAKERS,
    SPEECH,
    TWO_TIERS,
    VOCODER,
    VOICE,
    EnginePage,
    audio_of,
    continued,
    engine_page,
)
from two_tier_data import hum

from wavenet.features import mel_spectrogram

SAMPLES = 5_000
VOICES = ("ann", "bob", "eve")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnginePage]:
    with engine_page(tmp_path_factory.mktemp("engine")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("model", "precision"),
    [(VOICE, "int8"), (SPEAKERS, "int8"), (TWO_TIERS, "int8"), (SPEECH, "int8"), (SPEECH, "f32")],
)
def test_a_seed_gives_the_audio_of_python(page: EnginePage, model: int, precision: str) -> None:
    page.load(model, precision)
    take = page.take("await engine.restart({ seed: 7 }); await heard(argument)", SAMPLES)
    assert take.failures == []
    assert len(take.audio) >= SAMPLES
    speaker = {"speaker": "ann"} if model == SPEAKERS else {}
    expected = page.generator(model, precision).session(seed=7, **speaker).next(len(take.audio))
    np.testing.assert_array_equal(take.audio, expected)  # in f32 one sample in 100,000 may differ, and none here
    assert len(np.unique(take.audio)) > 20
    assert (take.settings["seed"], take.settings["precision"]) == (7, precision)
    np.testing.assert_array_equal(take.replayed(), take.audio)


@pytest.mark.parametrize("model", [VOICE, SPEAKERS])
def test_every_control_acts_at_the_sample_that_is_recorded(page: EnginePage, model: int) -> None:
    controls = [{"temperature": 0.6}, {"topK": 30}, {"mute": [1, 4]}, {"topP": 0.8}, {"temperature": 1.3}]
    if model == SPEAKERS:
        controls += [{"speakers": [1, 2, 5]}]
    page.load(model)
    script = """
      for (const controls of argument) {
        await heard(engine.position + 1500);
        engine.set(controls);
      }
      await heard(engine.position + 2500)"""
    take = page.take(script, controls)
    assert take.failures == []
    assert [set_ for _, set_ in take.sets] == controls
    assert [position > 0 for position, _ in take.sets] == [True] * len(controls)
    speaker = {"speaker": "ann"} if model == SPEAKERS else {}
    session = page.generator(model).session(seed=0, **speaker)
    np.testing.assert_array_equal(take.audio, continued(session, VOICES, take))
    np.testing.assert_array_equal(take.audio, take.replayed())
    for event in take.settings["events"]:  # each of them does something
        others = [other for other in take.settings["events"] if other is not event]
        assert not np.array_equal(take.audio, take.replayed(events=others)), event


def test_controls_of_drawn_frames(page: EnginePage) -> None:
    page.load(TWO_TIERS)
    script = """
      engine.set({ pitch: 150, temperature: 0.7 });
      await engine.restart();
      await heard(2000);
      engine.set({ loudness: -20, pitch: null });
      await heard(7000)"""
    take = page.take(script)
    assert take.failures == []
    assert take.settings["controls"] == {"pitch": 150, "temperature": 0.7}
    assert [set_ for _, set_ in take.sets] == [{"loudness": -20, "pitch": None}]
    before = take.sets[0][0]
    expected = page.generator(TWO_TIERS).session(seed=0, pitch=150.0, temperature=0.7).next(before)
    np.testing.assert_array_equal(take.audio[:before], expected)
    np.testing.assert_array_equal(take.audio, take.replayed())
    assert not np.array_equal(take.audio, take.replayed(events=[]))


def test_a_vocoder_resynthesises_a_clip_to_its_end(page: EnginePage) -> None:
    page.load(VOCODER)
    take = page.take("await engine.restart({ seed: 3 }); await heard(Infinity)")
    config = page.generator(VOCODER).config
    assert take.failures == []
    clip = np.frombuffer(np.rint(32_768 * hum(0.5)).astype("<i2"), "<i2") / np.float32(32_768)
    assert config.sample_rate == 16_000  # the clip was resampled by `wavenet page`
    assert len(take.audio) == 2 * len(clip)
    np.testing.assert_array_equal(take.audio, take.replayed())
    settings = take.settings["clip"]
    assert (settings["use"], settings["name"]) == ("features", "clip-16000.wav")
    shorter = page.take("await engine.resynthesise(engine.recent(4000), 'own'); await heard(Infinity)")
    assert len(shorter.audio) == 4_000
    again = np.clip(np.rint(32_768 * take.audio[-4_000:]), -32_768, 32_767).astype(np.float32) / np.float32(32_768)
    assert config.features is not None
    expected = page.generator(VOCODER).render(features=mel_spectrogram(again, config.features), seed=3)
    np.testing.assert_array_equal(shorter.audio, expected)  # its features by NumPy: other last bits, the same codes


def test_the_microphone_is_resynthesised_while_it_is_heard(page: EnginePage) -> None:
    page.load(VOCODER)
    take = page.take("await engine.openMicrophone(); await heard(argument); engine.closeMicrophone()", 12_000)
    assert take.failures == []
    assert take.settings["clip"]["name"] == "microphone"
    np.testing.assert_array_equal(take.audio, take.replayed())
    assert len(np.unique(take.audio)) > 20
    after = page.take("await heard(Infinity)")  # what was heard until then
    assert len(after.audio) > len(take.audio)
    np.testing.assert_array_equal(after.audio, after.replayed())


def test_a_past_is_continued(page: EnginePage) -> None:
    page.load(VOICE)
    clip = hum(0.1)
    take = page.take("await engine.prime(Float32Array.from(argument), 'hum'); await heard(3000)", clip.tolist())
    rounded = np.rint(32_768 * clip).astype(np.float32) / np.float32(32_768)
    expected = page.generator(VOICE).session(seed=0, prime=rounded).next(len(take.audio))
    np.testing.assert_array_equal(take.audio, expected)
    np.testing.assert_array_equal(take.audio, take.replayed())
    plain = page.take("await engine.prime(null); await heard(1000)")
    np.testing.assert_array_equal(plain.audio, page.generator(VOICE).session(seed=0).next(len(plain.audio)))


@pytest.mark.parametrize("model", [VOICE, TWO_TIERS])
def test_branches_return_to_the_same_audio_or_go_another_way(page: EnginePage, model: int) -> None:
    page.load(model)
    first = page.take("await heard(2500); window.id = await engine.branch(); await heard(6000)")
    same = page.take("await engine.returnTo(id); window.at = engine.position; await heard(5500)")
    at = page.do("return at")
    assert 2_500 - RATE / 10 <= at <= 2_500 + RATE / 5
    count = min(len(first.audio), len(same.audio))
    np.testing.assert_array_equal(first.audio[:count], same.audio[:count])
    other = page.take("await engine.returnTo(id, { seed: 5 }); await heard(5500)")
    np.testing.assert_array_equal(other.audio[:at], first.audio[:at])
    assert other.settings["events"] == [{"position": at, "seed": 5}]
    np.testing.assert_array_equal(other.audio, other.replayed())
    if model == VOICE:
        session = page.generator(model).session(seed=0)
        session.next(at)
        expected = session.copy(seed=5).next(len(other.audio) - at)
        np.testing.assert_array_equal(other.audio[at:], expected)
    else:
        assert not np.array_equal(other.audio[at:5_500], first.audio[at:5_500])
    turned = page.take("engine.set({ temperature: 0.5 }); await engine.returnTo(id); await heard(5000)")
    assert turned.sets == [(at, {"temperature": 0.5})]  # controls stay as they are
    np.testing.assert_array_equal(turned.audio, turned.replayed())


def test_events_and_what_was_heard(page: EnginePage) -> None:
    page.load(VOICE)
    script = """
      window.log = { audio: [], report: [], state: [] };
      for (const type of Object.keys(log)) engine.addEventListener(type, ({ detail }) => log[type].push(detail));
      await heard(6000);
      const blocks = log.audio.flatMap(({ block }) => Array.from(block));
      return { blocks, reports: log.report, states: log.state, take: encoded(engine.take.samples),
               recent: Array.from(engine.recent(300)), position: engine.position };"""
    found = page.do(script)
    audio = audio_of(found["take"])
    assert len(audio) == found["position"]
    np.testing.assert_array_equal(found["recent"], audio[-300:])
    assert 0 <= len(audio) - len(found["blocks"]) <= RATE / 40  # whole blocks
    np.testing.assert_array_equal(found["blocks"], audio[: len(found["blocks"])])
    report = found["reports"][-1]
    last = audio[max(report["position"] - RATE // 10, 0) : report["position"]]
    assert report["level"] == pytest.approx(float(np.sqrt(np.mean(np.square(last)))), rel=1e-3)
    assert report["speed"] > 0
    assert [found["states"][0]["playing"], found["states"][-1]["playing"]] == [True, False]
    start = page.do("await engine.restart(); return Array.from(engine.recent(50))")
    assert start == [0] * 50


def test_a_start_ends_the_wait_for_a_branch(page: EnginePage) -> None:
    page.load(VOICE)
    script = """
      await heard(1000);
      const branch = engine.branch().then(() => "kept", ({ message }) => message);
      await engine.restart();
      await heard(500);
      return [await branch, failures];
    """
    assert page.do(script) == ["it started again before the moment was kept", []]


def test_a_control_that_was_freed_stays_free_after_a_start(page: EnginePage) -> None:
    page.load(TWO_TIERS)
    page.do("engine.set({ pitch: 150 }); engine.set({ pitch: null })")
    take = page.take("await engine.restart(); await heard(1000)")
    assert take.failures == []
    assert take.settings["controls"] == {"pitch": None}
    np.testing.assert_array_equal(take.audio, page.generator(TWO_TIERS).session(seed=0).next(len(take.audio)))
