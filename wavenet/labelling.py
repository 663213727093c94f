"""Label recordings: `Labeller` gives every frame the probability of each class, and joins frames to segments.

    labeller = wavenet.Labeller.load("turns.safetensors")
    labels = labeller(audio, sample_rate=44_100)  # labels.segments, labels.probabilities [frames, classes]

    session = labeller.session(smoothing=0.1)  # audio that arrives in pieces, in constant memory
    for piece in pieces:
        print(session.push(piece).segments)
    print(session.finish().segments)

A recording is computed in blocks of fixed places, each with all the context that its labels depend on: `Labeller` and
sessions give the same values, bit for bit, whatever the sizes of the pieces of audio that are pushed.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet.checks import check_range, check_types, shown
from wavenet.data.label_tracks import Segment
from wavenet.features import frame_margin, transform
from wavenet.segmenting import Segmenter, Smoother

if TYPE_CHECKING:
    from wavenet.labelling_model import LabellingNetwork

BLOCK_SECONDS = {"mel": 20.0, "samples": 2.0}  # computed at a time, by the network's input
LEAST_BLOCK, LONGEST_BLOCK = 0.01, 600.0  # seconds, for sessions
LONGEST_SMOOTHING, LONGEST_MINIMUM = 60.0, 3_600.0  # seconds


@dataclass(frozen=True)
class Labels:
    """The labels of a recording, or of the part of one that a session has completed.

    segments: parts with a label, in seconds from the beginning of the recording; between them there is none.
    probabilities: float32 [frames, classes], smoothed. classes: their names; the first, "", is that of frames without a
        label. frame_seconds: duration of a frame; frame n begins at n times that.
    """

    segments: list[Segment]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    frame_seconds: float


@dataclass(frozen=True)
class LabellingOptions:
    """How probabilities become segments.

    smoothing: seconds over which probabilities are averaged, centred on the frame; 0: not at all.
    min_duration: seconds; shorter segments, and shorter gaps without a label, become part of the segment before them.
    block_seconds: computed at a time, see `Labeller.session`.
    Raises `ConfigError` for values that are not allowed.
    """

    smoothing: float = 0.0
    min_duration: float = 0.0
    block_seconds: float = 20.0

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "block_seconds", LEAST_BLOCK, LONGEST_BLOCK)
        check_range(self, "smoothing", 0.0, LONGEST_SMOOTHING)
        check_range(self, "min_duration", 0.0, LONGEST_MINIMUM)


class Labeller:
    """A labelling model ready to use. Sessions of one labeller are independent of each other."""

    def __init__(self, network: LabellingNetwork) -> None:
        self.network, self.config = network.eval(), network.config

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """A labeller from a model file or run directory. Raises `CheckpointError` for a file that cannot be used."""
        from wavenet.checkpoint import load_labeller

        return cls(load_labeller(path))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; the first, "", is that of frames without a label."""
        return self.config.class_names

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that sessions need."""
        return self.config.sample_rate

    @property
    def frame_seconds(self) -> float:
        """Duration of a frame."""
        return self.config.frame_seconds

    @property
    def look_ahead(self) -> float:
        """Seconds of audio after the end of a frame on which its probabilities depend, without smoothing.

        A session computes blocks (`block_seconds`), so that they are complete up to one block later.
        """
        return (self._samples_up_to(1) - self.config.samples_per_frame) / self.sample_rate

    @property
    def block_seconds(self) -> float:
        """Seconds that are computed at a time, unless a session is given another number."""
        return BLOCK_SECONDS[self.config.input]

    def __call__(
        self, audio: ArrayLike, sample_rate: int | None = None, smoothing: float = 0.0, min_duration: float = 0.0
    ) -> Labels:
        """The labels of a recording, float [samples] in [-1, 1].

        sample_rate: of the audio, in Hz, which is resampled if it is another than the model's; None: the model's.
        smoothing, min_duration: see `LabellingOptions`.
        Raises `ValueError` for audio that is empty or not finite, or of another type or shape, and for the options.
        """
        session = self.session(smoothing, min_duration)
        is_rate = isinstance(sample_rate, numbers.Real) and 0 < sample_rate < math.inf
        if sample_rate is not None and not is_rate:
            raise ValueError(f"sample_rate = {shown(sample_rate)}: must be a number of samples per second above 0")
        samples = _checked(audio)
        if not len(samples):
            raise ValueError("the audio is empty: there is nothing to label")
        if sample_rate not in (None, self.sample_rate):
            import soxr  # slow to import

            samples = soxr.resample(samples, sample_rate, self.sample_rate, quality="HQ")
        parts = session.push(samples), session.finish()
        probabilities = np.concatenate([part.probabilities for part in parts])
        segments = [segment for part in parts for segment in part.segments]
        return Labels(segments, probabilities, self.classes, self.frame_seconds)

    def session(
        self, smoothing: float = 0.0, min_duration: float = 0.0, block_seconds: float | None = None
    ) -> LabellingSession:
        """A recording that arrives in pieces; see `LabellingOptions`.

        block_seconds: computed at a time; with fewer, labels are known earlier after their audio, and take more time to
            compute: each block is computed with the context to both sides. Probabilities differ by rounding only.
        Raises `ConfigError` for values that are not allowed.
        """
        seconds = self.block_seconds if block_seconds is None else block_seconds
        return LabellingSession(self, LabellingOptions(smoothing, min_duration, seconds))

    def window(self, first: int, last: int, total: int) -> tuple[int, int]:
        """The frames [begin, end) of a recording of `total` frames that frames [first, last) depend on."""
        before, after = self.config.context_frames
        return max(0, first - before), min(total, last + after)

    def samples_of(self, begin: int, end: int) -> tuple[int, int]:
        """The samples [start, stop) from which frames [begin, end) of the input are computed; start may be negative."""
        hop, mel = self.config.samples_per_frame, self.config.features
        if mel is None:
            return begin * hop, end * hop
        start = begin * hop - frame_margin(mel)
        return start, start + (end - begin - 1) * hop + mel.fft

    def probabilities(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Those [frames, classes] of the frames of a window, from its samples (`samples_of`)."""
        import torch

        mel = self.config.features
        inputs = np.ascontiguousarray(samples if mel is None else transform(samples, mel))
        with torch.inference_mode():
            device = self.network.output.weight.device
            logits = self.network(torch.from_numpy(inputs)[None].to(device))[0]  # [frames, classes]
            return torch.softmax(logits.float(), dim=-1).numpy(force=True)

    def _samples_up_to(self, last: int) -> int:
        """Samples of the recording that the frames before `last` depend on."""
        _, end = self.window(0, last, last + self.config.context_frames[1])
        return self.samples_of(0, end)[1]


