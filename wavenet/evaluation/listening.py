"""A listening test as a static page: blind comparisons of copies in pairs, in a browser, without a server.

The folder holds `index.html` and `audio/*.wav`; it works from the disk and from any static host. Its script shuffles
the trials and their sides for each listener and shows the results, method by method, only at the end. Names of files do
not tell the method, and the list of methods in the page is encoded, so that it is not read by accident.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections import defaultdict
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavenet.data import audio, files
from wavenet.data.pcm import to_int16
from wavenet.evaluation.copy_synthesis import MODEL, RECORDING, Copy

LEVEL_DBFS = -26.0  # RMS of every file, the usual level of listening tests (ITU-T P.800)
CATCH_EVERY = 5  # recordings; the first of each five is also compared with itself
PAGE, AUDIO, TEMPLATE, PLACEHOLDER = "index.html", "audio", "listening.html", "{{TRIALS}}"
TRIALS = re.compile(r'<script id="trials" type="text/plain">([A-Za-z0-9+/=]*)</script>')  # in a page that is written
OWN_FILE = re.compile(AUDIO + r"/[0-9a-f]{16}\.wav")


class ListeningPage:
    """Writes a listening test to a folder, copy by copy; `finish` writes the page itself.

    In each trial the model's copy of a recording is compared with another copy, or with the recording, which is not
    labelled as such. Every fifth recording is also compared with itself: listeners who hear a difference there guess.
    Raises `OSError` and `AudioError` for a folder that cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        (self.folder / AUDIO).mkdir(parents=True, exist_ok=True)
        files.check_writable(self.folder / PAGE)
        self._files: dict[str, dict[str, str]] = defaultdict(dict)  # recording -> method -> file below the folder
        self._repeated: dict[str, str] = {}  # recording -> file with the recording once more

    def add(self, copy: Copy, sample_rate: int) -> None:
        """Write the audio of one copy, at the level of all others."""
        self._files[copy.file][copy.method] = self._write(copy, sample_rate)
        if copy.method == RECORDING and (len(self._files) - 1) % CATCH_EVERY == 0:
            self._repeated[copy.file] = self._write(copy, sample_rate, "repeated")

    def finish(self) -> Path:
        """Write the page and return its path. It replaces a page that is there, and its audio, which is removed."""
        before = files_of(self.folder / PAGE)
        trials = [
            {"recording": recording, "methods": (MODEL, method), "files": (by_method[MODEL], file)}
            for recording, by_method in self._files.items()
            for method, file in by_method.items()
            if method != MODEL
        ]
        trials += [
            {"recording": name, "methods": (RECORDING, RECORDING), "files": (self._files[name][RECORDING], file)}
            for name, file in self._repeated.items()
        ]
        encoded = base64.b64encode(json.dumps(trials).encode()).decode()
        template = resources.files(__package__).joinpath(TEMPLATE).read_text("utf-8")
        files.replace(self.folder / PAGE, template.replace(PLACEHOLDER, encoded).encode())
        for name in before - files_of(self.folder / PAGE):
            (self.folder / name).unlink(missing_ok=True)
        return self.folder / PAGE

    def _write(self, copy: Copy, sample_rate: int, salt: str = "") -> str:
        """Write the audio under a name that depends on its content only; returns its path below the folder."""
        samples = levelled(copy.audio)
        content = f"{salt} {sample_rate} ".encode() + to_int16(samples).tobytes()
        name = f"{AUDIO}/{hashlib.sha256(content).hexdigest()[:16]}.wav"
        audio.write(self.folder / name, samples, sample_rate)
        return name


def files_of(page: Path) -> set[str]:
    """The audio files of a listening test, below its folder; none if there is no page, or it is another one."""
    try:
        found = TRIALS.search(page.read_text("utf-8"))
        trials = base64.b64decode(found[1]).decode() if found else ""
    except (FileNotFoundError, ValueError):  # not UTF-8, or not base64
        return set()
    return set(OWN_FILE.findall(trials))


def levelled(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio [T] with an RMS of -26 dBFS, or less if it would exceed full scale; silence is returned as it is."""
    rms, peak = float(np.sqrt(np.square(samples, dtype=np.float64).mean())), float(np.abs(samples).max())
    return samples if rms == 0 else samples * np.float32(min(10 ** (LEVEL_DBFS / 20) / rms, 1 / peak))
