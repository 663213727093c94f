"""The mel spectrogram that a conditioned model is driven by; its parameters (`MelConfig`) travel with the model.

    frame:      0         1         2                 frame n stands for the samples n hop ... (n + 1) hop - 1
    sound:  |---hop---|---hop---|---hop---| ...       and its window is centred on them
          [----window----]                            a sound of T samples has ceil(T / hop) frames
                 [----window----]

Beyond its ends a sound is silent. A feature is the natural logarithm of what a band holds, at least `floor`; so the
features of HiFi-GAN and of Tacotron 2 (Shen et al. 2018, section 2.1) can be had, too. An impulse on a sample is
loudest in the frame that the sample belongs to.
"""

from __future__ import annotations

import numpy as np
import torch
import torchaudio
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from wavenet.config import MelConfig
from wavenet.data.pcm import FULL_SCALE

PIECE = 2_000  # frames transformed at once


class MelSpectrogram(nn.Module):
    """The transform of frames: see `mel_spectrogram` for those of a whole sound."""

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=config.sample_rate,
            n_fft=config.fft,
            win_length=config.window,
            hop_length=config.hop,
            f_min=config.low,
            f_max=config.high,
            n_mels=config.bands,
            power=config.power,
            norm="slaney" if config.area else None,
            mel_scale=config.scale,
            center=False,
        )

    @property
    def margin(self) -> int:
        """Samples before a frame's own that its transform takes in; after them it takes as many, or one fewer."""
        return (self.config.fft - self.config.hop + 1) // 2

    def inside(self, sound: Tensor) -> Tensor:
        """Features of the frames whose transforms lie inside: (T - fft) / hop + 1 of them."""
        return self.mel(sound).clamp_min(self.config.floor).log()


class CropFeatures:
    """The features of random crops, from their own sound and what lies around it: exactly those of the recording.

    Frames count from the crop's first sample. `margin`: samples that are needed to each side of a crop. `first`: where
    the crop begins in its features, in samples.
    """

    def __init__(self, config: MelConfig, reach: int, crop: int) -> None:
        """reach: frames that the network sees to each side of one."""
        self.spectrogram = MelSpectrogram(config)
        self.lead = reach + 1  # one more is blended in
        self.first = self.lead * config.hop
        self.frames = -(-crop // config.hop) + 2 * self.lead
        self.margin = self.first + config.hop + self.spectrogram.margin
        self.hop = config.hop
        self.size = (self.frames - 1) * config.hop + config.fft  # samples that the frames' transforms take in

    def __call__(self, sound: NDArray[np.int16], bounds: NDArray[np.int64]) -> Tensor:
        """Features [B, bands, frames] of `Crops.samples` and `Crops.bounds`; frames beyond a recording are silent."""
        begin = self.margin - self.first - self.spectrogram.margin
        scaled = torch.from_numpy(sound[:, begin : begin + self.size]).float() / FULL_SCALE
        features = self.spectrogram.inside(scaled)
        starts = torch.arange(self.frames) * self.hop + self.margin - self.first  # of each frame, in `sound`
        low, high = torch.from_numpy(bounds).unbind(1)
        silent = (starts + self.hop <= low[:, None]) | (starts >= high[:, None])  # [B, frames]
        return features.masked_fill(silent[:, None], self.spectrogram.config.silence)


def mel_spectrogram(audio: ArrayLike, config: MelConfig) -> NDArray[np.float32]:
    """Log-mel features [..., bands, ceil(T / hop)] (float32) of sound [..., T] in [-1, 1] at the configuration's rate.

    Made piece by piece: hours of sound need little more memory than their features. Raises `ValueError` for sound that
    is empty, not floating point, or NaN.
    """
    sound = np.asarray(audio)
    if sound.ndim == 0 or sound.shape[-1] == 0:
        raise ValueError("the sound is empty: it has no features")
    if not np.issubdtype(sound.dtype, np.floating):
        raise ValueError(
            f"the sound is {sound.dtype}; it must be in [-1, 1]: 16-bit samples are first divided by 32,768"
        )
    spectrogram, hop = MelSpectrogram(config), config.hop
    frames, margin = -(-sound.shape[-1] // hop), spectrogram.margin
    features = np.empty((*sound.shape[:-1], config.bands, frames), np.float32)
    for first in range(0, frames, PIECE):
        last = min(first + PIECE, frames)
        low = first * hop - margin
        high = low + (last - first - 1) * hop + config.fft
        inside = torch.from_numpy(np.ascontiguousarray(sound[..., max(low, 0) : high], np.float32))
        if not bool(torch.isfinite(inside).all()):
            raise ValueError("the sound holds NaN or infinity; replace those samples first")
        before = max(-low, 0)
        around = nn.functional.pad(inside, (before, high - low - before - inside.shape[-1]))
        with torch.inference_mode():
            features[..., first:last] = spectrogram.inside(around).numpy()
    return features
