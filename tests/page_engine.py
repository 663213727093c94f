"""The engine of the page in Chromium, with small and shipped models: what its test modules share."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from browser import open_page, serving, wasm
from numpy.typing import NDArray

from wavenet.web import site

HELPERS = """
window.until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
};
window.open_engine = async (options = {}) => {
  const { Engine } = await import("/engine.js");
  window.engine?.pause();
  const engine = (window.engine = new Engine(await (await fetch("/models.json")).json(), options));
  window.failures = [];
  engine.addEventListener("error", ({ detail }) => window.failures.push(detail.message));
  return engine;
};
window.heard = async (samples) => {
  await engine.play();
  await until(() => engine.position >= samples || !engine.playing);
  engine.pause();
};
window.taken = () => {
  const { samples, settings } = engine.take;
  const bytes = new Uint8Array(samples.buffer);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return { pcm: btoa(text), settings, failures };
};
"""


@dataclass(frozen=True)
class Take:
    """What `engine.take` was in the page."""

    audio: NDArray[np.float32]
    settings: dict[str, Any]
    failures: list[str]


@dataclass(frozen=True)
class EnginePage:
    """A page whose `engine` plays models of a folder."""

    page: Any
    folder: Path

    def do(self, script: str, argument: Any = None) -> Any:
        """What the body of an asynchronous function of `argument` returns."""
        return self.page.evaluate(f"async (argument) => {{ {script} }}", argument)

    def load(self, index: int = 0, precision: str = "int8", **options: Any) -> None:
        """A new engine with a model of the manifest, by its index. options: of `Engine`."""
        script = "await open_engine(argument[2]); await engine.load(engine.manifest.models[argument[0]], argument[1]);"
        self.do(script, [index, {"precision": precision}, options])

    def take(self, script: str, argument: Any = None) -> Take:
        """The take after a script."""
        found = self.do(f"{script}; return taken();", argument)
        audio = np.frombuffer(base64.b64decode(found["pcm"]), "<f4")
        return Take(audio, found["settings"], found["failures"])


@contextmanager
def engine_page(folder: Path, models: Sequence[Path], **options: Any) -> Iterator[EnginePage]:
    """A page of these models, in `folder`; it must leave no error in the console.

    options: of `wavenet.web.site.build`.
    """
    wasm()
    site.build(models, folder, **options)
    (folder / "empty.html").write_text("<!doctype html><link rel=icon href=data:,>")
    with serving(folder) as address, open_page(f"{address}empty.html") as page:
        page.add_script_tag(content=HELPERS)
        yield EnginePage(page, folder)
        assert page.errors == []


def events(settings: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Positions and controls of the events of a take."""
    return [(event["position"], event["set"]) for event in settings["events"] if "set" in event]
