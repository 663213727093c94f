"""`FrameModelConfig`: its checks, and the shapes of the tensors of a frame model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from frame_data import MEL, SMALL, random_coding, random_frame_model
from hypothesis import given, settings
from hypothesis import strategies as st

from wavenet.config import ConfigError, MelConfig, from_dict
from wavenet.frame_model import FrameModel
from wavenet.frame_model_config import FrameModelConfig

configs = st.builds(
    FrameModelConfig,
    cycles=st.integers(1, 2),
    layers_per_cycle=st.integers(1, 4),
    residual_channels=st.integers(1, 9),
    skip_channels=st.integers(1, 9),
    components=st.integers(1, 12),
    mixtures=st.integers(1, 4),
    source_mixtures=st.integers(1, 4),
    prediction_order=st.integers(1, 3),
)


def test_the_default_has_a_receptive_field_of_seconds() -> None:
    config = FrameModelConfig()
    assert config.dilations == (1, 2, 4, 8, 16, 32, 64, 128)
    assert config.receptive_field == 256  # 1 + 255
    assert config.receptive_field_seconds(MEL) == pytest.approx(2.56)
    assert config.receptive_field_seconds(MelConfig(hop=80)) == pytest.approx(1.28)
    assert config.dimensions == 51
    layers = 8 * (2 * 256 * 128 + 256) + 7 * (128 * 128 + 128)
    heads = 2 * (192 * 192 + 192) + 31 * 192 + (24 + 776) * (192 + 1)
    assert config.parameters() == 51 * 128 + 128 + layers + 1_024 * 192 + 192 + heads


def test_few_layers_still_see_what_the_linear_prediction_sees() -> None:
    assert FrameModelConfig(layers_per_cycle=1, prediction_order=5).receptive_field == 5


@settings(max_examples=20)
@given(configs, st.integers(0, 2))
def test_shapes_are_those_of_the_network(config: FrameModelConfig, speakers: int) -> None:
    model, names = FrameModel(config, MEL, speakers), [f"voice {i}" for i in range(speakers)]
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert config.shapes(MEL, names) == expected
    assert config.parameters(speakers) == sum(math.prod(weight.shape) for weight in model.parameters())


@pytest.mark.parametrize("voices", [0, 3])
def test_a_model_keeps_its_coding(voices: int) -> None:
    model, coding = random_frame_model(speakers=voices), random_coding(voices=max(1, voices))
    model.set_coding(coding)
    kept = model.frame_coding.tensors()
    assert all(np.array_equal(array, kept[name]) for name, array in coding.tensors().items())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cycles", 0, "cycles = 0: must be between 1 and 16"),
        ("layers_per_cycle", 17, "layers_per_cycle = 17: must be between 1 and 16"),
        ("residual_channels", 4_097, "residual_channels = 4097: must be between 1 and 4,096"),
        ("skip_channels", 1.5, "skip_channels = 1.5: expected an integer"),
        ("components", 0, "components = 0: must be between 1 and 1,024"),
        ("mixtures", True, "mixtures = True: expected an integer"),
        ("source_mixtures", 257, "source_mixtures = 257: must be between 1 and 256"),
        ("prediction_order", 0, "prediction_order = 0: must be between 1 and 16"),
        ("mixture", 8, "mixture: unknown key, did you mean 'mixtures'?"),
    ],
)
def test_values_that_are_not_allowed_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", "\\?")):
        from_dict(FrameModelConfig, {name: value})


def test_components_are_limited_by_the_bands() -> None:
    with pytest.raises(ConfigError, match="components = 48: at most features.bands, 40"):
        FrameModelConfig().shapes(MelConfig(bands=40))
    with pytest.raises(ConfigError, match="components = 48: at most features.bands, 40"):
        FrameModel(FrameModelConfig(), MelConfig(bands=40))


def test_plain_values_give_an_equal_configuration() -> None:
    assert from_dict(FrameModelConfig, SMALL.to_dict()) == SMALL
