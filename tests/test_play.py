"""Playback on a simulated sound device: a module in place of sounddevice, driven by hand or by a thread."""

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
from commands import BLOCK, FIRST, SAMPLE_RATE, Capture, run, save_model

from wavenet import engine
from wavenet import play as playing
from wavenet.generate import Session
from wavenet.play import Playback, PlaybackUnavailable, play


class PortAudioError(Exception):
    pass


class CallbackStop(Exception):
    pass


class Device:
    """A sound device with the interface of `sounddevice`: takes `at_start` frames when started, all once `free`."""

    PortAudioError, CallbackStop = PortAudioError, CallbackStop

    def __init__(self) -> None:
        self.played: list[float] = []
        self.at_start = 0
        self.free = threading.Event()
        self.events: list[str] = []
        self.refusal: PortAudioError | None = None
        self.absent = False
        self.underflow = False
        self.breaks = False
        self.sample_rates: tuple[int, ...] = (SAMPLE_RATE, 48_000)

    def query_devices(self, kind: str) -> dict[str, Any]:
        assert kind == "output"
        if self.absent:
            raise PortAudioError("Error querying device -1")
        return {"name": "Speaker", "max_output_channels": 2, "default_samplerate": 48_000.0}

    def OutputStream(self, **options: Any) -> SimpleNamespace:  # noqa: N802
        if self.refusal:
            raise self.refusal
        if options["samplerate"] not in self.sample_rates:
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
            self.played += out[:, 0].tolist()

    def run(self) -> None:
        self.free.wait(60)
        try:
            while not self.breaks and "close" not in self.events:
                self.pull(64)
        except CallbackStop:
            pass
        self.finished()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    return device


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model.safetensors")


def ramp(start: int, samples: int) -> np.ndarray:
    """Samples start + 1, start + 2, ...: none of them silence, and each one known by its value."""
    return np.arange(start + 1, start + samples + 1, dtype=np.float32)


def test_every_sample_is_played_once_and_in_order(device: Device) -> None:
    device.free.set()
    sizes = [1, 700, 64, 0, 300, 1_600, 5]
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    playback = play(
        (ramp(start, size) for start, size in zip(starts, sizes, strict=True)), SAMPLE_RATE, buffer_seconds=0.05
    )
    played = np.array(device.played)
    assert played[played != 0].tolist() == ramp(0, sum(sizes)).tolist()
    assert playback.samples == sum(sizes)
    assert (playback.buffer_ms, playback.latency_ms) == (50, 70)  # 0.05 s, and 0.02 s of the device
    assert device.events == ["open", "start", "close"]


def test_a_late_generator_gives_silence_and_one_gap_is_counted_once(device: Device) -> None:
    calls: list[str] = []
    device.at_start = 120

    def blocks() -> Iterator[np.ndarray]:
        yield ramp(0, 100)
        assert device.events == ["open"]  # half full: not started yet
        yield ramp(100, 100)
        device.pull(100)  # 80 are left: a gap
        device.pull(50)  # the same gap
        assert calls == []
        yield ramp(200, 100)
        assert calls == ["late"]
        device.pull(50)  # half full again: still the same gap
        device.free.set()

    playback = play(blocks(), SAMPLE_RATE, buffer_seconds=200 / SAMPLE_RATE, on_underrun=lambda: calls.append("late"))
    assert (playback.samples, playback.underruns, calls) == (300, 1, ["late"])
    assert device.played[:320] == ramp(0, 200).tolist() + [0.0] * 120
    played = np.array(device.played)
    assert played[played != 0].tolist() == ramp(0, 300).tolist()


def test_underflows_of_the_device_count_after_its_first_sample(device: Device) -> None:
    device.at_start, device.underflow = 10, True  # as it starts: nothing is interrupted

    def blocks() -> Iterator[np.ndarray]:
        yield ramp(0, 100)
        device.pull(10)  # one, in the middle of the audio
        device.underflow = False
        device.pull(100)  # dry: another one
        device.underflow = True
        device.pull(100)  # within its silence
        device.underflow = False
        yield ramp(100, 50)  # half full, so silent until the end
        device.free.set()

    playback = play(blocks(), SAMPLE_RATE, buffer_seconds=100 / SAMPLE_RATE)
    assert playback.samples == 150
    assert playback.underruns == 2


