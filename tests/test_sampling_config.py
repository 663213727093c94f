"""Recommended sampling options: their checks, where they are stored, and that they are used unless others are given."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import soundfile
from commands import MEL, SAMPLE_RATE, Capture, error_of, run, save_model

import wavenet
from wavenet.checkpoint import CheckpointError, load_model, read_model, update_config
from wavenet.config import ConfigError, FrameModelConfig, MelConfig, ModelConfig, SamplingConfig, from_dict
from wavenet.data import audio
from wavenet.features import mel_spectrogram
from wavenet.training import recipe

OPTIONS = SamplingConfig(temperature=0.7, voiced_temperature=0.4, top_p=0.95)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """An unconditioned mu-law model that recommends a temperature of 0.5 and 40 codes."""
    return save_model(tmp_path / "m.safetensors", sampling={"temperature": 0.5, "top_k": 40})


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A vocoder that recommends `OPTIONS`."""
    return save_model(tmp_path / "v.safetensors", output="gaussian", features=MEL, sampling=OPTIONS)


def features_of(seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(-5, 2, (20, 9)).clip(-11, 0).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", -0.1, "temperature = -0.1: must be a number from 0"),
        ("temperature", "warm", "temperature = 'warm': must be a number from 0"),
        ("temperature", True, "temperature = True: must be a number from 0"),
        ("temperature", float("nan"), "temperature = nan: must be a number from 0"),
        ("temperature", 10**400, "temperature: the number is too large"),
        ("voiced_temperature", float("inf"), "voiced_temperature = inf: must be a number from 0"),
        ("top_k", 0, "top_k = 0: must be a whole number from 1"),
        ("top_p", 0.0, "top_p = 0.0: must be above 0 and at most 1"),
        ("refine", -1, "refine = -1: must be a whole number from 0 to 1,000"),
        ("refine", 1_001, "refine = 1001: must be a whole number from 0 to 1,000"),
        ("refine", 1.0, "refine = 1.0: must be a whole number"),
        ("particles", 1_025, "particles = 1025: must be a whole number from 0 to 1,024"),
        ("frame_temperature", -1, "frame_temperature = -1: must be a number from 0"),
        ("frame_temperature_range", 1.0, r"frame_temperature_range = 1.0: expected two numbers, such as \[0, 10\]"),
        ("frame_temperature_range", [1.1, 0.7], "frame_temperature_range = .*: must be two numbers in ascending order"),
        ("warmth", 1, "warmth: unknown key"),
    ],
)
def test_options_out_of_range_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        from_dict(SamplingConfig, {name: value})
    with pytest.raises(ConfigError, match=f"^sampling.{message}"):
        ModelConfig(features=MelConfig(), sampling={name: value})  # type: ignore[arg-type]  # a table of a recipe


