"""Models in the browser, without a server of their own: the files that a page needs.

- `wavenet.js`, a module for pages of your own: creates a voice, sends it controls, and receives its level and speed
- `processor.js` and `library.js`, the AudioWorkletProcessor that it loads: it generates on the browser's audio thread
- `wavenet.wasm`, libwavenet as WebAssembly, which is built where the package is installed and Zig's compiler is found

Copied into one folder of any web server they are complete; see docs/browser.md. `wavenet.web.site` builds a whole page.
"""

from __future__ import annotations

from pathlib import Path

FILES = ("wavenet.js", "processor.js", "library.js", "wavenet.wasm")


def file(name: str) -> Path:
    """The path of one of `FILES`, or of another file of the page.

    Raises `FileNotFoundError`, with the remedy, if `wavenet.wasm` was not built.
    """
    for folder in __path__:  # an editable installation has two: the sources, and what was built
        for path in (Path(folder, "static", name), Path(folder, name)):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{name} was not built: it needs Zig's compiler (WAVENET_WASM=1 pip install . in a clone downloads it)"
    )
