"""Screenshots of the page that plays the shipped models, at three widths: page-360.png, page-800.png and page-1400.png.

pip install '.[dev,plots]'    # and Chromium
python docs/screenshots.py -o screenshots
cp screenshots/page-1400.png docs/pictures/page.png    # that of README.md
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from wavenet.web import site

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
MODELS = [SAMPLES / "made" / f"{name}.safetensors" for name in ("speakers", "speech", "vocoder")]
CLIP = SAMPLES / "speech" / "vm-forward.flac"
HEIGHTS = {360: 780, 800: 1_000, 1_400: 960}  # CSS pixels, of each width
SECONDS = 9  # of audio, which fill the spectrogram
EXACT_COLOURS = 12  # of a picture's palette
OTHER_COLOURS = 40
PATIENCE = 600_000  # ms


def picture(browser: Any, address: str, width: int, scheme: str, path: Path) -> None:
    """Play the first model, keep a moment, and write a screenshot."""
    page = browser.new_page(
        viewport={"width": width, "height": HEIGHTS[width]},
        device_scale_factor=2 if width < 500 else 1,
        color_scheme=scheme,
    )
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.locator("[data-part=play]:enabled").click()
    page.get_by_label("italian", exact=True).fill("0.4")
    page.wait_for_function(f"() => engine.position > {SECONDS / 2} * engine.info.sampleRate")
    page.get_by_role("button", name="Keep this moment").click()
    page.wait_for_function(f"() => engine.position > {SECONDS} * engine.info.sampleRate && !engine.waiting")
    page.mouse.move(0, 0)
    page.evaluate("() => { document.activeElement.blur(); scrollTo({ top: 0, behavior: 'instant' }); }")
    page.screenshot(path=path)
    page.close()
    reduce_colours(path)


def reduce_colours(path: Path) -> None:
    """Store a picture with a palette: its most frequent colours as they are, and others between them."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    counted = sorted(image.getcolors(image.width * image.height), reverse=True)[:EXACT_COLOURS]
    exact = [channel for _, colour in counted for channel in colour]
    others = image.quantize(OTHER_COLOURS, Image.Quantize.MAXCOVERAGE).getpalette()[: 3 * OTHER_COLOURS]
    palette = Image.new("P", (1, 1))
    palette.putpalette(exact + others)
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="Folder of the pictures.")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page"
        site.build(MODELS, page, CLIP)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=page)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as driver:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
            )
            for width in HEIGHTS:
                path = options.output / f"page-{width}.png"
                picture(browser, f"http://127.0.0.1:{server.server_port}/", width, options.scheme, path)
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
            browser.close()
            server.shutdown()


if __name__ == "__main__":
    main()
