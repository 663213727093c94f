"""Speaker turns: prompts of two speakers joined with pauses, who speaks when.

    pip install '.[benchmarks]'
    python benchmarks/labels_turns.py ENGLISH ITALIAN -o data/turns
    wavenet train data/turns/train --recipe labels --out runs/turns
    wavenet evaluate runs/turns data/turns/test
    python benchmarks/labels.py data/turns

ENGLISH and ITALIAN are folders of prompts with the sub-folders `train` and `test`; prompts of `test` are in test
recordings only. A recording has about twenty prompts of either speaker, in random order, each at a random level, with
pauses of up to a second between them (a fifth of the changes of the speaker have none), over noise at a level of -70
dBFS. So labels are exact by construction: from the first to the last frame of 10 ms of a prompt that is less than 45 dB
below its loudest one; between prompts there is none. Pauses within a prompt belong to its speaker.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.data.label_tracks import Segment, write_labels

Audio = NDArray[np.float32]

SAMPLE_RATE = 16_000  # Hz
PROMPTS = 20  # of a recording
ROUNDS = {"train": 2, "test": 3}  # recordings in which each prompt appears
LEVEL = (-32.0, -22.0)  # dBFS of a prompt
NOISE_DB = -70.0
PAUSE = (0.25, 1.0)  # seconds
WITHOUT_PAUSE = 0.2  # share of the changes of the speaker


class Prompt(NamedTuple):
    """A prompt without the silence at its ends [samples], and who speaks."""

    speaker: str
    samples: Audio


def read_prompts(folder: Path, speaker: str) -> list[Prompt]:
    """The prompts of a folder, with their silence at the ends cut off."""
    prompts = []
    for path in sorted(folder.rglob("*.flac")):
        samples = audio.read(path, SAMPLE_RATE)
        lead, trail = audio.silent_edges(samples, SAMPLE_RATE)
        prompts.append(Prompt(speaker, samples[lead : len(samples) - trail]))
    return prompts


def joined(prompts: list[Prompt], random: np.random.Generator) -> tuple[Audio, list[Segment]]:
    """A recording of the prompts in this order [samples], and its labels."""
    pieces, segments, now = [_pause(random)], [], 0
    now = len(pieces[0])
    for index, (speaker, samples) in enumerate(prompts):
        level = 10 * np.log10(np.mean(np.square(samples)))
        pieces.append(samples * 10 ** ((random.uniform(*LEVEL) - level) / 20))
        segments.append(Segment(now / SAMPLE_RATE, (now + len(samples)) / SAMPLE_RATE, speaker))
        now += len(samples)
        changes = index + 1 < len(prompts) and prompts[index + 1].speaker != speaker
        if not (changes and random.random() < WITHOUT_PAUSE):
            pieces.append(_pause(random))
            now += len(pieces[-1])
    whole = np.concatenate(pieces)
    noise = random.normal(0, 10 ** (NOISE_DB / 20), len(whole))
    return (whole + noise).astype(np.float32), segments


def _pause(random: np.random.Generator) -> Audio:
    return np.zeros(round(random.uniform(*PAUSE) * SAMPLE_RATE), np.float32)


def build(english: Path, italian: Path, out: Path) -> None:
    """Write the recordings and their label tracks to out/train and out/test."""
    random = np.random.default_rng(0)
    for part, rounds in ROUNDS.items():
        (out / part).mkdir(parents=True, exist_ok=True)
        prompts = read_prompts(english / part, "english") + read_prompts(italian / part, "italian")
        order = np.concatenate([random.permutation(len(prompts)) for _ in range(rounds)])
        for number, chosen in enumerate(np.array_split(order, max(1, len(order) // PROMPTS))):
            samples, segments = joined([prompts[index] for index in chosen], random)
            audio.write(out / part / f"{number:03d}.flac", samples, SAMPLE_RATE)
            write_labels(out / part / f"{number:03d}.txt", segments)
        print(f"{out / part}: {len(prompts)} prompts, {number + 1} recordings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("english", type=Path)
    parser.add_argument("italian", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    build(options.english, options.italian, options.out)


if __name__ == "__main__":
    main()
