"""The demonstration page: the shipped speech, speakers and vocoder models."""

from __future__ import annotations

from pathlib import Path

from browser import wasm
from commands import run

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
MODELS = ("speech", "speakers", "vocoder")
LARGEST = 8_000_000  # bytes


def test_the_demonstration_page_is_small(tmp_path: Path) -> None:
    wasm()
    models = [SAMPLES / "made" / f"{name}.safetensors" for name in MODELS]
    page = tmp_path / "page"
    assert run("page", *models, "-o", page, "--clip", SAMPLES / "speech" / "vm-forward.flac") == 0
    files = {path.name: path.stat().st_size for path in page.iterdir()}
    assert {"index.html", "wavenet.wasm", *(model.name for model in models)} <= files.keys()
    assert sum(files.values()) < LARGEST
