"""Generate again what was played live, from its settings: `Replay`.

A page writes down what was done while it played: every control and seed with the sample at which it acted;
docs/browser.md describes the file. The same calls at the same samples give the same audio, on the C++ engine:

    replay = Replay(model_bytes, settings)
    audio = replay.next(replay.samples)
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wavenet.checks import is_integer, shown
from wavenet.data.errors import printable
from wavenet.data.pcm import FULL_SCALE
from wavenet.engine import EngineUnavailable, how_to_get_native, native_installed

VERSION = 1
NUMBERS = {  # controls that are numbers: their names in settings and messages, and in Python and C
    "temperature": "temperature",
    "voicedTemperature": "voiced_temperature",
    "topK": "top_k",
    "topP": "top_p",
    "pitch": "pitch",
    "loudness": "loudness",
}
PIECE = 65_536  # samples at a time that are generated and not kept


class SettingsError(ValueError):
    """Settings that do not describe a take, or that of another model."""


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON file. Raises `SettingsError` for other files."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{printable(path)}: cannot be read ({error.strerror})") from error
    except ValueError:
        raise SettingsError(f"{printable(path)}: is not a file of settings (JSON), as a page saves them") from None
    if not isinstance(settings, dict) or settings.get("version") != VERSION:
        raise SettingsError(f"{printable(path)}: is not a file of settings of version {VERSION}, as a page saves them")
    return settings


class Replay:
    """The audio of a take: `next` generates its next samples."""

    engine = "native"

    def __init__(self, model: bytes, settings: Mapping[str, Any]) -> None:
        """model: the bytes of the model file. settings: as of `read_settings`.

        Raises `SettingsError` for settings that are wrong or of another model, and `EngineUnavailable` without the
        native engine.
        """
        if not native_installed():
            raise EngineUnavailable(f"settings need the native engine, which is not installed: {how_to_get_native()}")
        from wavenet.engine._native import PlayedStream

        if settings.get("sha256") not in (None, hashlib.sha256(model).hexdigest()):
            raise SettingsError(f"settings: are of another file of the model {shown(settings.get('model'))}")
        first, last = _whole(settings, "first"), _whole(settings, "samples")
        self.samples = last - first  # of the audio: a take keeps the last ones
        self.precision = str(settings.get("precision"))
        self._events = _events(settings.get("events"))
        self._position = 0
        with _named():
            self._stream = PlayedStream(model, self.precision, _whole(settings, "seed"))
            self._set(settings.get("controls"))
            self._begin(settings.get("clip"))
            self._stream.prepare()
        self.sample_rate = self._stream.sample_rate
        for done in range(0, first, PIECE):
            self.next(min(PIECE, first - done))

    def next(self, samples: int) -> NDArray[np.float32]:
        """The next samples, float32 [samples] in [-1, 1]. Raises `SettingsError` where the settings are wrong."""
        audio = np.empty(samples, np.float32)
        done = 0
        while done < samples:
            while self._events and self._events[0][0] <= self._position:
                with _named():
                    self._act(self._events.pop(0)[1])
            until = self._events[0][0] - self._position if self._events else samples
            piece = audio[done : done + until]
            if self._stream.process(piece) < len(piece):
                raise SettingsError(f"settings: the clip ends before sample {self._position + len(piece):,}")
            done += len(piece)
            self._position += len(piece)
        return audio

    def _begin(self, clip: Any) -> None:
        """Prime with a clip, or resynthesise it."""
        if clip is None:
            return
        pcm = base64.b64decode(clip["pcm"], validate=True)
        audio = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
        if clip["use"] == "prime":
            self._stream.prime(audio)
        elif clip["use"] == "features":
            self._stream.resynthesise(audio)
        else:
            raise ValueError(f"clip: use = {shown(clip['use'])}: must be prime or features")

    def _act(self, event: Mapping[str, Any]) -> None:
        if "seed" in event:
            self._stream.seed(_whole(event, "seed"))
        self._set(event.get("set"))

    def _set(self, controls: Mapping[str, Any] | None) -> None:
        for name, value in (controls or {}).items():
            if name == "speakers":
                self._stream.speak([float(share) for share in value])
            elif name == "mute":
                self._stream.mute([int(layer) for layer in value])
            elif name in NUMBERS:
                self._stream.set(NUMBERS[name], math.nan if value is None else float(value))
            else:
                raise ValueError(f"{shown(name)}: there is no such control")


@contextmanager
def _named() -> Iterator[None]:
    """Turns errors of wrong values into `SettingsError`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise error if isinstance(error, SettingsError) else SettingsError(f"settings: {error}") from None


def _whole(values: Mapping[str, Any], name: str) -> int:
    value: Any = values.get(name)
    if not is_integer(value) or not 0 <= value < 2**64:
        raise SettingsError(f"settings: {name} = {shown(value)}: must be a whole number from 0")
    return int(value)


def _events(given: Any) -> list[tuple[int, Mapping[str, Any]]]:
    """Events with their positions, in order."""
    if not isinstance(given, list) or not all(isinstance(event, Mapping) for event in given):
        raise SettingsError("settings: events: must be a list of objects")
    events = [(_whole(event, "position"), event) for event in given]
    if events != sorted(events, key=lambda pair: pair[0]):
        raise SettingsError("settings: events: must be in the order of their positions")
    return events
