"""The training loop of a labeller, in a run directory as that of a generator (`wavenet.training.trainer`).

The batch and the dropout of a step depend on the seed and the step only, and everything else is in the saved state: a
run with a budget in steps that was interrupted, also by a kill, ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet import checkpoint, mulaw
from wavenet.evaluation.label_pictures import confusion_picture
from wavenet.evaluation.labelling import NO_LABEL
from wavenet.labelling import Labeller
from wavenet.labelling_model import LabellingNetwork
from wavenet.training import labelling_page, run_page, run_policy, schedule
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.labelling_data import LabelBatch, LabelBatches, LabelledRecordings
from wavenet.training.labelling_state import LabellingState
from wavenet.training.labelling_validation import HeldOutFigures, LabelReference, held_out_figures, reference_of
from wavenet.training.recipe import Recipe
from wavenet.training.run_directory import RunDirectory
from wavenet.training.run_loop import RunLoop, finite


@dataclass(frozen=True)
class LabelProgress:
    """Reported after every step, and several times during a validation (`phase`)."""

    step: int
    fraction: float  # of the budget, or of the phase
    loss: float  # training loss, nats per frame, smoothed
    learning_rate: float = 0.0
    seconds: float = 0.0  # trained so far, also before interruptions
    seconds_left: float = math.nan
    skipped: int = 0
    phase: str = "training"


@dataclass(frozen=True)
class LabelValidation:
    """Result of the averaged weights on held-out recordings. is_best: of all validations, by their macro F1."""

    step: int
    seconds: float
    figures: HeldOutFigures
    best: float  # macro F1
    is_best: bool
    reference: LabelReference
    training_loss: float
    skipped: int


Report = Callable[[LabelProgress | LabelValidation], None]


class LabellingTrainer(RunLoop[LabellingState, LabelValidation]):
    """A training run of a labeller. `train` runs it to the end of its budget, or until Ctrl-C, and saves it."""

    def __init__(
        self,
        run: RunDirectory,
        recipe: Recipe,
        recordings: LabelledRecordings,
        device: str = "auto",
        fresh: bool = False,
        processes: Processes = SINGLE,
    ) -> None:
        """Continue the run if it exists; with `fresh`, start it again (its files are removed when training starts).

        Raises `CheckpointError` for a run whose saved state cannot be used.
        """
        assert recipe.labeller is not None
        self.config, self.device = recipe.labeller, run_policy.device_of(device, processes)
        folder = processes.first(lambda: recordings.summary.location, "the folder's name")
        state = LabellingState(self.config, recipe.training.seed, self.device, folder)
        super().__init__(run, recipe, recordings.summary, state, fresh, processes)
        self.recordings = recordings
        self.state.model.dropout = recipe.training.labels.dropout
        self.batches = LabelBatches(recordings.train, recipe, self.device)
        self.reference = reference_of(recordings.train, recordings.validation, self.config.classes)
        counts = recordings.train.counts(len(self.config.class_names))
        self.weights = torch.from_numpy(class_weights(counts, recipe.training.labels.class_balance)).to(self.device)

    def _step(self) -> LabelProgress:
        """One step: a batch, its gradients, an update of the weights and their average."""
        started = time.perf_counter()
        state, config = self.state, self.recipe.training
        learning_rate = schedule.learning_rate(config, state.step, self.fraction)
        learning_rate *= state.stability.share("training", config.learning_rate)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        figures = self._update(self.batches.batch(state.step))
        self._end_step(figures, time.perf_counter() - started)
        left = schedule.seconds_left(config, state.step, state.seconds)
        return LabelProgress(state.step, self.fraction, state.loss, learning_rate, state.seconds, left, state.skipped)

    def _update(self, batch: LabelBatch) -> Tensor:
        """Update the weights with a batch; if a value is not finite, they stay as they are.

        Returns [2] on the device: this process's share of the loss, in nats per frame, and the norm of the gradients.
        """
        state, config = self.state, self.recipe.training
        torch.manual_seed(batch.seed + self.processes.rank)  # of the dropout
        state.model.train()
        state.optimizer.zero_grad(set_to_none=True)
        rows = self.processes.rows(len(batch.inputs))
        loss = labelling_loss(state.model, batch, self.weights, self.config.joint_loss, rows)
        loss.backward()
        share = loss.detach()
        total = share.clone()
        gradients = [weight.grad for weight in state.weights if weight.grad is not None]
        self.processes.sum_tensors([*gradients, total], "the gradients")
        norm = torch.nn.utils.clip_grad_norm_(state.weights, config.clip_norm)
        state.update((total + norm).isfinite(), config.ema)
        return torch.stack([share, norm])

    def _record(self, figures: Sequence[float]) -> None:
        loss = figures[0] if all(map(math.isfinite, figures)) else None
        self.state.record_loss(loss)

    def _validate(self, report: Report) -> LabelValidation:
        """Validate the averaged weights; write the best model, the confusion matrix, a line of the log, the page.

        The state is saved before and after. The one saved before lacks this validation: if training ends in between,
        the continued run repeats it.
        """
        state, run = self.state, self.run
        self._save()
        started = time.perf_counter()

        def progress(done: int, total: int) -> None:
            self._check_not_interrupted()
            report(LabelProgress(state.step, done / total, state.loss, phase="validating"))

        figures, confusion = held_out_figures(Labeller(state.average), self.recordings.validation, progress)
        is_best = math.isnan(figures.macro_f1) or figures.macro_f1 > state.best
        if is_best:
            checkpoint.save_model(run.model, state.average)
        best, seconds = figures.macro_f1 if is_best else state.best, state.seconds + time.perf_counter() - started
        result = LabelValidation(state.step, seconds, figures, best, is_best, self.reference, state.loss, state.skipped)
        record = {"event": "validation", **finite(dataclasses.asdict(result))}
        if confusion.any():
            picture = confusion_picture(confusion, (NO_LABEL, *self.config.classes))
            checkpoint.write_bytes(run.picture(state.step), picture.encode())
        records = run.read_log()
        run.append_log(record)
        run_page.write(run, self.recipe.to_toml(), [*records, record], labelling_page.contents)
        self._validated(result)
        self._save()
        report(result)
        return result

    def _validated(self, result: LabelValidation) -> None:
        state = self.state
        state.best, state.seconds = result.best, result.seconds
        state.validated_step, state.validated_seconds = state.step, result.seconds


def labelling_loss(
    network: nn.Module, batch: LabelBatch, weights: Tensor, joint_loss: float, rows: slice = slice(None)
) -> Tensor:
    """Weighted cross-entropy of the classes and, if its weight is not 0, of the next samples (section 3.4).

    network: as `LabellingNetwork` is called; with `joint_loss` it is one. weights: of the classes [C].
    rows: those of the batch that are computed; their losses are divided by the weights of the whole batch.
    """
    inputs, classes = batch.inputs[rows], batch.classes[rows].flatten()
    total = weights[batch.classes].sum()
    if not joint_loss:
        return F.cross_entropy(network(inputs).flatten(0, 1), classes, weights, reduction="sum") / total
    logits, next_samples = cast(LabellingNetwork, network).with_next_sample(inputs)
    labels = F.cross_entropy(logits.flatten(0, 1), classes, weights, reduction="sum") / total
    codes = torch.from_numpy(mulaw.encode(inputs.numpy(force=True)).astype(np.int64)).to(logits.device)
    predicted = next_samples[:, :-1].flatten(0, 1)  # [rows * (N * hop - 1), 256]
    samples = F.cross_entropy(predicted, codes[:, 1:].flatten(), reduction="sum")
    return labels + joint_loss * samples / (batch.inputs[:, 1:].numel())


def class_weights(counts: NDArray[np.int64], balance: float) -> NDArray[np.float32]:
    """Weights of the classes in the loss, float32: frequency to the power of -balance, 1 on average over the frames.

    Classes that do not occur have the weight 0.
    """
    occurs = counts > 0
    shares = np.where(occurs, counts, 1) / counts.sum()
    weights = np.where(occurs, shares**-balance, 0.0)
    return (weights / (weights * shares).sum()).astype(np.float32)
