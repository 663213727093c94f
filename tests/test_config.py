"""Configurations: derived quantities against papers and arithmetic by hand, and errors that name the field."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from typing import Any

import pytest

from wavenet.config import (
    ConfigError,
    DataConfig,
    MelConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
    listed,
    shown,
    suggest,
)


def test_dilations_double_along_a_cycle_and_start_again() -> None:
    assert ModelConfig(cycles=2, layers_per_cycle=4).dilations == (1, 2, 4, 8, 1, 2, 4, 8)


@pytest.mark.parametrize(
    ("shape", "receptive_field"),
    [
        # van den Oord et al. 2016, section 2.1: "1, 2, 4, ..., 512 has a receptive field of size 1024"
        ({"cycles": 1, "layers_per_cycle": 10, "kernel_size": 2}, 1024),
        # Deep Voice (Arik et al. 2017): 20 and 40 layers in cycles of 10, filter size 2
        ({"cycles": 2, "layers_per_cycle": 10, "kernel_size": 2}, 2047),
        ({"cycles": 4, "layers_per_cycle": 10, "kernel_size": 2}, 4093),
    ],
)
def test_receptive_field_of_published_shapes(shape: dict[str, Any], receptive_field: int) -> None:
    assert ModelConfig(**shape).receptive_field == receptive_field


# Tacotron 2 (Shen et al. 2017), table 5: WaveNets of filter size 3 at 24 kHz; the first is that of Parallel WaveNet
@pytest.mark.parametrize(
    ("layers", "cycles", "layers_per_cycle", "samples", "milliseconds"),
    [(30, 3, 10, 6139, 255.8), (24, 4, 6, 505, 21.0), (12, 2, 6, 253, 10.5), (30, 30, 1, 61, 2.5)],
)
def test_receptive_fields_of_a_published_table(
    layers: int, cycles: int, layers_per_cycle: int, samples: int, milliseconds: float
) -> None:
    config = ModelConfig(cycles, layers_per_cycle, kernel_size=3, sample_rate=24_000)
    assert (config.layers, config.receptive_field) == (layers, samples)
    assert round(config.receptive_field_ms, 1) == milliseconds


def test_receptive_field_in_milliseconds() -> None:
    config = ModelConfig(cycles=1, layers_per_cycle=9, sample_rate=16_000)
    assert (config.receptive_field, config.receptive_field_ms) == (512, 32.0)


def test_queues_are_counted_as_they_are_allocated() -> None:
    assert ModelConfig(2, 10, 2, 32).queue_size == 2 * 1023 * 32  # two taps: as many slots as the dilation
    # K = 64: 63, 126, ... slots make powers of two, 64 x 2^l; one channel takes sixteen
    assert ModelConfig(1, 14, 64, 1).queue_size == 64 * (2**14 - 1) * 16
    assert ModelConfig(1, 5, 4, 17).queue_size == (4 + 8 + 16 + 32 + 64) * 32  # 3, 6, 12, ... slots
    with pytest.raises(ConfigError, match="1,073,740,800 values, at most 67,108,864"):
        ModelConfig(1, 20, 64, 1)


def test_defaults_follow_other_fields() -> None:
    config = ModelConfig(residual_channels=24, skip_channels=40)
    assert (config.gate, config.head) == (24, 40)


def test_parameters_and_macs_by_hand() -> None:
    config = ModelConfig(
        cycles=1, layers_per_cycle=2, residual_channels=2, gate_channels=3, skip_channels=5, head_channels=7
    )
    layer = 2 * 6 * 2  # K x 2G x R
    weights = 2 * layer + 2 * 3 + 5 * (2 * 3) + 7 * 5 + 256 * 7  # one residual product: the last layer has none
    biases = 2 * 6 + 2 + 5 + 7 + 256
    assert config.macs_per_sample == weights
    assert config.parameters == weights + biases + 256 * 2


def test_parameters_and_macs_of_a_conditioned_network_by_hand() -> None:
    shape: dict[str, Any] = {
        "cycles": 1,
        "layers_per_cycle": 3,
        "residual_channels": 2,
        "gate_channels": 4,
        "skip_channels": 5,
    }
    conditioning: dict[str, Any] = {
        "speakers": ("ann", "bob"),
        "speaker_channels": 6,
        "features": {"bands": 10},
        "frame_channels": 8,
    }
    bare, config = ModelConfig(**shape), ModelConfig(**shape, **conditioning)
    gates = 3 * 2 * 4  # L x 2G
    speakers = 2 * 6 + gates * 6
    frames = 3 * 8 * 10 + 3 * 8 * 8  # two convolutions of three taps
    assert config.parameters == bare.parameters + speakers + frames + 2 * 8 + gates * 8
    assert config.macs_per_sample == bare.macs_per_sample
    assert config.macs_per_frame == frames + gates * 8


@pytest.mark.parametrize(
    ("output", "inputs", "outputs"),
    # a mixture of 7: as many weights, means and log scales; a Gaussian: a mean and a log scale
    [("mulaw", 256, 256), ("logistic", 1, 21), ("gaussian", 1, 2)],
)
def test_input_and_output_channels(output: str, inputs: int, outputs: int) -> None:
    config = ModelConfig(output=output, mixtures=7)
    assert (config.input_channels, config.output_channels) == (inputs, outputs)
    assert config.shapes["head.output.weight"] == (outputs, config.head)


def test_linear_prediction_extends_the_context() -> None:
    config = ModelConfig(1, 4, output="gaussian", features=MelConfig(), linear_prediction=10)
    assert (config.receptive_field, config.context, config.input_channels) == (16, 16 + 11, 3)
    assert ModelConfig(1, 4).context == 16
    adaptive = dataclasses.replace(config, features=None)  # at 16 kHz from 320 samples, updated every 40
    assert (adaptive.adaptation_window, adaptive.adaptation_hop, adaptive.input_channels) == (320, 40, 5)
    assert adaptive.context == 16 + 320 + 40
    pitched = dataclasses.replace(config, pitch_taps=5)  # 50 Hz at 16 kHz: periods of up to 320 samples
    assert (pitched.pitch_reach, pitched.context, pitched.input_channels) == (322, 16 + 11 + 322, 8)


def test_features_follow_the_sample_rate() -> None:
    features = from_dict(ModelConfig, {"sample_rate": 8_000, "features": {}}).features
    assert features is not None
    assert (features.sample_rate, features.high) == (8_000, 4_000.0)  # half the rate, below the default of 8,000 Hz


PREDICTED: dict[str, Any] = {"features": {}, "output": "gaussian", "linear_prediction": 8}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"speakers": ("ann", "bøb")},
        {"features": MelConfig(sample_rate=22_050, hop=256, bands=40), "output": "logistic", "linear_prediction": 12},
        {**PREDICTED, "pitch_taps": 3},
        {**PREDICTED, "features": None},
    ],
)
def test_survives_json(values: dict[str, Any]) -> None:
    config = ModelConfig(cycles=3, residual_channels=48, sample_rate=22_050, **values)
    assert from_dict(ModelConfig, json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("read", [tomllib.loads, json.loads])
def test_names_of_earlier_versions_are_read(read: Any) -> None:
    """Recipes and model files keep loading in which sample_rate and learning_rate were called rate."""
    if read is tomllib.loads:
        tables = read("[model]\nsample_rate = 8000\n[model.features]\nrate = 8000\nhop = 80\n[training]\nrate = 1e-3\n")
    else:
        tables = read(
            '{"model": {"sample_rate": 8000, "features": {"rate": 8000, "hop": 80}}, "training": {"rate": 1e-3}}'
        )
    model = from_dict(ModelConfig, tables["model"])
    assert model.features == MelConfig(sample_rate=8_000, high=4_000.0, hop=80)
    assert from_dict(TrainingConfig, tables["training"]) == TrainingConfig(learning_rate=1e-3)
    assert "rate" not in model.to_dict()["features"]
    assert model.features is not None
    model.features.check_same({"rate": 8_000, "hop": 80})
    with pytest.raises(ConfigError, match="its features have sample_rate = 16000, the model's have 8000"):
        model.features.check_same({"rate": 16_000})


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (ModelConfig, {"cycles": 0}, "cycles"),
        (ModelConfig, {"kernel_size": 1}, "kernel_size"),
        (ModelConfig, {"residual_channels": 2.5}, "residual_channels"),
        (ModelConfig, {"residual_channels": True}, "residual_channels"),
        (ModelConfig, {"skip_channels": "many"}, "skip_channels"),
        (ModelConfig, {"output": "cubist"}, "output"),
        (ModelConfig, {"residual_channels": 60_000, "skip_channels": 60_000}, "parameters"),
        (ModelConfig, {"cycles": 16, "layers_per_cycle": 24, "residual_channels": 1}, "receptive_field"),
        (TrainingConfig, {"minutes": 10**400}, "minutes"),
        (ModelConfig, {"residual_chanels": 2}, "did you mean 'residual_channels'"),
        (ModelConfig, {"speakers": "ann"}, "speakers = 'ann': expected a list of names"),
        (ModelConfig, {"speakers": ["ann", ""]}, "speakers: .. is not a name"),
        (ModelConfig, {"speakers": ["ann", "bob", "ann"]}, "speakers: .ann. appears more than once"),
        (ModelConfig, {"features": {"band": 40}}, "features.band: unknown key, did you mean 'bands'"),
        (ModelConfig, {"features": {"hop": 1_025}}, "features.hop = 1025"),
        (ModelConfig, {"features": {"window": 2_000}}, "features.window = 2000"),
        (ModelConfig, {"features": {"high": 9_000.0}}, "features.high"),
        (ModelConfig, {"features": {"low": 7_999.5}}, "features.low"),
        (ModelConfig, {"features": {"scale": "bark"}}, "features.scale = 'bark'"),
        (
            ModelConfig,
            {"features": {"rate": 22_050}},
            "features.sample_rate = 22050: must be the model's sample_rate, 16000",
        ),
        (ModelConfig, {"linear_prediction": 8}, "linear_prediction: needs a 16-bit output"),
        (ModelConfig, {"linear_prediction": 8, "features": {}}, "linear_prediction: needs a 16-bit output"),
        (ModelConfig, {**PREDICTED, "features": None, "pitch_taps": 3}, "pitch_taps = 3: .* needs .* features"),
        (ModelConfig, {**PREDICTED, "pitch_taps": 4}, "pitch_taps = 4: must be odd"),
        (ModelConfig, {**PREDICTED, "pitch_taps": 11}, "pitch_taps"),
        (ModelConfig, {"features": {}, "output": "gaussian", "pitch_taps": 3}, "pitch_taps = 3: .* linear_prediction"),
        (ModelConfig, {"frame_network": "deep"}, "frame_network"),
        (DataConfig, {"validation": math.nan}, "validation"),
        (DataConfig, {"join": "yes"}, "join"),
        (TrainingConfig, {"learning_rate": 0}, "learning_rate"),
        (TrainingConfig, {"minutes": 0}, "minutes"),
        (TrainingConfig, {"batch": 0}, "batch"),
    ],
)
def test_wrong_values_are_named(kind: type[Any], values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        from_dict(kind, values, "section")
    assert str(error.value).startswith("section.")
    assert "\n" not in str(error.value)


UNUSABLE = [10**400, -(10**400), 16**5_000, 1e308, -1e308, math.nan, math.inf, b"x", object(), [[[[0]]]], {"a": 1}]
UNUSABLE += [["a"] * 100_000, ["n" * 100_000] * 2, "\udcff", ["\udcff"], [10**400], {"sample_rate": 10**400}]


@pytest.mark.parametrize("kind", [MelConfig, ModelConfig, DataConfig, TrainingConfig])
def test_every_field_refuses_unusable_values_in_one_line(kind: type[Any]) -> None:
    for field in dataclasses.fields(kind):
        for value in UNUSABLE:
            values = {field.name: value}
            if kind is ModelConfig and field.name != "features":
                values["features"] = {}
            with pytest.raises(ConfigError, match=rf"^section.{field.name}\b") as error:
                from_dict(kind, values, "section")
            assert len(str(error.value)) < 400
            assert str(error.value).isprintable()


@pytest.mark.parametrize("kind", [MelConfig, ModelConfig, DataConfig, TrainingConfig])
def test_booleans_are_not_numbers(kind: type[Any]) -> None:
    for field in dataclasses.fields(kind):
        if field.type in ("int", "float", "str"):
            with pytest.raises(ConfigError, match=f"{field.name} = True: expected"):
                from_dict(kind, {field.name: True})


@pytest.mark.parametrize("key", ["k" * 100_000, "\x1b[31m", "\udcff", "a b", "line\nline"])
def test_unknown_keys_are_shown_in_one_line(key: str) -> None:
    with pytest.raises(ConfigError, match=r"^model\..*: unknown key; known: cycles, ") as error:
        from_dict(ModelConfig, {key: 1}, "model")
    assert len(str(error.value)) < 500
    assert str(error.value).isprintable()


def test_values_in_messages_are_short() -> None:
    assert shown("it's") == '"it\'s"'
    assert shown(22_050) == "22050"
    assert shown(10**400) == "<an integer of about 400 digits>"
    assert shown("x" * 100_000) == f"'{27 * 'x'}...{28 * 'x'}'"
    assert len(shown([["x" * 100_000] * 1_000] * 1_000)) < 200
    assert len(shown(["x" * 100_000] * 1_000)) < 200
    assert shown("\x1b\x7f\udcff") == r"'\x1b\x7f\udcff'"
    assert listed(["ann", "bøb"]) == "ann, bøb"
    assert listed(f"{i}" for i in range(1_011)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1,001 more"
    assert suggest("bop", ["ann", "bob"]) == ", did you mean 'bob'?"
    assert suggest("zzz", ["ann", "bob"]) == ""