class LabellingSession:
    """Labels a recording that arrives in pieces. Its memory does not grow with the recording.

    Every call returns what it completed; frames and segments follow those of the call before. A frame is complete when
    its block is, the audio that it depends on (`Labeller.look_ahead`), and half of the smoothing after it; a segment,
    when another one of at least `min_duration` follows it.
    """

    def __init__(self, labeller: Labeller, options: LabellingOptions) -> None:
        self.labeller = labeller
        seconds = labeller.frame_seconds
        self._block = max(1, round(options.block_seconds / seconds))  # frames
        self._smoother = Smoother(round(options.smoothing / seconds / 2), len(labeller.classes))
        self._segmenter = Segmenter(math.ceil(options.min_duration / seconds - 1e-6))
        self._pieces: list[NDArray[np.float32]] = []  # of the recording, from the sample `_start` on
        self._start = self._total = 0  # samples
        self._frames = 0  # computed
        self._finished = False

    def push(self, audio: ArrayLike) -> Labels:
        """The next samples of the recording, float [n] in [-1, 1] at the labeller's sample rate; n may be 0.

        Raises `ValueError` for audio that is not finite, or of another type or shape, and after `finish`.
        """
        samples = _checked(audio)
        self._check_unfinished()
        parts = []
        size = self._block * self.labeller.config.samples_per_frame
        for start in range(0, len(samples), size):  # not more at a time: what is kept is copied with every block
            self._pieces.append(samples[start : start + size])
            self._total += len(self._pieces[-1])
            while self._total >= self.labeller._samples_up_to(self._frames + self._block):
                last = self._frames + self._block
                parts.append(self._next_block(last, last + self.labeller.config.context_frames[1]))
        return self._labels(parts, ended=False)

    def finish(self) -> Labels:
        """The rest of the labels: the recording has ended."""
        self._check_unfinished()
        self._finished = True
        frames = -(-self._total // self.labeller.config.samples_per_frame)
        parts = []
        while self._frames < frames:
            parts.append(self._next_block(min(self._frames + self._block, frames), frames))
        return self._labels(parts, ended=True)

    def _next_block(self, last: int, total: int) -> NDArray[np.float32]:
        """The probabilities of the frames up to `last`, in a recording of at least `total` frames; forgets samples."""
        labeller = self.labeller
        begin, end = labeller.window(self._frames, last, total)
        start, stop = labeller.samples_of(begin, end)
        kept = np.concatenate(self._pieces)
        inside = kept[max(start, 0) - self._start : max(stop - self._start, 0)]
        padding = max(-start, 0), stop - max(start, 0) - len(inside)  # zeros beyond the ends of the recording
        found = labeller.probabilities(np.pad(inside, padding))[self._frames - begin : last - begin]
        self._frames = last
        keep = max(0, labeller.samples_of(labeller.window(last, last + 1, last + 1)[0], last + 1)[0])
        self._pieces, self._start = [kept[keep - self._start :].copy()], keep
        return found

    def _labels(self, parts: list[NDArray[np.float32]], ended: bool) -> Labels:
        """Smooth and join the frames that were computed."""
        labeller = self.labeller
        found = np.concatenate([np.zeros((0, len(labeller.classes)), np.float32), *parts])
        smoothed = self._smoother.push(found, ended)
        runs = self._segmenter.push(smoothed.argmax(1), ended)
        hop, rate = labeller.config.samples_per_frame, labeller.sample_rate
        segments = [
            Segment(run.start * hop / rate, min(run.stop * hop, self._total) / rate, labeller.classes[run.label])
            for run in runs
            if run.label
        ]
        return Labels(segments, smoothed, labeller.classes, labeller.frame_seconds)

    def _check_unfinished(self) -> None:
        if self._finished:
            raise ValueError("the session is finished: start another one")


def _checked(audio: ArrayLike) -> NDArray[np.float32]:
    """The audio as float32 [samples]. Raises `ValueError`."""
    samples = np.asarray(audio)
    if samples.ndim != 1:
        raise ValueError(f"the audio must be [samples], one channel, not {list(samples.shape)}")
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"the audio is {shown(samples.dtype.name)}; it must be floating point in [-1, 1]: divide 16-bit samples by "
            "32,768"
        )
    if not np.isfinite(samples).all():
        raise ValueError("the audio contains NaN or infinity; replace those samples first")
    return samples.astype(np.float32)
