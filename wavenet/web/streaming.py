"""A model that plays for a page: `Voice` does what the page's messages ask for, with the samples of `Generator`.

It is used by one thread at a time; `stop` may be called by any.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet import controls
from wavenet.checks import is_integer, shown
from wavenet.config import ModelConfig
from wavenet.engine.base import checked_mute
from wavenet.engine.conditioning import speaker_shares
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator, Session, total_of
from wavenet.refined_session import RefinedSession, primed_audio
from wavenet.replay import NUMBERS

PRECISIONS = ("auto", "f32", "int8")
LONGEST_CLIP = 60.0  # seconds, of a past to continue and of a clip to copy
LONGEST_BLOCK = 1.0  # seconds
PIECE_SECONDS = 0.02  # of audio between two looks at whether to stop
MOST_BRANCHES = 16
LONGEST_NAME = 32  # of a branch
MOST_MARKS = 64  # positions that a branch can begin at
MARK_BYTES = 32 * 2**20  # memory for them
KEPT_MODELS = 3  # that are loaded, with the most recently used
MAX_SEED = 2**53 - 1  # the largest whole number that JSON is sure to keep

Audio = NDArray[np.float32]
Source = Session | RefinedSession
NAMES = NUMBERS | {"speakers": "speaker", "mute": "mute"}  # of the controls: in messages, and of `Session`


class Stopped(Exception):
    """The voice was stopped while it generated."""


class Block(NamedTuple):
    """Audio [n]: fewer samples than were asked for where the clip that is copied ends."""

    audio: Audio
    position: int  # of its first sample since the start
    seconds: float  # that generating it took


@dataclass(frozen=True)
class _Mark:
    """A stream at a position, in samples since its start."""

    position: int
    source: Source

    def copy(self, seed: int | None = None) -> _Mark:
        return _Mark(self.position, self.source.copy(seed))


class Loaded(NamedTuple):
    """A loaded model, and the SHA-256 of its file."""

    generator: Generator
    sha256: str


class Models:
    """Loaded models, shared by the voices that play them. Its method may be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[Path, int, str], Loaded] = OrderedDict()

    def load(self, path: Path, precision: str) -> Loaded:
        """A model file as it is now. Raises `ValueError`, `OSError` or `Unavailable`, in one line."""
        if precision not in PRECISIONS:
            raise ValueError(f"precision = {shown(precision)}: must be one of {', '.join(PRECISIONS)}")
        with self._lock:
            key = path, path.stat().st_mtime_ns, precision
            found = self._loaded.pop(key, None) or _loaded(path, precision)
            self._loaded[key] = found
            while len(self._loaded) > KEPT_MODELS:
                self._loaded.popitem(last=False)
            return found


def _loaded(path: Path, precision: str) -> Loaded:
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Loaded(Generator.load(path, precision=precision).live(), sha256)


