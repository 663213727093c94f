"""The studio's WebSocket: the samples of `Generator` for the same seed and settings, whatever a page asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import two_tier_data
from commands import MEL, SAMPLE_RATE, save_model, save_vocoder
from studio_client import Client, Page, client_of

from wavenet import checkpoint, features
from wavenet.generate import Generator
from wavenet.refined_session import RefinedSession
from wavenet.web import streaming

same = np.testing.assert_array_equal
F32: dict[str, Any] = {"precision": "f32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    save_model(path / "plain.safetensors")
    save_model(path / "voices.safetensors", speakers=("ann", "bob"))
    save_vocoder(path / "vocoder.safetensors")
    sampling = {"refine": 4, "temperature": 0.8}
    save_model(path / "refined.safetensors", output="gaussian", features=MEL, linear_prediction=8, sampling=sampling)
    return path


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with client_of(folder) as opened:
        yield opened


def generator(folder: Path, name: str, precision: str = "f32") -> Generator:
    return Generator.load(folder / f"{name}.safetensors", precision=precision)


def recording(seconds: float = 0.1) -> np.ndarray:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 220 * times)).astype(np.float32)


def joined(page: Page, *blocks: int) -> np.ndarray:
    return np.concatenate([page.generate(samples).audio for samples in blocks])


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_the_audio_is_that_of_the_generator(client: Client, folder: Path, precision: str) -> None:
    expected = generator(folder, "plain", precision).render(seconds=1_000 / SAMPLE_RATE, seed=3)
    with client.page("plain", precision=precision) as page:
        page.done(start=3)
        first = page.generate(300)
        assert (first.position, len(first.audio)) == (0, 300) and first.seconds > 0
        second = page.generate(700)
        assert second.position == 300
        same(np.concatenate([first.audio, second.audio]), expected)
        assert len(np.unique(expected)) > 20
        page.done(start=4)
        assert not np.array_equal(page.generate(1_000).audio, expected)
        page.done(start=3)
        same(page.generate(1_000).audio, expected)


def test_it_says_what_the_model_is(client: Client, folder: Path) -> None:
    with client.page() as page:
        answer = page.done(load=client.identifier("voices"), precision="int8")
        info, config = answer["info"], generator(folder, "voices").config
        assert info["speakers"] == ["ann", "bob"] and info["sampleRate"] == SAMPLE_RATE and info["precision"] == "int8"
        assert (info["layers"], info["receptiveField"], info["bands"]) == (4, config.receptive_field, 0)
        assert answer["config"]["residual_channels"] == 6 and len(answer["sha256"]) == 64
        info = page.done(load=client.identifier("vocoder"))["info"]
        assert (info["bands"], info["hop"], info["needsClip"]) == (MEL["bands"], MEL["hop"], True)


def test_controls_act_at_the_position_of_the_answer(client: Client, folder: Path) -> None:
    session = generator(folder, "voices").session(seed=5, speaker="ann")
    parts = [session.next(200)]
    session.temperature, session.top_k, session.speaker = 0.5, 40, {"ann": 1, "bob": 3}
    parts.append(session.next(300))
    session.mute, session.top_p, session.top_k = (0, 2), 0.9, None
    parts.append(session.next(100))
    session.mute, session.top_p = (), None
    parts.append(session.next(100))
    with client.page("voices", **F32) as page:
        page.done(start=5)
        got = [page.generate(200).audio]
        assert page.done(set={"temperature": 0.5, "topK": 40, "speakers": [0.25, 0.75]})["position"] == 200
        got.append(page.generate(300).audio)
        page.done(set={"mute": [2, 0], "topP": 0.9, "topK": 0})
        got.append(page.generate(100).audio)
        page.done(set={"mute": [], "topP": None})
        got.append(page.generate(100).audio)
    same(np.concatenate(got), np.concatenate(parts))


def test_controls_stay_after_a_start_and_act_from_its_first_sample(client: Client, folder: Path) -> None:
    expected = generator(folder, "plain").render(seconds=0.05, seed=1, temperature=0.7, mute=(1,))
    with client.page("plain", **F32) as page:
        page.done(set={"temperature": 0.7, "mute": [1]})
        for _ in range(2):
            page.done(start=1)
            same(page.generate(400).audio, expected)


def test_a_past_is_continued(client: Client, folder: Path) -> None:
    past = recording()
    expected = generator(folder, "plain").render(seconds=0.05, seed=2, prime=past)
    with client.page("plain", **F32) as page:
        assert page.clip("prime", past)["reply"] == "prime"
        page.done(start=2)
        same(page.generate(400).audio, expected)
        page.done(prime=None)
        page.done(start=2)
        same(page.generate(400).audio, generator(folder, "plain").render(seconds=0.05, seed=2))


@pytest.mark.parametrize("name", ["plain", "refined"])
def test_a_branch_continues_where_it_was_heard(client: Client, folder: Path, name: str) -> None:
    with client.page(name, **F32) as page:
        if name == "refined":
            page.clip("resynthesise", recording(0.5))
        page.done(start=9)
        blocks = [page.generate(200, heard=max(0, 200 * (index - 2))).audio for index in range(6)]
        assert page.done(branch="b1", position=650)["position"] == 600
        after = joined(page, 300)
        assert page.done(**{"return": "b1"})["position"] == 600
        again = joined(page, 300, 600)
        same(again, np.concatenate([*blocks[3:], after]))
        page.done(**{"return": "b1", "seed": 77})
        assert not np.array_equal(joined(page, 900), again)
        assert "no branch" in page.error(**{"return": "other"})
        page.done(start=9)
        assert "no branch" in page.error(**{"return": "b1"})


def test_a_branch_with_another_seed_is_that_of_a_session(client: Client, folder: Path) -> None:
    session = generator(folder, "plain").session(seed=0)
    session.next(250)
    with client.page("plain", **F32) as page:
        page.done(start=0)
        page.generate(250)
        page.done(branch="here", position=250)
        page.generate(100)
        page.done(set={"temperature": 0.6})
        assert page.done(**{"return": "here", "seed": 4})["position"] == 250
        branch = session.copy(seed=4)
        branch.temperature = 0.6  # the controls are those of now
        same(page.generate(200).audio, branch.next(200))
        page.done(reseed=8)
        branch = branch.copy(seed=8)
        same(page.generate(200).audio, branch.next(200))


def test_marks_for_branches_are_bounded_and_spread(client: Client, folder: Path) -> None:
    voice = streaming.Voice(generator(folder, "plain"))
    voice.start(0)
    for _ in range(1_000):
        voice.generate(20, heard=2_000)
    positions = [mark.position for mark in voice._marks]
    assert len(positions) <= streaming.MOST_MARKS and positions[0] <= 2_000 and positions == sorted(positions)
    assert max(np.diff(positions)) < 2_000  # of the 18,000 samples that are ahead
    for name in range(100):
        voice.branch(str(name), 5_000)
    assert len(voice._branches) == streaming.MOST_BRANCHES


def test_a_vocoder_copies_a_clip_to_its_end(client: Client, folder: Path) -> None:
    clip = recording(0.25)
    vocoder = generator(folder, "vocoder")
    frames = features.mel_spectrogram(clip, vocoder.config.features)
    expected = vocoder.session(seed=1, features=frames).next(len(clip))
    with client.page("vocoder", **F32) as page:
        page.done(start=1)
        assert "give a clip" in page.error(generate=100)
        assert page.clip("resynthesise", clip)["reply"] == "resynthesise"
        page.done(start=1)
        got = joined(page, *[800] * 3)
        same(got, expected)
        assert page.generate(100).audio.size == 0
        assert "it copies a clip" in page.clip("prime", clip)["error"]


def test_refined_audio_is_that_of_a_stream(client: Client, folder: Path) -> None:
    clip = recording(0.25)
    vocoder = generator(folder, "refined")
    frames = features.mel_spectrogram(clip, vocoder.config.features)
    session = RefinedSession(vocoder.session(seed=1, features=frames), vocoder.config.features, 4, len(clip))
    with client.page("refined", **F32) as page:
        page.clip("resynthesise", clip)
        page.done(start=1)
        same(joined(page, 100, 900, 1_000), session.next(2_000))


def test_two_tiers_draw_their_frames(tmp_path: Path) -> None:
    path = tmp_path / "two.safetensors"
    checkpoint.save_model(path, two_tier_data.two_tiers())
    drawing = Generator.load(path, precision="f32").session(seed=6, pitch=200.0, temperature=0.9)
    expected = [drawing.next(500)]
    drawing.pitch, drawing.loudness = None, -30.0
    expected.append(drawing.next(4_000))
    with client_of(tmp_path) as client, client.page("two", **F32) as page:
        page.done(set={"pitch": 200, "temperature": 0.9})
        page.done(start=6)
        got = [page.generate(500).audio]
        page.done(set={"pitch": None, "loudness": -30})
        got.append(joined(page, *[500] * 8))
    same(np.concatenate(got), np.concatenate(expected))


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"volume": 1}, "'volume': there is no such control; there are temperature"),
        ({"temperature": -1}, "temperature = -1: must be a number from 0"),
        ({"temperature": None}, "temperature: must be a number"),
        ({"temperature": "1"}, "temperature = '1'"),
        ({"temperature": [1]}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"topK": 1.5}, "top_k = 1.5"),
        ({"topP": 2}, "top_p = 2"),
        ({"pitch": 100}, "frame model"),
        ({"voicedTemperature": 1}, "voiced_temperature"),
        ({"speakers": [1]}, "a list of 2 shares"),
        ({"speakers": [0, 0]}, "not all of them 0"),
        ({"speakers": [1, True]}, "numbers from 0"),
        ({"speakers": "ann"}, "a list of 2 shares"),
        ({"mute": [9]}, "mute"),
        ({"mute": 1}, "mute"),
        ({"mute": ["0"]}, "mute"),
        ({"temperature": 0.1, "topK": -1}, "top_k"),
        ([1], "must be an object"),
    ],
)
def test_a_control_that_is_refused_changes_nothing(client: Client, folder: Path, controls: Any, message: str) -> None:
    expected = generator(folder, "voices").session(seed=0, speaker="ann").next(200)
    with client.page("voices", **F32) as page:
        page.done(start=0)
        first = page.generate(100).audio
        assert message in page.error(set=controls)
        same(np.concatenate([first, page.generate(100).audio]), expected)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 60_000, "not JSON|recursion"),
        ("1", "not a request"),
        ("{}", "not a request"),
        ('{"explode": 1}', "'explode': there is no such request"),
        ('{"start": 1, "speed": 2}', "'speed' does not belong"),
        ('{"set": {"temperature": NaN}}', "NaN is no JSON"),
        ('{"set": {"temperature": 1e999}}', "temperature"),
        ('{"start": -1}', "seed = -1"),
        ('{"start": 1e3}', "seed = 1000.0"),
        ('{"start": ' + "9" * 5_000 + "}", "digits|seed"),
        ('{"generate": 0}', "generate = 0"),
        ('{"generate": 1000000}', "from 1 to 8,000"),
        ('{"generate": true}', "generate = True"),
        ('{"generate": 10, "heard": -1}', "position = -1"),
        ('{"branch": 7}', "branch = 7"),
        ('{"branch": "a", "position": "b"}', "position = 'b'"),
        ('{"return": {}}', "no branch"),
        ('{"load": "../plain", "precision": "f32"}', "no such model"),
        ('{"load": 1}', "identifier"),
        ('{"prime": 1000000000}', "number of samples up to"),
        ('{"prime": "x"}', "number of samples up to"),
        ('{"resynthesise": null}', "needs the number of samples"),
        (b"\0\0\0\0", "a clip was not announced"),
    ],
)
def test_a_request_that_is_refused_leaves_the_connection_open(client: Client, request_: Any, message: str) -> None:
    with client.page("plain") as page:
        error = page.error(request_)
        assert any(part in error for part in message.split("|")), error
        assert page.done(start=0)["position"] == 0


def test_clips_that_are_refused(client: Client) -> None:
    with client.page("plain") as page:
        assert "announced" in page.error(b"1234")
        page.done(prime=100)
        assert "100 samples were announced, not 12 bytes" in page.error(b"0" * 12)
        assert "NaN" in page.clip("prime", np.full(10, np.nan, np.float32))["error"]
        assert "60 s are used" in page.clip("prime", np.zeros(61 * SAMPLE_RATE, np.float32))["error"]
        page.done(prime=100)
        assert "the clip was to follow" in page.error(start=1)
        assert "copies no clips" in page.clip("resynthesise", recording())["error"]
        page.clip("prime", np.full(10, 100, np.float32))
        assert "peaks at 100" in page.error(generate=10)
        page.done(prime=None)
        page.generate(10)


def test_a_model_must_be_loaded_first(client: Client) -> None:
    with client.page() as page:
        assert page.error(generate=10) == "generate: load a model first"
        assert "precision = 'f64'" in page.error(load=client.identifier("plain"), precision="f64")
