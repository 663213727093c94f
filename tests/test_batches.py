"""Batches: a function of the step, each crop with its own conditioning, masked where a prediction lacks history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import CONDITIONED, FEATURES, trainer_for, write_voices

from wavenet.data.crops import Crops, random_crops
from wavenet.training.batches import Batches
from wavenet.training.trainer import Trainer


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return write_voices(tmp_path / "voices")


def crops_of(trainer: Trainer, batch: int, crop: int, seed: int) -> Crops:
    batches = trainer.batches
    rng = np.random.default_rng(seed)
    return random_crops(batches.clips, batch, crop, rng, quantizer=batches.quantizer, margin=batches.margin)


def test_a_batch_follows_from_seed_and_step_alone(voices: Path, tmp_path: Path) -> None:
    trainer = trainer_for(voices, tmp_path / "run", *CONDITIONED["all"])
    first = trainer.batches.batch(7)
    trainer.batches.batch(3)
    again = Batches(trainer.recordings.train, trainer.recipe, torch.device("cpu")).batch(7)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    assert not torch.equal(first.targets, trainer.batches.batch(8).targets)


def test_crops_have_their_own_speaker_and_features(voices: Path, tmp_path: Path) -> None:
    trainer = trainer_for(voices, tmp_path / "run", FEATURES, "data.speakers=folders", "training.batch=6")
    crops, clips = crops_of(trainer, 6, 200, 0), trainer.batches.clips
    batch = trainer.batches.tensors(crops)
    assert clips.speakers is not None
    assert batch.speaker is not None
    assert batch.features is not None
    names = [clips.speakers[clip] for clip in crops.clips]
    assert [trainer.recipe.model.speakers[speaker] for speaker in batch.speaker.tolist()] == names
    assert batch.features.shape[:2] == (6, 12)
    loudest = batch.features[:, :, batch.first // 40 + 1].argmax(1)  # band of the frame in the middle of each crop
    assert [bool(band > 3) for band in loudest] == [name == "high" for name in names]


@pytest.mark.parametrize(
    ("kind", "history"),
    # the order, 8, and the sample before; at 8 kHz 20 ms and, between updates, 2.5 ms more
    [("16 bits", 9), ("adaptive", 160 + 20)],
)
def test_targets_without_history_for_the_predictor_are_masked(
    voices: Path, tmp_path: Path, kind: str, history: int
) -> None:
    trainer = trainer_for(voices, tmp_path / "run", *CONDITIONED[kind], "training.batch=40", "training.crop=300")
    crops = crops_of(trainer, 40, 300, 1)
    batch = trainer.batches.tensors(crops)
    at_the_start = crops.bounds[:, 0] == trainer.batches.margin
    assert 0 < at_the_start.sum() < 40
    expected = crops.mask.copy()
    expected[~at_the_start, :history] = False
    np.testing.assert_array_equal(batch.mask.numpy(), expected)
    assert batch.samples == crops.mask.sum()


def test_without_conditioning_there_is_neither_speaker_nor_features(voices: Path, tmp_path: Path) -> None:
    batch = trainer_for(voices, tmp_path / "run").batches.batch(0)
    assert batch.speaker is None
    assert batch.features is None
    assert batch.inputs.shape == batch.targets.shape == batch.mask.shape == (2, 200)
