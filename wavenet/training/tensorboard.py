"""Curves, clips and spectrograms of a run for TensorBoard: `tensorboard --logdir RUN`.

`TensorBoard` is called with the events of a trainer. In a continued run, points of steps that are trained again replace
the earlier ones. What fails while a training runs does not end it: nothing more is written, and a message says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.data.errors import printable
from wavenet.evaluation.spectrogram import COLOURS, RANGE_DB, decibels
from wavenet.extras import Unavailable, how_to_install
from wavenet.training.events import Progress, Validation
from wavenet.training.labelling_trainer import LabelProgress, LabelValidation
from wavenet.training.rollback import Rollback
from wavenet.training.run_loop import RunLoop
from wavenet.training.run_page import REFERENCES

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVERY = 10  # steps between points of the training curves
FLUSH_SECONDS = 10
BITS, NATS, LABELS = "bits per sample", "nats per frame", "labels"  # groups of curves
UNITS = {"bits": BITS, "nats": NATS}


def check_installed() -> None:
    """Raises `Unavailable` if TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise Unavailable(how_to_install("--tensorboard", "tensorboard", "tensorboard")) from error


class TensorBoard:
    """Writes the events of a trainer to the folder `tensorboard` of its run."""

    def __init__(self, trainer: RunLoop[Any, Any], warn: Callable[[str], None]) -> None:
        """Nothing is written before the first event. warn: is called with a message if writing fails.

        Raises `Unavailable` if TensorBoard is not installed.
        """
        check_installed()
        self.run, self.recipe, self.warn = trainer.run, trainer.recipe, warn
        self.first = trainer.state.step + 1  # a validation is reported when its state is saved, and is not repeated
        self.writer: SummaryWriter | None = None
        self.failed = False

    def __call__(self, event: object) -> None:
        """Write what an event has to show."""
        if self.failed or (isinstance(event, Progress | LabelProgress) and not _is_shown(event)):
            return
        try:
            self._write(event)
        except Exception as error:  # a full disk, for example
            self.failed = True
            self.warn(f"TensorBoard: nothing more is written ({printable(str(error) or type(error).__name__)})")

    def close(self) -> None:
        """Complete the file."""
        if self.writer is not None and not self.failed:
            self.writer.close()
        self.writer = None

    def _write(self, event: object) -> None:
        writer = self._opened()
        if isinstance(event, Progress | LabelProgress):
            _add(writer, training_curves(event), event.step)
        elif isinstance(event, Validation | LabelValidation):
            _add(writer, held_out_curves(event), event.step)
            if isinstance(event, Validation):
                self._add_clip(writer, event)
            writer.flush()
        elif isinstance(event, Rollback):
            self.close()
            self.first = event.step + 1
            self._opened().add_text("rollbacks", event.text, event.step + 1)

    def _opened(self) -> SummaryWriter:
        """The writer, whose points replace those that were written before an interruption, from `first` on."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.run.tensorboard), purge_step=self.first, flush_secs=FLUSH_SECONDS)
            self.writer.add_custom_scalars(charts())
            self.writer.add_text("recipe", f"```toml\n{self.recipe.to_toml()}```", self.first)
        return self.writer

    def _add_clip(self, writer: SummaryWriter, event: Validation) -> None:
        if event.verdict.text:
            writer.add_text("verdict", event.verdict.text, event.step)
        sample, sample_rate = self.run.sample(event.step), self.recipe.model.sample_rate
        if sample.exists():
            samples = audio.read(sample, sample_rate)
            writer.add_audio("clip", samples[None], event.step, sample_rate)
            writer.add_image("clip", spectrogram(samples, sample_rate), event.step, dataformats="HWC")


def _is_shown(event: Progress | LabelProgress) -> bool:
    """Whether a report of progress is a point of the curves: one of some steps, and not of a validation."""
    return event.step % EVERY == 0 and getattr(event, "phase", "training") == "training"


def _add(writer: SummaryWriter, curves: Mapping[str, float], step: int) -> None:
    for name, value in curves.items():
        if math.isfinite(value):
            writer.add_scalar(name, value, step)


def charts() -> dict[str, dict[str, tuple[str, list[str]]]]:
    """The charts that show several curves: training and held-out losses, and reference levels."""
    losses = {
        unit: ("Multiline", [f"{unit}/{name}" for name in ("training", "held out", *REFERENCES[key].values())])
        for key, unit in UNITS.items()
    }
    return {"losses": losses}


def training_curves(event: Progress | LabelProgress) -> dict[str, float]:
    """Figures of a step by the names of their curves; NaN where there is none."""
    common = {"optimizer/learning rate": event.learning_rate, "optimizer/skipped steps": float(event.skipped)}
    if isinstance(event, LabelProgress):
        return {f"{LABELS}/training loss, nats per frame": event.loss, **common}
    return {
        f"{BITS}/training": event.bits,
        f"{NATS}/training": event.nats,
        **common,
        "optimizer/gradient norm": event.gradient_norm,
        "speed/samples per second": event.samples_per_second,
        "speed/share of time waiting for data": event.waiting,
    }


def held_out_curves(event: Validation | LabelValidation) -> dict[str, float]:
    """Figures of a validation by the names of their curves; NaN where there is none."""
    if isinstance(event, LabelValidation):
        figures = event.figures
        return {
            f"{LABELS}/held-out loss, nats per frame": figures.loss,
            f"{LABELS}/macro F1": figures.macro_f1,
            f"{LABELS}/accuracy": figures.accuracy,
        }
    curves = {f"{BITS}/held out": event.bits, **_levels("bits", event.references)}
    if event.frames is not None:
        curves |= {f"{NATS}/held out": event.frames.nats, **_levels("nats", event.frames.references)}
    return curves


def _levels(loss: str, levels: object) -> dict[str, float]:
    """The reference levels of a loss."""
    return {f"{UNITS[loss]}/{text}": getattr(levels, name) for name, text in REFERENCES[loss].items()}


def spectrogram(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.uint8]:
    """Audio [samples] as a picture [bins, frames, 3], the highest frequency at the top."""
    power = decibels(samples, sample_rate)[::-1]  # [bins, frames]
    scaled = np.clip((power - power.max()) / RANGE_DB + 1, 0, 1)
    shades = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(scaled, shades, [colour[channel] for colour in COLOURS]) for channel in range(3)]
    return np.stack(channels, -1).astype(np.uint8)
