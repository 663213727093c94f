"""Events: where drums are hit, and which, in a track of other instruments.

    pip install '.[benchmarks]'
    apt-get download sonic-pi-samples && dpkg-deb -x sonic-pi-samples_*.deb sonic-pi    # CC0 recordings
    python benchmarks/labels_events.py sonic-pi/usr/share/sonic-pi/samples -o data/events
    wavenet train data/events/train --recipe labels --out runs/events
    wavenet evaluate runs/events data/events/test
    python benchmarks/labels.py data/events

The folder contains the samples of Sonic Pi (any program's copy of them), which are in the public domain (CC0). Single
hits are mixed into a track of guitars, basses, pads and piano, at random times, levels and speeds. So labels are exact
by construction: from the beginning of a hit until it has decayed by 20 dB, for 0.3 s at most, or until the next one. A
quarter of the hits of each drum, and of the sounds of the track, are in test recordings only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.data.label_tracks import Segment, write_labels

Audio = NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz
DRUMS = {
    "kick": ("bd_*", "drum_bass_*", "drum_heavy_kick", "elec_*_kick"),
    "snare": ("sn_*", "drum_snare_*", "elec_*snare"),
    "cymbal": ("drum_cymbal_*", "drum_splash_*", "elec_cymbal"),
    "tom": ("drum_tom_*", "elec_fuzz_tom"),
    "tabla": ("tabla_*",),
    "bell": ("perc_bell*", "elec_bell", "elec_chime", "elec_ping", "elec_triangle", "drum_cowbell"),
}
TRACK = ("ambi_*", "guit_*", "bass_*", "loop_drone*")
TEST_SHARE = 4  # every fourth sample
RECORDINGS = {"train": 120, "test": 20}
SECONDS = 20.0
DISTANCE = (0.08, 0.7)  # seconds between the beginnings of hits
SPEED = (0.9, 1.1)  # of a hit
HIT_DB = (-18.0, -6.0)  # peak of a hit, dBFS
TRACK_DB = (-36.0, -24.0)  # level of the track, dBFS
DECAY_DB, LONGEST = 20.0, 0.3  # dB and seconds: where a hit ends
FRAME = 160  # samples, of its envelope
NOISE_DB = -70.0


def read_samples(folder: Path, patterns: tuple[str, ...], part: str) -> list[Audio]:
    """The samples of one part, by their names."""
    paths = sorted({path for pattern in patterns for path in folder.glob(f"{pattern}.flac")})
    chosen = [path for index, path in enumerate(paths) if (index % TEST_SHARE == 0) == (part == "test")]
    return [_without_lead(audio.read(path, SAMPLE_RATE)) for path in chosen]


def hit_seconds(samples: Audio) -> float:
    """How long a hit [samples] takes until it has decayed."""
    whole = np.pad(samples, (0, -len(samples) % FRAME))
    level = np.square(whole).reshape(-1, FRAME).mean(1)  # [frames]
    loud = np.flatnonzero(level >= level.max() * 10 ** (-DECAY_DB / 10))
    return min((int(loud[-1]) + 1) * FRAME / SAMPLE_RATE, LONGEST)


def recording(drums: dict[str, list[Audio]], track: list[Audio], random: np.random.Generator) -> tuple[Audio, list]:
    """Audio [samples] of `SECONDS`, and the labels of its hits."""
    length = round(SECONDS * SAMPLE_RATE)
    mixed = np.zeros(length)
    position = 0
    while position < length:  # the track: one sound after the other, each twice
        sound = track[random.integers(len(track))]
        sound = np.concatenate([sound, sound])[: length - position]
        level = 10 * np.log10(np.mean(np.square(sound)) + 1e-12)
        mixed[position : position + len(sound)] += sound * 10 ** ((random.uniform(*TRACK_DB) - level) / 20)
        position += len(sound)
    hits, now = [], random.uniform(*DISTANCE)
    while now < SECONDS - LONGEST:
        name = list(drums)[random.integers(len(drums))]
        samples = drums[name][random.integers(len(drums[name]))]
        samples = librosa.resample(samples, orig_sr=SAMPLE_RATE, target_sr=SAMPLE_RATE * random.uniform(*SPEED))
        start = round(now * SAMPLE_RATE)
        heard = samples[: length - start] / np.abs(samples).max()
        mixed[start : start + len(heard)] += heard * 10 ** (random.uniform(*HIT_DB) / 20)
        hits.append(Segment(now, now + hit_seconds(samples), name))
        now += random.uniform(*DISTANCE)
    ends = [*(hit.start for hit in hits[1:]), SECONDS]
    segments = [Segment(start, min(end, stop), name) for (start, end, name), stop in zip(hits, ends, strict=True)]
    mixed += random.normal(0, 10 ** (NOISE_DB / 20), length)
    return np.clip(mixed, -1, 1).astype(np.float32), segments


def _without_lead(samples: Audio) -> Audio:
    """The samples from the first one that is less than 30 dB below the peak."""
    return samples[int(np.argmax(np.abs(samples) > np.abs(samples).max() * 10 ** (-30 / 20))) :]


def build(folder: Path, out: Path) -> None:
    """Write the recordings and their label tracks to out/train and out/test."""
    random = np.random.default_rng(0)
    for part, count in RECORDINGS.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        drums = {name: read_samples(folder, patterns, part) for name, patterns in DRUMS.items()}
        track = read_samples(folder, TRACK, part)
        for number in range(count):
            samples, segments = recording(drums, track, random)
            audio.write(out / part / f"{number:03d}.flac", samples, SAMPLE_RATE)
            write_labels(out / part / f"{number:03d}.txt", segments)
        found = ", ".join(f"{len(group)} x {name}" for name, group in drums.items())
        print(f"{out / part}: {count} recordings, of {found} and {len(track)} sounds of the track")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    build(options.samples, options.out)


if __name__ == "__main__":
    main()
