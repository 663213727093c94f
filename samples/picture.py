"""Draw recordings one above the other, each as a waveform and a spectrogram.

    pip install '.[benchmarks]'
    python samples/picture.py samples/speech/*.flac samples/made/speech.flac -o picture.png

Prints peak, RMS, silent share, voiced share and median pitch of each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import matplotlib
import numpy as np
import soundfile
from matplotlib.axes import Axes
from numpy.typing import NDArray

from wavenet.generate import silent_share

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HOP, WINDOW = 128, 512  # samples


def describe(path: Path, audio: NDArray[np.float32], sample_rate: int) -> str:
    """Duration, levels, silent and voiced shares and median pitch of a recording [samples], in one line."""
    pitch, voiced, _ = librosa.pyin(audio, fmin=70, fmax=400, sr=sample_rate)
    median = float(np.median(pitch[voiced])) if voiced.any() else float("nan")
    peak, rms = np.abs(audio).max(), np.sqrt(np.mean(audio**2))
    levels = f"peak {20 * np.log10(peak):.1f} dBFS, RMS {20 * np.log10(rms):.1f} dBFS"
    shares = f"{silent_share(audio, sample_rate):.0%} silent, {voiced.mean():.0%} voiced"
    return f"{path.name}: {len(audio) / sample_rate:.1f} s, {levels}, {shares}, median pitch {median:.0f} Hz"


def draw(path: Path, audio: NDArray[np.float32], sample_rate: int, waveform: Axes, spectrogram: Axes) -> None:
    """Draw a recording [samples] into two axes."""
    seconds = len(audio) / sample_rate
    waveform.plot(np.arange(len(audio)) / sample_rate, audio, linewidth=0.3, color="black")
    waveform.set(xlim=(0, seconds), ylim=(-1, 1), ylabel=path.name, xticks=[])
    magnitude = np.abs(librosa.stft(audio, n_fft=WINDOW, hop_length=HOP))  # [bins, frames]
    decibels = librosa.amplitude_to_db(magnitude, ref=np.max, top_db=70)
    librosa.display.specshow(decibels, sr=sample_rate, hop_length=HOP, x_axis="time", y_axis="linear", ax=spectrogram)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    count = len(options.recordings)
    figure, axes = plt.subplots(2 * count, 1, figsize=(11, 3.4 * count), height_ratios=[1, 2.2] * count)
    for path, waveform, spectrogram in zip(options.recordings, axes[::2], axes[1::2], strict=True):
        audio, sample_rate = soundfile.read(path, dtype="float32")
        print(describe(path, audio, sample_rate))
        draw(path, audio, sample_rate, waveform, spectrogram)
    figure.tight_layout()
    figure.savefig(options.output, dpi=80)


if __name__ == "__main__":
    main()
