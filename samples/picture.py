"""Draw clips one above the other: waveform, level and spectrogram, to look at what the ear should hear.

    pip install '.[benchmarks]'
    python samples/picture.py samples/speech/*.flac samples/made/speech.flac -o picture.png

Prints peak, RMS, silent share and median pitch of every clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import matplotlib
import numpy as np
import soundfile

from wavenet.generate import silent_share

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HOP, WINDOW = 128, 512  # samples


def describe(path: Path, sound: np.ndarray, rate: int) -> str:
    pitch, voiced, _ = librosa.pyin(sound, fmin=70, fmax=400, sr=rate)
    median = float(np.median(pitch[voiced])) if voiced.any() else float("nan")
    peak, rms = np.abs(sound).max(), np.sqrt(np.mean(sound**2))
    level = f"peak {20 * np.log10(peak):.1f} dBFS, RMS {20 * np.log10(rms):.1f} dBFS"
    share = f"{silent_share(sound, rate):.0%} silent, {voiced.mean():.0%} voiced"
    return f"{path.name}: {len(sound) / rate:.1f} s, {level}, {share}, median pitch {median:.0f} Hz"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("clips", type=Path, nargs="+")
    arguments.add_argument("-o", "--output", type=Path, required=True)
    given = arguments.parse_args()
    figure, axes = plt.subplots(
        2 * len(given.clips), 1, figsize=(11, 3.4 * len(given.clips)), height_ratios=[1, 2.2] * len(given.clips)
    )
    for index, path in enumerate(given.clips):
        sound, rate = soundfile.read(path, dtype="float32")
        print(describe(path, sound, rate))
        wave, spectrum = axes[2 * index : 2 * index + 2]
        wave.plot(np.arange(len(sound)) / rate, sound, linewidth=0.3, color="black")
        wave.set(xlim=(0, len(sound) / rate), ylim=(-1, 1), ylabel=path.name, xticks=[])
        levels = librosa.amplitude_to_db(
            np.abs(librosa.stft(sound, n_fft=WINDOW, hop_length=HOP)), ref=np.max, top_db=70
        )
        librosa.display.specshow(levels, sr=rate, hop_length=HOP, x_axis="time", y_axis="linear", ax=spectrum)
    figure.tight_layout()
    figure.savefig(given.output, dpi=80)


if __name__ == "__main__":
    main()