def test_short_audio_is_played_though_the_buffer_never_fills(device: Device) -> None:
    device.free.set()
    assert play(iter([ramp(0, 10)]), SAMPLE_RATE) == Playback(10, SAMPLE_RATE, 0, 200, 220)
    assert play(iter([]), SAMPLE_RATE).samples == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("the model failed")])
def test_any_error_of_the_generator_closes_the_device(device: Device, error: Any) -> None:
    device.at_start = 150

    def blocks() -> Iterator[np.ndarray]:
        yield ramp(0, 200)
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        play(blocks(), SAMPLE_RATE, buffer_seconds=200 / SAMPLE_RATE)
    assert device.events == ["open", "start", "close"]
    assert device.played == ramp(0, 150).tolist()  # not a sample more


def test_a_device_that_stops_by_itself_is_an_error_and_no_hang(device: Device) -> None:
    device.breaks = True
    device.free.set()
    with pytest.raises(RuntimeError, match="unplugged"):
        play((ramp(0, 100) for _ in range(1_000)), SAMPLE_RATE)
    with pytest.raises(RuntimeError, match="unplugged"):
        play(iter([ramp(0, 100)]), SAMPLE_RATE)


def test_two_streams_at_once_are_refused(device: Device) -> None:
    with pytest.raises(ValueError, match="leave count out"):
        play(iter([np.zeros((2, 100), np.float32)]), SAMPLE_RATE)
    with pytest.raises(ValueError, match="buffer_seconds"):
        play(iter([]), SAMPLE_RATE, buffer_seconds=0)


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ({"absent": True}, "playback needs a sound device, and none was found"),
        ({"sample_rates": ()}, "'Speaker' cannot be opened: .*Invalid sample rate"),
        ({"refusal": PortAudioError("Device unavailable", -9985)}, "'Speaker' cannot be opened: .*Device unavailable"),
    ],
)
def test_a_device_that_cannot_play_is_reported_before_anything_is_generated(
    device: Device, trouble: dict[str, Any], message: str
) -> None:
    vars(device).update(trouble)
    blocks = iter([ramp(0, 10)])
    with pytest.raises(PlaybackUnavailable, match=message):
        play(blocks, SAMPLE_RATE)
    assert len(list(blocks)) == 1


def test_audio_is_resampled_for_a_device_of_another_sample_rate(device: Device) -> None:
    device.sample_rates = (48_000,)
    device.free.set()
    tone = np.sin(2 * np.pi * 500 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)  # one second of 500 Hz
    playback = play(iter(np.split(tone, 10)), SAMPLE_RATE)
    assert playback.sample_rate == 48_000
    played = np.array(device.played)
    played = played[np.flatnonzero(played)[0] :][:47_000]
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
    assert np.argmax(spectrum) * 48_000 / len(played) == pytest.approx(500, abs=2)
    assert playback.samples == pytest.approx(48_000, abs=100)
    assert np.abs(played).max() == pytest.approx(1, abs=0.02)


