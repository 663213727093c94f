"""The training loop: crops in, averaged weights out, every figure in bits per sample.

A run lives in its directory (`checkpoint.RunDirectory`) and goes on from there, exactly where it was: the crops of a
step follow from the seed and the step alone, and weights, averages, optimizer moments and clock are all saved.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet import checkpoint, engine
from wavenet.config import ConfigError, TrainingConfig
from wavenet.data import audio
from wavenet.data.crop_features import CropFeatures
from wavenet.data.crops import Crops, random_crops
from wavenet.data.dataset import Recordings
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import sampling
from wavenet.evaluation import likelihood
from wavenet.evaluation.likelihood import ReferenceLevels
from wavenet.model import WaveNet
from wavenet.nn.outputs import masked_loss
from wavenet.training import recipe as recipes
from wavenet.training.recipe import Recipe
from wavenet.training.run_directory import RunDirectory

MAX_SKIPPED_IN_A_ROW = 100
LOG_SECONDS = 10.0  # between lines of training loss in the log
SMOOTHING = 0.98  # of the loss that is shown
MAX_IGNORED_SIGNALS = 3  # Ctrl-C is heard at the end of a step; whoever insists is not made to wait for it
START_AGAIN = "--fresh starts the run again"
COUNTERS = {"step": int, "seconds": float, "skipped": int, "best": float, "bits": float, "validated": list}


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, after every step."""

    step: int
    fraction: float  # of the budget
    bits: float  # training loss, bits per sample, smoothed
    learning_rate: float  # of the step
    samples_per_second: float
    seconds: float  # trained so far, earlier sessions included
    seconds_left: float
    skipped: int  # steps left out because a number was not finite


@dataclass(frozen=True)
class Validation:
    """What the averaged weights reached on held-out recordings."""

    step: int
    bits: float  # per sample; NaN when nothing is held out
    best: float
    is_best: bool
    seconds: float
    skipped: int
    references: ReferenceLevels


Report = Callable[[Progress | Validation], None]


