"""Sound to the loudspeaker while it is made: blocks through a small buffer to the default output device.

The sound card takes what it needs when it needs it, from its own thread; the generator puts blocks into a buffer
before it, and waits when the buffer is full. When the generator is late the card gets silence, which is counted:

    generator -> block -> [ buffer, 200 ms ] -> sound card's callback -> [ the card's own latency ] -> loudspeaker
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

BUFFER_SECONDS = 0.2  # two blocks of `Generator.stream`: rides out a busy moment, and is hardly felt
INVALID_SAMPLE_RATE = -9997  # paInvalidSampleRate of portaudio.h


class PlaybackUnavailable(RuntimeError):
    """Nothing can be played here; the message says what is missing and how to get it."""


@dataclass(frozen=True)
class Playback:
    """How a playing went.

    samples: samples that the sound card took, `rate` of them a second: the sound's own rate, or the only one the card
        knows.
    underruns: gaps, filled with silence, because a block or the card's callback was late.
    buffer_ms: sound held before the card, in milliseconds; at most one block more.
    latency_ms: the same with the card's own latency: from making a sample to hearing it.
    """

    samples: int
    rate: int
    underruns: int
    buffer_ms: float
    latency_ms: float


def play(
    blocks: Iterable[NDArray[np.float32]],
    rate: int,
    buffer_seconds: float = BUFFER_SECONDS,
    on_underrun: Callable[[], None] | None = None,
) -> Playback:
    """Play blocks, float32 [n] in [-1, 1] at `rate` Hz, as they come; returns when the last of them was heard.

    The device is opened before the first block is asked for, and starts when `buffer_seconds` are there. After a gap
    it starts again in the same way: a few long gaps disturb less than many short ones. A device that knows another
    rate only gets the sound resampled.
    on_underrun: called once, from the calling thread, as soon as that notices the first gap.
    Raises `PlaybackUnavailable` without sounddevice, PortAudio or an output device, `RuntimeError` when the device
    stops on its own, `ValueError` for blocks of another shape, and what `blocks` raises. Whatever is raised, Ctrl-C
    too, the device falls silent at once and is closed.
    """
    if not buffer_seconds > 0:
        raise ValueError(f"buffer_seconds = {buffer_seconds}: must be above 0")
    with _opened(rate, buffer_seconds) as stream:
        buffer = stream.buffer
        for block in _resampled(_checked(blocks), rate, stream.rate):
            buffer.put(block)
            if buffer.underruns and on_underrun is not None:
                on_underrun()
                on_underrun = None
            if buffer.full:  # not before, or it would begin with a gap
                stream.start()
            buffer.wait_for_room()
        buffer.end()
        stream.start()
        buffer.wait_for_silence()
        buffer_ms = 1000 * buffer.capacity / stream.rate
        return Playback(buffer.played, stream.rate, buffer.underruns, buffer_ms, buffer_ms + 1000 * stream.latency)


def _checked(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    for block in blocks:
        if block.ndim != 1:
            raise ValueError(f"one sound can be played, in blocks [n], not {list(block.shape)}: leave count out")
        yield block


def _resampled(blocks: Iterator[NDArray[np.float32]], rate: int, to: int) -> Iterator[NDArray[np.float32]]:
    if to == rate:
        yield from blocks
        return
    import soxr  # few devices need it

    resampler = soxr.ResampleStream(rate, to, 1, dtype="float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)


class _Buffer:
    """The samples between two threads: `put` in the generator's, `take` in the sound card's."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity  # samples; full is at least so many
        self.played = 0  # samples
        self.underruns = 0
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._held = 0  # samples in the blocks
        self._filling = True  # gives silence until full
        self._ended = False  # no further block will come
        self._closed = False  # nobody takes any more
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
        """What is held is all that there is."""
        with self._changed:
            self._ended, self._filling = True, False

    def take(self, out: NDArray[np.float32], late: bool = False) -> bool:
        """Fill `out` [n] with the next samples, or silence; False when all has been played.

        late: the card already had to play something else, since this call came too late. A gap only where there was
            sound before it: not as the card starts, and not within the silence of a gap that is counted already.
        """
        with self._changed:
            self.underruns += late and self.played > 0 and not self._filling
            filled = 0
            while filled < len(out) and self._blocks and not self._filling:
                block = self._blocks.popleft()
                part = block[: len(out) - filled]
                out[filled : filled + len(part)] = part
                filled += len(part)
                if len(part) < len(block):
                    self._blocks.appendleft(block[len(part) :])
            out[filled:] = 0
            self._held -= filled
            self.played += filled
            if filled < len(out) and not self._ended and not self._filling:
                self.underruns += 1
                self._filling = True
            self._changed.notify_all()
            return not self._ended or self._held > 0

    def close(self) -> None:
        """The sound card has stopped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Returns when the next block should be made. Raises `RuntimeError` if the sound card has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self.full)
            if self._closed:
                raise RuntimeError("the sound device stopped while it was playing; was it unplugged?")

    def wait_for_silence(self) -> None:
        """Returns when the last sample has been heard. Raises `RuntimeError` if the sound card stopped before."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed)
            if self._held:
                raise RuntimeError("the sound device stopped before the end; was it unplugged?")


