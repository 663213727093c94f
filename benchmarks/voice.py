"""Compare a voice that a model generates with recordings of it, clip by clip.

    pip install '.[benchmarks,metrics]'
    python benchmarks/voice.py runs/ann RECORDINGS --others VOICES

RECORDINGS is a folder of the voice that the model was trained on. Clips are generated with the seeds 0, 1, ... and the
model's own sampling options. For each of them, beside the recordings:

- level, voiced and silent share, and median pitch (`wavenet.evaluation.voice_figures`);
- phone-like segments per second: PocketSphinx's phone loop, whose models are of English, but of recordings and
  generated audio alike;
- whether a classifier recognises the voice among those in the sub-folders of VOICES: linear discriminant analysis of
  MFCC frames, fitted to recordings (`benchmarks/speakers.py`).

A figure is within its tolerance for a level within 3 dB, shares within 15 and 10 points, a pitch within 1.5 semitones,
and a rate within 30%; --tolerance 1.5 makes all of them half as large again. Excerpts of the recordings, as long as the
clips, are compared with all of them, too.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from speakers import SpeakerClassifier

from wavenet import Generator
from wavenet.data import audio
from wavenet.data.pcm import to_int16
from wavenet.evaluation.signals import Signal
from wavenet.evaluation.voice_figures import voice_figures

Audio = NDArray[np.float32]

PHONE_SAMPLE_RATE = 16_000  # Hz, of the phone models
NO_PHONES = ("SIL", "+NSN+", "+SPN+")
NAMES = ("level", "voiced", "silent", "pitch", "phones", "voice")
OWN = "RECORDINGS"  # name of the voice for the classifier


class PhoneLoop:
    """Finds phone-like segments."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder, get_model_path

        phones = str(Path(get_model_path()) / "en-us" / "en-us-phone.lm.bin")
        self._decoder = Decoder(
            lm=None, allphone=phones, lw=2.0, beam=1e-20, pbeam=1e-20, samprate=PHONE_SAMPLE_RATE, cmn="batch",
            loglevel="FATAL",
        )  # fmt: skip

    def rate(self, samples: Audio, sample_rate: int) -> float:
        """Segments per second of audio [samples]."""
        resampled = Signal(samples, sample_rate).resampled(PHONE_SAMPLE_RATE)
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(to_int16(resampled).tobytes(), full_utt=True)
        self._decoder.end_utt()
        segments = [segment.word for segment in self._decoder.seg() or ()]
        return sum(word not in NO_PHONES for word in segments) * PHONE_SAMPLE_RATE / len(resampled)


@dataclass(frozen=True)
class Figures:
    """What is compared."""

    level: float  # dB relative to full scale
    voiced: float  # shares of the frames
    silent: float
    pitch: float  # Hz
    phones: float  # per second

    def within(self, other: Figures, tolerance: float) -> tuple[bool, ...]:
        """Whether each figure agrees with that of the recordings."""
        return (
            abs(self.level - other.level) <= 3 * tolerance,
            abs(self.voiced - other.voiced) <= 0.15 * tolerance,
            abs(self.silent - other.silent) <= 0.10 * tolerance,
            12 * abs(math.log2(self.pitch / other.pitch)) <= 1.5 * tolerance,
            abs(self.phones / other.phones - 1) <= 0.3 * tolerance,
        )

    def __str__(self) -> str:
        return (
            f"{self.level:6.1f} dBFS, {self.voiced:4.0%} voiced, {self.silent:4.0%} silent, "
            f"{self.pitch:4.0f} Hz, {self.phones:4.1f} phones/s"
        )


def figures(samples: Audio, sample_rate: int, phones: PhoneLoop) -> Figures:
    """The figures of audio [samples]."""
    found = voice_figures(samples, sample_rate)
    return Figures(found.level, found.voiced, found.silent, found.pitch, phones.rate(samples, sample_rate))


def read_voice(folder: Path, sample_rate: int, seconds: float) -> list[Audio]:
    """Recordings of a folder and its sub-folders, evenly spread over their names, of so many seconds in all."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in audio.AUDIO_EXTENSIONS)
    order = np.random.default_rng(0).permutation(len(files))
    recordings: list[Audio] = []
    for index in order:
        if sum(map(len, recordings)) >= seconds * sample_rate:
            break
        recordings.append(audio.read(files[index], sample_rate))
    return recordings


def main() -> None:
    """Print a line for each clip, and how many are within the tolerances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--others", type=Path, help="folder with a sub-folder for each of some other voices")
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--speaker", help="of the model")
    parser.add_argument("--tolerance", type=float, default=1.0, help="factor of all tolerances")
    parser.add_argument("--read", type=float, default=300.0, help="seconds of each voice's recordings that are used")
    options = parser.parse_args()
    generator, phones = Generator.load(options.model), PhoneLoop()
    sample_rate = generator.sample_rate
    recordings = read_voice(options.recordings, sample_rate, options.read)
    real = figures(np.concatenate(recordings), sample_rate, phones)
    print(f"recordings: {real}", flush=True)
    classifier = None
    if options.others is not None:
        folders = sorted(path for path in options.others.iterdir() if path.is_dir())
        voices = {folder.name: read_voice(folder, sample_rate, options.read) for folder in folders}
        classifier = SpeakerClassifier({OWN: recordings, **voices}, sample_rate)
    samples = round(options.seconds * sample_rate)
    whole = np.concatenate(recordings)
    excerpts = [whole[start : start + samples] for start in range(0, len(whole) - samples, samples)][: options.clips]
    clips = (
        generator.render(options.seconds, seed=seed, temperature=options.temperature, speaker=options.speaker)
        for seed in range(options.clips)
    )
    for name, group in (("excerpt", excerpts), ("seed", clips)):
        counts = np.zeros(len(NAMES), int)
        for index, clip in enumerate(group):
            found, voice = figures(clip, sample_rate, phones), "" if classifier is None else classifier(clip)
            good = [*found.within(real, options.tolerance), voice in ("", OWN)]
            counts += good
            missed = ", ".join(figure for figure, is_within in zip(NAMES, good, strict=True) if not is_within)
            print(f"{name} {index:2d}: {found}  {voice}{missed and '  missed: ' + missed}", flush=True)
        print(f"{name}s within tolerance: " + ", ".join(f"{n} {c}" for n, c in zip(NAMES, counts, strict=True)))


if __name__ == "__main__":
    main()
