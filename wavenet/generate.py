"""Sound from a model: `Generator` renders and streams, `Session` is a living stream. Knows nothing of sound files.

The same seed makes the same sound: bit for bit for every block size, and in every engine and batch (stream i of a
batch with seed s is the single stream with seed s + i) until a uniform falls between logits that differ in the last bit
of a float32; see `wavenet.engine.sampling`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
from collections.abc import Callable, Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import engine as engines
from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine.base import one_thread
from wavenet.engine.conditioning import Speaker, conditioning_inputs
from wavenet.engine.sampling import (
    MAX_STREAMS,
    Sampling,
    check_continuous,
    checked_voiced_temperature,
    draw_uniforms,
    rewind_uniforms,
    uniform_generator,
)
from wavenet.nn.linear_prediction import voiced

if TYPE_CHECKING:
    from wavenet.model import WaveNet

BLOCK = 1_600  # samples per block of a stream: 100 ms at 16 kHz
SILENT_DBFS = -50.0  # a frame whose RMS lies below this is silent, in dB relative to an RMS of 1
SILENT_FRAME_SECONDS = 0.02


class SessionOptions(TypedDict, total=False):
    """What `session`, `stream` and `render` all take; `Generator.session` explains each."""

    seed: int
    temperature: float
    voiced_temperature: float | None
    top_k: int | None
    top_p: float | None
    count: int | None
    prime: ArrayLike | None
    speaker: Speaker | None
    features: ArrayLike | None


class Session:
    """A living stream, or `count` of them side by side: `next` makes the next samples.

    `temperature`, `voiced_temperature`, `top_k`, `top_p` and `speaker` may be assigned between calls; wrong values
    raise `ValueError` and change nothing. A call while another thread's is under way raises `RuntimeError` and changes
    nothing. After Ctrl-C the sound goes on behind the samples that were made, which are lost; `position` counts them.
    """

    def __init__(
        self,
        engine: engines.Engine[Any],
        sampling: Sampling,
        seed: int,
        count: int | None,
        speaker: Speaker | None = None,
        features: ArrayLike | None = None,
        voiced_temperature: float | None = None,
    ) -> None:
        if count is not None and not 1 <= count <= MAX_STREAMS:
            raise ValueError(f"count = {count}: must be from 1 to {MAX_STREAMS:,}, or None for one without that axis")
        self._engine = engine
        self._codes = quantizer_for(engine.config.output)
        self._sampling = self._checked(sampling)
        self._count = count
        self._uniforms = _uniform_generators(seed, count)
        self._speaker = speaker
        told = conditioning_inputs(engine.config, count or 1, speaker, features)
        self._state = engine.new_state(count or 1, told if engine.config.conditioned else None)
        self._lock = threading.Lock()  # of the call that advances or copies it
        self._voiced_temperature: float | None = None
        self.voiced_temperature = voiced_temperature

    def next(self, samples: int) -> NDArray[np.float32]:
        """The next `samples` samples in [-1, 1]: float32 [samples], or [count, samples].

        Raises `ValueError`, and makes none, where the features end before: `left` says how many there are.
        """
        return self._codes.decode(self.next_codes(samples))

    def next_codes(self, samples: int) -> NDArray[np.int64]:
        """The same as mu-law or 16-bit codes, int64 [samples] or [count, samples]."""
        if samples < 1:
            raise ValueError(f"samples = {samples}: at least 1 must be asked for")
        with one_thread(self._lock, "session"):
            self._engine.check_features(self._state, samples)
            before = self._state.position
            drawn: list[NDArray[np.float64]] = []
            try:
                chosen = draw_uniforms(self._uniforms, samples, drawn)
                parts = [
                    self._engine.generate(self._state, chosen[:, first:end], sampling)
                    for first, end, sampling in self._runs(before, samples)
                ]
            except BaseException:  # also Ctrl-C: uniforms used are those of the samples made
                unused = samples - (self._state.position - before)
                rewind_uniforms(self._uniforms[: len(drawn)], unused)
                raise
        codes = np.concatenate(parts, axis=1)
        return codes[0] if self._count is None else codes

    def _runs(self, position: int, samples: int) -> list[tuple[int, int, Sampling]]:
        """The parts of the next samples that are drawn alike: each one's first sample, its end, and how."""
        mel, temperature, features = self._engine.config.features, self._voiced_temperature, self._features
        if temperature is None or mel is None or features is None:
            return [(0, samples, self._sampling)]
        pitched = dataclasses.replace(self._sampling, temperature=temperature)
        first = position // mel.hop
        frames = features[0, :, first : (position + samples - 1) // mel.hop + 1]  # the same for all streams
        has_pitch = voiced(frames.T, mel)
        changes = (np.flatnonzero(np.diff(has_pitch)) + first + 1) * mel.hop - position
        ends = [*changes.tolist(), samples]
        ways = [pitched if has_pitch[0] ^ run % 2 else self._sampling for run in range(len(ends))]
        return list(zip([0, *ends], ends, ways, strict=False))

    def prime(self, audio: ArrayLike) -> None:
        """Go on as if `audio` had been made: float [n] for every stream, or [count, n], at the model's rate.

        No uniform is used; features go on behind it. Raises `ValueError` for sound that is empty, not floating point,
        NaN, or of another shape.
        """
        sound = np.asarray(audio)
        if not np.issubdtype(sound.dtype, np.floating):
            raise ValueError(f"prime: must be floating-point sound in [-1, 1], not {sound.dtype}")
        streams = self._state.streams
        if sound.ndim == 1:
            sound = np.broadcast_to(sound, (streams, len(sound)))
        if sound.ndim != 2 or len(sound) != streams:
            raise ValueError(f"prime: must be [n] or [{streams}, n] samples, not {list(sound.shape)}")
        if sound.shape[1] == 0:
            raise ValueError("prime: the sound is empty; leave prime out to start from silence")
        codes = self._codes.encode(sound)
        with one_thread(self._lock, "session"):
            self._engine.prime(self._state, codes)

    def copy(self, seed: int | None = None) -> Session:
        """An independent session that goes on from here: with the same uniforms, or with new ones from `seed`."""
        with one_thread(self._lock, "session"):
            branch = copy.copy(self)
            branch._state = self._state.copy()
            branch._uniforms = copy.deepcopy(self._uniforms) if seed is None else _uniform_generators(seed, self._count)
        branch._lock = threading.Lock()
        return branch

    def __deepcopy__(self, memo: object) -> Session:
        return self.copy()

    @property
    def position(self) -> int:
        """Samples made or primed so far."""
        return self._state.position

    @property
    def left(self) -> int | None:
        """Samples until the features end; None without features."""
        conditioning = self._state.conditioning
        if conditioning is None or conditioning.conditions.features is None:
            return None
        return max(0, conditioning.conditions.features.shape[-1] * self._engine.config.hop - self.position)

    @property
    def speaker(self) -> Speaker | None:
        """Who speaks: a name, or a blend, a mapping of names to shares."""
        return self._speaker

    @speaker.setter
    def speaker(self, value: Speaker | None) -> None:
        with one_thread(self._lock, "session"):
            told = conditioning_inputs(self._engine.config, self._state.streams, value, self._features)
            if self._state.conditioning is not None:
                self._state.conditioning.change(told)
            self._speaker = value

    @property
    def _features(self) -> NDArray[np.float32] | None:
        conditioning = self._state.conditioning
        return None if conditioning is None else conditioning.conditions.features

    def _checked(self, sampling: Sampling) -> Sampling:
        if self._engine.config.output != "mulaw":
            check_continuous(sampling)
        return sampling

    @property
    def temperature(self) -> float:
        """Divides the logits: below 1 more likely sound, above 1 more surprising, 0 the most probable code."""
        return self._sampling.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._sampling = self._checked(dataclasses.replace(self._sampling, temperature=value))

    @property
    def voiced_temperature(self) -> float | None:
        """The temperature in frames whose features have a pitch; None: the same as elsewhere.

        Streams side by side must then have the same features.
        """
        return self._voiced_temperature

    @voiced_temperature.setter
    def voiced_temperature(self, value: float | None) -> None:
        if value is None:
            self._voiced_temperature = None
            return
        temperature = checked_voiced_temperature(value)
        if self._features is None:
            raise ValueError("voiced_temperature: this model is driven by no features, which would tell a pitch")
        if not np.array_equal(self._features, np.broadcast_to(self._features[:1], self._features.shape)):
            raise ValueError("voiced_temperature: streams side by side must have the same features")
        self._voiced_temperature = temperature

    @property
    def top_k(self) -> int | None:
        """Draw among the k most probable codes; None: among all."""
        return self._sampling.top_k

    @top_k.setter
    def top_k(self, value: int | None) -> None:
        self._sampling = self._checked(dataclasses.replace(self._sampling, top_k=value))

    @property
    def top_p(self) -> float | None:
        """Draw among the fewest most probable codes with this share; None: among all."""
        return self._sampling.top_p

    @top_p.setter
    def top_p(self, value: float | None) -> None:
        self._sampling = self._checked(dataclasses.replace(self._sampling, top_p=value))


class Generator:
    """A model ready to make sound. Sessions of one generator are independent of each other."""

    def __init__(self, engine: engines.Engine[Any]) -> None:
        self._engine = engine

    @classmethod
    def load(
        cls, path: str | PathLike[str], engine: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> Self:
        """A generator from a model file. Options and errors as of `wavenet.engine.create`, and those of loading."""
        from wavenet.checkpoint import read_model  # without PyTorch, which the native engine does not need

        config, weights = read_model(path)
        return cls(engines.create(engine, config, weights, precision, threads))

    @classmethod
    def from_model(
        cls, model: WaveNet, engine: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> Self:
        """A generator from a model in memory. Its weights are copied: training it on changes nothing here."""
        return cls(engines.create(engine, model.config, model.state_dict(), precision, threads))

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        return self._engine.config

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.config.sample_rate

    @property
    def engine(self) -> str:
        """Name of the engine in use, never "auto"."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """Precision in use, never "auto"."""
        return self._engine.precision

    def session(
        self,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        count: int | None = None,
        prime: ArrayLike | None = None,
        speaker: Speaker | None = None,
        features: ArrayLike | None = None,
        voiced_temperature: float | None = None,
    ) -> Session:
        """A new stream from silence, or from the end of `prime`.

        seed: of the uniforms; stream i of a batch has those of seed + i. temperature, top_k, top_p: see `Sampling`.
        count: streams made side by side, the first axis of what they return; None: one, without that axis.
        prime: sound to continue, float [n] in [-1, 1] at the model's rate for all streams, or [count, n].
        speaker: of a model that knows several: a name, or a blend such as {"ann": 0.3, "bob": 0.7}.
        features: of a model that is driven by them: log-mel frames [bands, N] for all streams, or [count, bands, N],
            with the parameters in `config.features`; `wavenet.features.mel_spectrogram` makes them of sound. The first
            frame begins with the stream, or with `prime`.
        voiced_temperature: the temperature in frames whose features have a pitch; None: the same as elsewhere.
        Raises `ValueError`, in one line, for whatever of this cannot be.
        """
        sampling = Sampling(temperature, top_k, top_p)
        session = Session(self._engine, sampling, seed, count, speaker, features, voiced_temperature)
        if prime is not None:
            session.prime(prime)
        return session

    def stream(
        self, seconds: float | None = None, block: int = BLOCK, **options: Unpack[SessionOptions]
    ) -> Iterator[NDArray[np.float32]]:
        """Blocks of float32 [block] or [count, block], for ever, or for `seconds`; the last may be shorter.

        With features it ends where they do, or before. Options as of `session`. Wrong ones raise `ValueError` here,
        not at the first block.
        """
        if block < 1:
            raise ValueError(f"block = {block}: must be at least 1 sample")
        total = None if seconds is None else self.samples(seconds)
        session = self.session(**options)
        return _blocks(session, block, total_of(session, total))

    def render(
        self,
        seconds: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        **options: Unpack[SessionOptions],
    ) -> NDArray[np.float32]:
        """`seconds` of sound: float32 [samples] in [-1, 1], or [count, samples] if `count` is given.

        seconds: may be left out with features, which then are copied from the first to the last.
        progress: called as progress(samples done, samples in all) several times a second of sound.
        Options and errors as of `session`.
        """
        session = self.session(**options)
        total = total_of(session, None if seconds is None else self.samples(seconds))
        if total is None:
            raise ValueError("seconds: say how long the sound is to be")
        blocks = []
        done = 0
        for block in _blocks(session, max(1, self.sample_rate // 20), total):
            blocks.append(block)
            done += block.shape[-1]
            if progress is not None:
                progress(done, total)
        return np.concatenate(blocks, axis=-1)

    def samples(self, seconds: float) -> int:
        """Whole samples in `seconds`. Raises `ValueError` if that is not at least one."""
        if not math.isfinite(seconds * self.sample_rate) or round(seconds * self.sample_rate) < 1:
            raise ValueError(f"seconds = {seconds}: must be at least one sample (1/{self.sample_rate} s) and finite")
        return round(seconds * self.sample_rate)


def total_of(session: Session, samples: int | None) -> int | None:
    """How many samples a stream makes: so many, or as many as there are features; None: for ever.

    Raises `ValueError` where the features do not last so long.
    """
    left = session.left
    if left is None:
        return samples
    if left == 0:
        raise ValueError("the features end with the primed sound: nothing is left to make")
    if samples is not None and samples > left:
        raise ValueError(f"the features last for {left:,} samples, not for {samples:,}: leave seconds out")
    return left if samples is None else samples


def silent_share(audio: ArrayLike, rate: int) -> float:
    """Share, 0 to 1, of 20 ms frames whose RMS lies below -50 dBFS; for sound [n] or [count, n] in [-1, 1].

    A last frame that is not full does not count, unless it is the only one. Raises `ValueError` for empty sound.
    """
    sound = np.atleast_2d(np.asarray(audio, dtype=np.float64))  # [count, n]
    if sound.size == 0:
        raise ValueError("the sound is empty: it has no silent share")
    frame = min(max(1, round(SILENT_FRAME_SECONDS * rate)), sound.shape[1])
    whole = sound[:, : sound.shape[1] // frame * frame]
    power = np.square(whole.reshape(len(sound), -1, frame)).mean(axis=2)  # [count, frames]
    return float((power < 10 ** (SILENT_DBFS / 10)).mean())


def _uniform_generators(seed: int, count: int | None) -> list[np.random.Generator]:
    return [uniform_generator(seed), *(uniform_generator(int(seed) + stream) for stream in range(1, count or 1))]


def _blocks(session: Session, block: int, total: int | None) -> Iterator[NDArray[np.float32]]:
    made = 0
    while total is None or made < total:
        samples = block if total is None else min(block, total - made)
        yield session.next(samples)
        made += samples
