"""Measure whether a model with several speakers generates the voice of the speaker that it is conditioned on.

    pip install '.[benchmarks]'
    python benchmarks/speakers.py runs/voices TRAIN TEST

TRAIN and TEST are folders of recordings with a sub-folder for each speaker. For each speaker:

- bits per sample of the TEST recordings, conditioned on each of the speakers: the true one should give the fewest;
- median pitch (librosa's pyin) of TEST recordings and of generated audio (seeds 0, 1, ...);
- the speaker that a classifier assigns to both: linear discriminant analysis of MFCC frames with the default settings
  of scikit-learn and librosa, fitted to TRAIN.
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
from wavenet.evaluation.signals import Signal

Audio = NDArray[np.float32]

TRAINING_FILES = 100  # per speaker, for the classifier
SILENCE_DB = 40.0  # frames this far below the loudest one are left out


def mfcc_frames(samples: Audio, sample_rate: int) -> Audio:
    """MFCC [n, 20] of the frames that are not silent."""
    mfcc = librosa.feature.mfcc(y=samples, sr=sample_rate).T  # [frames, 20]
    rms = librosa.feature.rms(y=samples)[0]  # [frames]
    return mfcc[rms > rms.max() * 10 ** (-SILENCE_DB / 20)]


def read_recordings(folder: Path, sample_rate: int, count: int) -> list[Audio]:
    """The first `count` recordings of a folder by name, each [samples]."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in audio.AUDIO_EXTENSIONS)
    return [audio.read(path, sample_rate) for path in files[:count]]


class SpeakerClassifier:
    """Linear discriminant analysis of MFCC frames."""

    def __init__(self, recordings: dict[str, list[Audio]], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        frames = {
            name: np.concatenate([mfcc_frames(samples, sample_rate) for samples in group])
            for name, group in recordings.items()
        }
        labels = np.repeat(list(frames), [len(group) for group in frames.values()])
        self.analysis = LinearDiscriminantAnalysis().fit(np.concatenate(list(frames.values())), labels)

    def __call__(self, samples: Audio) -> str:
        """The most probable speaker of a recording [samples]."""
        log_probabilities = self.analysis.predict_log_proba(mfcc_frames(samples, self.sample_rate))  # [n, speakers]
        return str(self.analysis.classes_[log_probabilities.sum(0).argmax()])


def describe(name: str, group: list[Audio], classifier: SpeakerClassifier) -> str:
    """Median pitch of audio that should be by the speaker `name`, and how much of it is classified so."""
    median = float(np.nanmedian(np.concatenate([Signal(samples, classifier.sample_rate).pitch for samples in group])))
    assigned = sum(classifier(samples) == name for samples in group)
    return f"median pitch {median:.0f} Hz, {assigned} of {len(group)} classified as {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--clips", type=int, default=10, help="generated for each speaker")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each clip")
    parser.add_argument("--temperature", type=float, default=1.0)
    options = parser.parse_args()
    model = load_model(options.model)
    generator = Generator.load(options.model)
    sample_rate, names = generator.sample_rate, model.config.speakers
    train = {name: read_recordings(options.train / name, sample_rate, TRAINING_FILES) for name in names}
    classifier = SpeakerClassifier(train, sample_rate)
    for name in names:
        bits = {other: evaluate(model, options.test / name, speaker=other).bits for other in names}
        print(f"{name}: " + ", ".join(f"{value:.4f} bits per sample as {other}" for other, value in bits.items()))
        recordings = read_recordings(options.test / name, sample_rate, options.clips)
        print("  recordings:", describe(name, recordings, classifier))
        generated = generator.render(
            options.seconds, count=options.clips, speaker=name, temperature=options.temperature
        )
        print("  generated: ", describe(name, list(generated), classifier), flush=True)


if __name__ == "__main__":
    main()
