"""Generate audio with a model: `Generator` renders and streams; `Session` is a stream whose options can be changed.

The same seed gives the same audio, within these limits:

- Mu-law models: in precision "f32" all engines, instruction sets, block sizes, thread counts and batches give the same
  codes (stream i of a batch with seed s is the single stream with seed s + i), until a uniform random number falls
  between two probabilities that differ in the last bits of a float32.
- 16-bit models: on one engine and one instruction set, all block sizes and thread counts give the same codes; on the
  native engine all batches, too. Between engines, instruction sets and versions of PyTorch, rounding makes the audio
  differ after some thousand samples.
- Models of two tiers: the seed determines the frames, too, with other random numbers than those of the samples. Frames
  are the same in all engines, block sizes and batches, and do not depend on the samples.
- A stream of a model that is too slow for float32 is generated in int8, unless `precision` is given; see
  `Generator.live`.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import engine as engines
from wavenet.checks import is_integer, shown
from wavenet.config import ModelConfig
from wavenet.controls import Control
from wavenet.engine.base import check_memory
from wavenet.engine.conditioning import Speaker, placeholder_conditioning, speaker_shares
from wavenet.guided import GuidedSession
from wavenet.level_session import LevelSession
from wavenet.refined_session import KeptFrames, RefinedSession, primed_audio
from wavenet.sampling_config import SILENT_DBFS, SamplingConfig, checked_temperature
from wavenet.session import RenderOptions, Session, SessionOptions, StreamInputs, warn_of_features
from wavenet.two_tier_session import FrameTier, TwoTierSession

if TYPE_CHECKING:
    from wavenet.model import WaveNet

__all__ = ["Generator", "RenderOptions", "Session", "SessionOptions", "silent_share", "total_of"]

KEEPS_UP = 1.1  # x real time at which a generator keeps up with playback
MEASURED_SECONDS = 0.04  # of audio that are generated to measure that
BLOCK = 1_600  # samples per block of a stream: 100 ms at 16 kHz
REFINING_BYTES = 24  # per sample, while audio is refined: copies in float32
SILENT_FRAME_SECONDS = 0.02


class Generator:
    """A model ready to generate audio. Sessions of one generator are independent of each other."""

    def __init__(
        self,
        engine: engines.Engine[Any],
        in_int8: Callable[[], engines.Engine[Any]] | None = None,
        frame_tier: FrameTier | None = None,
    ) -> None:
        """in_int8: creates a faster engine for the same model; None: `live` always is this generator.

        frame_tier: the model's; None: it has none, or features will always be given.
        """
        self._engine, self._in_int8, self._frame_tier = engine, in_int8, frame_tier
        self._live: Generator | None = None  # once it is known

    @classmethod
    def load(
        cls, path: str | PathLike[str], engine: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> Self:
        """A generator from a model file or run directory.

        Options and errors as of `wavenet.engine.create`; raises `CheckpointError` for a file that cannot be used.
        """
        from wavenet.checkpoint import read_model  # does not import PyTorch, which the native engine does not need

        config, weights = read_model(path)
        return cls._created(engine, config, weights, precision, threads)

    @classmethod
    def from_model(
        cls, model: WaveNet, engine: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> Self:
        """A generator from a model in memory, whose weights are copied.

        Options as of `load`; "auto" is "torch" where `Head.activation` is not ReLU, which the native engine does not
        support. Raises `ValueError` for layers and heads that the engine would not follow, and errors as of `load`.
        """
        engine = _engine_for(model, engine)
        weights = copy.deepcopy(model.state_dict())  # the model may be trained further before `live` needs them
        return cls._created(engine, model.config, weights, precision, threads)

    @classmethod
    def _created(
        cls, engine: str, config: ModelConfig, weights: Mapping[str, Any], precision: str, threads: int | None
    ) -> Self:
        created = engines.create(engine, config, weights, precision, threads)
        frames = FrameTier(config, weights, created.name) if config.frame_model is not None else None
        if created.name != "native" or precision != "auto":
            return cls(created, None, frames)
        return cls(created, partial(engines.create, "native", config, weights, "int8", threads), frames)

    @property
    def config(self) -> ModelConfig:
        """The configuration of the model."""
        return self._engine.config

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.config.sample_rate

    @property
    def engine(self) -> str:
        """Name of the engine in use, never "auto"."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """Precision in use, never "auto"."""
        return self._engine.precision

    @property
    def state_bytes(self) -> int:
        """Memory that a session's state takes, about; 0 where it is not known."""
        return self._engine.state_bytes

    def live(self) -> Generator:
        """A generator of the same model that keeps up with real time, as far as one does.

        That is this one; but where `precision` is "auto", float32 does not keep up on this machine, and int8 does, it
        is one in int8, with a warning. The speed is measured once.
        """
        if self._live is None:
            self._live = self._found_live()
        return self._live

    def _found_live(self) -> Generator:
        if self._in_int8 is None or self._times_real_time() >= KEEPS_UP:
            return self
        faster = type(self)(self._in_int8(), None, self._frame_tier)
        if faster._times_real_time() < KEEPS_UP:
            return self
        warnings.warn("generating in int8: float32 does not keep up with real time on this machine", stacklevel=4)
        return faster

    def _times_real_time(self) -> float:
        """Speed of generation with the model's sampling options, refinement included.

        The best of three measurements, in the processor time of this thread, so that it does not depend on how busy the
        machine is.
        """
        samples = round(MEASURED_SECONDS * self.sample_rate)
        speaker, features = placeholder_conditioning(self.config, 9 * samples)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that are silence
            session = self.session(speaker=speaker, features=features)
        source: Session | RefinedSession = session
        if self.config.sampling.refine and self.config.features is not None:
            source = RefinedSession(session, self.config.features, self.config.sampling.refine, None)
            source.next(2 * samples)  # more than the look-ahead
        source.next(samples)  # allocates, and tunes the number of threads
        seconds = _least_seconds(lambda: source.next(samples)) / MEASURED_SECONDS  # for a second of audio
        if self._frame_tier is not None:
            sampler = self._frame_tier.sampler(speaker_shares(self.config, 1, speaker))
            seconds += _least_seconds(lambda: sampler.next(1)) * self.sample_rate / self.config.hop
        return 1 / max(seconds, 1e-9)

    def options(self, **given: Any) -> SamplingConfig:
        """The sampling options of the model with those that are given; None: not given.

        Raises `ValueError`, in one line, for options that are out of range or not used by this model.
        """
        options = self.config.sampling.updated(**given)
        options.check(self.config.output, self.config.features, self.config.frame_model)
        return options

    def feature_warnings(self, features: ArrayLike) -> list[str]:
        """What `session` warns of for features [bands, N]: how they are unlike those that the model was trained on."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_of_features(self._engine, np.asarray(features, np.float32)[None])  # [1, bands, N]
        return [str(warning.message) for warning in caught]

    def session(
        self,
        seed: int | Sequence[int] = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        count: int | None = None,
        prime: ArrayLike | None = None,
        speaker: Speaker | None = None,
        features: ArrayLike | None = None,
        voiced_temperature: float | None = None,
        particles: int | None = None,
        pitch: Control | None = None,
        loudness: Control | None = None,
        mute: Iterable[int] | None = None,
    ) -> Session:
        """A new stream that continues silence, or `prime`.

        Without features, a model of two tiers draws them: it is a `wavenet.two_tier_session.TwoTierSession`, without
        end. Its temperature is that of the frames, `frame_temperature` in `SamplingConfig`; the samples are drawn with
        the model's own. It has no particles. A model without features whose file states the levels of its recordings
        keeps them at every temperature, see `wavenet.level_session`.

        temperature, top_k, top_p, voiced_temperature, particles: see `SamplingConfig`; None: the model's,
            `config.sampling`. With particles it is a `wavenet.guided.GuidedSession`.
        seed: of the uniform random numbers; stream i of a batch uses those of seed + i. Or a seed for each stream, not
            for a model of two tiers that draws its features. See the module's docstring for what a seed determines.
        count: number of streams in a batch, the first axis of the audio; None: one stream, without that axis.
        prime: audio to continue, float [n] in [-1, 1] at the model's sample rate for all streams, or [count, n].
        speaker: for a model with speakers: a name, or a mixture such as {"ann": 0.3, "bob": 0.7}.
        features: for a model that is conditioned on them: log-mel frames [bands, N] for all streams, or
            [count, bands, N], with the parameters in `config.features`; `wavenet.features.mel_spectrogram` computes
            them from audio. The first frame starts at the first sample of the stream, or of `prime`.
        pitch, loudness: for a model of two tiers without features: in Hz and dBFS, a value for all frames or one for
            each [frames], NaN for those that are the model's choice; see `wavenet.controls`.
        mute: layers without their gated activation z, by their indices from 0; see `Session.mute`.
        Raises `ValueError`, in one line, for options that are invalid, missing or not used by this model.
        """
        given = {"top_k": top_k, "top_p": top_p, "voiced_temperature": voiced_temperature}
        if self._frame_tier is not None and features is None:
            if particles:
                raise ValueError(f"particles = {shown(particles)}: only for given features, which this model draws")
            temperature = None if temperature is None else checked_temperature(temperature)
            options = self.options(frame_temperature=temperature, **given)
            if isinstance(seed, Sequence):
                raise ValueError("seed: one number, as this model draws its features")
            frames = self._frame_tier
            return TwoTierSession(self._engine, frames, options, seed, count, speaker, prime, mute, pitch, loudness)
        for name, value in {"pitch": pitch, "loudness": loudness}.items():
            if value is not None:
                reason = "the features are given" if self._frame_tier is not None else "this model has no frame model"
                raise ValueError(f"{name}: controls the frames that a frame model draws, and {reason}")
        options = self.options(temperature=temperature, particles=particles, **given)
        kind = LevelSession if self.config.recorded_levels is not None else Session
        session = GuidedSession if options.particles else kind
        inputs: StreamInputs = {"speaker": speaker, "features": features, "prime": prime, "mute": mute}
        return session(self._engine, options, seed, count, **inputs)

    def stream(
        self,
        seconds: float | None = None,
        block: int = BLOCK,
        refine: int | None = None,
        **options: Unpack[SessionOptions],
    ) -> Iterator[NDArray[np.float32]]:
        """Iterate over blocks of audio, float32 [block] or [count, block]; the last one may be shorter.

        seconds: length of the audio; None: to the end of the features, or without end if none are given.
        refine: iterations that adapt the audio to its features; 0: none; None: the model's. The audio is then generated
            ahead of the blocks, by the look-ahead of `wavenet.consistency.StreamingRefiner`.
        It is generated by `live`, which can be faster than `render` and then gives other audio.
        Other options and errors as of `session`; errors are raised by this call, not at the first block.
        """
        if not is_integer(block) or block < 1:
            raise ValueError(f"block = {shown(block)}: must be a whole number of samples from 1")
        total = None if seconds is None else self.samples(seconds)
        iterations = self.options(refine=refine).refine
        session = self.live().session(**options)
        total = total_of(session, total)
        if not iterations:
            return _blocks(session, int(block), total)
        mel = self.config.features
        assert mel is not None  # as `options` has checked
        refined = RefinedSession(session, mel, iterations, total, primed=primed_audio(session, options.get("prime")))
        return _blocks(refined, int(block), total)

    def render(
        self,
        seconds: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        refine: int | None = None,
        **options: Unpack[SessionOptions],
    ) -> NDArray[np.float32]:
        """Generate `seconds` of audio: float32 [samples] in [-1, 1], or [count, samples] if `count` is given.

        seconds: None: to the end of the features; required unless features are given.
        progress: called as progress(samples done, samples in total) twenty times per second of audio.
        refine: iterations of `wavenet.consistency.refine`, after all audio is generated; 0: none; None: the model's.
        Other options and errors as of `session`; raises `ValueError` also for audio that does not fit into memory.
        """
        iterations = self.options(refine=refine).refine
        session = self.session(**options)
        total = total_of(session, None if seconds is None else self.samples(seconds))
        if total is None:
            raise ValueError("seconds: give the length of the audio")
        streams = options.get("count")
        size = (4 + REFINING_BYTES * bool(iterations)) * total * (streams or 1)
        check_memory(f"{total:,} samples", size, "generate them block by block, with stream")
        audio = np.empty(total if streams is None else (streams, total), np.float32)
        done, kept = 0, KeptFrames(session) if iterations else None
        for block in _blocks(session, max(1, self.sample_rate // 20), total):
            audio[..., done : done + block.shape[-1]] = block
            done += block.shape[-1]
            if kept is not None:
                kept.add()
            if progress is not None:
                progress(done, total)
        if kept is None or self.config.features is None:
            return audio
        return kept.refined(audio, options.get("prime"), self.config.features, iterations)

    def samples(self, seconds: float) -> int:
        """Number of samples in `seconds`. Raises `ValueError` for a length below one sample or not finite."""
        try:
            samples = round(float(seconds) * self.sample_rate)
        except (TypeError, ValueError, OverflowError):  # not a number, NaN, infinity
            samples = 0
        if samples < 1:
            raise ValueError(
                f"seconds = {shown(seconds)}: must be at least one sample (1/{self.sample_rate} s) and finite"
            )
        return samples


def _least_seconds(call: Callable[[], object]) -> float:
    """The least of three processor times of this thread."""
    seconds = []
    for _ in range(3):
        started = time.thread_time()
        call()
        seconds.append(time.thread_time() - started)
    return min(seconds)


def _engine_for(model: WaveNet, engine: str) -> str:
    """The engine to use for a model that may have been modified. Raises `ValueError` where it would not follow it."""
    from torch.nn import functional as F

    from wavenet.model import Head, ResidualLayer

    if type(model.head) is not Head or any(type(layer) is not ResidualLayer for layer in model.layers):
        raise ValueError("the model has layers or a head of another class; engines run those in wavenet/model.py")
    if model.head.activation is not Head.activation:
        raise ValueError("model.head.activation: engines use that of the class; assign it to wavenet.model.Head")
    if Head.activation is F.relu or engine not in ("auto", "native"):
        return engine
    if engine == "native":
        raise ValueError("engine = 'native': supports ReLU only, not another Head.activation; use engine='torch'")
    return "torch"


def total_of(session: Session, samples: int | None) -> int | None:
    """Number of samples to generate: `samples`, or up to the end of the features; None: without end.

    Raises `ValueError` if the features end earlier, or with the primed audio.
    """
    left = session.left
    if left is None:
        return samples
    if left == 0:
        raise ValueError("the features end with the primed audio: there is nothing left to generate")
    if samples is not None and samples > left:
        raise ValueError(f"the features last for {left:,} samples, not for {samples:,}: leave seconds out")
    return left if samples is None else samples


def silent_share(audio: ArrayLike, sample_rate: int) -> float:
    """Share, 0 to 1, of 20 ms frames with an RMS below -50 dBFS in audio [n] or [count, n] in [-1, 1].

    An incomplete last frame is ignored, unless it is the only one. Raises `ValueError` for empty audio.
    """
    samples = np.atleast_2d(np.asarray(audio, dtype=np.float64))  # [count, n]
    if samples.size == 0:
        raise ValueError("the audio is empty: it has no silent share")
    frame = min(max(1, round(SILENT_FRAME_SECONDS * sample_rate)), samples.shape[1])
    whole = samples[:, : samples.shape[1] // frame * frame]
    power = np.square(whole.reshape(len(samples), -1, frame)).mean(axis=2)  # [count, frames]
    return float((power < 10 ** (SILENT_DBFS / 10)).mean())


def _blocks(session: Session | RefinedSession, block: int, total: int | None) -> Iterator[NDArray[np.float32]]:
    done = 0
    while total is None or done < total:
        samples = block if total is None else min(block, total - done)
        yield session.next(samples)
        done += samples
