"""A short text that is the same for the same recordings, so that processes can compare what they have opened."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wavenet.data.clips import Clips

SAMPLED_CLIPS, SAMPLES = 100, 64  # clips of which the content is compared, and the samples in the middle of each


def fingerprint(*parts: Clips, labels: Iterable[NDArray[np.int32]] = ()) -> str:
    """Number, duration and a hash of clips: of their names, speakers, lengths and gains, and of some of their samples.

    labels: classes of frames, which are compared, too.
    """
    content = hashlib.blake2b(digest_size=8)
    for clips in parts:
        for index, name in enumerate(itertools.chain(clips.names, [""], clips.speakers or ())):
            content.update((f"\0{name}" if index else name).encode(errors="surrogateescape"))
        for numbers in (clips.lengths, clips.starts, clips.gains):
            content.update(b"" if numbers is None else np.ascontiguousarray(numbers).tobytes())
        for clip in range(0, len(clips), -(-len(clips) // SAMPLED_CLIPS) or 1):
            middle = int(clips.lengths[clip]) // 2
            content.update(np.ascontiguousarray(clips.clip(clip, middle, middle + SAMPLES)).tobytes())
    for classes in labels:
        content.update(classes.tobytes())
    count, seconds = sum(map(len, parts)), sum(clips.seconds for clips in parts)
    return f"{count:,} clips of {seconds:,.1f} s, {content.hexdigest()}"
