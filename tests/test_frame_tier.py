"""Training of both tiers in one run: steps, validations, best weights, continued runs, and bases."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from interrupted_runs import Kill, Killed, content, interrupt
from numpy.typing import NDArray
from recordings import clips_of
from torch import Tensor
from training_runs import FEATURES, SMALL, TWO_TIERS, at_step, trainer_for, write_voices

from wavenet import checkpoint
from wavenet.checkpoint import load_model
from wavenet.config import ConfigError
from wavenet.data.clips import Clips
from wavenet.frame_model import FrameModel
from wavenet.training import base_model, frame_temperature, frame_tier, recipe, trainer
from wavenet.training.events import Event, Progress, Validation
from wavenet.training.frame_temperature import TEMPERATURES
from wavenet.training.frame_tier import limited
from wavenet.training.frame_training import FrameNats
from wavenet.training.run_directory import RunDirectory
from wavenet.training.trainer import Trainer, TrainingError
from wavenet.two_tiers import TwoTiers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_voices(tmp_path / "voices")


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few frames to measure temperatures with."""
    monkeypatch.setattr(frame_temperature, "STREAM_SECONDS", 0.03)
    monkeypatch.setattr(frame_temperature, "STREAMS", 2)


def two_tiers(folder: Path, out: Path, *overrides: str, start: Path | None = None) -> Trainer:
    return trainer_for(folder, out, *TWO_TIERS, "data.validation=0.3", *overrides, start=start)


def test_both_tiers_learn_and_are_in_one_file(folder: Path, tmp_path: Path) -> None:
    training = two_tiers(folder, tmp_path / "run", "training.steps=30", "training.frames.steps=2", "training.batch=4")
    assert training.frames is not None
    before = training.frames.validate()
    assert before.nats == pytest.approx(before.references.linear, abs=8)  # where a frame model starts
    events: list[Event] = []
    result = training.train(events.append)
    assert result is not None and result.frames is not None
    assert result.frames.nats < before.nats - 1
    assert result.frames.is_best and result.frames.best == result.frames.nats
    assert training.frames.trainer.step == 60
    steps = [event for event in events if isinstance(event, Progress)]
    assert all(math.isfinite(step.nats) for step in steps) and steps[-1].nats < steps[0].nats
    model = load_model(training.run.path)
    assert isinstance(model, TwoTiers)
    assert all(
        torch.equal(tensor, model.state_dict()[name]) for name, tensor in training.state.average.state_dict().items()
    )
    assert np.array_equal(model.frame_model.frame_coding.mean, training.frames.trainer.model.frame_coding.mean)
    assert soundfile.info(training.run.sample(30)).frames == 160
    assert model.config.sampling.frame_temperature in TEMPERATURES
    assert model.config == training.recipe.model == recipe.load(training.run.recipe).model
    record = training.run.read_log()[-1]["frames"]
    assert record["nats"] == result.frames.nats and record["references"]["repeat"] > 0


def test_a_state_that_cannot_be_used_is_found_before_the_pitch_is_tracked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_tiers(folder, tmp_path / "run", "training.steps=1").train()
    RunDirectory(tmp_path / "run").state.write_bytes(b"no state")
    monkeypatch.setattr(trainer, "frames_of", None)  # is not called
    with pytest.raises(checkpoint.CheckpointError, match="state"):
        two_tiers(folder, tmp_path / "run", "training.steps=1")
    RunDirectory(tmp_path / "run").state.unlink()
    with pytest.raises(checkpoint.CheckpointError, match="has a model but no"):
        two_tiers(folder, tmp_path / "run", "training.steps=1")


def test_an_interrupted_run_ends_exactly_like_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    budget = ["training.steps=12", "training.validate_steps=5"]
    whole = two_tiers(folder, tmp_path / "whole", *budget)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        two_tiers(folder, tmp_path / "cut", *budget).train(at_step(7, interrupt))
    (folder / "low" / "0.wav").unlink()  # the coding is the run's, and does not follow the recordings
    resumed = two_tiers(folder, tmp_path / "cut", *budget)
    assert resumed.state.step == 7
    assert resumed.frames is not None and whole.frames is not None
    coding = whole.frames.trainer.model.coding.state_dict()
    assert all(torch.equal(array, coding[name]) for name, array in resumed.frames.trainer.model.coding.named_buffers())
    write_voices(folder)
    resumed = two_tiers(folder, tmp_path / "cut", *budget)
    resumed.train()
    assert content(resumed.run) == content(whole.run)


