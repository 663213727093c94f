"""Folders of audio: copies of all recordings of a folder, or many streams, in files with a manifest.

The audio of a file is what it is by itself: it does not depend on the streams beside it, nor on the number of
processes. A file that is complete is not made again, unless the manifest says that it was made with another model, seed
or options, or from a recording that has changed since. See `wavenet.batch.manifest` and `wavenet.batch.workers`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wavenet.batch import jobs, streams
from wavenet.batch.jobs import Job
from wavenet.batch.manifest import Entry, Manifest, agrees, now
from wavenet.batch.workers import Workers
from wavenet.checkpoint import model_file
from wavenet.checks import is_integer, shown
from wavenet.config import ConfigError
from wavenet.data import audio, files
from wavenet.data.audio_writer import FORMATS, check_length
from wavenet.data.errors import AudioError, printable
from wavenet.engine.conditioning import placeholder_conditioning
from wavenet.engine.sampling import uniform_generator
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator, RenderOptions

MANIFEST = "manifest.jsonl"  # in the output folder
STREAMS = 8  # side by side, by default: more are not faster
MOST_STREAMS = 256
LEFT_OVER_SECONDS = 3600  # since a file that is not complete was last written to


@dataclass(frozen=True)
class BatchOptions:
    """How a batch is computed, and the format of its files.

    engine, precision, threads: as of `Generator.load`; threads: one by default if there are several processes.
    streams: side by side, at most. extension: .wav, .flac or .ogg.
    """

    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    streams: int = STREAMS
    extension: str = ".wav"

    def __post_init__(self) -> None:
        if not 1 <= self.streams <= MOST_STREAMS:
            raise ValueError(f"streams = {self.streams}: must be from 1 to {MOST_STREAMS}")
        if self.extension not in FORMATS:
            raise ValueError(f"extension = {self.extension!r}: audio is written as {', '.join(FORMATS)}")


@dataclass(frozen=True)
class BatchProgress:
    """What all processes together have done in this run, and what there is to do in it."""

    files: int
    all_files: int
    seconds: float  # of audio
    all_seconds: float


@dataclass(frozen=True)
class BatchResult:
    """What all processes together did."""

    manifest: Path
    made: int  # files
    kept: int  # files that were complete already
    failed: int  # recordings that cannot be read
    warned: int  # files with warnings in the manifest
    seconds: float  # of audio, in the files made
    elapsed: float  # seconds
    engine: str
    precision: str


Progress = Callable[[BatchProgress], None]
Report = Callable[[Entry], None]  # called with the entry of a recording that cannot be read


def vocode_folder(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: RenderOptions | None = None,
    batch: BatchOptions | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
    report: Report | None = None,
) -> BatchResult:
    """Write a copy of every recording below `folder` to `output`, as `wavenet vocode` does for one.

    options: as of `Generator.render`, the same for all recordings, the seed included.
    A recording that cannot be read is an entry with an `error` in the manifest, and is tried again by the next call.
    Raises `DatasetError` for a folder without recordings, `ConfigError` for a model without features, `ValueError` for
    other options that are invalid, `CheckpointError`, and `AudioError` or `OSError` where `output` cannot be written.
    """
    root = Path(folder)
    seed, given = _without_seed(options)
    settings = batch or BatchOptions()
    run = _Run(model, Path(output), given, settings, workers or Workers(), progress, report)
    if run.generator.config.features is None:
        raise ConfigError(f"{printable(model)}: not conditioned on spectrograms; use wavenet generate")
    run.check()

    # guided sampling takes the end of the features into account, which would be later in a group
    guided = run.generator.options(particles=run.options.get("particles")).particles
    most = 1 if guided else settings.streams

    def plan() -> list[Job]:
        jobs.check_apart(root, run.output)
        return jobs.recordings(root, settings.extension, seed)

    def grouped(pending: list[Job]) -> list[list[Job]]:
        lengths = [job.seconds for job in pending]
        return [[pending[i] for i in group] for group in jobs.groups(lengths, most, run.workers.count)]

    return run(plan, grouped, lambda group: _copies(run, root, group))


def generate_folder(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    seconds: float,
    count: int,
    options: RenderOptions | None = None,
    batch: BatchOptions | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> BatchResult:
    """Write `count` streams of `seconds` of audio to `output`: seed-7.wav is the stream with seed 7.

    options: as of `Generator.render`; its seed is the first one. Errors as of `vocode_folder`.
    """
    if not is_integer(count) or count < 1:
        raise ValueError(f"count = {shown(count)}: must be a whole number from 1")
    first, given = _without_seed(options)
    settings = batch or BatchOptions()
    made_with = {**given, "seconds": seconds}
    run = _Run(model, Path(output), given, settings, workers or Workers(), progress, None, made_with)
    samples = run.generator.samples(seconds)
    run.check()
    check_length(f"seed{settings.extension}", samples, run.generator.sample_rate)

    def plan() -> list[Job]:
        return [Job(f"seed-{seed}{settings.extension}", seconds, seed) for seed in range(first, first + count)]

    def grouped(pending: list[Job]) -> list[list[Job]]:
        size = len(jobs.groups([seconds] * len(pending), settings.streams, run.workers.count)[0]) if pending else 1
        return jobs.consecutive(pending, size)

    return run(plan, grouped, lambda group: _streams(run, samples, group))


class _Run:
    """One call of the functions above: which files are to be made, by whom, and what is written down."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        output: Path,
        options: Mapping[str, Any],
        batch: BatchOptions,
        workers: Workers,
        progress: Progress | None,
        report: Report | None,
        made_with: Mapping[str, Any] | None = None,
    ) -> None:
        """options: as of `Generator.render`. made_with: what else than the model and the seed determines the audio."""
        threads = 1 if batch.threads is None and workers.count > 1 else batch.threads
        self.generator = Generator.load(model, batch.engine, batch.precision, threads)
        self.output, self.options, self.workers = output, RenderOptions(**options), workers  # type: ignore[typeddict-item]
        self._progress, self._report = progress, report
        self._manifest = Manifest(output / MANIFEST, "output", workers.rank)
        described = {name: _described(value) for name, value in (made_with or options).items() if value is not None}
        engine = {"engine": self.generator.engine, "precision": self.generator.precision}
        self._made_with: Entry = json.loads(
            json.dumps({"model": _digest(model_file(model).read_bytes()), "options": {**described, **engine}})
        )
        self._all = BatchProgress(0, 0, 0.0, 0.0)

    def check(self) -> None:
        """Raises `ValueError` for options that are invalid, now and not with the first files."""
        config = self.generator.config
        _, features = placeholder_conditioning(config, 1)
        self.generator.options(refine=self.options.get("refine"))
        given = {**streams.without_refine(self.options), "count": 1}
        if features is not None and config.frame_model is None:
            given["features"] = features
        self.generator.session(**given)  # type: ignore[arg-type]

    def __call__(
        self,
        plan: Callable[[], list[Job]],
        grouped: Callable[[list[Job]], list[list[Job]]],
        make: Callable[[list[Job]], Iterator[Entry]],
    ) -> BatchResult:
        """Make the files that are missing. plan: all of them; make: yields the entry of every file of a group."""
        started = time.monotonic()
        kept, rows = self.workers.agree(lambda: self._plan(plan, grouped))
        groups = [[Job(*row) for row in group] for group in rows]
        every = [job for group in groups for job in group]
        self._all = BatchProgress(0, len(every), 0.0, sum(job.seconds for job in every))
        made, failed, warned, seconds = 0, 0, 0, 0.0
        try:
            while (claimed := self.workers.count_up("groups")) <= len(groups):
                for entry in make(groups[claimed - 1]):
                    self._manifest.add(entry)
                    self.workers.count_up("files")
                    made, failed = made + (not entry["error"]), failed + bool(entry["error"])
                    warned, seconds = warned + bool(entry["warnings"]), seconds + entry["seconds"]
                    self.advance(0)
        except KeyboardInterrupt:
            if self.workers.count == 1:
                self._manifest.merge()
            raise
        totals = [sum(values) for values in zip(*self.workers.exchange([made, failed, warned, seconds]), strict=True)]
        if self.workers.is_first:
            self._manifest.merge()
        engine, elapsed = self.generator, time.monotonic() - started
        made, failed, warned = (round(total) for total in totals[:3])
        return BatchResult(
            self._manifest.path,
            made,
            kept,
            failed,
            warned,
            totals[3],
            elapsed,
            engine.engine,
            engine.precision,
        )

    def _plan(
        self, plan: Callable[[], list[Job]], grouped: Callable[[list[Job]], list[list[Job]]]
    ) -> tuple[int, list[list[list[Any]]]]:
        """How many files are complete already, and the groups of the others."""
        every = plan()
        self.output.mkdir(parents=True, exist_ok=True)
        files.check_writable(self._manifest.path)
        _remove_left_over(self.output)
        entries = self._manifest.merge()
        pending = [job for job in every if not self._is_complete(job, entries.get(job.output))]
        for job in pending:
            entries.pop(job.output, None)
        self._manifest.write(entries.values())
        groups = [[list(dataclasses.astuple(job)) for job in group] for group in grouped(pending)]
        return len(every) - len(pending), groups

    def _is_complete(self, job: Job, entry: Entry | None) -> bool:
        """Whether the file of a job is there, made from the same input with the same model, seed and options."""
        if entry is None or entry.get("error") or not agrees(entry, self._described_job(job)):
            return False
        try:
            return (self.output / job.output).stat().st_size == entry.get("bytes")
        except OSError:
            return False

    def _described_job(self, job: Job) -> Entry:
        source = {"input": job.input, "input_bytes": job.size, "input_changed": job.changed}
        return {"output": job.output, **(source if job.input else {}), "seed": job.seed, **self._made_with}

    def entry(
        self, job: Job, began: float, seconds: float = 0.0, error: str = "", warned: list[str] | None = None
    ) -> Entry:
        """What the manifest says about a file. began: when its group did, in seconds of the monotonic clock."""
        return {
            **self._described_job(job),
            "seconds": round(seconds, 6),
            "bytes": 0 if error else (self.output / job.output).stat().st_size,
            "warnings": warned or [],
            "error": error or None,
            "elapsed": round(time.monotonic() - began, 3),
            "finished": now(),
        }

    def path(self, job: Job) -> Path:
        """The file of a job; its folder is made."""
        path = self.output / job.output
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def failed(self, entry: Entry) -> Entry:
        """Report the entry of a recording that cannot be read."""
        if self._report:
            self._report(entry)
        return entry

    def advance(self, samples: int) -> None:
        """Show the progress after so many more samples."""
        done = self.workers.count_up("samples", samples) / self.generator.sample_rate
        if self._progress and self.workers.is_first:
            self._progress(dataclasses.replace(self._all, files=self.workers.count_up("files", 0), seconds=done))


