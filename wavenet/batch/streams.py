"""Streams side by side, each written to a file of its own: the same audio as one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from wavenet.config import MelConfig
from wavenet.consistency import StreamingRefiner
from wavenet.data.audio_writer import AudioWriter
from wavenet.generate import Generator, RenderOptions
from wavenet.refined_session import RefinedSession, file_refiner, primed_audio, refined
from wavenet.session import Session, SessionOptions

BLOCK_SECONDS = 0.5  # of audio that every stream generates before the next one is considered

Audio = NDArray[np.float32]
Advance = Callable[[int], None]  # called with the number of samples that were generated, of all streams


@dataclass(frozen=True)
class Original:
    """What a copy of a recording is generated from."""

    features: Audio  # [bands, ceil(samples / hop)]
    samples: int
    seed: int


class _Copy:
    """The file of one copy, and the refinement on the way to it."""

    def __init__(self, file: AudioWriter, refiner: StreamingRefiner | None, samples: int) -> None:
        self._file, self._refiner, self.left = file, refiner, samples

    def add(self, block: Audio) -> bool:
        """Add the next samples [n], without those after its end. Returns whether this completes the file."""
        audio = block[: self.left]
        if not len(audio):
            return False
        self.left -= len(audio)
        if self._refiner is not None:
            audio = self._refiner.push(audio)
            if not self.left:
                audio = np.concatenate([audio, self._refiner.finish()])
        self._file.write(audio)
        if not self.left:
            self._file.close()
        return not self.left


def write_copies(
    generator: Generator, originals: Sequence[Original], paths: Sequence[Path], options: RenderOptions, advance: Advance
) -> Iterator[int]:
    """Generate copies side by side, each as by itself, and write them. Yields the index of each when it is complete.

    options: as of `Generator.render`, the same for all; with particles there may be one recording only. Recordings that
    end before the longest take as much time as that. Files that are not complete when the iteration ends are removed.
    """
    mel = cast(MelConfig, generator.config.features)
    iterations = generator.options(refine=options.get("refine")).refine
    frames = max(original.features.shape[1] for original in originals)
    features = np.full((len(originals), mel.bands, frames), mel.silence, np.float32)  # as beyond the end of features
    for row, original in zip(features, originals, strict=True):
        row[:, : original.features.shape[1]] = original.features
    seeds = [original.seed for original in originals]
    given: SessionOptions = {**without_refine(options), "features": features, "seed": seeds, "count": len(originals)}
    with warnings.catch_warnings():  # the caller has them for each recording
        warnings.simplefilter("ignore")
        session = generator.session(**given)
    with ExitStack() as files:
        copies = [
            _Copy(
                files.enter_context(AudioWriter(path, generator.sample_rate, keep=False)),
                file_refiner(original.features, mel, iterations, original.samples) if iterations else None,
                original.samples,
            )
            for original, path in zip(originals, paths, strict=True)
        ]
        for block in _blocks(session, max(original.samples for original in originals), generator.sample_rate):
            advance(sum(min(block.shape[1], copy.left) for copy in copies))
            for index, copy in enumerate(copies):
                if copy.add(block[index]):
                    yield index


def write_streams(
    generator: Generator, seed: int, paths: Sequence[Path], samples: int, options: RenderOptions, advance: Advance
) -> Iterator[int]:
    """Generate streams of `samples` samples with the seeds from `seed` on, likewise; options: as of `Generator.render`.

    Yields the index of each when it is complete: all of them at the end.
    """
    iterations, mel = generator.options(refine=options.get("refine")).refine, generator.config.features
    given: SessionOptions = {**without_refine(options), "seed": seed, "count": len(paths)}
    session = generator.session(**given)
    source: Session | RefinedSession = session
    if iterations and mel is not None:
        primed = primed_audio(session, options.get("prime"))
        source = refined(session, mel, iterations, samples, live=False, primed=primed)
    with ExitStack() as stack:
        files = [stack.enter_context(AudioWriter(path, generator.sample_rate, keep=False)) for path in paths]
        for block in _blocks(source, samples, generator.sample_rate):
            advance(block.size)
            for file, audio in zip(files, block, strict=True):
                file.write(audio)
        for index, file in enumerate(files):
            file.close()
            yield index


def without_refine(options: RenderOptions) -> SessionOptions:
    """The options of the session."""
    return cast(SessionOptions, {name: value for name, value in options.items() if name != "refine"})


def _blocks(source: Session | RefinedSession, total: int, sample_rate: int) -> Iterator[Audio]:
    """The next `total` samples, in blocks [count, n]."""
    size = max(1, round(BLOCK_SECONDS * sample_rate))
    for done in range(0, total, size):
        yield source.next(min(size, total - done))
