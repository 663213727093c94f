"""Bits of every clip of a folder: side by side, in several processes, continued where an earlier run stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.batch import jobs
from wavenet.batch.manifest import Entry, Manifest, agrees, now
from wavenet.batch.workers import Workers
from wavenet.data import files
from wavenet.data.clips import Clips
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import Engine
from wavenet.engine.conditioning import ConditioningInputs, Speaker
from wavenet.evaluation.likelihood import PIECE, Progress, clip_conditioning, clip_pieces, code_bits
from wavenet.model import WaveNet

STREAMS = 8  # clips side by side in an engine; more are not faster
HASHED = 2**20  # samples read at once


@dataclass(frozen=True)
class Results:
    """A file with the bits of every clip, by which an evaluation is continued: see `wavenet.batch.manifest`.

    made_with: what determines them: model, precision, speaker; values that JSON can represent.
    """

    path: Path
    made_with: Entry

    def described(self, clips: Clips, clip: int) -> Entry:
        """What determines the results of a clip: its file and content, and what they are made with."""
        return {"file": clips.names[clip], "content": _content(clips, clip), **self.made_with}


def mean_bits(
    model: WaveNet | Engine[Any],
    clips: Clips,
    speaker: Speaker | None = None,
    results: Results | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> float:
    """`likelihood.bits_per_sample` of all clips, which the processes divide between them. Returns it in all of them.

    A model predicts one clip after the other, an engine several side by side.
    results: clips whose bits are in the file, from the same samples, are not predicted again.
    progress: called with the number of samples predicted in this run, and to be predicted, of all processes.
    Raises `OSError` where the results cannot be written.
    """
    return _Run(model, clips, speaker, results, workers or Workers())(progress)


class _Run:
    """One call of `mean_bits`."""

    def __init__(
        self,
        model: WaveNet | Engine[Any],
        clips: Clips,
        speaker: Speaker | None,
        results: Results | None,
        workers: Workers,
    ) -> None:
        self.model, self.clips, self.speaker, self.workers = model, clips, speaker, workers
        self.results = results
        self.manifest = None if results is None else Manifest(results.path, "file", workers.rank)

    def __call__(self, progress: Progress | None) -> float:
        kept, groups = self.workers.agree(self._plan)
        found: list[tuple[int, float]] = [(clip, bits) for clip, bits in kept if self.workers.is_first]
        total = sum(int(self.clips.lengths[clip]) for group in groups for clip in group)

        def advance(samples: int) -> None:
            done = self.workers.count_up("predicted", samples)
            if progress and self.workers.is_first:
                progress(done, total)

        try:
            while (claimed := self.workers.count_up("clips")) <= len(groups):
                for clip, bits in self._bits(groups[claimed - 1], advance):
                    found.append((clip, bits))
                    if self.manifest is not None:
                        self.manifest.add(self._entry(clip, bits))
        except KeyboardInterrupt:
            if self.manifest is not None and self.workers.count == 1:
                self.manifest.merge()
            raise
        everywhere = [pair for pairs in self.workers.exchange(found) for pair in pairs]
        if self.manifest is not None and self.workers.is_first:
            self.manifest.merge()
        samples = int(self.clips.lengths.sum())
        return math.fsum(bits for _, bits in everywhere) / samples if samples else math.nan

    def _plan(self) -> tuple[list[tuple[int, float]], list[list[int]]]:
        """The clips whose bits are known, with these, and the others in groups."""
        kept: dict[int, float] = {}
        if self.manifest is not None:
            files.check_writable(self.manifest.path)
            entries = self.manifest.merge()
            for clip, name in enumerate(self.clips.names):
                entry = entries.get(name)
                if entry is not None and agrees(entry, self._described(clip)):
                    kept[clip] = float(entry["bits"])
        missing = [clip for clip in range(len(self.clips)) if clip not in kept]
        streams = STREAMS if isinstance(self.model, Engine) else 1
        lengths = [self.clips.lengths[clip] / self.clips.sample_rate for clip in missing]
        groups = jobs.groups(lengths, streams, self.workers.count)
        return [*kept.items()], [[missing[i] for i in group] for group in groups]

    def _described(self, clip: int) -> Entry:
        assert self.results is not None
        return self.results.described(self.clips, clip)

    def _entry(self, clip: int, bits: float) -> Entry:
        samples = int(self.clips.lengths[clip])
        figures = {"samples": samples, "bits": bits, "bits_per_sample": bits / samples}
        return {**self._described(clip), **figures, "finished": now()}

    def _bits(self, group: list[int], advance: Callable[[int], None]) -> Iterator[tuple[int, float]]:
        """The bits of every clip of a group, all its samples together."""
        if isinstance(self.model, Engine):
            bits = _side_by_side(self.model, self.clips, group, self.speaker, advance)
            yield from zip(group, bits, strict=True)
            return
        quantizer = quantizer_for(self.model.config.output)
        for clip in group:
            conditioning = clip_conditioning(self.model.config, self.clips, clip, self.speaker)
            read, of_clip = partial(self.clips.codes, clip, quantizer), 0.0
            for piece in clip_pieces(self.model, read, int(self.clips.lengths[clip]), conditioning):
                of_clip += float(piece.sum())
                advance(len(piece))
            yield clip, of_clip


def _side_by_side(
    engine: Engine[Any], clips: Clips, group: Sequence[int], speaker: Speaker | None, advance: Callable[[int], None]
) -> list[float]:
    """The bits of each clip of a group; those that end before the longest are continued with silence."""
    config, quantizer = engine.config, quantizer_for(engine.config.output)
    lengths = [int(clips.lengths[clip]) for clip in group]
    inputs = [clip_conditioning(config, clips, clip, speaker) for clip in group]
    given = [one for one in inputs if one is not None]
    state = engine.new_state(len(group), _together(given, engine) if given else None)
    bits, size = [0.0] * len(group), max(1, PIECE // len(group))
    for start in range(0, max(lengths), size):
        stop = min(start + size, max(lengths))
        codes = np.full((len(group), stop - start), quantizer.silence, np.int64)  # [B, T]
        inside = [max(0, min(stop, length) - start) for length in lengths]  # samples of each clip
        for row, clip, samples in zip(codes, group, inside, strict=True):
            if samples:
                row[:samples] = clips.codes(clip, quantizer, start, start + samples)
        outputs = torch.from_numpy(engine.logits(state, codes))  # [B, T, A]
        for index, samples in enumerate(inside):
            if samples:
                own = torch.from_numpy(codes[index, :samples])
                bits[index] += float(code_bits(config.output, outputs[index, :samples], own).sum())
        advance(sum(inside))
    return bits


def _together(inputs: Sequence[ConditioningInputs], engine: Engine[Any]) -> ConditioningInputs:
    """The conditioning of several clips, of one stream each; features are silent after their ends."""
    speakers = [one.speaker for one in inputs if one.speaker is not None]  # [1, speakers] each
    features = [one.features for one in inputs if one.features is not None]  # [1, bands, N] each
    together: NDArray[np.float32] | None = None
    if features and engine.config.features is not None:
        frames = max(one.shape[2] for one in features)
        together = np.full((len(features), features[0].shape[1], frames), engine.config.features.silence, np.float32)
        for row, one in zip(together, features, strict=True):
            row[:, : one.shape[2]] = one[0]
    shares = np.concatenate(speakers) if speakers else None
    return dataclasses.replace(inputs[0], speaker=shares, features=together)


def _content(clips: Clips, clip: int) -> str:
    """A digest of the samples of a clip, and of its speaker."""
    digest = hashlib.sha256((clips.speakers[clip] if clips.speakers is not None else "").encode())
    for start in range(0, int(clips.lengths[clip]), HASHED):
        digest.update(np.ascontiguousarray(clips.clip(clip, start, start + HASHED)).tobytes())
    return digest.hexdigest()