class Trainer:
    """One run: `train()` until the budget is spent, or Ctrl-C, which saves first."""

    def __init__(
        self, run: RunDirectory, recipe: Recipe, recordings: Recordings, device: str = "auto", fresh: bool = False
    ) -> None:
        """Go on with the run if it exists, or with `fresh` begin it again (what it holds goes when training starts).

        Raises `CheckpointError` for a run whose saved state cannot be used.
        """
        self.run, self.recipe, self.recordings, self.fresh = run, recipe, recordings, fresh
        self.folder = os.path.abspath(recordings.summary.folder)
        self.begun_with = self.folder  # where the run's first recordings lay
        self.device = torch.device(pick_device(device))
        torch.manual_seed(recipe.training.seed)
        self.model = WaveNet(recipe.model).to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)  # validated, heard and kept
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=recipe.training.learning_rate, fused=True)
        self.step = 0
        self.seconds = 0.0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.best = math.inf
        self.bits = math.nan
        self.validated: list[float] = [0, 0.0]  # step and seconds of the last validation
        self.references = likelihood.reference_levels(
            recordings.validation, counted_on=recordings.train, output=recipe.model.output
        )
        self.codes = quantizer_for(recipe.model.output)
        self.features: CropFeatures | None = None
        if recipe.model.features is not None:
            self.features = CropFeatures(recipe.model.features, recipe.model.frame_reach, recipe.training.crop)
        self.saved_step = 0
        if not fresh and run.state.exists():
            self._load()
        elif not fresh and run.model.exists():
            raise checkpoint.CheckpointError(f"{run.path}: has a model but no {run.state}; {START_AGAIN}")

    def train(self, report: Report = lambda event: None) -> Validation:
        """Run to the end of the budget. Raises `TrainingError`, or `KeyboardInterrupt` once everything is saved."""
        self.run.create()
        with self.run.lock(), _interruption() as interrupted:
            if self.fresh:
                self.run.clear()
            checkpoint.write_bytes(self.run.recipe, self.recipe.to_toml().encode())
            self._drop_log_after(self.step)
            try:
                return self._loop(report, interrupted)
            except (MemoryError, RuntimeError) as error:
                if _is_out_of_memory(error):
                    raise TrainingError(_out_of_memory(self.recipe.training)) from error
                raise

    def _loop(self, report: Report, interrupted: threading.Event) -> Validation:
        speed, logged = _Speed(), self.seconds
        while self.fraction < 1 and not interrupted.is_set():
            started = time.perf_counter()
            progress = self._advance(speed)
            self.seconds += time.perf_counter() - started
            report(progress)
            if self.seconds - logged >= LOG_SECONDS:
                self.run.append_log({"event": "train", **_finite(dataclasses.asdict(progress))})
                logged = self.seconds
            if self._validation_is_due() and self.fraction < 1:
                self._validate_and_save(report)
        if interrupted.is_set():
            if self.step:
                self.save()
                if not self.run.model.exists():  # something to hear, though not validated yet
                    checkpoint.save_model(self.run.model, self.average)
            raise KeyboardInterrupt
        return self._validate_and_save(report)

    @property
    def fraction(self) -> float:
        """Share of the budget spent."""
        return budget_spent(self.recipe.training, self.step, self.seconds)

    def save(self) -> None:
        """Write everything needed to go on."""
        tensors: dict[str, Tensor] = {}
        for prefix, model in (("model", self.model), ("average", self.average)):
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in model.state_dict().items()}
        for name, weight in self.model.named_parameters():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in self.optimizer.state[weight].items()}
        progress = {name: getattr(self, name) for name in (*COUNTERS, "begun_with")}
        metadata = {"wavenet.state": json.dumps(progress)}
        checkpoint.write_tensors(self.run.state, {n: t.detach().cpu().numpy() for n, t in tensors.items()}, metadata)
        self.saved_step = self.step

    def _load(self) -> None:
        tensors, metadata = self._checked_state()
        for prefix, model in (("model", self.model), ("average", self.average)):
            model.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in self.recipe.model.shapes})
        for name, weight in self.model.named_parameters():
            start = f"optimizer.{name}."
            moments = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
            if moments:  # none when every step so far was skipped
                self.optimizer.state[weight] = {key: tensor.to(weight.device) for key, tensor in moments.items()}
        for name in COUNTERS:
            setattr(self, name, metadata[name])
        self.begun_with = metadata["begun_with"]
        self.saved_step = self.step
        if self.begun_with != self.folder:  # other recordings are held out: the figures cannot be compared
            self.best = math.inf

    def _checked_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and counters of the saved state. Raises `CheckpointError` unless it is whole and of this network."""
        shapes = self.recipe.model.shapes
        expected = {f"{part}.{name}": shape for part in ("model", "average") for name, shape in shapes.items()}
        moments: dict[str, tuple[int, ...]] = {f"optimizer.{name}.step": () for name in shapes}
        moments |= {f"optimizer.{name}.{part}": shapes[name] for name in shapes for part in ("exp_avg", "exp_avg_sq")}
        try:
            arrays, metadata = checkpoint.read_tensors(self.run.state)
            counters = json.loads(metadata["wavenet.state"])
            if not all(isinstance(counters[name], kind) for name, kind in {**COUNTERS, "begun_with": str}.items()):
                raise ValueError("a counter is of another kind")
            if not math.isfinite(counters["seconds"]) or min(counters["step"], counters["seconds"]) < 0:
                raise ValueError("the clock is wrong")
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise checkpoint.CheckpointError(f"{self.run.state}: cannot be used ({error}); {START_AGAIN}") from None
        found = {name: array.shape for name, array in arrays.items()}
        if found not in (expected, expected | moments):
            raise checkpoint.CheckpointError(
                f"{self.run.state}: not of the network in {self.run.recipe}; {START_AGAIN}"
            )
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise checkpoint.CheckpointError(f"{self.run.state}: {name} holds other than numbers; {START_AGAIN}")
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, counters

    def _drop_log_after(self, step: int) -> None:
        """After a crash the log may be ahead of the saved state, or end in the middle of a line."""
        if self.run.log.exists():
            lines = self.run.log.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line + "\n" for line in lines if 0 <= _step_of(line) <= step]
            checkpoint.write_bytes(self.run.log, "".join(kept).encode())

    def _advance(self, speed: _Speed) -> Progress:
        """One step: crops, gradients, an update of the weights and of their average."""
        config = self.recipe.training
        rate = learning_rate(config, self.step, self.fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng((config.seed, self.step))
        margin = 1 if self.features is None else self.features.margin
        crops = random_crops(
            self.recordings.train, config.batch, config.crop, rng, self.recipe.data.join, self.codes, margin
        )
        bits = self._update(crops)
        self.step += 1
        if bits is None:
            self._skip()
        else:
            self.skipped_in_a_row = 0
            self.bits = bits if math.isnan(self.bits) else SMOOTHING * self.bits + (1 - SMOOTHING) * bits
        samples_per_second = speed.after(int(crops.mask.sum()))
        return Progress(
            step=self.step,
            fraction=self.fraction,
            bits=self.bits,
            learning_rate=rate,
            samples_per_second=samples_per_second,
            seconds=self.seconds,
            seconds_left=self._seconds_left(),
            skipped=self.skipped,
        )

    def _update(self, crops: Crops) -> float | None:
        """Learn from one batch; returns its bits per sample, or None where a number was not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        inputs, targets, mask = (
            torch.from_numpy(part).to(self.device) for part in (crops.inputs, crops.targets, crops.mask)
        )
        speaker, local, first = self._told(crops)
        order = self.recipe.model.linear_prediction
        if order and self.features is not None:  # begun in the middle of a clip, a predictor has not heard enough yet
            mask[torch.from_numpy(crops.bounds[:, 0] < self.features.margin), : order + 1] = False
        loss = masked_loss(self.model(inputs, speaker, local, first), targets, mask, self.recipe.model.output)  # nats
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.training.clip_norm)
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            return None
        self.optimizer.step()
        decay = min(self.recipe.training.ema, (1 + self.step) / (10 + self.step))  # a young average forgets faster
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        return loss.item() / math.log(2)

    def _told(self, crops: Crops) -> tuple[Tensor | None, Tensor | None, int]:
        """Speakers [B], features, and where in these the crops begin: what `WaveNet.forward` is told."""
        speaker, local, first = None, None, 0
        names, clips = self.recipe.model.speakers, self.recordings.train
        if names and clips.speakers is not None:
            speaker = torch.tensor([names.index(clips.speakers[clip]) for clip in crops.clips], device=self.device)
        if self.features is not None:
            local = torch.from_numpy(self.features(crops.samples, crops.bounds)).to(self.device)
            first = self.features.first
        return speaker, local, first

    def _skip(self) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"the loss was not finite for {MAX_SKIPPED_IN_A_ROW} steps in a row: lower training.learning_rate "
                f"(now {self.recipe.training.learning_rate:g}) or training.clip_norm "
                f"(now {self.recipe.training.clip_norm:g})"
            )

    def _seconds_left(self) -> float:
        config = self.recipe.training
        if not config.steps:
            return max(0.0, 60 * config.minutes - self.seconds)
        return (config.steps - self.step) * self.seconds / max(1, self.step)

    def _validation_is_due(self) -> bool:
        config = self.recipe.training
        step, seconds = self.validated
        if config.validate_steps:
            return self.step - step >= config.validate_steps
        return self.seconds - seconds >= 60 * config.validate_minutes

    def _validate_and_save(self, report: Report) -> Validation:
        started = time.perf_counter()
        config = self.recipe.training
        bits = likelihood.bits_per_sample(self.average, self.recordings.validation, config.validation_seconds)
        is_best = math.isnan(bits) or bits < self.best
        if is_best:
            self.best = bits
            checkpoint.save_model(self.run.model, self.average)
        self.validated = [self.step, self.seconds + time.perf_counter() - started]
        self.save()
        if config.clip_seconds:
            audio.write(self.run.sample(self.step), self._clip(config), self.recipe.model.sample_rate)
        self.seconds += time.perf_counter() - started
        result = Validation(self.step, bits, self.best, is_best, self.seconds, self.skipped, self.references)
        self.run.append_log({"event": "validation", **_finite(dataclasses.asdict(result))})
        report(result)
        return result

    def _clip(self, config: TrainingConfig) -> Any:
        """What the averaged weights sound like now: always the same seed, so that clips can be compared.

        A conditioned network copies the first held-out clip, or speaks as the first speaker.
        """
        model = self.recipe.model
        samples = max(1, round(config.clip_seconds * model.sample_rate))
        told = None
        if model.conditioned:
            source = self.recordings.validation if len(self.recordings.validation) else self.recordings.train
            told = likelihood.clip_conditioning(model, source, 0)
            samples = min(samples, int(source.lengths[0]))
        player = engine.create("torch", model, self.average.state_dict())
        uniforms = sampling.uniform_generator(config.seed).random((1, samples))
        return self.codes.decode(player.generate(player.new_state(1, told), uniforms, sampling.Sampling()))[0]


