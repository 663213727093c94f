"""Phones of English prompts, with machine-made labels.

    pip install '.[benchmarks,metrics]'
    python benchmarks/labels_phones.py PROMPTS -o data/phones
    wavenet train data/phones/train --recipe labels --out runs/phones
    wavenet evaluate runs/phones data/phones/test
    python benchmarks/labels.py data/phones

PROMPTS is a folder with `metadata.csv`, lines of path|text, and with sub-folders `train`, `val` and `test`. The labels
are PocketSphinx's alignment of the texts with its US English models, in frames of 10 ms: nobody has checked them, and
a model can agree with them at most as well as they agree with themselves. `val` and `test` are both tested on. Prompts
with a word that is not in the dictionary are left out; silence has no label.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path
from typing import Any

from wavenet.data import audio
from wavenet.data.label_tracks import Segment, write_labels
from wavenet.data.pcm import to_int16

SAMPLE_RATE = 16_000  # Hz, of PocketSphinx's models
FRAME_SECONDS = 0.01
NO_PHONES = ("SIL", "+NSN+", "+SPN+")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PARTS = {"train": "train", "val": "test", "test": "test"}


class Aligner:
    """Finds the phones of a known text."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder: Any = Decoder(lm=None, samprate=SAMPLE_RATE, cmn="batch", loglevel="FATAL")

    def __call__(self, samples: Any, text: str) -> list[Segment]:
        """The phones of audio [samples]; none if a word is not in the dictionary, or if the text does not fit."""
        words = re.findall(r"[a-z']+", re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower()))
        if not words or any(self._decoder.lookup_word(word) is None for word in words):
            return []
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decode(samples)
            if self._decoder.hyp() is None:
                return []
            self._decoder.set_alignment()  # the second pass finds the phones in the words
            self._decode(samples)
        except RuntimeError:  # no way through the text
            return []
        return [
            Segment(phone.start * FRAME_SECONDS, (phone.start + phone.duration) * FRAME_SECONDS, phone.name)
            for word in self._decoder.get_alignment()
            for phone in word
            if phone.name not in NO_PHONES
        ]

    def _decode(self, samples: Any) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(to_int16(samples).tobytes(), full_utt=True)
        self._decoder.end_utt()


def build(prompts: Path, out: Path) -> None:
    """Write the recordings and their label tracks to out/train and out/test."""
    aligner = Aligner()
    with open(prompts / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter="|") if len(row) >= 2 and row[0] != "path"]
    counts = dict.fromkeys(PARTS.values(), 0)
    for name, text, *_ in rows:
        samples = audio.read(prompts / name, SAMPLE_RATE)
        lead, trail = audio.silent_edges(samples, SAMPLE_RATE)  # the alignment gives it to the first and last phones
        first, last = lead / SAMPLE_RATE, (len(samples) - trail) / SAMPLE_RATE
        phones = [Segment(max(start, first), min(end, last), phone) for start, end, phone in aligner(samples, text)]
        phones = [phone for phone in phones if phone.end - phone.start >= FRAME_SECONDS]
        if not phones:
            continue
        part = PARTS[Path(name).parts[0]]
        counts[part] += 1
        (out / part).mkdir(parents=True, exist_ok=True)
        path = out / part / Path(name).name
        audio.write(path, samples, SAMPLE_RATE)
        write_labels(path.with_suffix(".txt"), phones)
    print(f"{len(rows)} prompts; aligned: {counts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    build(options.prompts, options.out)


if __name__ == "__main__":
    main()
