"""The training loop: gradient steps, validations, and what they leave in the run directory.

The course of a run is that of `wavenet.training.run_loop`. Its batches are those of `Batches`, its state is a
`TrainingState`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from wavenet import checkpoint
from wavenet.config import FRAME_MODEL
from wavenet.data import audio
from wavenet.data.dataset import Recordings
from wavenet.evaluation import likelihood
from wavenet.evaluation.verdict import Point
from wavenet.training import base_model, curves, run_loop, run_page, run_policy, schedule
from wavenet.training.base_model import BaseModel
from wavenet.training.batches import Batch, Batches
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.events import Progress, Report, Validation, ValidationProgress
from wavenet.training.feed import Feed, chosen_workers
from wavenet.training.frame_tier import FrameTier, frames_of
from wavenet.training.gradients import Gradients
from wavenet.training.recipe import Recipe
from wavenet.training.recorded_frames import RecordedFrames
from wavenet.training.run_directory import RunDirectory
from wavenet.training.run_loop import RunLoop, finite
from wavenet.training.run_loop import TrainingError as TrainingError
from wavenet.training.state import TrainingState
from wavenet.training.training_cost import check_training_memory, training_cost
from wavenet.training.validation_clip import ValidationClips
from wavenet.two_tiers import TwoTiers

SMOOTHING = 0.9  # of figures of a step


class Trainer(RunLoop[TrainingState, Validation]):
    """A training run of a generator. `train` runs it to the end of its budget, or until Ctrl-C, and saves it."""

    def __init__(
        self,
        run: RunDirectory,
        recipe: Recipe,
        recordings: Recordings,
        device: str = "auto",
        fresh: bool = False,
        progress: Callable[[int, int], None] | None = None,
        base: BaseModel | None = None,
        tracking: Callable[[int, int], None] = lambda done, total: None,
        processes: Processes = SINGLE,
    ) -> None:
        """Continue the run if it exists; with `fresh`, start it again (its files are removed when training starts).

        progress: called with the number of samples counted for the reference levels, and their total.
        tracking: called with the number of recordings whose pitch is tracked, for a frame model, and of all.
        base: the model that a new run starts from; the recipe has its network, see `base_model.recipe_from`.
        Raises `CheckpointError` for a run whose saved state cannot be used, `TrainingError` if a training step would
        not fit into memory, `ConfigError` for a speaker without recordings to train a frame model on.
        """
        self.device = run_policy.device_of(device, processes)
        check_memory(recipe, self.device.type, processes)
        two_tiers, mel = recipe.model.frame_model is not None, recipe.model.features
        folder = processes.first(lambda: recordings.summary.location, "the folder's name")

        def measure() -> tuple[Recipe, tuple[RecordedFrames, RecordedFrames] | None]:
            if two_tiers and run_loop.is_continued(run, fresh):  # before minutes are spent on the pitch
                TrainingState(recipe, self.device, folder).read(run.state)
            tracked = frames_of(recordings, mel, processes.beating(tracking)) if two_tiers and mel is not None else None
            measured = run_policy.with_split(recipe, recordings)
            measured = run_policy.with_recorded_levels(measured, recordings)
            return run_policy.with_training_range(
                measured, recordings, None if tracked is None else tracked[0]
            ), tracked

        recipe, recorded = processes.first(measure, "what is measured in the recordings")
        state = TrainingState(recipe, self.device, folder)
        super().__init__(run, recipe, recordings.summary, state, fresh, processes)
        self.recordings = recordings
        if base is not None and not self.is_continued:
            self.state.start_from(base)
        self.frames: FrameTier | None = None  # of a network with a frame model
        if recorded is not None:
            frame_base = None if base is None else base_model.frame_model_of(base)
            self.frames = FrameTier(recipe, *recorded, self.state, not self.is_continued, frame_base, processes)
        self.gradients = Gradients(self.state.model, recipe.training, processes, self.device, self.state.precision)
        self.batches = Batches(recordings.train, recipe, processes.rows(recipe.training.batch))
        self.clips = ValidationClips(recipe, recordings)
        counting = processes.beating(progress or (lambda done, total: None))
        self.references = processes.first(
            lambda: likelihood.reference_levels(recordings.validation, recordings.train, recipe.model.output, counting),
            "the reference levels of the recordings",
        )
        self._feed: Feed | None = None
        self._samples_per_second = self._waiting = self._gradient_norm = math.nan

    def seconds_per_step(self) -> float:
        """The time of a step on this machine, measured over a few; it changes nothing."""
        cost = training_cost(self.recipe, self.device.type, self.processes)
        return cost.seconds_per_step + (self.frames.seconds_per_step() if self.frames else 0)

    def train(self, report: Report = lambda event: None) -> Validation | None:
        """As of every run; it ends the processes that prepare batches."""
        try:
            return super().train(report)
        finally:
            self._close_feed()

    def _prepare_run(self) -> None:
        """As of every run. The state of one that starts from another model is saved: it continues without its file."""
        super()._prepare_run()
        if self.state.base and not self.run.state.exists():
            self._save()

    def _step(self) -> Progress:
        """One step: a batch, its gradients, an update of the weights and their average, for both tiers."""
        started = time.perf_counter()
        state, config = self.state, self.recipe.training
        learning_rate = schedule.learning_rate(config, state.step, self.fraction)
        learning_rate *= state.stability.share("training", config.learning_rate)
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate
        batch = self._next_batch()
        waited = time.perf_counter() - started
        figures = self._update(batch)
        if self.frames is not None and (of_frames := self.frames.update(self.fraction)) is not None:
            figures = torch.cat([figures, of_frames])
        elapsed = time.perf_counter() - started
        self._samples_per_second = _smoothed(self._samples_per_second, batch.samples / elapsed)
        self._waiting = _smoothed(self._waiting, waited / elapsed)
        self._end_step(figures, elapsed)
        return Progress(
            step=state.step,
            fraction=self.fraction,
            bits=state.bits,
            nats=state.nats,
            learning_rate=learning_rate,
            samples_per_second=self._samples_per_second,
            seconds=state.seconds,
            seconds_left=schedule.seconds_left(config, state.step, state.seconds),
            skipped=state.skipped,
            gradient_norm=self._gradient_norm,
            waiting=self._waiting,
        )

    def _next_batch(self) -> Batch:
        """The batch of this step, on the device; prepared ahead, unless another step was expected."""
        step = self.state.step
        if self._feed is None or self._feed.step != step:
            self._close_feed()
            workers = chosen_workers(self.recipe, self.device, self.processes)
            self._feed = Feed(self.batches, step, workers, self.device)
        return self._feed.next()

    def _close_feed(self) -> None:
        if self._feed is not None:
            self._feed.close()
        self._feed = None

    def _update(self, batch: Batch) -> Tensor:
        """Update the weights with a batch; if a value is not finite, they stay as they are.

        Returns [2] on the device: this process's share of the loss, in nats per sample, and the norm of the gradients.
        """
        state, config = self.state, self.recipe.training
        state.optimizer.zero_grad(set_to_none=True)
        share = self.gradients(batch)
        norm = state.precision.clip(state.weights, config.clip_norm)
        is_finite = (share + norm).isfinite()
        state.precision.update(is_finite)
        state.update(is_finite, config.ema)
        return torch.stack([share, norm])

    def _record(self, figures: Sequence[float]) -> None:
        loss, norm, *of_frames = figures
        self._gradient_norm = norm / self.processes.count  # it is the same on all of them
        bits = loss / math.log(2) if math.isfinite(loss + norm) else None
        nats: float | None = math.nan
        if of_frames:
            nats = of_frames[0] if all(map(math.isfinite, of_frames)) else None
        self.state.record_losses(bits, nats)

    def _validate(self, report: Report) -> Validation:
        """Validate the averaged weights; write the best model, a clip with its picture, a line of the log, the page.

        The state is saved before and after. The one saved before lacks this validation: if training ends in between,
        even by a kill, the continued run repeats the validation and writes the same files.
        """
        state, run = self.state, self.run
        self._save()
        started = time.perf_counter()

        def progress(phase: str, done: int, total: int) -> None:
            self._check_not_interrupted()
            report(ValidationProgress(state.step, phase, done / total))

        bits = likelihood.bits_per_sample(
            state.average,
            self.recordings.validated(self.recipe.training.validation_seconds),
            self.recipe.training.validation_seconds,
            lambda done, total: progress("validating", done, total),
        )
        frames = None if self.frames is None else self.frames.validate()
        is_best = math.isnan(bits) or bits < state.best
        self._save_best(is_best, frames is not None and frames.is_best)
        if self.frames is not None and self.fraction >= 1:
            self._measure_temperatures(self.frames, lambda done, total: progress("measuring temperatures", done, total))
        kept = checkpoint.load_model(run.model)
        clip = self.clips.generate(kept, lambda done, total: progress("generating a clip", done, total))
        progress("measuring the clip", 0, 1)
        records = run.read_log()
        training_bits = curves.training_bits(records, state.validated_step, state.bits)
        minutes = (state.seconds + time.perf_counter() - started) / 60
        name, losses = (
            ("bits", (bits, training_bits)) if frames is None else ("nats", (frames.nats, frames.training_nats))
        )
        before = curves.history(records, name) if state.folder == state.first_folder else []  # of the same recordings
        history = [*before, Point(minutes, *losses)]
        verdict, picture = self.clips.assess(clip, state.step, history, ended=self.fraction >= 1)
        if len(clip.audio):
            audio.write(run.sample(state.step), clip.audio, self.recipe.model.sample_rate)
        if picture:
            checkpoint.write_bytes(run.picture(state.step), picture.encode())
        best, seconds = bits if is_best else state.best, state.seconds + time.perf_counter() - started
        result = Validation(
            state.step, bits, best, is_best, seconds, state.skipped, self.references, training_bits, verdict, frames
        )
        record = {"event": "validation", **finite(dataclasses.asdict(result))}
        run.append_log(record)
        run_page.write(run, self.recipe.to_toml(), [*records, record])
        self._validated(result)
        self._save()
        report(result)
        return result

    def _validated(self, result: Validation) -> None:
        state = self.state
        state.best, state.seconds = result.best, result.seconds
        state.frame_best = state.frame_best if result.frames is None else result.frames.best
        state.validated_step, state.validated_seconds = state.step, result.seconds

    def _save_best(self, network: bool, frames: bool) -> None:
        """Write those tiers of the model that are the best so far; the other one stays as it is in the model file."""
        run, average = self.run, self.state.average
        if not (network or frames) and run.model.exists():
            return
        tensors = {name: tensor.numpy(force=True) for name, tensor in average.state_dict().items()}
        if self.frames is not None and not (network and frames) and run.model.exists():
            _, kept = checkpoint.read_model(run.model)
            tensors |= {name: kept[name] for name in kept if name.startswith(FRAME_MODEL) != frames}
        checkpoint.save_weights(run.model, average.config, tensors)

    def _measure_temperatures(self, frames: FrameTier, progress: Callable[[int, int], None]) -> None:
        """Store the frame temperature that suits the model file, and its useful range, there and in the recipe.

        They follow from the weights in the model file, so that a repeated validation finds the same.
        """
        saved = cast(TwoTiers, checkpoint.load_model(self.run.model))
        sampling = frames.with_temperatures(self.recipe.model.sampling, saved.frame_model, progress)
        self.run.save_sampling(sampling)
        model = dataclasses.replace(self.recipe.model, sampling=sampling)
        self.recipe = dataclasses.replace(self.recipe, model=model)
        self.state.model.config = self.state.average.config = model


def _smoothed(before: float, latest: float) -> float:
    """A figure of the steps, smoothed over the last ones."""
    return latest if math.isnan(before) else SMOOTHING * before + (1 - SMOOTHING) * latest


def check_memory(recipe: Recipe, device: str = "cpu", processes: Processes = SINGLE) -> None:
    """Raises `TrainingError` where training would not fit into the memory of the device."""
    try:
        check_training_memory(recipe, device, processes)
    except MemoryError as error:
        raise TrainingError(str(error)) from error