def recipe_for(run: RunDirectory, name: str | None, overrides: list[str], fresh: bool = False) -> Recipe:
    """The recipe of a run: the one asked for, or, when a run is continued without naming one, its own.

    Raises `ConfigError` when a run that exists was made with another network or other data.
    """
    if fresh or not run.exists():
        return recipes.load(name, overrides)
    begun = recipes.load(run.recipe)
    recipe = recipes.load(name or run.recipe, overrides)
    for section in ("model", "data"):
        before, now = getattr(begun, section), getattr(recipe, section)
        for field in dataclasses.fields(before):
            old, new = getattr(before, field.name), getattr(now, field.name)
            if field.name == "speakers" and section == "model" and not new:
                continue  # the recordings named them; kept below
            if old != new:
                raise ConfigError(
                    f"{run.path} was begun with {section}.{field.name} = {old!r}, not {new!r}: "
                    "name another --out, or start again with --fresh"
                )
    return dataclasses.replace(recipe, model=begun.model)


def with_speakers(recipe: Recipe, recordings: Recordings) -> Recipe:
    """The recipe with the speakers of the recordings, where these tell them apart.

    Raises `ConfigError` where the recipe names others, or the network knows speakers and nobody says who speaks.
    """
    found, known = tuple(recordings.summary.speakers), recipe.model.speakers
    if known and not found:
        raise ConfigError("model.speakers: set data.speakers to 'folders' or FILE.csv, which says who speaks")
    if not known and found:
        return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, speakers=found))
    for name in found:
        if name not in known:
            raise ConfigError(
                f"speaker {name!r}: the model knows {', '.join(known)}; name another --out, or use --fresh"
            )
    return recipe


