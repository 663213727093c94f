"""The mel spectrogram that a conditioned model is driven by; its parameters (`MelConfig`) travel with the model.

    frame:      0         1         2                 frame n stands for the samples n hop ... (n + 1) hop - 1
    sound:  |---hop---|---hop---|---hop---| ...       and its window is centred on them
          [----window----]                            a sound of T samples has ceil(T / hop) frames
                 [----window----]

Beyond its ends a sound is silent. A feature is the natural logarithm of what a band holds, at least `floor`; so the
features of HiFi-GAN and of Tacotron 2 (Shen et al. 2018, section 2.1) can be had, too. An impulse on a sample is loudest
in the frame that the sample belongs to.
"""

from __future__ import annotations

import numpy as np
import torch
import torchaudio
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from wavenet.config import MelConfig


class MelSpectrogram(nn.Module):
    """Sound [..., T] -> log-mel features [..., bands, frames], float32; exact for crops as for whole recordings."""

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=config.rate,
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
        """Samples before and after a frame's own that its transform takes in."""
        return (self.config.fft - self.config.hop) // 2

    def forward(self, sound: Tensor) -> Tensor:
        """Features of a whole sound: ceil(T / hop) frames, with silence around it."""
        rest = -sound.shape[-1] % self.config.hop
        return self.inside(nn.functional.pad(sound, (self.margin, self.margin + rest)))

    def inside(self, sound: Tensor) -> Tensor:
        """Features of the frames whose transforms lie inside: T - 2 margin samples make so many hops of them."""
        return self.mel(sound).clamp_min(self.config.floor).log()


def mel_spectrogram(audio: ArrayLike, config: MelConfig) -> NDArray[np.float32]:
    """Log-mel features [..., bands, frames] (float32) of sound [..., T] in [-1, 1] at the configuration's rate.

    Raises `ValueError` for sound that is empty or NaN.
    """
    sound = np.asarray(audio, dtype=np.float32)
    if sound.ndim == 0 or sound.shape[-1] == 0:
        raise ValueError("the sound is empty: it has no features")
    if not np.isfinite(sound).all():
        raise ValueError("the sound holds NaN or infinity; replace those samples first")
    with torch.inference_mode():
        return MelSpectrogram(config)(torch.from_numpy(np.ascontiguousarray(sound))).numpy()
