"""Does a model of several speakers speak as the one that it is told to be?

    pip install '.[benchmarks]'
    python benchmarks/speakers.py runs/voices TRAIN TEST

TRAIN and TEST are folders of recordings with a sub-folder for each speaker. For each speaker:

- bits per sample of the TEST recordings, told each of the speakers: the true one should cost least;
- median pitch (librosa's pyin) of TEST recordings and of sound made by the model (seeds 0, 1, ...);
- whom a classifier hears in that sound: linear discriminant analysis of MFCC frames with scikit-learn's and librosa's
  default settings, trained on TRAIN, tried on TEST first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from wavenet import Generator
from wavenet.checkpoint import load_model
from wavenet.data import audio
from wavenet.evaluation.copy_synthesis import evaluate
from wavenet.evaluation.metrics import pitch

QUIET_DB = 40.0  # frames this far below the loudest one hold no voice


def frames(sound: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """MFCC [n, 20] of the frames that hold sound."""
    mfcc = librosa.feature.mfcc(y=sound, sr=rate).T
    level = librosa.feature.rms(y=sound)[0]
    return mfcc[level > level.max() * 10 ** (-QUIET_DB / 20)]


def sounds_of(folder: Path, rate: int, count: int) -> list[NDArray[np.float32]]:
    files = sorted(path for path in folder.iterdir() if path.suffix in audio.AUDIO_EXTENSIONS)
    return [audio.read(path, rate) for path in files[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--clips", type=int, default=10, help="made for each speaker")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--temperature", type=float, default=1.0)
    options = parser.parse_args()
    network = load_model(options.model)
    generator = Generator.load(options.model)
    rate, names = generator.sample_rate, network.config.speakers

    known = {name: [frames(sound, rate) for sound in sounds_of(options.train / name, rate, 100)] for name in names}
    features = np.concatenate([np.concatenate(known[name]) for name in names])
    labels = np.repeat(names, [sum(map(len, known[name])) for name in names])
    classifier = LinearDiscriminantAnalysis().fit(features, labels)

    def heard(sound: NDArray[np.float32]) -> str:
        return str(classifier.classes_[classifier.predict_log_proba(frames(sound, rate)).sum(0).argmax()])

    def median_pitch(sounds: list[NDArray[np.float32]]) -> float:
        return float(np.nanmedian(np.concatenate([pitch(sound, rate) for sound in sounds])))

    for name in names:
        told = {other: evaluate(network, options.test / name, speaker=other).bits for other in names}
        print(f"{name}: bits per sample told " + ", ".join(f"{other} {bits:.4f}" for other, bits in told.items()))
        real = sounds_of(options.test / name, rate, options.clips)
        made = list(
            generator.render(options.seconds, count=options.clips, speaker=name, temperature=options.temperature)
        )
        right = [sum(heard(sound) == name for sound in sounds) for sounds in (real, made)]
        print(
            f"  recordings: median pitch {median_pitch(real):.0f} Hz, {right[0]} of {len(real)} heard as {name}\n"
            f"  made:       median pitch {median_pitch(made):.0f} Hz, {right[1]} of {len(made)} heard as {name}",
            flush=True,
        )


if __name__ == "__main__":
    main()