def budget_spent(config: TrainingConfig, step: int, seconds: float) -> float:
    """Share of the budget spent, from 0 to 1 and beyond."""
    return step / config.steps if config.steps else seconds / (60 * config.minutes)


def learning_rate(config: TrainingConfig, step: int, fraction: float) -> float:
    """A linear warm-up, then a cosine from the peak to its `final_rate` share at the end of the budget."""
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    cosine = (1 + math.cos(math.pi * min(fraction, 1.0))) / 2
    return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * cosine)


def pick_device(name: str) -> str:
    """'cuda' or 'cpu' for 'auto', 'cuda' or 'cpu'. Raises `ConfigError` for a device that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': PyTorch finds no CUDA device here; use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


class _Speed:
    """Samples per second over the last steps."""

    def __init__(self) -> None:
        self.at = time.perf_counter()
        self.rate = 0.0

    def after(self, samples: int) -> float:
        now = time.perf_counter()
        rate, self.at = samples / max(now - self.at, 1e-9), now
        self.rate = 0.9 * self.rate + 0.1 * rate if self.rate else rate
        return self.rate


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a polite kill sets, so that neither a step nor a save is cut in half."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    patience = [MAX_IGNORED_SIGNALS]

    def interrupt(number: int, frame: object) -> None:
        event.set()
        patience[0] -= 1
        if patience[0] < 0:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _step_of(line: str) -> int:
    """The step of a line of the log; -1 for what is none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return -1
    return step if isinstance(step, int) else -1


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


def _out_of_memory(config: TrainingConfig) -> str:
    return (
        f"out of memory: lower training.batch (now {config.batch}) or training.crop (now {config.crop}), for "
        "example with --set training.batch=1, or the model's channels; wavenet info RECIPE estimates the need"
    )


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: None instead."""
    return {
        key: _finite(value) if isinstance(value, dict) else None if value != value or value == math.inf else value
        for key, value in record.items()
    }
