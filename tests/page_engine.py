"""The engine of the page in Chromium, with small models and a shipped one: what its test modules share."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from browser import open_page, serving, wasm
from builders import conditioned_config, random_model
from c_library import ROOT
from numpy.typing import NDArray
from two_tier_data import hum, two_tiers

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.generate import Generator
from wavenet.replay import Replay
from wavenet.session import Session
from wavenet.web import site

NAMES = ("voice", "speakers", "vocoder", "two tiers", "speech")  # in the manifest, by their indices
VOICE, SPEAKERS, VOCODER, TWO_TIERS, SPEECH = range(5)
RATE = 8_000  # Hz, but for `SPEECH`
SHAPE: dict[str, Any] = {"cycles": 2, "layers_per_cycle": 3, "residual_channels": 8, "skip_channels": 12}

HELPERS = """
window.until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
};
window.open_engine = async (options) => {
  const { Engine } = await import("/engine.js");
  window.engine?.pause();
  const engine = (window.engine = new Engine(await (await fetch("/models.json")).json(), options));
  window.failures = [];
  engine.addEventListener("error", ({ detail }) => failures.push(detail.message));
  return engine;
};
window.heard = async (samples) => {
  await engine.play();
  await until(() => engine.position >= samples || !engine.playing);
  engine.pause();
};
window.encoded = (samples) => {
  let text = "";
  for (const byte of new Uint8Array(samples.buffer)) text += String.fromCharCode(byte);
  return btoa(text);
};
window.taken = () => {
  const { samples, settings } = engine.take;
  return { samples: encoded(samples), settings, failures };
};
"""


def audio_of(text: str) -> NDArray[np.float32]:
    """Samples that the page's `encoded` made a text."""
    return np.frombuffer(base64.b64decode(text), "<f4")


@dataclass(frozen=True)
class Take:
    """What `engine.take` was in the page, of a model file."""

    path: Path
    audio: NDArray[np.float32]
    settings: dict[str, Any]
    failures: list[str]

    @property
    def sets(self) -> list[tuple[int, dict[str, Any]]]:
        """Positions and controls of its events."""
        return [(event["position"], event["set"]) for event in self.settings["events"] if "set" in event]

    def replayed(self, **changes: Any) -> NDArray[np.float32]:
        """The audio of the settings, with changes, from `wavenet.replay`."""
        replay = Replay(self.path.read_bytes(), {**self.settings, **changes})
        return replay.next(replay.samples)


@dataclass(frozen=True)
class EnginePage:
    """A page with `engine`, and the model files by their indices in its manifest."""

    page: Any
    paths: Sequence[Path]

    def do(self, script: str, argument: Any = None) -> Any:
        """What the body of an asynchronous function of `argument` returns."""
        return self.page.evaluate(f"async (argument) => {{ {script} }}", argument)

    def load(self, index: int, precision: str = "int8", **options: Any) -> None:
        """A new engine with a model of the manifest. options: of `Engine`."""
        script = "await open_engine(argument[2]); await engine.load(engine.manifest.models[argument[0]], argument[1]);"
        self.do(script, [index, {"precision": precision}, options])

    def take(self, script: str, argument: Any = None) -> Take:
        """The take after a script."""
        found = self.do(f"{script}; return taken();", argument)
        path = self.paths[NAMES.index(found["settings"]["model"])]
        return Take(path, audio_of(found["samples"]), found["settings"], found["failures"])

    def generator(self, index: int, precision: str = "int8") -> Generator:
        return Generator.load(self.paths[index], engine="native", precision=precision, threads=1)


def continued(session: Session, names: Sequence[str], take: Take) -> NDArray[np.float32]:
    """The audio of a session in which the controls of a take are set at its samples; names: of its speakers."""
    parts = []
    for position, controls in [*take.sets, (len(take.audio), {})]:
        if position > session.position:
            parts.append(session.next(min(position, len(take.audio)) - session.position))
        for name, value in controls.items():
            if name == "speakers":
                session.speaker = dict(zip(names, value, strict=True))
            else:
                setattr(session, {"topK": "top_k", "topP": "top_p"}.get(name, name), value)
    return np.concatenate(parts)


@contextmanager
def engine_page(folder: Path) -> Iterator[EnginePage]:
    """The page of all models, in `folder`; it must leave no error in the console."""
    wasm()
    vocoder = {**SHAPE, "output": "mulaw", "speakers": False, "hop": 4}
    models = [
        random_model(ModelConfig(**SHAPE, sample_rate=RATE)),
        random_model(ModelConfig(**SHAPE, sample_rate=RATE, speakers=("ann", "bob", "eve"))),
        random_model(conditioned_config(**vocoder)),
        two_tiers(),
    ]
    paths = [folder / f"{name}.safetensors" for name in NAMES[:-1]]
    for path, model in zip(paths, models, strict=True):
        checkpoint.save_model(path, model)
    paths.append(ROOT / "samples" / "made" / "speech.safetensors")
    clip = folder / "clip.wav"
    soundfile.write(clip, hum(0.5), RATE, "PCM_16")
    site.build(paths, folder / "page", clip)
    (folder / "page" / "empty.html").write_text("<!doctype html><link rel=icon href=data:,>")
    with serving(folder / "page") as address, open_page(f"{address}empty.html") as page:
        page.add_script_tag(content=HELPERS)
        yield EnginePage(page, paths)
        assert page.errors == []
