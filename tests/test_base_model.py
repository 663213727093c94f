"""Runs that start from a trained model: their network, settings and weights, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import conditioned_config
from torch import Tensor
from training_runs import CONDITIONED, SMALL, trainer_for, write_tones, write_voices

from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError, load_model
from wavenet.config import ConfigError, FeatureRange, MelConfig, ModelConfig, SamplingConfig
from wavenet.model import WaveNet
from wavenet.training import base_model, recipe, run_policy
from wavenet.training.base_model import BaseModel, fitting_recipe, initial_weights, recipe_from
from wavenet.training.run_directory import RunDirectory

SAMPLING = SamplingConfig(0.8, voiced_temperature=0.5)


def saved(path: Path, config: ModelConfig) -> Path:
    """A model file with random weights far from those of a new network."""
    torch.manual_seed(7)
    model = WaveNet(config)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    checkpoint.save_model(path, model)
    return path


def base_of(config: ModelConfig) -> BaseModel:
    """A base without weights: its network is compared only."""
    return BaseModel("/models/base.safetensors", config, {})


def outputs(model: WaveNet, speaker: list[int] | Tensor | None) -> Tensor:
    """Output parameters [2, 50, A] for random codes and features; a list of two indices is the speaker of each.

    They are those of the definition: the fused stack adds up in another order when there is a gate bias.
    """
    model.fused = False
    rng = torch.Generator().manual_seed(1)
    mel = model.config.features
    codes = torch.randint(0, 256, (2, 50), generator=rng)
    local = None if mel is None else -6 + torch.randn(2, mel.bands, 30, generator=rng)
    with torch.no_grad():
        return model(codes, torch.tensor(speaker) if isinstance(speaker, list) else speaker, local)


def grown(base: BaseModel, config: ModelConfig) -> WaveNet:
    model = WaveNet(config)
    model.load_state_dict(initial_weights(base, model))
    return model


@pytest.mark.parametrize("hop", [None, 3])
@pytest.mark.parametrize("output", ["mulaw", "logistic"])
def test_with_its_first_speakers_a_model_computes_what_it_did_without(
    tmp_path: Path, hop: int | None, output: str
) -> None:
    config = conditioned_config(speakers=False, hop=hop, output=output, order=9, taps=5)
    path = saved(tmp_path / "base.safetensors", config)
    base = base_model.load(path)
    model = grown(base, dataclasses.replace(config, speakers=("carl", "dora")))
    assert torch.equal(outputs(model, [1, 0]), outputs(load_model(path), None))
    assert model.conditioning.speaker.weight.std() > 0.5  # the projection's gradient is that of each speaker


@pytest.mark.parametrize("hop", [None, 3])
def test_additional_speakers_start_as_the_mean_of_the_others(tmp_path: Path, hop: int | None) -> None:
    config = conditioned_config(hop=hop)
    path = saved(tmp_path / "base.safetensors", config)
    model = grown(base_model.load(path), dataclasses.replace(config, speakers=(*config.speakers, "carl", "dora")))
    before = load_model(path)
    assert torch.equal(outputs(model, [2, 0]), outputs(before, [2, 0]))
    mean = outputs(before, torch.full((2, 3), 1 / 3))
    torch.testing.assert_close(outputs(model, [3, 4]), mean)


@pytest.mark.parametrize("name", CONDITIONED)
def test_the_first_step_is_from_the_weights_of_the_base(tmp_path: Path, name: str) -> None:
    """The trained weights and their average; folder and optimizer are those of the new run."""
    folder, other = write_voices(tmp_path / "voices"), write_tones(tmp_path / "clips")
    plain = [setting for setting in CONDITIONED[name] if not setting.startswith("data.speakers")]
    first = trainer_for(other, tmp_path / "first", *plain, "training.steps=4")
    first.train()
    second = trainer_for(folder, tmp_path / "second", *CONDITIONED[name], "training.steps=2", start=first.run.path)
    speakers = [1, 0] if second.recipe.model.speakers else None
    expected = outputs(load_model(first.run.path), None)
    assert second.recipe.model.speakers == (("high", "low") if speakers else ())
    for model in (second.state.model, second.state.average):
        assert torch.equal(outputs(model, speakers), expected)
    assert (second.state.step, second.state.seconds, second.state.first_folder) == (0, 0.0, str(folder))
    assert not second.state.optimizer.state
    second.train()
    assert not torch.equal(outputs(second.state.model, speakers), expected)
    assert recipe.load(second.run.recipe) == second.recipe
    assert load_model(second.run.path).config == second.recipe.model
    assert second.run.summary().base == str(first.run.path)


def test_the_speakers_of_a_base_come_first_and_keep_their_embeddings(tmp_path: Path) -> None:
    folder = write_voices(tmp_path / "voices")
    voices = CONDITIONED["speakers"]
    first = trainer_for(folder, tmp_path / "first", *voices, "training.steps=2")
    first.train()
    (folder / "high").rename(folder / "deep")
    budget = [*voices, "training.steps=4", "data.validation=0.3"]
    second = trainer_for(folder, tmp_path / "second", *budget, start=first.run.model)
    assert second.recipe.model.speakers == ("high", "low", "deep")
    before = load_model(first.run.path).state_dict()["conditioning.speaker.weight"]
    after = second.state.model.state_dict()["conditioning.speaker.weight"]
    assert torch.equal(after[:2], before)
    torch.testing.assert_close(after[2], before.mean(0))
    second.train()
    shutil.rmtree(first.run.path)  # the run is continued without its base
    again = trainer_for(folder, tmp_path / "second", *voices, "training.steps=9", start=first.run.model)
    assert (again.state.step, again.recipe.model.speakers) == (4, ("high", "low", "deep"))
    assert run_policy.recipe_for(again.run, None, ["model.speakers=['deep']"]).model.speakers == ("high", "low", "deep")


def test_without_a_recipe_the_network_is_that_of_the_base() -> None:
    config = dataclasses.replace(
        conditioned_config(order=9, taps=5), sampling=SAMPLING, training_range=FeatureRange((-60, -20), (80, 300))
    )
    chosen = recipe_from(base_of(config), None, ["training.steps=7", "model.sampling.refine=0"])
    assert chosen.model == dataclasses.replace(config, training_range=None)  # that of other recordings
    assert chosen.training == recipe.load(None, ["training.steps=7", "training.learning_rate=1.2e-3"]).training
    assert chosen.data == recipe.load(None, ["data.speakers=folders"]).data
    changed = recipe_from(base_of(config), None, ["model.sampling.temperature=0.7", "data.speakers=list.csv"])
    assert changed.model.sampling == SamplingConfig(0.7, voiced_temperature=0.5)
    assert changed.data.speakers == "list.csv"


def test_the_recipe_that_fits_a_network() -> None:
    fitting = {name: fitting_recipe(recipe.load(name).model) for name in recipe.names()}
    assert {name: found for name, found in fitting.items() if name != found} == {
        "speakers": "speech",  # the same network
        "vocoder-universal": "vocoder",
    }
    speech = recipe.load("speech").model
    assert fitting_recipe(dataclasses.replace(speech, speakers=("ann", "bob"))) == "speakers"
    assert fitting_recipe(dataclasses.replace(speech, speakers=("ann", "bob"), speaker_channels=3)) is None
    assert fitting_recipe(dataclasses.replace(speech, cycles=5)) is None
    chosen = recipe_from(base_of(speech), None, [])
    assert chosen == base_model.with_lower_rate(recipe.load("speech"), [])


def test_a_recipe_with_the_network_of_the_base_adds_speakers_and_takes_its_sampling_options() -> None:
    vocoder = recipe.load("vocoder").model
    base = base_of(dataclasses.replace(vocoder, speakers=("ann", "bob"), sampling=SAMPLING))
    overrides = ["model.speakers=['carl', 'bob']", "model.sampling.refine=3", "model.sampling.temperature=0.7"]
    chosen = recipe_from(base, "vocoder-universal", overrides)
    universal = recipe.load("vocoder-universal")
    assert chosen.model.speakers == ("ann", "bob", "carl")
    assert chosen.model.sampling == SamplingConfig(0.7, voiced_temperature=0.5, refine=3)
    assert chosen.data == universal.data
    assert chosen.training.crop == universal.training.crop


@pytest.mark.parametrize(
    ("name", "overrides", "rate"),
    [
        (None, [], 1.2e-3),
        ("speech", [], 1.2e-3),
        ("speech", ["training.learning_rate=3e-3"], 3e-3),
        ("speech", [" training.rate = 2e-3"], 2e-3),
        ("low.toml", [], 5e-4),
    ],
)
def test_the_learning_rate_is_lower_than_from_random_weights(
    tmp_path: Path, name: str | None, overrides: list[str], rate: float
) -> None:
    base = base_of(recipe.load("speech").model)
    if name == "low.toml":
        name = str(tmp_path / name)
        Path(name).write_text(recipe.load("speech", ["training.learning_rate=5e-4"]).to_toml())
    assert recipe_from(base, name, overrides).training.learning_rate == rate


def test_a_continued_run_has_the_same_learning_rate(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")
    mine = tmp_path / "mine.toml"
    mine.write_text(recipe.load(None, [*SMALL, "training.learning_rate=3e-3"]).to_toml())
    first = trainer_for(folder, tmp_path / "first", "training.steps=2")
    first.train()
    run = trainer_for(folder, tmp_path / "second", "training.steps=2", start=first.run.path).run
    assert run_policy.recipe_for(first.run, str(mine), []).training.learning_rate == 3e-3
    trainer_for(folder, run.path, "training.steps=2", start=first.run.path).train()
    assert run_policy.recipe_for(run, str(mine), []).training.learning_rate == 1.2e-3
    assert run_policy.recipe_for(run, None, []).training.learning_rate == 1.2e-3
    assert run_policy.recipe_for(run, str(mine), ["training.learning_rate=2e-3"]).training.learning_rate == 2e-3


# another valid value of every field that changes the tensors, or the meaning of inputs and outputs
MODEL: dict[str, Any] = {
    "cycles": 3,
    "layers_per_cycle": 2,
    "kernel_size": 3,
    "residual_channels": 9,
    "gate_channels": 9,
    "skip_channels": 9,
    "head_channels": 9,
    "output": "gaussian",
    "mixtures": 9,
    "sample_rate": 22_050,
    "speaker_channels": 9,
    "frame_network": "parallel",
    "frame_channels": 9,
    "linear_prediction": 8,
    "pitch_taps": 3,
}
FEATURES: dict[str, Any] = {
    "sample_rate": 22_050,
    "window": 30,
    "fft": 90,
    "hop": 4,
    "bands": 6,
    "low": 9.0,
    "high": 7_000.0,
    "scale": "htk",
    "area": False,
    "power": 2.0,
    "floor": 1e-4,
    "mean": -4.0,
    "deviation": 3.0,
}
CHANGES = [*MODEL.items(), *((f"features.{name}", value) for name, value in FEATURES.items())]


def test_every_field_is_compared() -> None:
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    assert names - set(MODEL) == {"speakers", "features", "frame_model", "sampling", *base_model.MEASURED}
    assert {field.name for field in dataclasses.fields(MelConfig)} == set(FEATURES)


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_contradiction_names_the_field_and_both_values(name: str, value: Any) -> None:
    config = conditioned_config(order=9, taps=5)
    own = config.to_dict()
    before = own["features"][name.removeprefix("features.")] if name.startswith("features.") else own[name]
    with pytest.raises(ConfigError) as caught:
        recipe_from(base_of(config), None, [f"model.{name}={json.dumps(value)}"])
    message = str(caught.value)
    assert message.startswith("/models/base.safetensors has ")
    assert f"model.{name} = {before!r} (not {value!r})" in message
    assert message.count("(not") == 1
    assert "leave out --recipe and these keys of --set" in message


def test_all_differences_to_a_recipe_are_in_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_from(base_of(recipe.load("speech").model), "vocoder", ["model.cycles=3"])
    message = str(caught.value)
    for difference in (
        "model.cycles = 2 (not 3)",
        "model.layers_per_cycle = 10 (not 8)",
        "model.output = 'mulaw' (not 'logistic')",
        "model.features = 'none' (not 'a mel spectrogram')",
        "model.linear_prediction = 0 (not 32)",
        "model.pitch_taps = 0 (not 5)",
    ):
        assert difference in message
    assert "mixtures" not in message  # mu-law has none
    assert "frame_network" not in message
    assert "\n" not in message


def test_other_mistakes_in_overrides_are_named_as_usual() -> None:
    base = base_of(recipe.load("speech").model)
    for override, message in [
        ("model.cycle=3", "did you mean 'cycles'"),
        ("model.sampling.top_q=1", "sampling.top_q: unknown key"),
        ("model.sampling.refine=3", "has no features"),
        ("cycles=3", "expected section.key=value"),
    ]:
        with pytest.raises(ConfigError, match=message):
            recipe_from(base, None, [override])


def test_a_run_is_continued_with_its_own_base_only(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")
    first = trainer_for(folder, tmp_path / "first", "training.steps=2")
    first.train()
    copy = Path(shutil.copy(first.run.model, tmp_path / "copy.safetensors"))
    run = RunDirectory(tmp_path / "second")
    trainer_for(folder, run.path, "training.steps=2", start=copy).train()
    assert run_policy.base_for(run, None) is None
    assert run_policy.base_for(run, copy) is None
    with pytest.raises(ConfigError, match=r"was started from .*copy.safetensors, not from .*first: leave out --from"):
        run_policy.base_for(run, first.run.path)
    with pytest.raises(ConfigError, match="was started from random weights, not from .*copy"):
        run_policy.base_for(first.run, copy)
    fresh = run_policy.base_for(run, first.run.path, fresh=True)
    assert fresh is not None
    assert fresh.path == str(first.run.path)
    for itself in (run.path, run.model, tmp_path / "first" / ".." / "second"):
        for again in (True, False):
            with pytest.raises(ConfigError, match="is this run itself; leave out --from to continue it"):
                run_policy.base_for(run, itself, again)


def test_a_run_of_an_earlier_version_was_started_from_no_model(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "clips")
    first = trainer_for(folder, tmp_path / "first", "training.steps=2")
    first.train()
    tensors, metadata = checkpoint.read_tensors(first.run.state)
    counters = json.loads(metadata["wavenet.state"])
    assert counters.pop("base") == ""
    checkpoint.write_tensors(first.run.state, tensors, {"wavenet.state": json.dumps(counters)})
    assert trainer_for(folder, tmp_path / "first", "training.steps=4").state.base == ""
    assert first.run.summary().base is None
    with pytest.raises(ConfigError, match="was started from random weights"):
        run_policy.base_for(first.run, tmp_path / "other.safetensors")


def test_a_base_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("no model")
    for name, message in [
        ("gone.safetensors", "no such file"),
        ("empty", "no model.safetensors in this folder"),
        ("text.safetensors", "not a complete .safetensors file"),
    ]:
        with pytest.raises(CheckpointError, match=message) as caught:
            run_policy.base_for(run, tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    assert not run.path.exists()
