"""What tests of training share: recordings of tones, a small recipe, and a trainer on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from wavenet.data import dataset
from wavenet.training import recipe, run_policy
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.events import Event, Progress
from wavenet.training.run_directory import RunDirectory
from wavenet.training.trainer import Trainer

SMALL = [
    "model.cycles=1",
    "model.layers_per_cycle=4",
    "model.residual_channels=8",
    "model.skip_channels=16",
    "model.sample_rate=8000",
    "training.crop=200",
    "training.clip_seconds=0.02",
    "training.warmup=5",
]
FEATURES = "model.features={fft = 128, window = 128, hop = 40, bands = 12}"
CONDITIONED = {  # recipes of conditioned models
    "speakers": ["data.speakers=folders", "data.join=true"],
    "features": [FEATURES],
    "16 bits": [FEATURES, "model.output=gaussian", "model.linear_prediction=8"],
    "causal": [FEATURES, "model.frame_network=causal"],
    "adaptive": ["model.output=gaussian", "model.linear_prediction=8", "training.crop=300"],
    "all": [FEATURES, "data.speakers=folders", "model.output=logistic", "model.mixtures=3"],
}
TWO_TIERS = [  # a network with a frame model
    FEATURES,
    "model.frame_model={layers_per_cycle = 3, residual_channels = 8, skip_channels = 12, components = 6, mixtures = 2}",
    "training.frames={batch = 2, crop = 20, warmup = 2, ema = 0.9}",
]


def write_tones(folder: Path) -> Path:
    """Sixteen recordings of half a second."""
    folder.mkdir()
    for index in range(16):
        tone = 0.5 * np.sin(2 * np.pi * (200 + 40 * index) * np.arange(4_000) / 8_000)
        soundfile.write(folder / f"{index}.wav", tone, 8_000)
    return folder


def write_voices(folder: Path) -> Path:
    """Noisy tones in sub-folders for a low and a high voice; their length is not a multiple of the hop."""
    rng = np.random.default_rng(0)
    for index in range(12):
        name, hertz = ("high", 1_500) if index % 2 else ("low", 400)
        tone = 0.3 * np.sin(2 * np.pi * (hertz + 20 * index) * np.arange(3_011) / 8_000)
        (folder / name).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name / f"{index}.wav", tone + 0.003 * rng.standard_normal(3_011), 8_000)
    return folder


def trainer_for(
    folder: Path,
    out: Path,
    *overrides: str,
    fresh: bool = False,
    start: Path | None = None,
    processes: Processes = SINGLE,
    device: str = "cpu",
) -> Trainer:
    """A trainer of a small network on the recordings; it continues the run in `out` if there is one.

    start: a model with this network, of which a new run starts. processes: which of several this one is.
    """
    run = RunDirectory(out)
    base = run_policy.base_for(run, start, fresh)
    settings = [*SMALL, *overrides]
    chosen = run_policy.recipe_for(run, None, settings, fresh, base) if start else recipe.load(None, settings)
    recordings = dataset.open_folder(folder, chosen.model.sample_rate, chosen.data)
    chosen = run_policy.with_speakers(chosen, recordings, add=base is not None)
    return Trainer(run, chosen, recordings, device, fresh, base=base, processes=processes)


def at_step(step: int, action: Callable[[], object]) -> Callable[[Event], None]:
    """A report that calls `action` after a step."""

    def report(event: Event) -> None:
        if isinstance(event, Progress) and event.step == step:
            action()

    return report