class Voice:
    """One stream of a model, as a page controls it."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.config = generator, generator.config
        self._stopped = threading.Event()
        self._seed = 0
        self._controls: dict[str, Any] = {}  # by their names of `Session`
        self._prime: Audio | None = None
        self._clip: Audio | None = None
        self._now: _Mark | None = None  # None: begins with the next block
        self._left: int | None = None  # samples of the clip
        self._branches: dict[str, _Mark] = {}
        self._marks: list[_Mark] = []  # between what is heard and what is generated, the oldest first
        self._most_marks = max(2, min(MOST_MARKS, MARK_BYTES // (generator.state_bytes or 1)))

    @property
    def needs_clip(self) -> bool:
        """Whether it is a vocoder, whose features come from a clip."""
        return self.config.features is not None and self.config.frame_model is None

    @property
    def info(self) -> dict[str, Any]:
        """What the model is, as `Engine.info` in engine.js."""
        config = self.config
        given = config.features if self.needs_clip else None
        return {
            "sampleRate": config.sample_rate,
            "precision": self.generator.precision,
            "layers": config.layers,
            "dilations": list(config.dilations),
            "gateChannels": config.gate,
            "receptiveField": config.receptive_field,
            "bands": given.bands if given else 0,
            "hop": given.hop if given else 0,
            "lookAhead": config.frame_context[1] if given else 0,
            "speakers": list(config.speakers),
            "needsClip": self.needs_clip,
            "twoTiers": config.frame_model is not None,
        }

    @property
    def position(self) -> int:
        """Samples generated since the start."""
        return 0 if self._now is None else self._now.position

    def stop(self) -> None:
        """End the call that generates, if there is one, with `Stopped`; and those that follow."""
        self._stopped.set()

    def start(self, seed: int) -> None:
        """Begin again, with the controls, the past and the clip that are set. Branches are forgotten."""
        self._seed = checked_seed(seed)
        self._now = None
        self._branches.clear()
        self._marks.clear()

    def set(self, given: Mapping[str, Any]) -> None:
        """Change controls from the next sample on, all or, with `ValueError`, none of them; None: off."""
        checked = checked_controls(self.generator, given)
        if self._now is not None:
            _assign(self._now.source, checked)
        self._controls |= checked

    def prime(self, audio: Audio | None) -> None:
        """What the next start continues: samples [n] at the model's rate; None: silence. Not for vocoders."""
        if audio is not None and self.needs_clip:
            raise ValueError("this model is a vocoder: it copies a clip, and continues none")
        self._prime = None if audio is None else self._checked_clip(audio)

    def resynthesise(self, audio: Audio) -> None:
        """The clip that the next start copies: samples [n] at the model's rate. Only for vocoders."""
        if not self.needs_clip:
            raise ValueError("this model copies no clips: it has no features, or draws its own")
        self._clip = self._checked_clip(audio)

    def generate(self, samples: int, heard: int | None = None) -> Block:
        """The next samples. heard: the position that is played now, to branch at; None: that of these samples.

        Raises `ValueError`, also for a vocoder without a clip, and `Stopped`.
        """
        most = round(LONGEST_BLOCK * self.config.sample_rate)
        if not is_integer(samples) or not 1 <= samples <= most:
            raise ValueError(f"generate = {shown(samples)}: must be a number of samples from 1 to {most:,}")
        started = time.perf_counter()
        self._now = self._now or self._begun()
        now, pieces = self._now, []
        if self._left is not None:
            samples = min(samples, self._left - now.position)
        self._mark(now, now.position if heard is None else _checked_position(heard))
        size, done = max(1, round(PIECE_SECONDS * self.config.sample_rate)), 0
        while done < samples:
            if self._stopped.is_set():
                raise Stopped
            pieces.append(now.source.next(min(size, samples - done)))
            done += len(pieces[-1])
        audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        self._now = _Mark(now.position + done, now.source)
        return Block(audio, now.position, time.perf_counter() - started)

    def branch(self, name: str, position: int) -> int:
        """Keep the stream as it was at a mark, the last one up to `position`. Returns the mark's position."""
        position = _checked_position(position)
        if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
            raise ValueError(f"branch = {shown(name)}: must be a name of at most {LONGEST_NAME} characters")
        if len(self._branches) >= MOST_BRANCHES and name not in self._branches:
            del self._branches[next(iter(self._branches))]  # the oldest
        now = self._now = self._now or self._begun()
        marks = [*self._marks, now]
        found = [mark for mark in marks if mark.position <= position] or marks[:1]
        self._branches[name] = found[-1].copy()
        return found[-1].position

    def return_to(self, name: str, seed: int | None) -> int:
        """Continue from a branch, with other random numbers if a seed is given. Returns its position."""
        if not isinstance(name, str) or name not in self._branches:
            raise ValueError(f"return = {shown(name)}: there is no branch of this name; {MOST_BRANCHES} are kept")
        seed = None if seed is None else checked_seed(seed)
        self._now = self._branches[name].copy(seed)
        _assign(self._now.source, self._controls)
        self._marks.clear()
        return self._now.position

    def reseed(self, seed: int) -> None:
        """Draw the samples from now on with the random numbers of another seed."""
        self._now = (self._now or self._begun()).copy(checked_seed(seed))

    def _mark(self, now: _Mark, heard: int) -> None:
        """Keep a copy of the stream, if the last one is far enough away; and none but one from before what is heard."""
        marks = self._marks
        while len(marks) > 1 and marks[1].position <= heard:
            del marks[0]
        if len(marks) == self._most_marks:
            del marks[1::2]
        if not marks or now.position - marks[-1].position >= (now.position - heard) / self._most_marks:
            marks.append(now.copy())

    def _begun(self) -> _Mark:
        """The stream at its start."""
        config, given = self.config, {name: value for name, value in self._controls.items() if value is not None}
        features = None
        if self.needs_clip:
            if self._clip is None:
                raise ValueError("this model is a vocoder: give a clip to resynthesise first")
            assert config.features is not None
            features = mel_spectrogram(self._clip, config.features)
        if config.speakers:
            given.setdefault("speaker", config.speakers[0])
        session = self.generator.session(seed=self._seed, prime=self._prime, features=features, **given)
        _assign(session, self._controls)
        self._left = total_of(session, None if features is None or self._clip is None else len(self._clip))
        iterations = self.generator.options().refine
        if not iterations or config.features is None:
            return _Mark(0, session)
        primed = primed_audio(session, self._prime)
        return _Mark(0, RefinedSession(session, config.features, iterations, self._left, primed=primed))

    def _checked_clip(self, audio: Audio) -> Audio:
        rate = self.config.sample_rate
        if not 1 <= len(audio) <= LONGEST_CLIP * rate:
            raise ValueError(f"the clip has {len(audio) / rate:,.1f} s: from one sample to {LONGEST_CLIP:g} s are used")
        if not np.isfinite(audio).all():
            raise ValueError("the clip contains NaN or infinity")
        return audio