def _copies(run: _Run, root: Path, group: list[Job]) -> Iterator[Entry]:
    """Write the copies of a group of recordings; yields their entries."""
    began, config = time.monotonic(), run.generator.config
    assert config.features is not None  # as checked
    readable, originals = [], []
    for job in group:
        path = root / str(job.input)
        try:
            recording = audio.read(path, config.sample_rate)
        except AudioError as error:
            yield run.failed(run.entry(job, began, error=error.reason))
            continue
        readable.append(job)
        originals.append(streams.Original(mel_spectrogram(recording, config.features), len(recording), job.seed))
    if not readable:
        return
    paths = [run.path(job) for job in readable]
    for index in streams.write_copies(run.generator, originals, paths, run.options, run.advance):
        seconds = originals[index].samples / config.sample_rate
        warned = run.generator.feature_warnings(originals[index].features)
        yield run.entry(readable[index], began, seconds, warned=warned)


def _streams(run: _Run, samples: int, group: list[Job]) -> Iterator[Entry]:
    """Write a group of streams; yields their entries."""
    began = time.monotonic()
    paths, seconds = [run.path(job) for job in group], samples / run.generator.sample_rate
    for index in streams.write_streams(run.generator, group[0].seed, paths, samples, run.options, run.advance):
        yield run.entry(group[index], began, seconds)


def _remove_left_over(output: Path) -> None:
    """Remove files that killed processes did not complete: those that nobody has written to for a while."""
    for path in output.rglob(".*.partial"):
        with suppress(OSError):  # another process may have removed it
            if time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
                path.unlink()


def _without_seed(options: RenderOptions | None) -> tuple[int, dict[str, Any]]:
    """The seed of options, and the others. Raises `ValueError` for a seed that is not one whole number from 0."""
    given: dict[str, Any] = dict(options or {})
    seed = given.pop("seed", 0)
    uniform_generator(seed)
    return int(seed), given


def _described(value: Any) -> Any:
    """A value of an option, or its digest where it is an array or a mapping of objects."""
    if isinstance(value, np.ndarray):
        return _digest(np.ascontiguousarray(value).tobytes())
    return value if isinstance(value, (str, int, float, bool, Mapping)) else repr(value)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
