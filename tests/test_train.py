"""Training: it learns, goes on exactly where it was, survives what goes wrong, and leaves a whole run directory."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import torch

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError, load_model
from wavenet.config import ConfigError, DataConfig, TrainingConfig
from wavenet.data import dataset
from wavenet.data.crops import random_crops
from wavenet.evaluation import likelihood
from wavenet.training import recipe
from wavenet.training import trainer as training
from wavenet.training.run_directory import RunDirectory

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


@pytest.fixture
def folder(tmp_path):
    """Sixteen clips of tones."""
    path = tmp_path / "clips"
    path.mkdir()
    for index in range(16):
        tone = 0.5 * np.sin(2 * np.pi * (200 + 40 * index) * np.arange(4_000) / 8_000)
        soundfile.write(path / f"{index}.wav", tone, 8_000)
    return path


def trainer_for(folder, out, *overrides):
    chosen = recipe.load(None, [*SMALL, *overrides])
    recordings = dataset.open_folder(folder, chosen.model.sample_rate, chosen.data)
    return training.Trainer(RunDirectory(out), chosen, recordings, "cpu")


def test_it_learns_and_leaves_a_whole_run_directory(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=60", "training.validate_steps=30")
    events = []
    result = trainer.train(events.append)
    assert result.bits < 6 < 8  # from 8 bits
    run = trainer.run
    assert load_model(run.path).config == trainer.recipe.model
    assert recipe.load(run.recipe) == trainer.recipe
    assert soundfile.info(run.sample(60)).frames == 160
    assert soundfile.info(run.sample(30)).samplerate == 8_000
    log = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [line["step"] for line in log if line["event"] == "validation"] == [30, 60]
    assert log[-1]["references"]["histogram"] > log[-1]["bits"]
    steps = [event for event in events if isinstance(event, training.Progress)]
    assert [event.step for event in steps] == list(range(1, 61))
    assert steps[29].seconds_left > 0


def test_an_interrupted_run_ends_exactly_like_an_uninterrupted_one(folder, tmp_path):
    budget = ["training.steps=20", "training.validate_steps=7"]
    whole = trainer_for(folder, tmp_path / "whole", *budget)
    whole.train()

    def stop_at_11(event):
        if isinstance(event, training.Progress) and event.step == 11:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer_for(folder, tmp_path / "cut", *budget).train(stop_at_11)
    resumed = trainer_for(folder, tmp_path / "cut", *budget)
    assert resumed.step == 11
    assert load_model(resumed.run.path).config == resumed.recipe.model  # there is something to hear already
    resumed.train()
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    best = [load_model(tmp_path / name).state_dict() for name in ("whole", "cut")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


FRAMES = "model.features={fft = 128, window = 128, hop = 40, bands = 12}"
TOLD = {
    "speakers": ["data.speakers=folders", "data.join=true"],
    "features": [FRAMES],
    "16 bits": [FRAMES, "model.output=gaussian", "model.linear_prediction=8"],
    "all": [FRAMES, "data.speakers=folders", "model.output=logistic", "model.mixtures=3"],
}
# bits per sample that some steps save; little where a linear predictor knows a tone before the network does
SAVED = {"speakers": 1.0, "features": 1.0, "16 bits": 0.1, "all": 2.0}


@pytest.fixture
def speakers(tmp_path):
    """A folder each for a low and a high voice: tones of their own, with some noise, of a length not of whole hops."""
    rng = np.random.default_rng(0)
    for index in range(12):
        name, hertz = ("high", 1_500) if index % 2 else ("low", 400)
        tone = 0.3 * np.sin(2 * np.pi * (hertz + 20 * index) * np.arange(3_011) / 8_000)
        (tmp_path / "voices" / name).mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "voices" / name / f"{index}.wav", tone + 0.003 * rng.standard_normal(3_011), 8_000)
    return tmp_path / "voices"


def told_trainer(folder, out, *overrides):
    chosen = recipe.load(None, [*SMALL, "data.validation=0.3", *overrides])
    recordings = dataset.open_folder(folder, 8_000, chosen.data)
    return training.Trainer(RunDirectory(out), training.with_speakers(chosen, recordings), recordings, "cpu")


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.filterwarnings("error::UserWarning")
def test_it_learns_with_what_it_is_told_and_goes_on_exactly(speakers, tmp_path, told):
    budget = [*TOLD[told], "training.steps=40", "training.validate_steps=20", "training.batch=4", "training.ema=0.9"]
    whole = told_trainer(speakers, tmp_path / "whole", *budget)
    before = likelihood.bits_per_sample(whole.average, whole.recordings.validation)
    result = whole.train()
    assert result.skipped == 0
    assert result.bits < before - SAVED[told]
    assert soundfile.info(whole.run.sample(40)).frames == 160
    assert soundfile.read(whole.run.sample(40))[0].any()
    assert load_model(whole.run.path).config == whole.recipe.model
    if whole.recipe.data.speakers:
        assert whole.recipe.model.speakers == ("high", "low")
    for name, weight in whole.model.named_parameters():
        assert weight.grad is None or weight.grad.abs().max() > 0, name  # nothing is left out of the learning

    def stop_at_13(event):
        if isinstance(event, training.Progress) and event.step == 13:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        told_trainer(speakers, tmp_path / "cut", *budget).train(stop_at_13)
    resumed = told_trainer(speakers, tmp_path / "cut", *budget)
    assert resumed.step == 13
    resumed.train()
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.run.sample(40).read_bytes() == resumed.run.sample(40).read_bytes()


def test_crops_are_told_their_own_speaker_and_features(speakers, tmp_path):
    trainer = told_trainer(speakers, tmp_path / "run", FRAMES, "data.speakers=folders", "training.batch=6")
    clips = trainer.recordings.train
    drawn = random_crops(
        clips, 6, 200, np.random.default_rng(0), quantizer=trainer.codes, margin=trainer.features.margin
    )
    speaker, local, first = trainer._told(drawn)
    assert [trainer.recipe.model.speakers[i] for i in speaker] == [clips.speakers[i] for i in drawn.clips]
    assert local.shape[:2] == (6, 12)
    # the loudest band of the frame in the middle of the crop tells the voice
    loudest = local[:, :, first // 40 + 1].argmax(1)
    assert [bool(band > 3) for band in loudest] == [clips.speakers[i] == "high" for i in drawn.clips]


def test_what_a_predictor_has_not_heard_yet_is_left_out_of_the_loss(speakers, tmp_path, monkeypatch):
    trainer = told_trainer(speakers, tmp_path / "run", *TOLD["16 bits"], "training.batch=40", "training.crop=100")
    drawn = random_crops(
        trainer.recordings.train,
        40,
        100,
        np.random.default_rng(1),
        quantizer=trainer.codes,
        margin=trainer.features.margin,
    )
    seen = []
    loss = training.masked_loss
    monkeypatch.setattr(training, "masked_loss", lambda *given: seen.append(given[2].numpy().copy()) or loss(*given))
    trainer._update(drawn)
    from_the_start = drawn.bounds[:, 0] == trainer.features.margin
    assert 0 < from_the_start.sum() < 40
    expected = drawn.mask.copy()
    expected[~from_the_start, :9] = False  # order 8, and the sample before
    np.testing.assert_array_equal(seen[0], expected)


def test_speakers_of_recipe_and_recordings_must_agree(speakers, tmp_path):
    recordings = dataset.open_folder(speakers, 8_000, DataConfig(speakers="folders"))
    silent = dataset.open_folder(speakers, 8_000, DataConfig())
    plain = recipe.load(None)
    assert training.with_speakers(plain, silent) == plain
    assert training.with_speakers(plain, recordings).model.speakers == ("high", "low")
    more = recipe.load(None, ["model.speakers=['low', 'middle', 'high']"])
    assert training.with_speakers(more, recordings) == more
    with pytest.raises(ConfigError, match="set data.speakers to 'folders'"):
        training.with_speakers(more, silent)
    with pytest.raises(ConfigError, match="speaker 'high': the model knows low"):
        training.with_speakers(recipe.load(None, ["model.speakers=['low']"]), recordings)


def test_a_run_with_speakers_is_continued_without_naming_them(speakers, tmp_path):
    trainer = told_trainer(speakers, tmp_path / "run", *TOLD["speakers"], "training.steps=2")
    trainer.train()
    continued = training.recipe_for(trainer.run, None, ["training.steps=5"])
    assert continued.model.speakers == ("high", "low")
    with pytest.raises(ConfigError, match="model.features = None"):
        training.recipe_for(trainer.run, None, [FRAMES])


def test_a_kill_between_saves_goes_on_from_the_last_save(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=20", "training.validate_steps=5")

    def die_at_8(event):
        if isinstance(event, training.Progress) and event.step == 8:
            trainer.run.append_log({"event": "train", "step": 8})
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        trainer.train(die_at_8)
    resumed = trainer_for(folder, tmp_path / "run", "training.steps=20", "training.validate_steps=5")
    assert resumed.step == 5
    resumed.train()
    assert [json.loads(line)["step"] for line in resumed.run.log.read_text().splitlines()] == [5, 10, 15, 20]


def test_steps_that_are_not_finite_are_skipped_and_counted(folder, tmp_path, monkeypatch):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=10")
    loss, calls = training.masked_loss, []

    def sometimes_nan(*arguments):
        calls.append(1)
        return loss(*arguments) * (math.nan if len(calls) in (3, 4, 8) else 1)

    monkeypatch.setattr(training, "masked_loss", sometimes_nan)
    result = trainer.train()
    assert result.skipped == 3
    assert math.isfinite(result.bits)
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())


def test_nothing_but_nan_ends_with_advice(folder, tmp_path, monkeypatch):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=1000")
    loss = training.masked_loss
    monkeypatch.setattr(training, "masked_loss", lambda *arguments: loss(*arguments) * math.nan)
    with pytest.raises(training.TrainingError, match="lower training.learning_rate"):
        trainer.train()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 TB")])
def test_out_of_memory_says_what_to_lower(folder, tmp_path, monkeypatch, error):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=10")

    def exhausted(*arguments):
        raise error

    monkeypatch.setattr(training, "masked_loss", exhausted)
    with pytest.raises(training.TrainingError, match=r"training.batch \(now 2\) or training.crop \(now 200\)"):
        trainer.train()


def test_an_unreadable_state_is_refused_in_one_line(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    trainer.run.state.write_bytes(trainer.run.state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut short"):
        trainer_for(folder, tmp_path / "run", "training.steps=4")


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors, meta: meta.update({"wavenet.state": "[]"}),
        lambda tensors, meta: meta.update({"wavenet.state": "{}"}),
        lambda tensors, meta: meta.update({"wavenet.state": meta["wavenet.state"].replace('"step": 2', '"step": "x"')}),
        lambda tensors, meta: tensors.update({"optimizer.skip.bias.exp_avg": np.zeros(3, np.float32)}),
        lambda tensors, meta: tensors.pop("optimizer.skip.bias.exp_avg"),
        lambda tensors, meta: tensors["model.skip.bias"].fill(np.nan),
        lambda tensors, meta: tensors.update({"average.skip.bias": np.zeros(16)}),
    ],
)
def test_a_damaged_state_is_refused_and_kept(folder, tmp_path, damage):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    tensors, metadata = checkpoint.read_tensors(trainer.run.state)
    damage(tensors, metadata)
    checkpoint.write_tensors(trainer.run.state, tensors, metadata)
    damaged = trainer.run.state.read_bytes()
    with pytest.raises(CheckpointError, match="--fresh starts the run again"):
        trainer_for(folder, tmp_path / "run", "training.steps=4")
    assert trainer.run.state.read_bytes() == damaged


def test_a_model_without_its_state_is_not_overwritten(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    trainer.run.state.unlink()
    with pytest.raises(CheckpointError, match="has a model but no"):
        trainer_for(folder, tmp_path / "run", "training.steps=4")


def test_fresh_begins_again_but_not_among_the_files_of_others(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=4")
    trainer.train()
    again = training.Trainer(trainer.run, trainer.recipe, trainer.recordings, "cpu", fresh=True)
    assert again.step == 0
    assert trainer.run.model.exists()  # until training starts
    again.train()
    assert len(trainer.run.log.read_text().splitlines()) == 1
    trainer.run.recipe.unlink()  # now it is no run of ours
    before = trainer.run.model.read_bytes()
    with pytest.raises(CheckpointError, match="other files"):
        training.Trainer(trainer.run, trainer.recipe, trainer.recordings, "cpu", fresh=True).train()
    assert trainer.run.model.read_bytes() == before


def test_one_training_at_a_time(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.run.create()
    with trainer.run.lock(), pytest.raises(CheckpointError, match="another training"):
        trainer.train()


def test_an_impatient_user_loses_nothing(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=20")

    def stop_twice(event):
        if event.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.train(stop_twice)
    assert trainer.saved_step == 7
    assert trainer_for(folder, tmp_path / "run", "training.steps=20").step == 7


def test_a_failed_clip_does_not_cost_the_state(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=4", "training.validate_steps=2")

    def remove_samples(event):
        if isinstance(event, training.Progress) and event.step == 1:
            trainer.run.sample(0).parent.rmdir()

    with pytest.raises(ValueError, match="no such folder"):
        trainer.train(remove_samples)
    assert trainer_for(folder, tmp_path / "run", "training.steps=4").step == 2


def test_a_run_is_continued_with_its_own_recipe_and_no_other(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    trainer.train()
    continued = training.recipe_for(trainer.run, None, ["training.steps=5"])
    assert continued.model == trainer.recipe.model
    assert continued.training.steps == 5
    with pytest.raises(ConfigError, match="model.skip_channels"):
        training.recipe_for(trainer.run, None, ["model.skip_channels=17"])
    with pytest.raises(ConfigError, match="data.join"):
        training.recipe_for(trainer.run, None, ["data.join=true"])
    assert training.recipe_for(trainer.run, None, ["model.skip_channels=17"], fresh=True).model.skip_channels == 17


def test_training_without_validation_keeps_the_latest(folder, tmp_path):
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=3", "data.validation=0")
    result = trainer.train()
    assert math.isnan(result.bits)
    assert load_model(trainer.run.path).config == trainer.recipe.model
    assert "NaN" not in trainer.run.log.read_text()


def test_training_in_another_thread_leaves_signals_alone(folder, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    trainer = trainer_for(folder, tmp_path / "run", "training.steps=2")
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.step == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_the_learning_rate_warms_up_and_follows_a_cosine_to_the_budget():
    config = TrainingConfig(learning_rate=1.0, warmup=3, final_rate=0.1, steps=100)
    assert [training.learning_rate(config, step, 0.0) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert training.learning_rate(config, 50, 0.5) == pytest.approx(0.55)  # half-way between 1 and 0.1
    assert training.learning_rate(config, 100, 1.0) == pytest.approx(0.1)
    assert training.learning_rate(config, 120, 1.2) == pytest.approx(0.1)


def test_the_budget_is_steps_or_minutes():
    assert training.budget_spent(TrainingConfig(steps=10), 5, 1e9) == 0.5
    assert training.budget_spent(TrainingConfig(minutes=2), 10**9, 30) == 0.25


def test_a_device_that_is_not_there():
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        training.pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="--device cpu"):
            training.pick_device("cuda")


def test_ctrl_c_on_the_command_saves_and_says_how_to_go_on(folder, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "wavenet", "train", str(folder), "--out", str(run), "--steps", "1000000"]
    for override in SMALL:
        command += ["--set", override]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not run.joinpath("recipe.toml").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    recordings = dataset.open_folder(folder, 8_000, DataConfig())
    assert training.Trainer(RunDirectory(run), recipe.load(run / "recipe.toml"), recordings).step > 0


def test_a_run_keeps_its_speakers(speakers, tmp_path):
    """Their order is that of the embedding's rows: other folders must not rename them."""
    run = RunDirectory(tmp_path / "run")
    told_trainer(speakers, run.path, *TOLD["speakers"], "training.steps=2").train()
    (speakers / "high").rename(speakers / "zed")
    overrides = [*SMALL, *TOLD["speakers"], "training.steps=4"]
    again = training.recipe_for(run, None, ["data.validation=0.3", *overrides])
    assert again.model.speakers == ("high", "low")
    recordings = dataset.open_folder(speakers, again.model.sample_rate, again.data)
    with pytest.raises(ConfigError, match="'zed'.*high, low"):
        training.with_speakers(again, recordings)
    (speakers / "zed").rename(tmp_path / "gone")  # fewer speakers may go on
    recordings = dataset.open_folder(speakers, again.model.sample_rate, again.data)
    assert training.with_speakers(again, recordings).model == again.model
