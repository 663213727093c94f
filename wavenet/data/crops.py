"""Random crops of clips: the inputs, targets and masks of one training step.

Crops are drawn, which needs only the lengths of the clips, and then read. So of a batch that several processes share,
each process draws all crops and reads its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig
from wavenet.data.augmentation import Playback, draw_playback
from wavenet.data.clips import Clips
from wavenet.data.quantizers import MU_LAW, Quantizer

UNCHANGED = DataConfig()  # crops are not joined, and neither shifted in pitch nor in level


class Span(NamedTuple):
    """Samples `start` to `stop` of a clip, as it is played."""

    clip: int
    start: int
    stop: int


class Draw(NamedTuple):
    """A crop that is not read yet: which samples its row [margin + past + T + margin] consists of."""

    playback: Playback
    spans: tuple[Span, ...]  # consecutive in the row; the crop begins in the first one
    begin: int  # position of the first span in the row: the margin if the recording begins there
    past: int  # samples before the crop that are inputs
    filled: int  # samples of the crop that are not padding


class Crops(NamedTuple):
    """B random crops of T samples, with P samples of the past before each."""

    inputs: NDArray[np.int64]  # [B, P + T]: codes, each one sample before its target
    targets: NDArray[np.int64]  # [B, P + T]: codes
    mask: NDArray[np.bool_]  # [B, P + T]: True for the crop; False for its past, and for padding
    samples: NDArray[np.int16]  # [B, margin + P + T + margin]: the same as audio, with the audio around it
    bounds: NDArray[np.int64]  # [B, 2]: where in `samples` the recordings begin and end; beyond is silence
    clips: NDArray[np.int64]  # [B]: index of the clip that each crop begins in


@dataclass(frozen=True)
class RandomCrops:
    """Draws random crops of T = `crop` samples, with `margin` samples of audio to each side, at least one.

    The first input of a crop is the sample before it; at the start of a clip it is silence. All samples of all clips,
    the first and the last included, are equally likely to be a target:

        join=False  |--clip--|    A window of T samples may begin before the clip and end after it. The crop is the
                   [===]   [===]  overlap of both, left-aligned in its row and padded with silence. A clip that is
                                  shorter than a crop is always used whole.
        join=True   |--clip--|-another-|  The crop begins anywhere in the clip. If the clip ends within it, a random
                          [=======]       clip of the same speaker follows, from its first sample.

    data: besides `join` only the shifts of pitch and level are used; each crop has its own. They do not change how
    often a clip is drawn.
    past: so many samples of the clip before a crop come first in its row, fewer where the clip has fewer: then the row
    begins with the clip. They are inputs, but no targets.
    """

    clips: Clips
    crop: int
    data: DataConfig = UNCHANGED
    quantizer: Quantizer = MU_LAW
    margin: int = 1
    past: int = 0

    def draw(self, batch: int, rng: np.random.Generator) -> list[Draw]:
        """Draw `batch` crops. It needs the lengths of the clips only.

        Raises `ValueError` when there are no clips.
        """
        if not len(self.clips):
            raise ValueError("there are no clips to draw crops from")
        ends = self.clips.cumulative_positions(self._overhang)
        return [self._draw(int(position), ends, rng) for position in rng.integers(0, ends[-1], size=batch)]

    def read(self, draws: Sequence[Draw]) -> Crops:
        """Read the audio of crops. Raises `DatasetError` where the cache file has been truncated."""
        length = self.past + self.crop
        samples = np.zeros((len(draws), self._row), np.int16)
        bounds = np.zeros((len(draws), 2), np.int64)
        for row, (audio, end) in enumerate(self._rows(draws)):
            samples[row], bounds[row] = audio, (draws[row].begin, end)
        first = np.array([draw.past for draw in draws], np.int64)[:, None]  # [B, 1]
        stop = first + np.array([draw.filled for draw in draws], np.int64)[:, None]
        position = np.arange(length)
        codes = self.quantizer.encode_int16(samples[:, self.margin - 1 : self.margin + length]).astype(np.int64)
        inputs, targets = (
            np.where(position < stop, part, self.quantizer.silence) for part in (codes[:, :-1], codes[:, 1:])
        )  # [B, P + T] each
        mask = (first <= position) & (position < stop)
        clips = np.array([draw.spans[0].clip for draw in draws], np.int64)
        return Crops(inputs, targets, mask, samples, bounds, clips)

    def _rows(self, draws: Sequence[Draw]) -> list[tuple[NDArray[np.int16], int]]:
        """`_row_of` each crop, several at a time where each takes the time of a request to a network."""
        if self.clips.readers == 1:
            return [self._row_of(draw) for draw in draws]
        with ThreadPoolExecutor(self.clips.readers) as pool:
            return list(pool.map(self._row_of, draws))

    def _row_of(self, draw: Draw) -> tuple[NDArray[np.int16], int]:
        """The row of a crop, [margin + past + T + margin], and where its audio ends."""
        audio, end = np.zeros(self._row, np.float32), draw.begin
        for span in draw.spans:
            audio[end : end + span.stop - span.start] = draw.playback.read(*span)
            end += span.stop - span.start
        return draw.playback.level(audio), end

    @property
    def _overhang(self) -> int:
        """A window overlaps a clip if it begins at most so many samples before it."""
        return 0 if self.data.join else self.crop - 1

    @property
    def _row(self) -> int:
        return self.margin + self.past + self.crop + self.margin

    def _draw(self, position: int, ends: NDArray[np.int64], rng: np.random.Generator) -> Draw:
        """The crop at one of the positions that end at `ends` [clips] for each clip."""
        join, crop, overhang = self.data.join, self.crop, self._overhang
        clip = int(np.searchsorted(ends, position, side="right"))
        before = int(ends[clip - 1]) if clip else 0
        playback = draw_playback(self.clips, self.data, rng)
        length = playback.length(clip)
        # the same place in the clip as it is played, which has another number of positions
        positions = (length if length > overhang + 1 else 1) + overhang
        start = (position - before) * positions // (int(ends[clip]) - before) - overhang
        stop = min(start + crop, length)
        if not join and length <= crop:
            start, stop = 0, length
        start = max(start, 0)  # it is negative if the window begins before the clip
        past = min(self.past, start)
        begin = self.margin - min(start - past, self.margin)
        first = start - past - (self.margin - begin)
        spans = [Span(clip, first, min(first + self._row - begin, length))]
        end = begin + spans[0].stop - first
        while join and end < self.margin + past + crop:
            following = self._following(clip, rng)
            spans.append(Span(following, 0, min(self._row - end, playback.length(following))))
            end += spans[-1].stop
        return Draw(playback, tuple(spans), begin, past, crop if join else stop - start)

    def _following(self, clip: int, rng: np.random.Generator) -> int:
        """A random clip of the same speaker."""
        if self.clips.speakers is None:
            return int(rng.integers(len(self.clips)))
        same = self.clips.of_speaker(self.clips.speakers[clip])
        return int(same[rng.integers(len(same))])


def random_crops(
    clips: Clips,
    batch: int,
    crop: int,
    rng: np.random.Generator,
    data: DataConfig = UNCHANGED,
    quantizer: Quantizer = MU_LAW,
    margin: int = 1,
    past: int = 0,
) -> Crops:
    """Draw and read `batch` random crops, see `RandomCrops`."""
    crops = RandomCrops(clips, crop, data, quantizer, margin, past)
    return crops.read(crops.draw(batch, rng))
