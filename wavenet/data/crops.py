"""Random crops of clips: the inputs, targets and masks of one training step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet.config import DataConfig
from wavenet.data.augmentation import Playback, draw_playback
from wavenet.data.clips import Clips
from wavenet.data.quantizers import MU_LAW, Quantizer

UNCHANGED = DataConfig()  # crops are not joined, and neither shifted in pitch nor in level


class Crops(NamedTuple):
    """B random crops of T samples."""

    inputs: NDArray[np.int64]  # [B, T]: codes, each one sample before its target
    targets: NDArray[np.int64]  # [B, T]: codes
    mask: NDArray[np.bool_]  # [B, T]: False where a target is padding, which the loss leaves out
    samples: NDArray[np.int16]  # [B, margin + T + margin]: the crops as audio, with the audio around them
    bounds: NDArray[np.int64]  # [B, 2]: where in `samples` the recordings begin and end; beyond is silence
    clips: NDArray[np.int64]  # [B]: index of the clip that each crop begins in


def random_crops(
    clips: Clips,
    batch: int,
    crop: int,
    rng: np.random.Generator,
    data: DataConfig = UNCHANGED,
    quantizer: Quantizer = MU_LAW,
    margin: int = 1,
) -> Crops:
    """Draw `batch` random crops of T = `crop` samples, with `margin` samples of audio to each side, at least one.

    The first input of a crop is the sample before it; at the start of a clip it is silence. All samples of all clips,
    the first and the last included, are equally likely to be a target:

        join=False  |--clip--|    A window of T samples may begin before the clip and end after it. The crop is the
                   [===]   [===]  overlap of both, left-aligned in its row and padded with silence. A clip that is
                                  shorter than a crop is always used whole.
        join=True   |--clip--|-another-|  The crop begins anywhere in the clip. If the clip ends within it, a random
                          [=======]       clip of the same speaker follows, from its first sample.

    data: besides `join` only the shifts of pitch and level are used; each crop has its own. They do not change how
    often a clip is drawn.

    Raises `ValueError` when there are no clips, `DatasetError` where the cache file has been truncated.
    """
    if not len(clips):
        raise ValueError("there are no clips to draw crops from")
    samples = np.zeros((batch, margin + crop + margin), np.int16)
    bounds = np.zeros((batch, 2), np.int64)
    filled = np.zeros(batch, np.int64)  # samples of each crop that are not padding
    indices = np.zeros(batch, np.int64)  # of the clips
    overhang = 0 if data.join else crop - 1  # a window overlaps a clip if it begins at most this far before it
    ends = clips.cumulative_positions(overhang)
    for row, position in enumerate(rng.integers(0, ends[-1], size=batch)):
        i = indices[row] = int(np.searchsorted(ends, position, side="right"))
        before = int(ends[i - 1]) if i else 0
        playback = draw_playback(clips, data, rng)
        length = playback.length(i)
        # the same place in the clip as it is played, which has another number of positions
        positions = (length if length > overhang + 1 else 1) + overhang
        start = (int(position) - before) * positions // (int(ends[i]) - before) - overhang
        stop = min(start + crop, length)
        if not data.join and length <= crop:
            start, stop = 0, length
        start = max(start, 0)  # it is negative if the window begins before the clip
        filled[row] = crop if data.join else stop - start
        audio = np.zeros(samples.shape[1], np.float32)
        bounds[row] = _read(audio, playback, i, start, margin, rng if data.join else None)
        samples[row] = playback.level(audio)
    mask = np.arange(crop) < filled[:, None]  # [B, T]
    codes = quantizer.encode_int16(samples[:, margin - 1 : margin + crop]).astype(np.int64)  # [B, 1 + T]
    inputs, targets = (np.where(mask, part, quantizer.silence) for part in (codes[:, :-1], codes[:, 1:]))
    return Crops(inputs, targets, mask, samples, bounds, indices)


def _read(
    row: NDArray[np.float32], playback: Playback, i: int, start: int, margin: int, rng: np.random.Generator | None
) -> tuple[int, int]:
    """Read a crop that begins at sample `start` of clip i, with its margins, into a row of zeros [margin + T + margin].

    rng: draws the clips that follow where the crop extends beyond its clip; None: padding. A crop shorter than T, whose
    window begins before the clip, is followed by the clip's next samples.
    Returns the positions in the row at which the audio begins and ends.
    """
    crop_end = len(row) - margin
    audio = playback.read(i, max(start - margin, 0), start + len(row) - margin)
    begin = margin - min(start, margin)
    end = begin + len(audio)
    row[begin:end] = audio
    while rng is not None and end < crop_end:
        audio = playback.read(_next_clip(playback.clips, i, rng), 0, len(row) - end)
        row[end : end + len(audio)] = audio
        end += len(audio)
    return begin, end


def _next_clip(clips: Clips, i: int, rng: np.random.Generator) -> int:
    """A random clip of the speaker of clip i."""
    if clips.speakers is None:
        return int(rng.integers(len(clips)))
    same = clips.of_speaker(clips.speakers[i])
    return int(same[rng.integers(len(same))])
