"""Count the words of recordings that a speech recogniser does not find in copies of them.

    pip install '.[benchmarks]'
    python benchmarks/words.py ORIGINALS COPIES

The recogniser is PocketSphinx with its US English model. ORIGINALS and COPIES are folders with files of equal names
(extensions may differ) of any format and sample rate, which are resampled to 16 kHz. The words found in the original
are compared with those found in its copy, not with what was said: errors in the original are the same for every copy.
A word is lost if the shortest edit from the original's words to the copy's deletes or substitutes it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wavenet.data import audio

if TYPE_CHECKING:
    from pocketsphinx import Decoder

SAMPLE_RATE = 16_000  # Hz, of the recogniser's model


def recordings(folder: Path) -> dict[str, Path]:
    """The audio files of a folder by their names without extension."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in audio.AUDIO_EXTENSIONS)
    return {path.stem: path for path in found}


def words_in(decoder: Decoder, path: Path) -> list[str]:
    """Words found in one recording, independent of those decoded before."""
    samples = audio.to_int16(audio.read(path, SAMPLE_RATE))
    decoder.reinit_feat()  # resets the front end's estimates
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr.split() if found else []


def lost(original: list[str], copy: list[str]) -> int:
    """Words of the original that the shortest edit to the copy deletes or substitutes (Levenshtein 1966)."""
    row = [
        (edits, 0) for edits in range(len(copy) + 1)
    ]  # (edits, words lost) from no words to the first ones of the copy
    for word in original:
        above, row = row, [(row[0][0] + 1, row[0][1] + 1)]
        for index, other in enumerate(copy):
            changed = int(word != other)
            row.append(
                min(
                    (above[index][0] + changed, above[index][1] + changed),
                    (above[index + 1][0] + 1, above[index + 1][1] + 1),  # deleted
                    (row[index][0] + 1, row[index][1]),  # inserted
                )
            )
    return row[-1][1]


def main(originals: Path, copies: Path) -> str | int:
    """Print the words of each pair and the total. Returns 0, or an error in one line."""
    try:
        from pocketsphinx import Decoder
    except ImportError:
        return "counting words needs pocketsphinx: pip install '.[benchmarks]'"
    for folder in (originals, copies):
        if not folder.is_dir():
            return f"{folder}: no such folder"
    before, after = recordings(originals), recordings(copies)
    if not before:
        return f"{originals}: no recordings in this folder"
    if missing := before.keys() - after.keys():
        return f"{copies}: no copy of {min(missing)}, and {len(missing) - 1} more"
    # "batch": cepstral means of the whole recording; "live" would start from those of the recording before.
    decoder = Decoder(samprate=SAMPLE_RATE, cmn="batch", loglevel="FATAL")
    total_lost, total = 0, 0
    for name, path in before.items():
        found, found_in_copy = words_in(decoder, path), words_in(decoder, after[name])
        words_lost = lost(found, found_in_copy)
        total_lost, total = total_lost + words_lost, total + len(found)
        print(f"{name}: {words_lost} of {len(found)} lost")
        print(f"  original: {' '.join(found)}\n  copy:     {' '.join(found_in_copy)}", flush=True)
    print(f"words lost: {total_lost} of {total}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python benchmarks/words.py ORIGINALS COPIES")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
