"""A model of two tiers: a frame model draws features, and the WaveNet that is conditioned on them draws samples.

    slow tier   p(frame | frames before it)                `wavenet.frame_model`, 100 frames per second
    fast tier   p(sample | samples before it, frames)      `wavenet.model`, every sample

At the rate of frames the same stack of layers sees seconds instead of a fraction of one; and where a frame states the
level, it cannot collapse. The tiers are trained independently of each other, each with its own exact likelihood.

Sources: Mehri et al. 2017, "SampleRNN" (tiers at several rates); Shen et al. 2018, "Natural TTS synthesis by
conditioning WaveNet on mel spectrogram predictions", section 2.3; Blaauw and Bonada 2017, section 2 (the frame model).
"""

from __future__ import annotations

from wavenet.config import ModelConfig
from wavenet.frame_model import FrameModel
from wavenet.model import WaveNet


class TwoTiers(WaveNet):
    """A WaveNet, the fast tier, which has a slow one: `frame_model`. `forward` is that of the WaveNet.

    Raises `ValueError` for a configuration without a frame model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.frame_model is None or config.features is None:
            raise ValueError("the configuration has no frame_model: use wavenet.model.WaveNet")
        self.frame_model = FrameModel(config.frame_model, config.features, len(config.speakers))


def new_model(config: ModelConfig) -> WaveNet:
    """The network of a configuration with random weights: `TwoTiers` if it has a frame model."""
    return WaveNet(config) if config.frame_model is None else TwoTiers(config)
