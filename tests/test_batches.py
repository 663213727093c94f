"""Batches: a function of the step, each crop with its own conditioning, masked where a prediction lacks history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import CONDITIONED, FEATURES, trainer_for, write_voices

from wavenet.data.crops import Crops
from wavenet.nn.predicted_samples import PredictedSamples
from wavenet.training.batches import Batch, Batches
from wavenet.training.distributed import Processes
from wavenet.training.trainer import Trainer


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches are the same, bit for bit."""

    def tensors(batch: Batch) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor)
            return tensor

        batch.map(keep)
        return found

    rest = [[value for value in vars(batch).values() if isinstance(value, int)] for batch in (one, other)]
    pairs = zip(tensors(one), tensors(other), strict=True)
    return rest[0] == rest[1] and all(torch.equal(*pair) for pair in pairs)


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return write_voices(tmp_path / "voices")


def crops_of(trainer: Trainer, step: int = 0) -> Crops:
    """The crops of a batch as arrays."""
    training, crops = trainer.recipe.training, trainer.batches.crops
    return crops.read(crops.draw(training.batch, np.random.default_rng((training.seed, step))))


def test_a_batch_follows_from_seed_and_step_alone(voices: Path, tmp_path: Path) -> None:
    trainer = trainer_for(voices, tmp_path / "run", *CONDITIONED["all"], "model.linear_prediction=8")
    first = trainer.batches.batch(7)
    trainer.batches.batch(3)
    again = Batches(trainer.recordings.train, trainer.recipe).batch(7)
    assert same(first, again)
    assert not torch.equal(first.targets, trainer.batches.batch(8).targets)


def test_crops_have_their_own_speaker_and_features(voices: Path, tmp_path: Path) -> None:
    trainer = trainer_for(voices, tmp_path / "run", FEATURES, "data.speakers=folders", "training.batch=6")
    crops, clips = crops_of(trainer), trainer.batches.clips
    batch = trainer.batches.batch(0)
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
    crops, batch = crops_of(trainer), trainer.batches.batch(0)
    at_the_start = crops.bounds[:, 0] == trainer.batches.crops.margin
    assert 0 < at_the_start.sum() < 40
    expected = crops.mask.copy()
    expected[~at_the_start, :history] = False
    np.testing.assert_array_equal(batch.mask.numpy(), expected)
    assert batch.samples == crops.mask.sum()
    assert batch.count == expected.sum() < batch.samples


def test_without_conditioning_there_is_neither_speaker_nor_features(voices: Path, tmp_path: Path) -> None:
    batch = trainer_for(voices, tmp_path / "run").batches.batch(0)
    assert batch.speaker is None
    assert batch.features is None
    assert batch.inputs.shape == batch.targets.shape == batch.mask.shape == (2, 200)


@pytest.mark.parametrize("kind", CONDITIONED)
@pytest.mark.parametrize("past", [0, 50, 250])
def test_rows_of_several_processes_are_the_whole_batch(voices: Path, tmp_path: Path, kind: str, past: int) -> None:
    overrides = *CONDITIONED[kind], "training.batch=7", f"training.past={past}", "data.gain_shift=[-9, 3]"
    trainer = trainer_for(voices, tmp_path / "run", *overrides)
    whole = trainer.batches.batch(4)
    assert whole.count == whole.mask.sum()
    parts = []
    for rank in range(3):
        rows = Processes(rank, 3, rank, 3).rows(7)
        parts.append(Batches(trainer.recordings.train, trainer.recipe, rows).batch(4))
    for name, value in vars(whole).items():
        values = [getattr(part, name) for part in parts]
        if isinstance(value, torch.Tensor):
            assert torch.equal(torch.cat(values), value)
        elif isinstance(value, PredictedSamples):
            assert all(map(torch.equal, map(torch.cat, zip(*values, strict=True)), value))
        else:  # of the whole batch in every process
            assert values == [value] * 3


def test_the_past_of_a_crop_is_from_its_recording_and_not_in_the_loss(voices: Path, tmp_path: Path) -> None:
    recipe = *CONDITIONED["16 bits"], "training.batch=40", "training.crop=300"
    without = trainer_for(voices, tmp_path / "without", *recipe).batches.batch(2)
    trainer = trainer_for(voices, tmp_path / "with", *recipe, "training.past=1000")
    batch, draws = trainer.batches.batch(2), trainer.batches.crops.draw(40, np.random.default_rng((0, 2)))
    assert batch.inputs.shape == (40, 1_300)
    assert batch.count == batch.samples == without.samples > without.count  # the predictor's history is in the past
    own = {draw.past for draw in draws}
    assert {0, 1_000} < own  # of crops at the start, in the middle and, with less past, near the start of recordings
    for row, draw in enumerate(draws):
        crop = slice(draw.past, draw.past + draw.filled)
        assert batch.mask[row].nonzero().flatten().tolist() == [*range(crop.start, crop.stop)]
        assert torch.equal(batch.targets[row, crop], without.targets[row, : draw.filled])  # the same crops
        (span,) = draw.spans
        begin = span.start + trainer.batches.crops.margin - draw.begin  # of the row, in its clip
        assert begin == 0 or draw.past == 1_000
        recording = trainer.batches.clips.clip(span.clip).astype(int)
        assert batch.targets[row, : crop.stop].tolist() == recording[begin : begin + crop.stop].tolist()


@pytest.mark.parametrize("kind", ["16 bits", "adaptive"])
def test_a_network_computes_the_same_with_the_linear_prediction_of_a_batch(
    voices: Path, tmp_path: Path, kind: str
) -> None:
    trainer = trainer_for(voices, tmp_path / "run", *CONDITIONED[kind], "training.past=300")
    model, batch = trainer.state.model, trainer.batches.batch(1)
    assert batch.prediction is not None
    assert {tensor.dtype for tensor in batch.prediction} == {torch.float32}
    results = []
    for prediction in (batch.prediction, None):
        model.zero_grad()
        outputs = model(batch.inputs, batch.speaker, batch.features, batch.first, prediction=prediction)
        outputs.square().sum().backward()
        results.append([outputs, *(weight.grad for weight in model.parameters())])
    for given, computed in zip(*results, strict=True):
        assert torch.equal(given, computed)