class _Stream:
    """The open device, which takes from a buffer once it is started."""

    def __init__(self, sounddevice: Any, rate: int, channels: int, buffer_seconds: float) -> None:
        self.rate = rate  # Hz
        self.buffer = buffer = _Buffer(max(1, round(buffer_seconds * rate)))

        def callback(out: NDArray[np.float32], frames: int, time: Any, status: Any) -> None:  # out [frames, channels]
            more = buffer.take(out[:, 0], bool(status.output_underflow))
            out[:, 1:] = out[:, :1]
            if not more:
                raise sounddevice.CallbackStop  # the device plays what it was given, then calls finished_callback

        self._started = False
        self._stream = sounddevice.OutputStream(
            samplerate=rate, channels=channels, dtype="float32", callback=callback, finished_callback=buffer.close
        )

    @property
    def latency(self) -> float:
        """Of the device, in seconds."""
        return float(self._stream.latency)

    def start(self) -> None:
        """Once; again changes nothing."""
        if not self._started:
            self._started = True
            self._stream.start()

    def close(self) -> None:
        """What the device holds is not played any more."""
        self._stream.close()


@contextmanager
def _opened(rate: int, buffer_seconds: float) -> Iterator[_Stream]:
    """The default output device, at `rate` or the one that it knows. Raises `PlaybackUnavailable`."""
    sounddevice = _sounddevice()
    try:
        device = sounddevice.query_devices(kind="output")
    except (sounddevice.PortAudioError, ValueError):
        raise PlaybackUnavailable("no sound output device was found; write to a file with -o instead") from None
    channels = min(2, device["max_output_channels"])  # some know no mono
    try:
        with _quiet():
            try:
                stream = _Stream(sounddevice, rate, channels, buffer_seconds)
            except sounddevice.PortAudioError as error:
                if len(error.args) < 2 or error.args[1] != INVALID_SAMPLE_RATE:
                    raise
                stream = _Stream(sounddevice, round(device["default_samplerate"]), channels, buffer_seconds)
    except sounddevice.PortAudioError as error:
        raise PlaybackUnavailable(f"the sound device {device['name']!r} cannot be opened: {error}") from None
    try:
        yield stream
    except sounddevice.PortAudioError as error:  # of its start
        raise PlaybackUnavailable(f"the sound device {device['name']!r} cannot be started: {error}") from None
    finally:
        stream.close()


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise PlaybackUnavailable("playing needs sounddevice: pip install 'wavenet-toolkit[play]'") from None
    except OSError:  # sounddevice brings PortAudio along everywhere but on Linux
        raise PlaybackUnavailable("playing needs the PortAudio library: apt install libportaudio2") from None
    return sounddevice


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PortAudio and ALSA write to standard error on their own; their failures are raised as well."""
    kept = None
    with suppress(OSError):  # standard error may be closed
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, 2)
            os.close(kept)
