"""x real time in Chromium's audio thread beside the native engine on one thread, for both benchmark shapes.

    python benchmarks/web.py

Needs Chromium and Playwright. Rounds alternate between the two, so that both meet the same machine. The browser renders
an OfflineAudioContext, which generates as fast as it can, and is timed from the start of rendering to its end.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import native
import numpy as np
from playwright.sync_api import sync_playwright
from safetensors.numpy import save_file

import wavenet.web
from wavenet.config import ModelConfig
from wavenet.generate import Generator

ROUNDS, SECONDS, WARM_UP = 5, 2.0, 0.5
RENDER = """async ({ model, precision, seconds }) => {
  const { createVoice, readConfig } = await import("/wavenet.js");
  const bytes = await (await fetch(model)).arrayBuffer();
  const rate = readConfig(bytes).sample_rate;
  const context = new OfflineAudioContext(1, seconds * rate, rate);
  const voice = await createVoice(context, bytes, { precision });
  voice.node.connect(context.destination);
  const started = performance.now();
  await context.startRendering();
  return 1000 * seconds / (performance.now() - started);
}"""


def save_random_model(path: Path, config: ModelConfig) -> None:
    generator = np.random.default_rng(0)
    weights = {
        name: (generator.standard_normal(size) / np.sqrt(size[-1])).astype(np.float32)
        for name, size in config.shapes.items()
    }
    save_file(weights, path, metadata={"wavenet.format": "1", "wavenet.config": json.dumps(config.to_dict())})


def native_speed(path: Path, precision: str) -> float:
    generator = Generator.load(path, engine="native", precision=precision, threads=1)
    session = generator.session(seed=0)
    session.next(int(WARM_UP * generator.sample_rate))
    started = time.perf_counter()
    session.next(int(SECONDS * generator.sample_rate))
    return SECONDS / (time.perf_counter() - started)


def measure(page: Any, folder: Path) -> None:
    for shape in native.SHAPES:
        name = f"{shape[0]}.safetensors"
        save_random_model(folder / name, native.config_of(shape))
        for precision in native.PRECISIONS:
            options = {"model": f"/{name}", "precision": precision, "seconds": SECONDS}
            rounds = [
                (native_speed(folder / name, precision), float(page.evaluate(RENDER, options))) for _ in range(ROUNDS)
            ]
            alone, browser = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{shape} {precision:5}: {browser:.2f} x real time beside {alone:.2f}: {native.ratios_of(rounds)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        folder = Path(name)
        for file in wavenet.web.FILES:
            shutil.copy(wavenet.web.file(file), folder)
        (folder / "index.html").write_text("<!doctype html>")
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            measure(page, folder)
            browser.close()
            server.shutdown()


if __name__ == "__main__":
    main()
