"""Words of a recording that a speech recogniser does not find in a copy of it.

The recogniser is PocketSphinx with its US English model, so this is a figure for English only. The words found in the
original are compared with those found in the copy, not with what was said: the recogniser's errors in the original are
the same for every copy.
"""

from __future__ import annotations

from typing import Any

from wavenet.data.pcm import to_int16
from wavenet.evaluation.signals import MetricUnavailable, Signal
from wavenet.extras import how_to_install

SAMPLE_RATE = 16_000  # Hz, of the recogniser's model


class Recogniser:
    """Finds English words. Raises `MetricUnavailable` without the package `pocketsphinx`."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise MetricUnavailable(how_to_install("counting words", "pocketsphinx", "metrics")) from error
        # "batch": cepstral means of the whole recording; "live" would start from those of the recording before.
        self._decoder: Any = Decoder(samprate=SAMPLE_RATE, cmn="batch", loglevel="FATAL")

    def words(self, signal: Signal) -> list[str]:
        """The words found, independent of the signals before; none in audio that is silent or shorter than 64 ms."""
        if signal.empty:
            return []
        self._decoder.reinit_feat()  # resets the front end's estimates
        self._decoder.start_utt()
        self._decoder.process_raw(to_int16(signal.resampled(SAMPLE_RATE)).tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr.split() if found else []


def words_lost(original: list[str], copy: list[str]) -> int:
    """Words of the original that the shortest edit to the copy deletes or substitutes (Levenshtein 1966)."""
    row = [(edits, 0) for edits in range(len(copy) + 1)]  # (edits, words lost) from no words to the copy's first ones
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