def test_a_kill_at_any_write_changes_nothing_of_the_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = ["training.steps=2", "training.validate_steps=1", "training.crop=50", "training.clip_seconds=0"]
    base = base_file(folder, tmp_path)
    with monkeypatch.context() as patch:
        kill = Kill(patch, 0, "before")
        two_tiers(folder, tmp_path / "whole", *budget, start=base).train()
    expected = content(RunDirectory(tmp_path / "whole"))
    assert kill.writes > 10
    for at in range(1, kill.writes + 1):
        out = tmp_path / f"killed at {at}"
        with monkeypatch.context() as patch:
            Kill(patch, at, "before")
            with pytest.raises(Killed):
                two_tiers(folder, out, *budget, start=base).train()
        resumed = two_tiers(folder, out, *budget, start=base)
        if not resumed.finished:
            resumed.train()
        assert content(resumed.run) == expected, at


def base_file(folder: Path, tmp_path: Path, *overrides: str) -> Path:
    """A model of both tiers, with weights far from those of a new one."""
    base = two_tiers(folder, tmp_path / "base", "training.steps=3", "training.seed=1", *overrides)
    base.train()
    return base.run.model


def test_each_tier_keeps_its_own_best_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bits, nats = iter([5.0, 4.0, 4.5]), iter([30.0, 31.0, 29.0])
    monkeypatch.setattr("wavenet.evaluation.likelihood.bits_per_sample", lambda *arguments: next(bits))
    monkeypatch.setattr(frame_tier, "held_out_nats", lambda *arguments: FrameNats(next(nats), 0.0))
    training = two_tiers(folder, tmp_path / "run", "training.steps=6", "training.validate_steps=2")
    weights, written, played = [], [], []

    def drawn(model: TwoTiers, progress: object) -> NDArray[np.float32]:
        played.append(model)
        return np.zeros(9, np.float32)

    monkeypatch.setattr(training.clips, "_drawn", drawn)

    def keep(event: Event) -> None:
        if isinstance(event, Validation):
            weights.append({name: weight.clone() for name, weight in training.state.average.state_dict().items()})
            written.append(load_model(training.run.path).state_dict())

    training.train(keep)
    for name in ("skip.bias", "frame_model.skip.bias"):
        assert not torch.equal(weights[0][name], weights[1][name])
    best = [(0, 0), (1, 0), (1, 2)]  # of the network, and of the frame model
    for model, saved in zip(played, written, strict=True):  # clips are those of the model file
        assert all(torch.equal(weight, saved[name]) for name, weight in model.state_dict().items())
    for saved, (network, frames) in zip(written, best, strict=True):
        for name, weight in saved.items():
            assert torch.equal(weight, weights[frames if name.startswith("frame_model.") else network][name]), name
    assert (training.state.best, training.state.frame_best) == (4.0, 29.0)


