"""Compare the labeller with other networks of as many parameters, trained as long on the same recordings.

    pip install '.[benchmarks]'
    python benchmarks/labels.py data/phones --minutes 3
    python benchmarks/labels.py data/phones --minutes 1 --set labeller.residual_channels=32

DATA contains `train` and `test`, recordings with label tracks, as `labels_turns.py`, `labels_phones.py` and
`labels_events.py` make them. All networks get the same batches of the recipe `labels` (its noise, masks and gains), its
optimizer, class weights and averaged weights, and the same minutes of processor time on one core; the way of the
learning rate is a cosine that ends with them. Nothing is held out for a choice: the figures are those of the end.

- dilated: the recipe's network, also over samples (`--only dilated --set labeller.input=samples`); and with the plain
  head;
- undilated: the same number of layers, all with the dilation 1, and the plain head;
- pooled: convolutions between four poolings and as many upsamplings; with skip connections it is a U-Net;
- GRU: two bidirectional layers;
- MFCC regression: logistic regression (scikit-learn) on windows of 11 frames, fitted for at most
  100 iterations to 50,000 frames.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from label_networks import MfccRegression, Pooled, Recurrent, fitted, parameters, stack
from numpy.typing import NDArray
from torch import nn

from wavenet.data import audio
from wavenet.data.label_tracks import Recording, Segment, read_labels
from wavenet.data.pcm import to_float32
from wavenet.data.segments import frame_segments
from wavenet.evaluation.labelling import LabelFigures
from wavenet.features import mel_spectrogram
from wavenet.labelling import Labeller
from wavenet.labelling_config import LabellerConfig
from wavenet.labelling_model import LabellingNetwork
from wavenet.training import recipe as recipes
from wavenet.training import schedule
from wavenet.training.labelling_data import LabelBatches, LabelledClips, open_labelled
from wavenet.training.labelling_trainer import class_weights, labelling_loss

Classify = Callable[[NDArray[np.float32]], NDArray[np.int64]]  # audio [samples] -> classes of its frames


class TestClip(NamedTuple):
    """A test recording [samples] and its labels."""

    samples: NDArray[np.float32]
    segments: list[Segment]


class Comparison:
    """Recordings to train on and to test with, and the recipe of the training."""

    def __init__(self, folder: Path, minutes: float, seed: int, settings: list[str]) -> None:
        recipe = recipes.load("labels", settings)
        training = replace(recipe.training, minutes=minutes, seed=seed)
        recipe = replace(recipe, data=replace(recipe.data, validation=0.0), training=training)
        recordings, self.recipe = open_labelled(folder / "train", recipe)
        self.train: LabelledClips = recordings.train
        assert self.recipe.labeller is not None
        self.config = self.recipe.labeller
        self.test = self._read_test(folder / "test")
        counts = self.train.counts(len(self.config.class_names))
        self.weights = torch.from_numpy(class_weights(counts, self.recipe.training.labels.class_balance))

    def _read_test(self, folder: Path) -> list[TestClip]:
        clips = {path: audio.read(path, self.config.sample_rate) for path in sorted(folder.glob("*.flac"))}
        durations = [Recording(path, len(samples) / self.config.sample_rate) for path, samples in clips.items()]
        labelled = read_labels(folder, durations)
        return [TestClip(samples, labelled.segments[path]) for path, samples in clips.items()]

    def trained(self, network: nn.Module) -> tuple[nn.Module, int]:
        """The averaged network after its minutes, and the number of its steps."""
        training = self.recipe.training
        average = copy.deepcopy(network).requires_grad_(False).eval()
        optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99), fused=True)
        batches, started, step = LabelBatches(self.train, self.recipe, torch.device("cpu")), time.process_time(), 0
        network.train()
        while (spent := (time.process_time() - started) / (60 * training.minutes)) < 1:
            batch = batches.batch(step)
            torch.manual_seed(batch.seed)
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(training, step, spent)
            optimizer.zero_grad(set_to_none=True)
            labelling_loss(network, batch, self.weights, self.config.joint_loss).backward()
            nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
            optimizer.step()
            step += 1
            decay = min(training.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
        for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):  # of batch normalisation
            kept.copy_(buffer)
        return average, step

    def classes_of(self, network: nn.Module) -> Classify:
        """A function that labels the frames of a recording."""
        if isinstance(network, LabellingNetwork):
            labeller = Labeller(network)
            return lambda samples: labeller(samples).probabilities.argmax(1)
        assert self.config.features is not None
        mel = self.config.features

        def classify(samples: NDArray[np.float32]) -> NDArray[np.int64]:
            with torch.inference_mode():
                features = torch.from_numpy(mel_spectrogram(samples, mel))
                return network(features[None])[0].argmax(-1).numpy()

        return classify

    def figures(self, classify: Classify) -> LabelFigures:
        """The figures of the test recordings."""
        figures, seconds_of_frame = LabelFigures(self.config.classes), self.config.frame_seconds
        for samples, segments in self.test:
            seconds = len(samples) / self.config.sample_rate
            found = frame_segments(classify(samples), self.config.classes, seconds_of_frame, seconds)
            figures.add(segments, found, seconds)
        return figures

    def regression(self) -> MfccRegression:
        """The fitted regression."""
        clips = [to_float32(clip) for clip in self.train.clips]
        return MfccRegression(clips, self.train.classes, self.config.sample_rate)


def networks(config: LabellerConfig) -> dict[str, Callable[[], nn.Module]]:
    """All networks by name; they are made when they are needed."""
    target = config.parameters
    return {
        "dilated": lambda: stack(config, config.residual_channels, True, config.head),
        "dilated, plain head": lambda: fitted(lambda width: stack(config, width, True, "plain"), target),
        "undilated": lambda: fitted(lambda width: stack(config, width, False, "plain"), target),
        "pooled": lambda: fitted(lambda width: Pooled(config, width), target),
        "pooled, skips": lambda: fitted(lambda width: Pooled(config, width, skips=True), target),
        "GRU": lambda: fitted(lambda width: Recurrent(config, width), target),
    }


def line(name: str, count: int, steps: int, figures: LabelFigures) -> str:
    """A line of the table."""
    boundaries = " | ".join(f"{figures.boundary_f1(tolerance):.3f}" for tolerance in figures.boundaries)
    accuracy = f"{100 * figures.accuracy:.1f}%"
    return f"| {name} | {count:,} | {steps:,} | {accuracy} | {figures.macro_f1:.3f} | {boundaries} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0, help="of processor time, for each network")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="of the recipe; may be repeated")
    parser.add_argument("--only", action="append", help="name of a network; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    comparison = Comparison(options.data, options.minutes, options.seed, options.set or [])
    print("| | parameters | steps | frame accuracy | macro F1 | boundary F1 at 20 ms | at 50 ms |")
    print("|---|---|---|---|---|---|---|")
    for name, build in networks(comparison.config).items():
        if options.only and name not in options.only:
            continue
        torch.manual_seed(options.seed)
        network, steps = comparison.trained(build())
        print(line(name, parameters(network), steps, comparison.figures(comparison.classes_of(network))), flush=True)
    if not options.only or "MFCC regression" in options.only:
        regression = comparison.regression()
        hop = comparison.config.samples_per_frame
        figures = comparison.figures(lambda samples: regression(samples, -(-len(samples) // hop)))
        print(line("MFCC regression", regression.parameters, 0, figures), flush=True)


if __name__ == "__main__":
    main()