def test_numbers_of_numpy_are_converted() -> None:
    options = SamplingConfig(np.float32(0.5), np.int64(1), np.int32(7), 1, np.uint8(3), np.int8(1))  # type: ignore[arg-type]
    assert [type(value) for value in dataclasses.astuple(options)][:6] == [float, float, int, float, int, int]


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ({}, {"voiced_temperature": 0.5}, "sampling.voiced_temperature: this model has no features"),
        ({}, {"refine": 1}, "sampling.refine = 1: this model has no features"),
        ({}, {"particles": 1}, "sampling.particles = 1: this model has no features"),
        ({"output": "logistic"}, {"top_k": 5}, "sampling.top_k: a 16-bit output has no list of codes"),
        ({}, {"frame_temperature": 0.9}, "sampling.frame_temperature: this model has no frame model"),
        ({}, {"frame_temperature_range": (0.7, 1)}, "sampling.frame_temperature_range: this model has no frame model"),
        ({"features": MelConfig(hop=321)}, {"refine": 1}, "sampling.refine = 1: needs windows that overlap by half"),
        ({"features": MelConfig(hop=1)}, {"refine": 1}, "sampling.refine = 1: takes too long with frames of 1 samples"),
        ({"features": MelConfig(hop=5)}, {"refine": 1_000}, "sampling.refine = 1000: takes too long"),
    ],
)
def test_options_that_a_model_does_not_have_are_refused(
    shape: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        ModelConfig(**shape, sampling=SamplingConfig(**options))
    ModelConfig(features=MelConfig(), frame_model=FrameModelConfig(), sampling=SamplingConfig(**options))


def test_given_options_replace_stored_ones_one_by_one() -> None:
    stored = SamplingConfig(0.9, 0.5, None, 0.95, 40)
    assert stored.updated() == stored
    assert stored.updated(temperature=1.1, refine=None) == dataclasses.replace(stored, temperature=1.1)
    off = stored.updated(temperature=1, voiced_temperature=1, top_p=1, refine=0)
    assert off == SamplingConfig(voiced_temperature=1.0, top_p=1.0)


def test_the_summary_names_what_is_used() -> None:
    assert SamplingConfig().summary == "temperature 1"
    stored = SamplingConfig(0.9, 0.5, 40, 0.95, 10, 1)
    expected = "temperature 0.9, voiced temperature 0.5, top-k 40, top-p 0.95, refine 10, particles 1"
    assert stored.summary == expected
    of_frames = SamplingConfig(frame_temperature=0.8, frame_temperature_range=(0.7, 1.1))
    assert of_frames.summary == "temperature 1, frame temperature 0.8, frame temperature range 0.7 to 1.1"


def test_a_recipe_may_state_options_and_writes_all_that_are_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[model.features]\n[model.sampling]\ntemperature = 0.8\nrefine = 20\n")
    loaded = recipe.load(file, ["model.sampling.voiced_temperature=0.5"])
    assert loaded.model.sampling == SamplingConfig(0.8, 0.5, refine=20)
    table = "[model.frame_model]\n[model.sampling]\nframe_temperature = 0.9\nframe_temperature_range = [0.7, 1]"
    file.write_text("[model.features]\n" + table)
    assert recipe.load(file).model.sampling == SamplingConfig(frame_temperature=0.9, frame_temperature_range=(0.7, 1))
    loaded = recipe.load(file)
    file.write_text(loaded.to_toml())
    assert recipe.load(file) == loaded
    with pytest.raises(ConfigError, match=r"^model\.sampling\.top_q: unknown key, did you mean 'top_"):
        recipe.load(None, ["model.sampling.top_q=1"])


def test_a_model_file_stores_them(tuned: Path) -> None:
    assert load_model(tuned).config.sampling == read_model(tuned)[0].sampling == OPTIONS


def test_a_model_file_without_options_has_the_defaults(tuned: Path) -> None:
    rewrite_config(tuned, lambda values: values.pop("sampling"))
    assert read_model(tuned)[0].sampling == SamplingConfig()


@pytest.mark.parametrize("value", [3, None, [1], {"temperature": None}, {"refine": 1e3}, {"surprise": 1}])
def test_a_model_file_with_unusable_options_is_refused(tuned: Path, value: Any) -> None:
    rewrite_config(tuned, lambda values: values.update(sampling=value))
    with pytest.raises(CheckpointError, match="its configuration cannot be used: .*sampling"):
        read_model(tuned)


def rewrite_config(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the configuration in a model file by hand."""
    with safetensors.safe_open(file, "np") as content:
        metadata = content.metadata()
    values = json.loads(metadata["wavenet.config"])
    change(values)
    tensors = safetensors.numpy.load_file(file)
    file.write_bytes(safetensors.numpy.save(tensors, {**metadata, "wavenet.config": json.dumps(values)}))


def test_saving_options_changes_nothing_else(tuned: Path) -> None:
    with safetensors.safe_open(tuned, "np") as content:
        metadata = {**content.metadata(), "note": "of another program"}
    values = json.loads(metadata["wavenet.config"])
    values["features"]["rate"] = values["features"].pop("sample_rate")  # as in files of earlier versions
    former = json.dumps(values)
    tensors = safetensors.numpy.load_file(tuned)
    tuned.write_bytes(safetensors.numpy.save(tensors, {**metadata, "wavenet.config": former}))
    link = tuned.with_name("link.safetensors")
    link.symlink_to(tuned.name)

    options = SamplingConfig(refine=7)
    update_config(link, sampling=options)

    assert link.is_symlink() and read_model(tuned)[0].sampling == options
    with safetensors.safe_open(tuned, "np") as content:
        after = content.metadata()
    config, config_after = json.loads(former), json.loads(after.pop("wavenet.config"))
    assert config_after.pop("sampling") == dataclasses.asdict(options)
    assert config_after == {key: value for key, value in config.items() if key != "sampling"}
    assert after == {key: value for key, value in metadata.items() if key != "wavenet.config"}
    tensors_after = safetensors.numpy.load_file(tuned)
    assert tensors_after.keys() == tensors.keys()
    assert all(np.array_equal(tensors_after[name], tensors[name]) for name in tensors)


def test_options_are_not_saved_where_they_do_not_apply(model_file: Path, tmp_path: Path) -> None:
    before = model_file.read_bytes()
    with pytest.raises(CheckpointError, match="m.safetensors: sampling.refine = 7: this model has no features"):
        update_config(model_file, sampling=SamplingConfig(refine=7))
    os.chmod(model_file, 0o444)
    with pytest.raises(CheckpointError, match="m.safetensors: is read-only"):
        update_config(model_file, sampling=SamplingConfig())
    assert model_file.read_bytes() == before
    with pytest.raises(CheckpointError, match="no such file"):
        update_config(tmp_path / "none.safetensors", sampling=SamplingConfig())


def test_a_generator_uses_the_options_of_its_model(tuned: Path) -> None:
    generator = wavenet.Generator.load(tuned, threads=1)
    features = features_of()
    session = generator.session(features=features)
    found = SamplingConfig(session.temperature, session.voiced_temperature, session.top_k, session.top_p)
    assert found == OPTIONS
    stored = generator.render(features=features)
    given = generator.render(features=features, temperature=0.7, voiced_temperature=0.4, top_p=0.95)
    np.testing.assert_array_equal(stored, given)
    np.testing.assert_array_equal(np.concatenate(list(generator.stream(features=features))), stored)
    one = generator.session(features=features, temperature=1.2)
    assert (one.temperature, one.voiced_temperature, one.top_p) == (1.2, 0.4, 0.95)
    for name, value in (("temperature", -1), ("voiced_temperature", "x"), ("top_p", 2)):
        with pytest.raises(ValueError, match=f"^{name} = "):
            generator.session(features=features, **{name: value})  # type: ignore[arg-type]


def test_commands_use_the_options_of_the_model(model_file: Path, tuned: Path, tmp_path: Path) -> None:
    generator, out = wavenet.Generator.load(model_file), tmp_path / "x.wav"

    def written(*arguments: object) -> Any:
        assert run(*arguments, "-o", out) == 0
        return soundfile.read(out, dtype="float32")[0]

    stored = written("generate", model_file, "--seconds", 0.1)
    rounding = 0.6 / 32_768  # of mu-law values to the 16 bits of the file
    np.testing.assert_allclose(stored, generator.render(0.1, temperature=0.5, top_k=40), atol=rounding)
    plain = written("generate", model_file, "--seconds", 0.1, "--temperature", 1, "--top-k", 256)
    np.testing.assert_allclose(plain, generator.render(0.1, temperature=1.0, top_k=256), atol=rounding)
    assert not np.array_equal(plain, stored)

    vocoder, features = wavenet.Generator.load(tuned), features_of()
    np.save(tmp_path / "mel.npy", features)
    mel = ("--mel", tmp_path / "mel.npy")
    np.testing.assert_array_equal(written("vocode", tuned, *mel), vocoder.render(features=features))
    warmer = written("vocode", tuned, *mel, "--temperature", 0.9)
    expected = vocoder.render(features=features, temperature=0.9, voiced_temperature=0.4, top_p=0.95)
    np.testing.assert_array_equal(warmer, expected)


def test_evaluate_copies_with_the_options_of_the_model(tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    audio.write(tmp_path / "clips" / "tone.wav", tone, SAMPLE_RATE)
    options = ("--copies", 1, "--save", tmp_path / "copies", "--temperature", 0.9)
    assert run("evaluate", tuned, tmp_path / "clips", *options) == 0
    generator = wavenet.Generator.load(tuned)
    assert generator.config.features is not None
    features = mel_spectrogram(audio.read(tmp_path / "clips" / "tone.wav", SAMPLE_RATE), generator.config.features)
    copy = soundfile.read(tmp_path / "copies" / "model" / "tone.wav.wav", dtype="float32")[0]
    np.testing.assert_array_equal(copy, generator.render(features=features, temperature=0.9))


def test_info_prints_them(tuned: Path, capsys: Capture) -> None:
    assert run("info", tuned) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sampling         temperature 0.7, voiced temperature 0.4, top-p 0.95" in lines


def test_a_command_names_options_that_the_model_does_not_have(
    model_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert "--temperature: " in error_of(capsys, "evaluate", model_file, tmp_path, "--temperature", 0.5)
