"""Training of a frame model: gradient steps, the average of the weights, and nats per frame of held-out recordings."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wavenet.config import FrameTrainingConfig, MelConfig
from wavenet.frame_model import FrameModel
from wavenet.frame_model_config import CODING, FrameModelConfig
from wavenet.frame_prediction import FramePrediction
from wavenet.training import schedule
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.frame_batches import FrameBatches, FrameClips
from wavenet.training.update import update_weights

FROM_SCRATCH = FrameTrainingConfig()
BETAS = 0.9, 0.99  # of Adam (Kingma and Ba 2015)


class FrameNats(NamedTuple):
    """Mean nats per frame: -ln of the density of encoded frames, in two parts."""

    source: float  # loudness, voicing and pitch
    shape: float

    @property
    def total(self) -> float:
        """Of the whole frame, to be compared with `wavenet.frame_prediction.reference_levels`."""
        return self.source + self.shape


def new_frame_model(config: FrameModelConfig, mel: MelConfig, clips: FrameClips, speakers: int = 0) -> FrameModel:
    """A model that starts at the linear prediction of these recordings. speakers: 0 for a single voice."""
    model = FrameModel(config, mel, speakers)
    fit_to(model, clips)
    return model


def fit_to(model: FrameModel, clips: FrameClips) -> None:
    """Give a model the coding of these recordings, and the linear prediction that fits them."""
    model.set_coding(clips.coding)
    model.set_prediction(FramePrediction.fit(clips.frames, model.config.prediction_order))


def frame_model_from(base: FrameModel, clips: FrameClips, voices: Sequence[int | None] = ()) -> FrameModel:
    """A copy of a model to be trained on other recordings, which are encoded with the same components.

    The linear prediction is fitted anew: the network states deviations from it, which are more alike between voices
    than the frames are. On an actress after a base of another voice, that was worth 3 nats per frame after 300 steps.
    voices: for each voice of the new model the base's voice that it continues, or None for a new one, which starts as
    the mean of the base's voices; empty: a single voice without a speaker's bias.
    Raises `ValueError` if a base of several voices is to be one of a single voice.
    """
    if base.speakers and not voices:
        raise ValueError("the base has several voices: say which of them this one continues")
    model = FrameModel(base.config, base.mel, len(voices))
    of_voices = ("speaker.weight", CODING)
    weights = {name: weight for name, weight in base.state_dict().items() if not name.startswith(of_voices)}
    model.load_state_dict(weights, strict=False)
    if voices:
        known = base.speaker.weight if base.speakers else torch.zeros_like(model.speaker.weight)
        with torch.no_grad():
            rows = [known.mean(0) if voice is None else known[voice] for voice in voices]
            model.speaker.weight.copy_(torch.stack(rows))
    fit_to(model, clips)
    return model


def new_optimizer(model: FrameModel) -> torch.optim.Adam:
    """The optimizer of a new training."""
    return torch.optim.Adam(model.parameters(), betas=BETAS, fused=True)


class FrameTrainer:
    """Trains a model on recordings. The `average` of its weights over the steps is what is kept in the end.

    The batch of a step depends on `seed` and `step`, the number of the next step, only.
    average, optimizer: those of a training that is continued; None: those of a new one.
    rate_share: of the learning rate of the schedule.
    """

    def __init__(
        self,
        model: FrameModel,
        clips: FrameClips,
        config: FrameTrainingConfig = FROM_SCRATCH,
        seed: int = 0,
        average: FrameModel | None = None,
        optimizer: torch.optim.Adam | None = None,
        processes: Processes = SINGLE,
    ) -> None:
        self.model, self.config, self.step, self.processes = model, config, 0, processes
        self.rate_share = 1.0
        self.average = average or copy.deepcopy(model)
        self.batches = FrameBatches(clips, model.deviation.numpy(force=True), config.batch, config.crop, seed)
        self.optimizer = optimizer or new_optimizer(model)

    def update(self, fraction: float) -> FrameNats | None:
        """One step; fraction: share of the budget spent, which sets the learning rate.

        Returns the nats per frame of its batch, whose inputs are disturbed; None if a value was not finite, and the
        weights are unchanged.
        """
        source, shape, norm = self.launch(fraction).tolist()
        return FrameNats(source, shape) if math.isfinite(source + shape + norm) else None

    def launch(self, fraction: float) -> Tensor:
        """`update` without waiting for the device: [3] on it, the norm of the gradients behind this process's shares.

        With several processes each computes its rows of the batch; the sums of their shares are the nats per frame.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate_share * schedule.learning_rate(self.config, self.step, fraction)
        weights = list(self.model.parameters())
        self.optimizer.zero_grad(set_to_none=True)
        shares = self._gradients(weights)
        totals = shares.clone()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self.processes.sum_tensors([*gradients, totals], "the gradients of the frame model")
        norm = torch.nn.utils.clip_grad_norm_(weights, self.config.clip_norm).to(totals)
        self.step += 1
        decay = min(self.config.ema, self.step / (9 + self.step))
        finite = (totals.sum() + norm).isfinite()
        update_weights(self.optimizer, weights, list(self.average.parameters()), finite, decay)
        return torch.cat([shares, norm[None]])

    def _gradients(self, weights: Sequence[Tensor]) -> Tensor:
        """Leave the gradients of this process's rows in `.grad`; returns its shares of the nats per frame, [2]."""
        batch = self.batches.batch(self.step)
        rows = self.processes.rows(len(batch.inputs))
        device, frames = self.model.deviation.device, batch.targets.shape[:2].numel()
        if rows.start == rows.stop:
            for weight in weights:
                weight.grad = torch.zeros_like(weight)
            return torch.zeros(2, device=device)
        inputs, targets, voices = (tensor[rows].to(device, non_blocking=True) for tensor in batch)
        losses = self.model.losses(inputs, targets, voices if self.model.speakers else None)
        shares = torch.stack([nats.sum() / frames for nats in losses])
        shares.sum().backward()
        return shares.detach()


def held_out_nats(model: FrameModel, clips: FrameClips) -> FrameNats:
    """Nats per frame of recordings, of all frames of each clip but its first; NaN if there are none."""
    sums, count = [0.0, 0.0], 0
    with torch.no_grad():
        for array, voice in zip(clips.frames, clips.voices, strict=True):
            if len(array) < 2:
                continue
            frames = torch.from_numpy(array)[None].to(model.deviation.device)
            speaker = torch.tensor([voice], device=frames.device) if model.speakers else None
            losses = model.losses(frames[:, :-1], frames[:, 1:], speaker)
            sums = [total + nats.double().sum().item() for total, nats in zip(sums, losses, strict=True)]
            count += len(array) - 1
    return FrameNats(*(total / count if count else math.nan for total in sums))