def test_a_device_that_does_not_start_is_reported(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        raise PortAudioError("Device unavailable", -9985)

    monkeypatch.setattr(device, "start", start)
    with pytest.raises(PlaybackUnavailable, match="'Speaker' cannot be started"):
        play(iter([ramp(0, 10)]), SAMPLE_RATE)
    assert device.events == ["open", "close"]


def test_without_sounddevice_the_command_says_how_to_get_it(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert run("generate", model_file, "--play") == 2
    error_output = capsys.readouterr().err.splitlines()
    assert error_output[-1] == "wavenet: playback needs sounddevice: pip install 'wavenet-toolkit[play]'"
    assert len(error_output) == 1 or not engine.native_installed()  # then that is reported first


def test_without_portaudio_the_command_says_how_to_get_it(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    assert run("generate", model_file, "--play") == 2
    error_output = capsys.readouterr().err.splitlines()
    assert error_output[-1] == "wavenet: playback needs the PortAudio library: apt install libportaudio2"
    assert len(error_output) == 1 or not engine.native_installed()


def test_playback_alone_writes_no_file(
    device: Device,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    device.free.set()
    assert run("generate", model_file, "--play", "--seconds", 0.5) == 0
    assert list(folder.iterdir()) == []
    printed = capsys.readouterr()
    assert "played: 0.50 s" in printed.err
    assert "gaps " in printed.err and ", latency 220 ms" in printed.err
    assert printed.out == "" and "\r" not in printed.err


def test_the_played_audio_is_the_written_audio(device: Device, model_file: Path, tmp_path: Path) -> None:
    device.free.set()
    assert run("generate", model_file, "--play", "-o", tmp_path / "x.wav", "--seconds", 0.5) == 0
    assert run("generate", model_file, "-o", tmp_path / "silent.wav", "--seconds", 0.5) == 0
    written, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "silent.wav").read_bytes()
    played = np.array(device.played, np.float32)
    np.testing.assert_allclose(played[played != 0], written[written != 0], atol=1 / 32_768)


def test_an_interrupted_playback_keeps_the_file(
    device: Device,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    device.free.set()
    original = Session.next

    def interrupted(session: Session, samples: int) -> np.ndarray:
        if session.position > 2_000:
            raise KeyboardInterrupt
        return original(session, samples)

    monkeypatch.setattr(Session, "next", interrupted)
    assert run("generate", model_file, "--play", "-o", tmp_path / "x.wav") == 130
    assert f"interrupted: kept 0.3 s in {tmp_path / 'x.wav'}" in capsys.readouterr().err.splitlines()
    assert soundfile.info(tmp_path / "x.wav").frames == FIRST + 3 * BLOCK
    assert device.events[-1] == "close"


@pytest.mark.parametrize(
    ("seconds_per_block", "first"), [(10.0, "slower than real time (0.0"), (1e-6, "the machine was busy")]
)
def test_gaps_are_reported_at_the_first_and_counted_at_the_end(
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    seconds_per_block: float,
    first: str,
) -> None:
    def late(blocks: Iterator[np.ndarray], sample_rate: int, on_underrun: Any) -> Playback:
        next(blocks)
        on_underrun()
        return Playback(sum(map(len, blocks)), SAMPLE_RATE, 3, 200.0, 235.0)

    clock = SimpleNamespace(now=0.0)

    def perf_counter() -> float:
        clock.now += seconds_per_block
        return clock.now

    monkeypatch.setattr(playing, "play", late)
    monkeypatch.setattr("wavenet.cli.audio_output.time", SimpleNamespace(perf_counter=perf_counter))
    assert run("generate", model_file, "--play", "--seconds", 0.5) == 0
    error_output = capsys.readouterr().err.splitlines()
    assert first in error_output[0 if engine.native_installed() else 1]
    summary = [line for line in error_output if line.startswith("gaps 3, latency 235 ms")]
    faster = "--precision int8" if engine.native_installed() else "the native engine"
    assert len(summary) == 1 and f"{faster} or a smaller model" in summary[0]


def test_only_one_stream_can_be_played(model_file: Path, capsys: Capture) -> None:
    assert run("generate", model_file, "--play", "--count", 2) == 2
    assert "only one stream can be played" in capsys.readouterr().err


def test_samples_are_piped_while_others_are_generated(model_file: Path) -> None:
    command = [sys.executable, "-m", "wavenet", "generate", str(model_file), "-o", "-", "--seconds", "1e6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as piping:
        guard = threading.Timer(100, piping.kill)
        guard.start()
        assert piping.stdout is not None
        first = piping.stdout.read(320)  # 20 ms at 8 kHz
        assert piping.poll() is None  # a million seconds are still being generated
        piping.kill()
        guard.cancel()
    assert len(first) == 320 and any(first)


@pytest.mark.parametrize("engines", [["auto"], ["torch"]])
def test_the_native_engine_needs_no_slow_import(model_file: Path, engines: list[str]) -> None:
    slow = {"torch", "torchaudio", "librosa", "soxr", "soundfile", "sounddevice", "importlib.metadata"}
    code = f"import sys; from wavenet import cli; print(cli.main(sys.argv[1:]), *sorted({slow} & set(sys.modules)))"
    arguments = ["generate", str(model_file), "--seconds", "0.05", "-o", "-", "--engine", *engines]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
    printed = done.stdout[2 * 400 :].decode().split()  # after the samples
    if engines == ["auto"] and engine.native_installed():
        assert printed == ["0"]
    else:  # the test itself can fail
        assert printed[0] == "0" and "torch" in printed


def test_the_slow_engine_is_reported_on_one_line(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(engine, "native_installed", lambda: False)
    assert run("generate", model_file, "-o", tmp_path / "x.wav", "--seconds", 0.05) == 0
    error_output = capsys.readouterr().err.splitlines()
    assert error_output[0].startswith("wavenet: generating with the slow 'torch' engine: ")
    assert ".py" not in error_output[0]
    assert error_output[1].startswith(str(tmp_path))
