"""A stream of audio from a model: `Session`, which `Generator.session` creates."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import warnings
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wavenet import engine as engines
from wavenet.data.quantizers import Quantizer, quantizer_for
from wavenet.engine.base import Exclusive, check_memory
from wavenet.engine.conditioning import Speaker, conditioning_inputs, speaker_shares
from wavenet.engine.feature_check import warn_unusual
from wavenet.engine.sampling import (
    MAX_STREAMS,
    Sampling,
    Uniforms,
    check_continuous,
    checked_voiced_temperature,
    is_integer,
)
from wavenet.nn.linear_prediction import voiced

BYTES_PER_SAMPLE = 28  # uniform number, code, joined code and float32 sample, while a block is made
HIGHEST_PEAK = 10.0  # of audio to prime with, 20 dB above full scale; more is another scale


class SessionOptions(TypedDict, total=False):
    """Options of `session`, `stream` and `render`; see `Generator.session`."""

    seed: int
    temperature: float
    voiced_temperature: float | None
    top_k: int | None
    top_p: float | None
    count: int | None
    prime: ArrayLike | None
    speaker: Speaker | None
    features: ArrayLike | None


class _Progress(NamedTuple):
    """Replaced by one assignment, so that an interrupted call leaves state and uniform numbers in agreement."""

    state: engines.State
    origin: int  # the sample at position p is drawn with uniform number p - origin: priming uses none


class Session:
    """A stream, or `count` of them side by side: `next` generates the next samples.

    `temperature`, `voiced_temperature`, `top_k`, `top_p` and `speaker` may be assigned between calls; wrong values
    raise `ValueError` and change nothing. A call while another thread's call is running raises `RuntimeError` and
    changes nothing. Ctrl-C during a call leaves a whole number of samples generated, which `position` counts and which
    are lost; the next call continues behind them as if it had not happened.
    """

    def __init__(
        self,
        engine: engines.Engine[Any],
        sampling: Sampling,
        seed: int,
        count: int | None,
        speaker: Speaker | None = None,
        features: ArrayLike | None = None,
        voiced_temperature: float | None = None,
        prime: ArrayLike | None = None,
    ) -> None:
        if count is not None and not (is_integer(count) and 1 <= count <= MAX_STREAMS):
            raise ValueError(
                f"count = {count!r}: must be a whole number from 1 to {MAX_STREAMS:,}, or None for one stream without "
                "that axis"
            )
        streams = 1 if count is None else int(count)
        self._engine = engine
        self._quantizer = quantizer_for(engine.config.output)
        self._sampling = self._checked(sampling)
        self._single = count is None
        self._uniforms = Uniforms(seed, streams)
        primed = None if prime is None else _prime_codes(prime, streams, self._quantizer)
        inputs = conditioning_inputs(engine.config, streams, speaker, features)
        if inputs.features is not None and engine.config.features is not None:
            warn_unusual(inputs.features, engine.config.features)
        state = engine.new_state(streams, inputs if engine.config.conditioned else None)
        if primed is not None:
            engine.prime(state, primed)
        self._progress = _Progress(state, state.position)
        self._lock = Exclusive("session")
        self._voiced_temperature: float | None = None
        self.voiced_temperature = voiced_temperature

    def next(self, samples: int) -> NDArray[np.float32]:
        """The next `samples` samples in [-1, 1]: float32 [samples], or [count, samples].

        Raises `ValueError`, and generates none, where the features end before: `left` is the number of samples left.
        """
        return self._quantizer.decode(self.next_codes(samples))

    def next_codes(self, samples: int) -> NDArray[np.int64]:
        """The same as mu-law or 16-bit codes, int64 [samples] or [count, samples]."""
        if not is_integer(samples) or samples < 1:
            raise ValueError(f"samples = {samples!r}: must be a whole number from 1")
        samples = int(samples)  # not NumPy's, which overflows
        with self._lock:
            state, origin = self._progress
            self._engine.check_features(state, samples)
            check_memory(f"{samples:,} samples at once", samples * state.streams * BYTES_PER_SAMPLE, "ask for fewer")
            first = state.position
            uniforms = self._uniforms.read(first - origin, samples)
            blocks = [
                self._engine.generate(state, uniforms[:, start:end], sampling)
                for start, end, sampling in self._sampling_runs(first, samples)
            ]
        codes = np.concatenate(blocks, axis=1)
        return codes[0] if self._single else codes

    def _sampling_runs(self, position: int, samples: int) -> list[tuple[int, int, Sampling]]:
        """The next samples split where their sampling changes: (first, last + 1, sampling)."""
        mel, temperature, features = self._engine.config.features, self._voiced_temperature, self._features
        if temperature is None or mel is None or features is None:
            return [(0, samples, self._sampling)]
        voiced_sampling = dataclasses.replace(self._sampling, temperature=temperature)
        first = position // mel.hop
        frames = features[0, :, first : (position + samples - 1) // mel.hop + 1]  # the same for all streams
        is_voiced = voiced(frames.T, mel)  # [frames of this call]
        changes = (np.flatnonzero(np.diff(is_voiced)) + first + 1) * mel.hop - position
        ends = [*changes.tolist(), samples]
        samplings = [voiced_sampling if is_voiced[0] ^ run % 2 else self._sampling for run in range(len(ends))]
        return list(zip([0, *ends], ends, samplings, strict=False))

    def prime(self, audio: ArrayLike) -> None:
        """Continue as if `audio` had been generated: float [n] for every stream, or [count, n].

        It has the model's sample rate. No uniform numbers are used; the features continue behind it. Interrupted, it
        changes nothing. Raises `ValueError` for audio that is empty, not floating point, NaN, of another scale or
        another shape; warns where it exceeds [-1, 1] and is clipped.
        """
        codes = _prime_codes(audio, self._progress.state.streams, self._quantizer)
        with self._lock:
            before, origin = self._progress
            state = before.copy()
            self._engine.prime(state, codes)
            self._progress = _Progress(state, origin + state.position - before.position)

    def copy(self, seed: int | None = None) -> Session:
        """An independent session that continues from here: with the same uniform numbers, or with those of `seed`."""
        with self._lock:
            branch = copy.copy(self)
            state, origin = self._progress
            branch._progress = _Progress(state.copy(), origin if seed is None else state.position)
            branch._uniforms = Uniforms(self._uniforms.seed if seed is None else seed, state.streams)
        branch._lock = Exclusive("session")
        return branch

    def __deepcopy__(self, memo: object) -> Session:
        return self.copy()

    @property
    def position(self) -> int:
        """Samples generated or primed so far."""
        return self._progress.state.position

    @property
    def left(self) -> int | None:
        """Samples until the features end; None without features."""
        state = self._progress.state
        return None if state.conditioning is None else state.conditioning.left(state.position)

    @property
    def speaker(self) -> Speaker | None:
        """The speaker: a name, or a blend, which is a mapping of names to shares."""
        conditioning = self._progress.state.conditioning
        return None if conditioning is None else conditioning.inputs.speaker_given

    @speaker.setter
    def speaker(self, value: Speaker | None) -> None:
        with self._lock:
            state = self._progress.state
            shares = speaker_shares(self._engine.config, state.streams, value)
            if state.conditioning is not None:
                inputs = dataclasses.replace(state.conditioning.inputs, speaker=shares, speaker_given=value)
                state.conditioning.change(inputs)

    @property
    def _features(self) -> NDArray[np.float32] | None:
        conditioning = self._progress.state.conditioning
        return None if conditioning is None else conditioning.inputs.features

    def _checked(self, sampling: Sampling) -> Sampling:
        if self._engine.config.output != "mulaw":
            check_continuous(sampling)
        return sampling

    @property
    def temperature(self) -> float:
        """Divides the logits: below 1 probable codes become more probable, above 1 less, 0 takes the most probable."""
        return self._sampling.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._sampling = self._checked(dataclasses.replace(self._sampling, temperature=value))

    @property
    def voiced_temperature(self) -> float | None:
        """The temperature in voiced frames, those whose features have a pitch; None: `temperature`.

        Streams side by side must have the same features.
        """
        return self._voiced_temperature

    @voiced_temperature.setter
    def voiced_temperature(self, value: float | None) -> None:
        if value is None:
            self._voiced_temperature = None
            return
        temperature = checked_voiced_temperature(value)
        features = self._features
        if features is None:
            raise ValueError("voiced_temperature: this model has no features, from which the pitch is computed")
        if not all(np.array_equal(features[0], other) for other in features[1:]):
            raise ValueError("voiced_temperature: streams side by side must have the same features")
        self._voiced_temperature = temperature

    @property
    def top_k(self) -> int | None:
        """Draw among the k most probable codes; None: among all."""
        return self._sampling.top_k

    @top_k.setter
    def top_k(self, value: int | None) -> None:
        self._sampling = self._checked(dataclasses.replace(self._sampling, top_k=value))

    @property
    def top_p(self) -> float | None:
        """Draw among the fewest most probable codes with this share of the probability; None: among all."""
        return self._sampling.top_p

    @top_p.setter
    def top_p(self, value: float | None) -> None:
        self._sampling = self._checked(dataclasses.replace(self._sampling, top_p=value))


def _prime_codes(audio: ArrayLike, streams: int, quantizer: Quantizer) -> NDArray[np.int64]:
    """Codes [streams, n] of audio [n] or [streams, n]. Raises `ValueError` as `Session.prime` does."""
    if isinstance(audio, (str, bytes, os.PathLike)):
        raise ValueError(f"prime = {audio!r}: must be samples, not a path; read them with wavenet.data.audio.read")
    samples = np.asarray(audio)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"prime: must be floating-point audio in [-1, 1], not {samples.dtype}")
    if samples.ndim == 1:
        samples = np.broadcast_to(samples, (streams, len(samples)))
    if samples.ndim != 2 or len(samples) != streams:
        raise ValueError(f"prime: must be [n] or [{streams}, n] samples, not {list(samples.shape)}")
    if samples.shape[1] == 0:
        raise ValueError("prime: the audio is empty; leave prime out to start from silence")
    peak = max(float(samples.max()), -float(samples.min()))
    if math.isnan(peak):
        raise ValueError("prime: the audio contains NaN; replace those samples first")
    if peak > HIGHEST_PEAK:
        raise ValueError(
            f"prime: peaks at {peak:,.4g}; audio is in [-1, 1]: 16-bit samples are first divided by 32,768"
        )
    if peak > 1:
        warnings.warn(f"prime: peaks at {peak:.2f}; samples beyond [-1, 1] are clipped", stacklevel=2)
    return quantizer.encode(samples)