def checked_seed(seed: Any) -> int:
    """A seed as an int. Raises `ValueError` for what is none."""
    if not is_integer(seed) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed = {shown(seed)}: must be a whole number from 0 to {MAX_SEED:,}")
    return int(seed)


def _checked_position(position: Any) -> int:
    if not is_integer(position) or position < 0:
        raise ValueError(f"position = {shown(position)}: must be a number of samples since the start")
    return int(position)


def checked_controls(generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
    """Controls of a message by their names of `Session`. Raises `ValueError` for what this model does not take."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in NAMES:
            raise ValueError(f"{shown(name)}: there is no such control; there are {', '.join(NAMES)}")
        checked[NAMES[name]] = _checked_control(generator, name, value)
    return checked


def _checked_control(generator: Generator, name: str, value: Any) -> Any:
    config = generator.config
    check: dict[str, Callable[[ModelConfig, Any], Any]] = {"speakers": _mixture, "mute": checked_mute}
    if name in check:
        return check[name](config, value)
    if name == "topK" and value == 0:
        value = None
    if value is None and name != "temperature":
        return None
    if name in ("pitch", "loudness"):
        if config.frame_model is None:
            raise ValueError(f"{name}: controls the frames that a frame model draws, which this model does not have")
        if isinstance(value, list):
            raise ValueError(f"{name}: must be a number of {controls.UNITS[name]}")
        controls.checked(name, value)
        return float(value)
    if value is None:
        raise ValueError("temperature: must be a number from 0 upwards")
    own = NAMES[name]
    option = "frame_temperature" if own == "temperature" and config.frame_model is not None else own
    return getattr(generator.options(**{option: value}), option)


def _mixture(config: ModelConfig, shares: Any) -> dict[str, float] | None:
    """A mapping of names to shares, from a list of shares; None for a model without speakers and an empty list."""
    if not isinstance(shares, list) or len(shares) != len(config.speakers):
        raise ValueError(f"speakers: must be a list of {len(config.speakers)} shares, one for each speaker")
    if any(isinstance(share, bool) or not isinstance(share, int | float) for share in shares):
        raise ValueError("speakers: shares must be numbers from 0")
    mixture = dict(zip(config.speakers, shares, strict=True))
    if mixture:
        speaker_shares(config, 1, mixture)
    return mixture or None


def _assign(source: Source, checked: Mapping[str, Any]) -> None:
    """Set checked controls of a stream. Those that its model does not have are None, and are left out."""
    session = source.session if isinstance(source, RefinedSession) else source
    for name, value in checked.items():
        if name in session.ASSIGNABLE and not (name == "speaker" and value is None):
            setattr(session, name, value)
