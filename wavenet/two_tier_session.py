"""A stream of a model of two tiers: `TwoTierSession` draws the frames that its samples are conditioned on.

The frame model draws frames ahead of the samples, as far as the frame network's chunk of the next sample needs them
(`wavenet.engine.conditioning`): a function of the position only, so that the audio does not depend on block sizes.
Frames that nothing needs any more are dropped, so that a stream may last for ever.

    frames    ... dropped | history of the frame model | chunk of the next sample | context |  not drawn yet
    samples   ........................................ played |

A stream that continues silence begins with frames that follow silent ones, `FrameSampler.start`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import controls
from wavenet import engine as engines
from wavenet.config import FRAME_MODEL, MelConfig, ModelConfig
from wavenet.controls import Control, Curve
from wavenet.engine.conditioning import CHUNK, ChunkConditioner, ConditioningInputs, Speaker, speaker_shares
from wavenet.engine.frame_sampler import FrameSampler
from wavenet.features import mel_spectrogram, window_margin
from wavenet.frame_model_config import FrameModelConfig
from wavenet.sampling_config import SamplingConfig, checked_temperature
from wavenet.session import Progress, Session

if TYPE_CHECKING:  # it needs the compiled extension
    from wavenet.engine.native_frames import NativeFrameSampler

    AnyFrameSampler = FrameSampler | NativeFrameSampler

Array = NDArray[np.float32]


@dataclass(frozen=True)
class DrawnFrames:
    """A window of the frames of B streams, and the sampler that continues them."""

    sampler: AnyFrameSampler  # after the last frame; it is copied before it draws
    curves: Mapping[str, tuple[Curve, int]]  # controls that frames were drawn with, and the frame that each begins with
    first: int  # the frame of the stream with which the window begins
    features: Array  # [B, bands, N]

    @property
    def end(self) -> int:
        """The frame of the stream after the window."""
        return self.first + self.features.shape[2]

    def since(self, first: int) -> DrawnFrames:
        """Without the frames before `first`."""
        dropped = max(first - self.first, 0)
        return dataclasses.replace(self, first=self.first + dropped, features=self.features[:, :, dropped:])


class FrameOptions(NamedTuple):
    """What frames are drawn with."""

    temperature: float
    inputs: ConditioningInputs  # whose speaker is used
    curves: Mapping[str, Curve]  # "pitch" and "loudness", as far as there are any

    def sampler_like(self, sampler: AnyFrameSampler) -> AnyFrameSampler:
        """A copy of a sampler with this temperature and speaker."""
        copied = sampler.copy()
        copied.temperature = self.temperature
        if self.inputs.speaker is not None:
            copied.speak(self.inputs.speaker[0])  # the same for all streams
        return copied


@dataclass(frozen=True)
class TwoTierProgress(Progress):
    """Replaced in one assignment, so that frames and samples agree after an interrupted call."""

    drawn: DrawnFrames


class TwoTierSession(Session):
    """A stream or batch whose features are drawn by the frame model; as `Session` in all other respects.

    `temperature` is that of the frames. Like `speaker`, `pitch` and `loudness` it acts on frames that are drawn from
    the next call on: the audio follows after the frames that are drawn ahead, see `delay`.
    """

    ASSIGNABLE = (*Session.ASSIGNABLE, "pitch", "loudness")
    _progress: TwoTierProgress

    def __init__(
        self,
        engine: engines.Engine[Any],
        frame_tier: FrameTier,
        options: SamplingConfig,
        seed: int,
        count: int | None,
        speaker: Speaker | None = None,
        prime: ArrayLike | None = None,
        mute: Iterable[int] | None = None,
        pitch: Control | None = None,
        loudness: Control | None = None,
    ) -> None:
        """Arguments as of `Generator.session`."""
        self._warned = False
        self.pitch, self.loudness = pitch, loudness
        super().__init__(engine, options, seed, count, speaker=speaker, mute=mute)
        self.temperature = options.frame_temperature
        sampler = frame_tier.sampler(self._inputs.speaker, self._streams, seed)
        sampler.start()
        assert self._inputs.features is not None
        drawn = DrawnFrames(sampler, {}, 0, self._inputs.features)
        self._progress = TwoTierProgress(self._progress.state, self._progress.origin, drawn)
        if prime is not None:
            self.prime(prime)

    def _given_inputs(self, speaker: Speaker | None, features: ArrayLike | None) -> ConditioningInputs:
        none = np.empty((self._streams, self._mel.bands, 0), np.float32)
        shares = speaker_shares(self._engine.config, self._streams, speaker)
        return ConditioningInputs(shares, none, speaker, endless=True)

    @property
    def _mel(self) -> MelConfig:
        return cast(MelConfig, self._engine.config.features)

    @property
    def delay(self) -> float:
        """Seconds, at most, from a change of an option to audio from frames that are drawn with it."""
        return (CHUNK + self._engine.config.frame_context[1] + 1) * self._mel.hop / self._mel.sample_rate

    @property
    def temperature(self) -> float:
        """Scales the deviations of the frames' shape: below 1 slurred, above 1 more varied, 0: none; loudness stays."""
        return self._frame_temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._frame_temperature = checked_temperature(value)
        useful = self._engine.config.sampling.frame_temperature_range
        if useful and not self._warned and not useful[0] <= self._frame_temperature <= useful[1]:
            self._warned = True
            found = f"this model was found to be useful from {useful[0]:g} to {useful[1]:g}"
            warnings.warn(f"temperature = {self._frame_temperature:g}: {found}", stacklevel=4)

    @property
    def pitch(self) -> Control | None:
        """The pitch of voiced frames in Hz: one for all, or a curve with a value for each; None: that of the model.

        A curve begins with the next frame that is drawn; after its end, and where it is NaN, the pitch is the model's.
        """
        return None if self._pitch is None else self._pitch.given

    @pitch.setter
    def pitch(self, value: Control | None) -> None:
        self._pitch = controls.checked("pitch", value)

    @property
    def loudness(self) -> Control | None:
        """The loudness of frames in dBFS, see `wavenet.controls`; as `pitch` in all other respects."""
        return None if self._loudness is None else self._loudness.given

    @loudness.setter
    def loudness(self, value: Control | None) -> None:
        self._loudness = controls.checked("loudness", value)

    @property
    def features(self) -> Array | None:
        """The frames that are still kept, [count, bands, N]. Do not write to them."""
        return self._progress.drawn.features

    def frames(self, first: int, last: int | None = None) -> Array:
        """As of `Session`; the last `CHUNK` frames before the last call are kept. Raises `ValueError` for others."""
        if first < self._progress.drawn.first:
            raise ValueError(f"frame {first:,} is not kept: the first one is {self._progress.drawn.first:,}")
        return super().frames(first, last)

    def _inputs_now(self) -> ConditioningInputs:
        return self._inputs_of(self._progress.drawn, self._inputs)

    def copy(self, seed: int | None = None) -> Session:
        """An independent session that continues from the same sample.

        seed: for new uniform numbers, those of the frames that are not drawn yet included; None: the same.
        """
        branch = cast(Self, super().copy(seed))
        if seed is not None:
            drawn = branch._progress.drawn
            sampler = drawn.sampler.copy()
            sampler.reseed(seed)
            drawn = dataclasses.replace(drawn, sampler=sampler)
            branch._progress = dataclasses.replace(branch._progress, drawn=drawn)
        return branch

    def _draw(self, state: engines.State, origin: int, samples: int) -> NDArray[np.int64]:
        # read once, as other threads may assign to them
        sampling, voiced_temperature, options = self._sampling, self._voiced_temperature, self._frame_options
        codes, chunk = [], CHUNK * self._mel.hop
        while samples:
            piece = min(samples, chunk - state.position % chunk)
            drawn, (first, end) = self._progress.drawn, self._needed(state.position)
            if drawn.end < end:
                drawn = _continued(drawn.since(first), end, options)
                self._progress = dataclasses.replace(self._progress, drawn=drawn)
            self._use(state, drawn, options.inputs)
            codes.append(self._draw_with(sampling, voiced_temperature, state, origin, piece))
            samples -= piece
        return np.concatenate(codes, axis=1)

    @property
    def _frame_options(self) -> FrameOptions:
        given = {"pitch": self._pitch, "loudness": self._loudness}
        curves = {name: curve for name, curve in given.items() if curve is not None}
        return FrameOptions(self._frame_temperature, self._inputs, curves)

    def _needed(self, position: int) -> tuple[int, int]:
        """The frames (first, last + 1) that are needed at a position: for the chunk, and those to look back to.

        Those are the context of the network, if it is computed anew, that of the frame model, for `prime`, and the last
        chunk, which `frames` is asked for.
        """
        config, conditioner = self._engine.config, cast(ChunkConditioner, self._engine.conditioner)
        first, end = conditioner.frames_needed(position)
        context = -(-config.context // self._mel.hop)
        history = cast(FrameModelConfig, config.frame_model).receptive_field
        return first - CHUNK - max(context, history), end

    def _condition(self, state: engines.State) -> None:
        state.mute = self._mute
        self._use(state, self._progress.drawn, self._inputs)

    def _use(self, state: engines.State, drawn: DrawnFrames, inputs: ConditioningInputs) -> None:
        """Use these frames, and the speaker of the inputs, from the next sample on."""
        conditioning = state.conditioning
        assert conditioning is not None
        if conditioning.inputs.features is not drawn.features or conditioning.inputs.speaker is not inputs.speaker:
            conditioning.change(self._inputs_of(drawn, inputs))

    def _inputs_of(self, drawn: DrawnFrames, inputs: ConditioningInputs) -> ConditioningInputs:
        return dataclasses.replace(inputs, features=drawn.features, first_frame=drawn.first)

    def _primed(self, codes: NDArray[np.int64]) -> Progress:
        progress, options, state = self._progress, self._frame_options, self._progress.state.copy()
        begin, end = state.position, state.position + codes.shape[1]
        drawn = self._with_clip(progress.drawn, self._quantizer.decode(codes), begin, options)
        drawn = _continued(drawn, self._needed(end - 1)[1], options)
        state.mute = self._mute
        self._use(state, drawn, options.inputs)
        self._engine.prime(state, codes)
        return TwoTierProgress(state, progress.origin + codes.shape[1], drawn)

    def _with_clip(self, drawn: DrawnFrames, audio: Array, begin: int, options: FrameOptions) -> DrawnFrames:
        """The frames up to the sample at `begin`, and those of audio [B, n] whose windows lie inside it.

        Frames between, whose windows contain both, are those that the model drew.
        """
        mel, offset = self._mel, begin % self._mel.hop
        before = window_margin(mel)
        first = 0 if begin == 0 else -(-(begin + before) // mel.hop)
        last = (begin + audio.shape[1] + before - mel.window) // mel.hop + 1
        if last <= first:
            return drawn
        drawn = _continued(drawn, first, options)
        clip = mel_spectrogram(np.pad(audio, ((0, 0), (offset, 0))), mel)[:, :, first - begin // mel.hop :]
        clip = clip[:, :, : last - first]
        features = np.concatenate([drawn.features[:, :, : first - drawn.first], clip], axis=2)
        sampler = options.sampler_like(drawn.sampler)
        history = cast(FrameModelConfig, self._engine.config.frame_model).receptive_field
        sampler.start()
        sampler.prime(features[:, :, -history:])
        return dataclasses.replace(drawn, sampler=sampler, features=features)


def _continued(drawn: DrawnFrames, end: int, options: FrameOptions) -> DrawnFrames:
    """The frames up to `end`, of which those that are missing are drawn."""
    if drawn.end >= end:
        return drawn
    curves, parts, missing = {}, {}, end - drawn.end
    for name, curve in options.curves.items():
        used, begin = drawn.curves.get(name, (None, 0))
        curves[name] = curve, begin if used is curve else drawn.end
        parts[name] = curve.part(drawn.end - curves[name][1], missing)
    sampler = options.sampler_like(drawn.sampler)
    features = np.concatenate([drawn.features, sampler.next(missing, **parts)], axis=2)
    return DrawnFrames(sampler, curves, drawn.first, features)


class FrameTier:
    """The frame model of a model of two tiers, for an engine. Samplers in C++ share their copy of the weights."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, Any], engine: str) -> None:
        """weights: tensors or arrays of the whole model. engine: its name; "native": in C++, as in libwavenet."""
        self._config, self._native = config, engine == "native"
        self._weights = frame_weights(weights)

    @cached_property
    def _in_cpp(self) -> NativeFrameSampler:
        from wavenet.engine.native_frames import NativeFrameSampler

        return NativeFrameSampler(self._config, self._weights)

    def sampler(self, shares: Array | None, streams: int = 1, seed: int = 0) -> AnyFrameSampler:
        """A sampler of B streams. shares [B, speakers]: the same for all streams; None: a model of a single voice."""
        if not self._native:
            return frame_sampler(self._config, self._weights, shares, streams, seed)
        return self._in_cpp.another(streams, seed, None if shares is None else shares[0])


def frame_weights(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Of the tensors or arrays of a model file, those of the frame model, by their names in its own configuration."""
    arrays = {}
    for name, value in weights.items():
        if name.startswith(FRAME_MODEL):
            array = value.detach().float().cpu().numpy() if hasattr(value, "detach") else value
            arrays[name.removeprefix(FRAME_MODEL)] = np.asarray(array, np.float32)
    return arrays


def frame_sampler(
    config: ModelConfig, weights: Mapping[str, ArrayLike], shares: Array | None, streams: int = 1, seed: int = 0
) -> FrameSampler:
    """A sampler of the frame model of a configuration. shares [B, speakers]: the same for all streams."""
    assert config.frame_model is not None and config.features is not None
    speaker = None if shares is None else shares[0]
    voiced = () if config.training_range is None else config.training_range.voiced
    return FrameSampler(config.frame_model, config.features, weights, streams, seed, speaker=speaker, voiced=voiced)