def test_steps_of_the_frame_model_that_are_not_finite_are_skipped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = two_tiers(folder, tmp_path / "run", "training.steps=10")
    losses, calls = FrameModel.losses, []

    def sometimes_nan(model: FrameModel, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        source, shape = losses(model, *arguments)
        return source * (math.nan if len(calls) in (3, 4) else 1), shape

    monkeypatch.setattr(FrameModel, "losses", sometimes_nan)
    result = training.train()
    assert result is not None and result.frames is not None
    assert result.skipped == 2 and math.isfinite(result.frames.nats)
    monkeypatch.setattr(FrameModel, "losses", lambda *arguments: 2 * (torch.tensor(math.nan, requires_grad=True),))
    with pytest.raises(TrainingError, match=r"lower training.frames.learning_rate \(now 0.005\)"):
        two_tiers(folder, tmp_path / "other", "training.steps=200").train()


def test_without_steps_the_frame_model_is_kept(folder: Path, tmp_path: Path) -> None:
    base = base_file(folder, tmp_path)
    training = two_tiers(folder, tmp_path / "run", "training.steps=3", "training.frames.steps=0", start=base)
    training.train()
    before, after = load_model(base).state_dict(), load_model(training.run.path).state_dict()
    assert torch.equal(before["frame_model.skip.weight"], after["frame_model.skip.weight"])
    assert not torch.equal(before["skip.weight"], after["skip.weight"])
    assert two_tiers(folder, training.run.path, "training.steps=3", "training.frames.steps=0").finished


def test_a_state_without_frames_is_one_of_an_earlier_version(folder: Path, tmp_path: Path) -> None:
    training = trainer_for(folder, tmp_path / "run", "training.steps=2")
    training.train()
    tensors, metadata = checkpoint.read_tensors(training.run.state)
    counters = json.loads(metadata["wavenet.state"])
    assert counters.pop("frames")[0] == math.inf
    checkpoint.write_tensors(training.run.state, tensors, {"wavenet.state": json.dumps(counters)})
    assert trainer_for(folder, tmp_path / "run", "training.steps=4").state.step == 2


def test_both_tiers_start_from_the_base_and_speakers_are_added(folder: Path, tmp_path: Path) -> None:
    base = base_file(folder, tmp_path)
    training = two_tiers(folder, tmp_path / "run", "data.speakers=folders", start=base)
    state, saved = training.state.model.state_dict(), load_model(base).state_dict()
    assert training.recipe.model.speakers == ("high", "low")
    for name in ("skip.weight", "frame_model.skip.weight", "frame_model.shape.output.weight"):
        assert torch.equal(state[name], saved[name])
    assert torch.equal(state["frame_model.coding.analysis"], saved["frame_model.coding.analysis"])
    assert not torch.equal(state["frame_model.deviation"], saved["frame_model.deviation"])
    assert not torch.equal(*state["frame_model.coding.mean"])
    assert training.frames is not None and {*training.frames.trainer.batches.clips.voices} == {0, 1}


def test_voices_of_the_base_without_recordings_keep_their_coding(folder: Path, tmp_path: Path) -> None:
    base = base_file(folder, tmp_path, "data.speakers=folders")
    (folder / "high").rename(folder / "deep")
    training = two_tiers(folder, tmp_path / "run", "data.speakers=folders", start=base)
    assert training.recipe.model.speakers == ("high", "low", "deep")
    new, old = training.state.model.state_dict(), load_model(base).state_dict()
    means = "frame_model.coding.mean"
    assert torch.equal(new[means][:1], old[means][:1]) and new[means].shape[0] == 3
    torch.testing.assert_close(new[means][2], old[means][0], atol=0.5, rtol=0)  # the same recordings
    torch.testing.assert_close(new["frame_model.speaker.weight"][2], old["frame_model.speaker.weight"].mean(0))


def test_a_speaker_without_recordings_to_train_on_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="speaker 'eve' has no recordings"):
        two_tiers(folder, tmp_path / "run", "data.speakers=folders", "model.speakers=['eve', 'high', 'low']")


def test_the_frame_model_of_a_run_from_a_vocoder_is_new(folder: Path, tmp_path: Path) -> None:
    vocoder = trainer_for(folder, tmp_path / "vocoder", FEATURES, "training.steps=3", "training.seed=1")
    vocoder.train()
    overrides = [*SMALL, *TWO_TIERS, "data.validation=0.3"]
    base = base_model.load(vocoder.run.model)
    chosen = base_model.recipe_from(base, None, overrides)
    assert chosen.model.frame_model is not None
    training = two_tiers(folder, tmp_path / "run", "training.steps=1", start=vocoder.run.model)
    alone = two_tiers(folder, tmp_path / "alone").state.model.state_dict()
    state, saved = training.state.model.state_dict(), load_model(vocoder.run.path).state_dict()
    for name, tensor in state.items():
        expected = alone if name.startswith("frame_model.") else saved
        assert torch.equal(tensor, expected[name]), name


def test_a_part_of_a_long_folder_has_pieces_of_every_speaker() -> None:
    rng = np.random.default_rng(0)
    clips = clips_of(8_000 * 90, 8_000 * 200, 8_000 * 5, values=rng.integers(-9, 9, 8_000 * 295).astype(np.int16))
    clips = Clips(clips.samples, clips.offsets, clips.lengths, 8_000, ["bob", "ann", "eve"], ["b", "a", "e"])
    assert limited(clips, 295) is clips
    part = limited(clips, 150)
    assert part.speakers == ["ann", "ann", "bob", "eve"]
    assert part.names == ["a", "a", "b", "e"]
    assert part.lengths.tolist() == [8_000 * 60, 8_000 * 60, 8_000 * 60, 8_000 * 5]
    np.testing.assert_array_equal(part.clip(1), clips.clip(1, 8_000 * 120, 8_000 * 180))


def test_frames_of_the_table_are_checked() -> None:
    assert recipe.load(None, ["training.frames={steps = 3}"]).training.frames.steps == 3
    with pytest.raises(ConfigError, match=r"training.frames.step: unknown key, did you mean 'steps'"):
        recipe.load(None, ["training.frames.step=3"])
    with pytest.raises(ConfigError, match=r"training.frames.ema = 2.0: must be between"):
        recipe.load(None, ["training.frames.ema=2.0"])
    with pytest.raises(ConfigError, match=r"training.frames = 3: expected a table"):
        recipe.load(None, ["training.frames=3"])
