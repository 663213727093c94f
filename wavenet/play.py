"""Play audio while it is generated: a small buffer between the generator and the default sound device.

The sound device requests samples from its own thread; the generator puts blocks into the buffer, and waits while the
buffer is full. If the generator is late, the device receives silence, and the gap is counted:

    generator -> block -> [ buffer, 200 ms ] -> callback of the sound device -> [ latency of the device ] -> loudspeaker
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.extras import Unavailable, how_to_install

BUFFER_SECONDS = 0.2  # two blocks of `Generator.stream`: covers short delays of the system
INVALID_SAMPLE_RATE = -9997  # paInvalidSampleRate of portaudio.h


class PlaybackUnavailable(Unavailable):
    """Audio cannot be played on this machine. The message is what is missing, and how to get it."""


@dataclass(frozen=True)
class Playback:
    """Statistics of a playback.

    samples: number of samples that the sound device took.
    sample_rate: of these samples, in Hz: that of the audio, or that of the device if it does not support it.
    underruns: number of gaps, filled with silence, because a block or the callback of the device was late.
    buffer_ms: length of the buffer in milliseconds; it can contain up to one block more.
    latency_ms: from the generation of a sample to its playback: the buffer and the latency of the device.
    """

    samples: int
    sample_rate: int
    underruns: int
    buffer_ms: float
    latency_ms: float


def play(
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    buffer_seconds: float = BUFFER_SECONDS,
    on_underrun: Callable[[], None] | None = None,
) -> Playback:
    """Play blocks, float32 [n] in [-1, 1] at `sample_rate` Hz, while they are generated; returns after the last sample.

    The device is opened before the first block is requested, and starts when the buffer contains `buffer_seconds` of
    audio. After a gap the buffer is filled again first: a few long gaps disturb less than many short ones. For a device
    that does not support the sample rate the audio is resampled.
    on_underrun: called once, from the calling thread, after the first gap.
    Raises `PlaybackUnavailable` without sounddevice, PortAudio or an output device, `RuntimeError` if the device stops
    unexpectedly, `ValueError` for blocks of another shape, and what `blocks` raises. After any error, Ctrl-C included,
    the device stops immediately and is closed.
    """
    if not buffer_seconds > 0:
        raise ValueError(f"buffer_seconds = {buffer_seconds}: must be above 0")
    with _opened(sample_rate, buffer_seconds) as stream:
        buffer = stream.buffer
        for block in _resampled(_checked(blocks), sample_rate, stream.sample_rate):
            buffer.put(block)
            if buffer.underruns and on_underrun is not None:
                on_underrun()
                on_underrun = None
            if buffer.full:  # not before, or it would begin with a gap
                stream.start()
            buffer.wait_for_room()
        buffer.end()
        stream.start()
        buffer.wait_for_end()
        buffer_ms = 1000 * buffer.capacity / stream.sample_rate
        latency_ms = buffer_ms + 1000 * stream.latency
        return Playback(buffer.played, stream.sample_rate, buffer.underruns, buffer_ms, latency_ms)


def _checked(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    for block in blocks:
        if block.ndim != 1:
            raise ValueError(f"only one stream can be played, in blocks [n], not {list(block.shape)}: leave count out")
        yield block


def _resampled(
    blocks: Iterator[NDArray[np.float32]], sample_rate: int, device_sample_rate: int
) -> Iterator[NDArray[np.float32]]:
    if device_sample_rate == sample_rate:
        yield from blocks
        return
    import soxr  # slow to import, and rarely needed

    resampler = soxr.ResampleStream(sample_rate, device_sample_rate, 1, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)


class _Buffer:
    """A queue of samples between two threads: the generator's calls `put`, that of the sound device `take`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity  # samples; full with at least this many
        self.played = 0  # samples
        self.underruns = 0
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._held = 0  # samples in the blocks
        self._filling = True  # `take` returns silence until the buffer is full
        self._ended = False  # there are no further blocks
        self._closed = False  # the device has stopped
        self._changed = threading.Condition()

    @property
    def full(self) -> bool:
        return self._held >= self.capacity

    def put(self, block: NDArray[np.float32]) -> None:
        with self._changed:
            self._blocks.append(block)
            self._held += len(block)
            self._filling = self._filling and not self.full

    def end(self) -> None:
        """Mark the end: there are no further blocks."""
        with self._changed:
            self._ended, self._filling = True, False

    def take(self, out: NDArray[np.float32], late: bool = False) -> bool:
        """Fill `out` [n] with the next samples, or silence; False when everything has been played.

        late: the device has reported an underflow, as this call came too late. It counts as a gap only after the first
            sample, and not during the silence of a gap that is counted already.
        """
        with self._changed:
            self.underruns += late and self.played > 0 and not self._filling
            filled = 0
            while filled < len(out) and self._blocks and not self._filling:
                block = self._blocks.popleft()
                taken = block[: len(out) - filled]
                out[filled : filled + len(taken)] = taken
                filled += len(taken)
                if len(taken) < len(block):
                    self._blocks.appendleft(block[len(taken) :])
            out[filled:] = 0
            self._held -= filled
            self.played += filled
            if filled < len(out) and not self._ended and not self._filling:
                self.underruns += 1
                self._filling = True
            self._changed.notify_all()
            return not self._ended or self._held > 0

    def close(self) -> None:
        """Called when the sound device has stopped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Return when the next block is needed. Raises `RuntimeError` if the sound device has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self.full)
            if self._closed:
                raise RuntimeError("the sound device stopped while it was playing; was it unplugged?")

    def wait_for_end(self) -> None:
        """Return when the last sample has been played. Raises `RuntimeError` if the sound device stopped before."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed)
            if self._held:
                raise RuntimeError("the sound device stopped before the end; was it unplugged?")


