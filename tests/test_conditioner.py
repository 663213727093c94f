"""The engines' conditioning in NumPy against the network's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import double_model
from conditioned_shapes import CONDITIONINGS, SHAPE, SPEAKERS

from wavenet.config import ModelConfig
from wavenet.engine.conditioning import (
    CHUNK,
    Conditioner,
    ConditioningInputs,
    NumpyConditioningState,
    conditioning_inputs,
)

WITH_FEATURES = {name: config for name, config in CONDITIONINGS.items() if config.features}


@pytest.mark.parametrize("config", WITH_FEATURES.values(), ids=WITH_FEATURES.keys())
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_features_give_the_gate_bias_of_the_network(config: ModelConfig, chunk: int) -> None:
    model = double_model(config).float()
    torch.manual_seed(0)
    local = torch.randn(2, 5, 50) * 2.5 - 5  # ends in the middle of chunk 1
    shares = torch.tensor([[0.25, 0, 0.75]] * 2) if config.speakers else None
    conditioner = Conditioner(config, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    hop, samples = config.hop, CHUNK * config.hop
    assert conditioner.samples == samples
    inputs = ConditioningInputs(None if shares is None else shares.numpy(), local.numpy())
    conditioning = NumpyConditioningState(conditioner, inputs)
    rows = conditioning.frames(chunk * samples).gate_bias
    assert rows.shape == (2, CHUNK + 2, config.layers, 2 * config.gate)
    with torch.no_grad():
        bias = model.conditioning(shares, local, 2, chunk * samples, samples)
        own = torch.stack([layer.dilated.bias for layer in model.typed_layers])  # [L, 2G]
        expected = bias.frames + own[:, None, None]  # [L, F, B, 2G]
        np.testing.assert_allclose(rows.transpose(2, 1, 0, 3), expected.numpy(), atol=1e-5)
        for layer in range(config.layers):
            upsampled = bias.upsample(expected[layer]).numpy()  # [T, B, 2G]
            for offset in (0, 1, hop - 1, hop, 5 * hop + 3, samples - 1):
                row, weight = conditioning.neighbours(chunk * samples + offset)
                interpolated = (1 - weight) * rows[:, row, layer] + weight * rows[:, row + 1, layer]
                np.testing.assert_allclose(interpolated, upsampled[offset], atol=1e-5)
        biases = conditioning.gate_biases(chunk * samples + 5, samples)  # [L, B, T, 2G], over the end of the chunk
        shifted = model.conditioning(shares, local, 2, chunk * samples + 5, samples)
        for layer in range(config.layers):
            np.testing.assert_allclose(biases[layer], shifted.at_samples(layer).numpy(), atol=1e-5)
    assert rows.std() > 0.1


def test_speakers_give_the_gate_bias_of_the_network() -> None:
    config = ModelConfig(**SHAPE, speakers=SPEAKERS)
    model = double_model(config).float()
    conditioner = Conditioner(config, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    assert conditioner.samples is None
    inputs = conditioning_inputs(config, 2, "bob")
    rows = conditioner.frames(inputs, 0).gate_bias
    with torch.no_grad():
        bias = model.conditioning(torch.tensor([1, 1]), None, 2, 0, 9)
        own = torch.stack([layer.dilated.bias for layer in model.typed_layers])  # [L, 2G]
        expected = bias.frames + own[:, None, None]  # [L, 1, B, 2G]
    np.testing.assert_allclose(rows.transpose(2, 1, 0, 3), expected.numpy(), atol=1e-6)
    biases = NumpyConditioningState(conditioner, inputs).gate_biases(0, 9)
    np.testing.assert_allclose(biases, bias.frames.transpose(1, 2).expand(-1, -1, 9, -1).numpy(), atol=1e-6)
