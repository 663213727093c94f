"""Words that a recogniser no longer finds in copies: PocketSphinx with its US English model, on both sides.

    pip install '.[benchmarks]'
    python benchmarks/words.py ORIGINALS COPIES

Two folders with files of equal names (extensions may differ), any format and rate; sound is heard at 16 kHz. What is
compared is what the recogniser finds in the original and in the copy, not what was said: it mishears originals too. A
word of the original is lost where the fewest edits that make its words into the copy's delete or substitute it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from wavenet.data import audio

RATE = 16_000  # of the recogniser's model


def recordings(folder: Path) -> dict[str, Path]:
    """The sound files of a folder by their names without extension."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in audio.AUDIO_EXTENSIONS)
    return {path.stem: path for path in found}


def words_in(decoder, path: Path) -> list[str]:
    """Words found in one recording; what was heard before plays no part."""
    samples = audio.to_int16(audio.read(path, RATE))
    decoder.reinit_feat()  # else the front end's estimates go on from the clip before
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr.split() if found else []


def lost(original: list[str], copy: list[str]) -> int:
    """Words of the original deleted or substituted by the fewest edits that lead to the copy (Levenshtein 1966)."""
    row = [(edits, 0) for edits in range(len(copy) + 1)]  # (edits, words lost) from no word to the first words of copy
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
    """Print words by pair and in all. Returns an error in one line, or 0."""
    try:
        from pocketsphinx import Decoder
    except ImportError:
        return "counting words needs pocketsphinx: pip install '.[benchmarks]'"
    for folder in (originals, copies):
        if not folder.is_dir():
            return f"{folder}: no such folder"
    before, after = recordings(originals), recordings(copies)
    if not before:
        return f"{originals}: holds no recordings"
    if missing := before.keys() - after.keys():
        return f"{copies}: no copy of {min(missing)}, and {len(missing) - 1} more"
    # "batch": cepstral means are those of the whole clip, where "live" would start from those of the clips before.
    decoder = Decoder(samprate=RATE, cmn="batch", loglevel="FATAL")
    words_lost, words = 0, 0
    for name, path in before.items():
        found, found_in_copy = words_in(decoder, path), words_in(decoder, after[name])
        here = lost(found, found_in_copy)
        words_lost, words = words_lost + here, words + len(found)
        print(f"{name}: {here} of {len(found)} lost")
        print(f"  original: {' '.join(found)}\n  copy:     {' '.join(found_in_copy)}", flush=True)
    print(f"words lost: {words_lost} of {words}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python benchmarks/words.py ORIGINALS COPIES")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