class _Stream:
    """The open sound device, and the buffer that it takes samples from once it is started."""

    def __init__(self, sounddevice: Any, sample_rate: int, channels: int, buffer_seconds: float) -> None:
        self.sample_rate = sample_rate
        self.buffer = buffer = _Buffer(max(1, round(buffer_seconds * sample_rate)))

        def callback(out: NDArray[np.float32], frames: int, time: Any, status: Any) -> None:  # out [frames, channels]
            more = buffer.take(out[:, 0], bool(status.output_underflow))
            out[:, 1:] = out[:, :1]
            if not more:
                raise sounddevice.CallbackStop  # the device plays the samples it has, then calls finished_callback

        self._started = False
        self._stream = sounddevice.OutputStream(
            samplerate=sample_rate,
            channels=channels,
            dtype="float32",
            callback=callback,
            finished_callback=buffer.close,
        )

    @property
    def latency(self) -> float:
        """Latency of the device, in seconds."""
        return float(self._stream.latency)

    def start(self) -> None:
        """Start the device; further calls do nothing."""
        if not self._started:
            self._started = True
            self._stream.start()

    def close(self) -> None:
        """Stop immediately: samples in the buffer of the device are not played."""
        self._stream.close()


@contextmanager
def _opened(sample_rate: int, buffer_seconds: float) -> Iterator[_Stream]:
    """The default output device, at `sample_rate` or its own. Raises `PlaybackUnavailable`."""
    sounddevice = _sounddevice()
    try:
        device = sounddevice.query_devices(kind="output")
    except (sounddevice.PortAudioError, ValueError):
        raise PlaybackUnavailable(
            "playback needs a sound device, and none was found: write to a file with -o instead"
        ) from None
    channels = min(2, device["max_output_channels"])  # some do not support mono
    try:
        with _quiet():
            try:
                stream = _Stream(sounddevice, sample_rate, channels, buffer_seconds)
            except sounddevice.PortAudioError as error:
                if len(error.args) < 2 or error.args[1] != INVALID_SAMPLE_RATE:
                    raise
                stream = _Stream(sounddevice, round(device["default_samplerate"]), channels, buffer_seconds)
    except sounddevice.PortAudioError as error:
        raise PlaybackUnavailable(f"the sound device {device['name']!r} cannot be opened: {error}") from None
    try:
        yield stream
    except sounddevice.PortAudioError as error:  # from `start`
        raise PlaybackUnavailable(f"the sound device {device['name']!r} cannot be started: {error}") from None
    finally:
        stream.close()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise PlaybackUnavailable(how_to_install("playback", "sounddevice", "play")) from None
    except OSError:  # on Linux, sounddevice does not include PortAudio
        raise PlaybackUnavailable("playback needs the PortAudio library: apt install libportaudio2") from None
    return sounddevice


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output of PortAudio and ALSA to standard error; their errors are raised as exceptions."""
    kept = None
    with suppress(OSError):  # standard error may be closed
        kept = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, 2)
            os.close(kept)
