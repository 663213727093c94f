"""The clip that a validation generates, and the recordings that it is compared with.

All of it depends on the recipe, the recordings and the weights only: a continued run generates the same clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavenet import engine
from wavenet.data.clips import Clips
from wavenet.data.dataset import Recordings
from wavenet.data.errors import printable
from wavenet.data.pcm import to_float32
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import sampling
from wavenet.evaluation import likelihood
from wavenet.evaluation.spectrogram import picture
from wavenet.evaluation.verdict import BITS, NATS, SHORTEST, Point, Verdict, verdict_of
from wavenet.evaluation.voice_figures import VoiceFigures, voice_figures
from wavenet.generate import Generator
from wavenet.model import WaveNet
from wavenet.training.recipe import Recipe
from wavenet.two_tiers import TwoTiers

BLOCK = 1_000  # samples generated between two reports of progress
SLOW_SECONDS = 2.0  # of a clip, at most, where the native engine is not installed
REFERENCE_SECONDS = 60.0  # of recordings that clips are compared with
PIECE_SECONDS = 20.0  # of one recording among them, at most
LONGEST_NOTE = 300  # characters

Progress = Callable[[int, int], None]  # called with the number of samples generated, and of all samples


class Clip(NamedTuple):
    """Generated audio, and the recordings that it is drawn beside: float32 [samples] each."""

    audio: NDArray[np.float32]
    recording: NDArray[np.float32]


class ValidationClips:
    """Generates the clips of a run, always with the same seed, so that they can be compared.

    A network with features copies held-out recordings, one after the other until the clip is long enough; but one with
    a frame model draws the features, and uses the model's sampling options. Others continue silence; where nothing is
    copied, with speakers, as the speaker of the first held-out recording.
    """

    def __init__(self, recipe: Recipe, recordings: Recordings) -> None:
        self.model, self.training, self.recordings = recipe.model, recipe.training, recordings
        native = engine.native_installed()
        seconds = self.training.clip_seconds if native else min(self.training.clip_seconds, SLOW_SECONDS)
        self.engine = "native" if native else "torch"
        self.samples = max(1, round(seconds * self.model.sample_rate)) if seconds else 0

    @property
    def source(self) -> Clips:
        """The held-out recordings, or those for training if there are none."""
        return self.recordings.validation if len(self.recordings.validation) else self.recordings.train

    @property
    def copies(self) -> bool:
        """Whether the clips are copies of recordings."""
        return self.model.features is not None and self.model.frame_model is None

    def generate(self, model: WaveNet, progress: Progress) -> Clip:
        """A clip from the network; empty if the recipe wants none."""
        if not self.samples:
            return Clip(np.zeros(0, np.float32), np.zeros(0, np.float32))
        if isinstance(model, TwoTiers):
            audio = self._drawn(model, progress)
            return Clip(audio, self.reference[: len(audio)])
        player = engine.create(self.engine, self.model, model.state_dict())
        total = min(self.samples, int(self.source.lengths.sum())) if self.copies else self.samples
        random = sampling.uniform_generator(self.training.seed)
        codes, recordings, done = [], [], 0
        for clip, samples in self._lengths(total):
            conditioning = None
            if self.model.conditioned:
                conditioning = likelihood.clip_conditioning(self.model, self.source, clip, samples=samples)
            streams = player.new_state(1, conditioning)
            uniforms = random.random((1, samples))
            for start in range(0, samples, BLOCK):
                progress(done, total)
                codes.append(player.generate(streams, uniforms[:, start : start + BLOCK], sampling.Sampling())[0])
                done += len(codes[-1])
            if self.copies:
                recordings.append(to_float32(self.source.clip(clip, 0, samples)))
        audio = quantizer_for(self.model.output).decode(np.concatenate(codes))
        return Clip(audio, np.concatenate(recordings) if self.copies else self.reference[: len(audio)])

    def _drawn(self, model: TwoTiers, progress: Progress) -> NDArray[np.float32]:
        """A clip from a network with a frame model."""
        speaker = likelihood.speaker_of_clip(self.model, self.source, 0)
        generator = Generator.from_model(model, engine=self.engine)
        seconds = self.samples / model.config.sample_rate
        return generator.render(seconds, progress, seed=self.training.seed, speaker=speaker)

    def assess(self, clip: Clip, step: int, history: Sequence[Point], ended: bool) -> tuple[Verdict, str]:
        """The verdict on a clip, and its picture.

        history: the validations so far, this one included; of a network with a frame model, those of the frame model,
            which decides about level, pauses and pitch. ended: whether the budget is spent.
        What fails here must not end a training: it is a note in the verdict. The picture is then empty.
        """
        figures: tuple[VoiceFigures | None, VoiceFigures | None] = (None, None)
        drawn, note = "", ""
        try:
            if len(clip.audio) >= SHORTEST * self.model.sample_rate:
                figures = self._figures(clip)
            if len(clip.audio):
                panels = [(f"step {step:,}, generated", clip.audio), ("recording", clip.recording)]
                drawn = picture(panels, self.model.sample_rate)
        except Exception as error:
            reason = printable(str(error) or type(error).__name__, LONGEST_NOTE)
            note = f"the clip of step {step:,} could not be measured or drawn: {reason}"
        unit = BITS if self.model.frame_model is None else NATS
        return verdict_of(*figures, history, ended, note, unit), drawn

    def _figures(self, clip: Clip) -> tuple[VoiceFigures, VoiceFigures]:
        """Those of the clip, and those of the recordings: of the copied ones, or of about a minute of others."""
        own = voice_figures(clip.audio, self.model.sample_rate)
        return own, voice_figures(clip.recording, self.model.sample_rate) if self.copies else self.reference_figures

    @cached_property
    def reference(self) -> NDArray[np.float32]:
        """About a minute of recordings, float32 [samples], in a random order that depends on the seed only.

        Held-out recordings first, then recordings for training. With speakers: of that of the clips.
        """
        pieces, left = [], round(REFERENCE_SECONDS * self.model.sample_rate)
        rng = np.random.default_rng(self.training.seed)
        speaker = likelihood.speaker_of_clip(self.model, self.source, 0)
        for clips in (self.recordings.validation, self.recordings.train):
            chosen = np.arange(len(clips)) if speaker is None else clips.of_speaker(speaker)
            for clip in rng.permutation(chosen).tolist():
                if not left:
                    break
                length = int(clips.lengths[clip])
                samples = min(length, left, round(PIECE_SECONDS * self.model.sample_rate))
                start = int(rng.integers(length - samples + 1))
                pieces.append(to_float32(clips.clip(clip, start, start + samples)))
                left -= samples
        return np.concatenate(pieces)

    @cached_property
    def reference_figures(self) -> VoiceFigures:
        return voice_figures(self.reference, self.model.sample_rate)

    def _lengths(self, total: int) -> Iterator[tuple[int, int]]:
        """The recordings that condition a clip of `total` samples, and the number of samples from each."""
        if not self.copies:
            yield 0, total
            return
        for clip, length in enumerate(self.source.lengths.tolist()):
            if total <= 0:
                return
            yield clip, min(length, total)
            total -= length
