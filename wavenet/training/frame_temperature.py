"""The temperatures at which a frame model keeps the level and the pauses of the recordings, measured on its frames."""

from __future__ import annotations

from wavenet.engine.frame_sampler import FrameSampler
from wavenet.two_tiers import TwoTiers


def sampler_of(
    model: TwoTiers, streams: int, seed: int, temperature: float, speaker: str | None = None
) -> FrameSampler:
    """A sampler of the model's frames. speaker: the name of a voice, for a model with speakers."""
    config, frames = model.config, model.frame_model
    weights = {name: tensor.numpy(force=True) for name, tensor in frames.state_dict().items()}
    index = None if speaker is None else config.speakers.index(speaker)
    return FrameSampler(frames.config, frames.mel, weights, streams, seed, temperature, index)
