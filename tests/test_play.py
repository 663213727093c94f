"""Playing on a sound card that is not there: a module in sounddevice's place, pulled by hand or by a thread."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from wavenet import checkpoint, cli, engine
from wavenet import play as playing
from wavenet.config import ModelConfig
from wavenet.play import Playback, PlaybackUnavailable, play

RATE = 8_000
CONFIG = ModelConfig(1, 4, 2, 6, skip_channels=8, sample_rate=RATE)


class PortAudioError(Exception):
    pass


class CallbackStop(Exception):
    pass


class Card:
    """A sound card, as `sounddevice` shows it: takes `at_start` frames when started, and all it can once `free`."""

    PortAudioError, CallbackStop = PortAudioError, CallbackStop

    def __init__(self) -> None:
        self.heard: list[float] = []
        self.at_start = 0
        self.free = threading.Event()
        self.events: list[str] = []
        self.refusal: PortAudioError | None = None
        self.absent = False
        self.underflow = False
        self.breaks = False
        self.rates = (RATE, 48_000)

    def query_devices(self, kind: str) -> dict[str, Any]:
        assert kind == "output"
        if self.absent:
            raise PortAudioError("Error querying device -1")
        return {"name": "Speaker", "max_output_channels": 2, "default_samplerate": 48_000.0}

    def OutputStream(self, **options: Any) -> SimpleNamespace:  # noqa: N802
        if self.refusal:
            raise self.refusal
        if options["samplerate"] not in self.rates:
            raise PortAudioError("Invalid sample rate", -9997)
        assert (options["channels"], options["dtype"]) == (2, "float32")
        self.callback, self.finished = options["callback"], options["finished_callback"]
        self.events.append("open")
        return SimpleNamespace(start=self.start, close=self.close, latency=0.02)

    def start(self) -> None:
        self.events.append("start")
        if self.at_start:
            self.pull(self.at_start)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.events.append("close")

    def pull(self, frames: int) -> None:
        out = np.full((frames, 2), np.nan, dtype=np.float32)
        try:
            self.callback(out, frames, None, SimpleNamespace(output_underflow=self.underflow))
        finally:
            assert np.array_equal(out[:, 0], out[:, 1])
            self.heard += out[:, 0].tolist()

    def run(self) -> None:
        self.free.wait(60)
        try:
            while not self.breaks and "close" not in self.events:
                self.pull(64)
        except CallbackStop:
            pass
        self.finished()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    monkeypatch.setitem(sys.modules, "sounddevice", card)  # type: ignore[arg-type]
    return card


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in CONFIG.shapes.items()}
    path = tmp_path / "model.safetensors"
    checkpoint.write_tensors(path, weights, {"wavenet.format": "1", "wavenet.config": json.dumps(CONFIG.to_dict())})
    return path


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def ramp(start: int, samples: int) -> np.ndarray:
    """Samples start + 1, start + 2, ...: none of them silence, and each one known by its value."""
    return np.arange(start + 1, start + samples + 1, dtype=np.float32)


def test_every_sample_is_heard_once_and_in_order(card: Card) -> None:
    card.free.set()
    sizes = [1, 700, 64, 0, 300, 1_600, 5]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    playback = play((ramp(start, size) for start, size in zip(starts, sizes, strict=True)), RATE, buffer_seconds=0.05)
    heard = np.array(card.heard)
    assert heard[heard != 0].tolist() == ramp(0, sum(sizes)).tolist()
    assert playback.samples == sum(sizes)
    assert (playback.buffer_ms, playback.latency_ms) == (50, 70)  # 0.05 s, and 0.02 s of the card
    assert card.events == ["open", "start", "close"]


def test_a_late_generator_is_silence_and_is_counted_once_per_gap(card: Card) -> None:
    told = []
    card.at_start = 120

    def blocks() -> Iterator[np.ndarray]:
        yield ramp(0, 100)
        assert card.events == ["open"]  # half full: not started yet
        yield ramp(100, 100)
        card.pull(100)  # 80 are left: a gap
        card.pull(50)  # the same gap
        assert told == []
        yield ramp(200, 100)
        assert told == ["late"]
        card.pull(50)  # half full again: still the same gap
        card.free.set()

    playback = play(blocks(), RATE, buffer_seconds=200 / RATE, on_underrun=lambda: told.append("late"))
    assert (playback.samples, playback.underruns, told) == (300, 1, ["late"])
    assert card.heard[:320] == ramp(0, 200).tolist() + [0.0] * 120
    heard = np.array(card.heard)
    assert heard[heard != 0].tolist() == ramp(0, 300).tolist()


def test_the_cards_own_under_runs_count_where_there_was_sound(card: Card) -> None:
    card.at_start, card.underflow = 10, True  # as it starts: there was nothing to interrupt

    def blocks() -> Iterator[np.ndarray]:
        yield ramp(0, 100)
        card.pull(10)  # one, in the middle of the sound
        card.underflow = False
        card.pull(100)  # dry: another one
        card.underflow = True
        card.pull(100)  # within its silence
        card.underflow = False
        yield ramp(100, 50)  # half full, so silent until the end
        card.free.set()

    playback = play(blocks(), RATE, buffer_seconds=100 / RATE)
    assert playback.samples == 150
    assert playback.underruns == 2


def test_a_short_sound_is_played_though_the_buffer_never_fills(card: Card) -> None:
    card.free.set()
    assert play(iter([ramp(0, 10)]), RATE) == Playback(10, RATE, 0, 200, 220)
    assert play(iter([]), RATE).samples == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("the model broke")])
def test_whatever_stops_the_generator_closes_the_device(card: Card, error: Any) -> None:
    card.at_start = 150

    def blocks() -> Iterator[np.ndarray]:
        yield ramp(0, 200)
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        play(blocks(), RATE, buffer_seconds=200 / RATE)
    assert card.events == ["open", "start", "close"]
    assert card.heard == ramp(0, 150).tolist()  # not a sample more


def test_a_device_that_stops_by_itself_is_an_error_and_no_hang(card: Card) -> None:
    card.breaks = True
    card.free.set()
    with pytest.raises(RuntimeError, match="unplugged"):
        play((ramp(0, 100) for _ in range(1_000)), RATE)
    with pytest.raises(RuntimeError, match="unplugged"):
        play(iter([ramp(0, 100)]), RATE)


def test_two_sounds_at_once_are_refused(card: Card) -> None:
    with pytest.raises(ValueError, match="leave count out"):
        play(iter([np.zeros((2, 100), np.float32)]), RATE)
    with pytest.raises(ValueError, match="buffer_seconds"):
        play(iter([]), RATE, buffer_seconds=0)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"absent": True}, "no sound output device"),
        ({"rates": ()}, "'Speaker' cannot be opened: .*Invalid sample rate"),
        ({"refusal": PortAudioError("Device unavailable", -9985)}, "'Speaker' cannot be opened: .*Device unavailable"),
    ],
)
def test_a_device_that_cannot_play_is_told_before_anything_is_made(
    card: Card, trouble: dict[str, Any], message: str
) -> None:
    vars(card).update(trouble)
    made = iter([ramp(0, 10)])
    with pytest.raises(PlaybackUnavailable, match=message):
        play(made, RATE)
    assert len(list(made)) == 1


def test_a_device_that_knows_another_rate_only_gets_the_sound_resampled(card: Card) -> None:
    card.rates = (48_000,)
    card.free.set()
    tone = np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE).astype(np.float32)  # one second of 500 Hz
    playback = play(iter(np.split(tone, 10)), RATE)
    assert playback.rate == 48_000
    heard = np.array(card.heard)
    heard = heard[np.flatnonzero(heard)[0] :][:47_000]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * 48_000 / len(heard) == pytest.approx(500, abs=2)
    assert playback.samples == pytest.approx(48_000, abs=100)
    assert np.abs(heard).max() == pytest.approx(1, abs=0.02)


def test_a_device_that_does_not_start_is_told(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        raise PortAudioError("Device unavailable", -9985)

    monkeypatch.setattr(card, "start", start)
    with pytest.raises(PlaybackUnavailable, match="'Speaker' cannot be started"):
        play(iter([ramp(0, 10)]), RATE)
    assert card.events == ["open", "close"]


def test_without_sounddevice_the_command_says_how_to_get_it(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # type: ignore[arg-type]
    assert run("generate", model_file, "--play") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "wavenet: playing needs sounddevice: pip install 'wavenet-toolkit[play]'"
    assert len(said) == 1 or not engine.native_installed()  # then it is told of first


def test_without_portaudio_the_command_says_how_to_get_it(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    assert run("generate", model_file, "--play") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "wavenet: playing needs the PortAudio library: apt install libportaudio2"
    assert len(said) == 1 or not engine.native_installed()


def test_playing_alone_writes_no_file(
    card: Card, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    card.free.set()
    assert run("generate", model_file, "--play", "--seconds", 0.5) == 0
    assert list(folder.iterdir()) == []
    told = capsys.readouterr()
    assert "played: 0.50 s" in told.err
    assert "under-runs" in told.err
    assert told.out == "" and "\r" not in told.err


def test_what_is_heard_is_what_is_written(card: Card, model_file: Path, tmp_path: Path) -> None:
    card.free.set()
    assert run("generate", model_file, "--play", "-o", tmp_path / "x.wav", "--seconds", 0.5) == 0
    assert run("generate", model_file, "-o", tmp_path / "silent.wav", "--seconds", 0.5) == 0
    written, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "silent.wav").read_bytes()
    heard = np.array(card.heard, np.float32)
    np.testing.assert_allclose(heard[heard != 0], written[written != 0], atol=1 / 32_768)


@pytest.mark.parametrize(
    ("seconds_per_block", "first"), [(10.0, "slower than real time (0.0"), (1e-6, "the machine was busy")]
)
def test_under_runs_are_told_at_the_first_and_counted_at_the_end(
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds_per_block: float,
    first: str,
) -> None:
    def late(blocks: Iterator[np.ndarray], rate: int, on_underrun: Any) -> Playback:
        next(blocks)
        on_underrun()
        return Playback(sum(map(len, blocks)), RATE, 3, 200.0, 235.0)

    clock = SimpleNamespace(now=0.0)

    def perf_counter() -> float:
        clock.now += seconds_per_block
        return clock.now

    monkeypatch.setattr(playing, "play", late)
    monkeypatch.setattr("wavenet.cli.audio_output.time", SimpleNamespace(perf_counter=perf_counter))
    assert run("generate", model_file, "--play", "--seconds", 0.5) == 0
    said = capsys.readouterr().err.splitlines()
    assert first in said[0 if engine.native_installed() else 1]
    told = [line for line in said if line.startswith("under-runs 3, heard 235 ms after it is made")]
    faster = "--precision int8" if engine.native_installed() else "the native engine"
    assert len(told) == 1 and f"{faster} or a smaller model" in told[0]


def test_one_sound_only_can_be_played(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generate", model_file, "--play", "--count", 2) == 2
    assert "one sound can be played" in capsys.readouterr().err


def test_piped_samples_leave_before_the_sound_is_whole(model_file: Path) -> None:
    command = [sys.executable, "-m", "wavenet", "generate", str(model_file), "-o", "-", "--seconds", "1e6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as piping:
        guard = threading.Timer(100, piping.kill)
        guard.start()
        assert piping.stdout is not None
        first = piping.stdout.read(320)  # 20 ms at 8 kHz
        assert piping.poll() is None  # a million seconds are still being made
        piping.kill()
        guard.cancel()
    assert len(first) == 320 and any(first)


@pytest.mark.parametrize("engines", [["auto"], ["torch"]])
def test_the_native_engine_needs_no_slow_import(model_file: Path, engines: list[str]) -> None:
    slow = {"torch", "torchaudio", "librosa", "soxr", "soundfile", "sounddevice", "importlib.metadata"}
    code = f"import sys; from wavenet import cli; print(cli.main(sys.argv[1:]), *sorted({slow} & set(sys.modules)))"
    arguments = ["generate", str(model_file), "--seconds", "0.05", "-o", "-", "--engine", *engines]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
    told = done.stdout[2 * 400 :].decode().split()  # after the samples
    if engines == ["auto"] and engine.native_installed():
        assert told == ["0"]
    else:  # the test itself sees what it looks for
        assert told[0] == "0" and "torch" in told


def test_the_slow_engine_is_told_in_one_clean_line(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "native_installed", lambda: False)
    assert run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.05) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("wavenet: generating with the slow 'torch' engine: ")
    assert ".py" not in said[0]
    assert said[1].startswith(str(tmp_path))
