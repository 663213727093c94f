"""What several test modules build: models with logits far from flat, codes, conditioning, and the definition's output.

A freshly initialised WaveNet has logits close to zero and biases of zero, which would hide errors. All models here are
random but far from that, and small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavenet.config import ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import Engine, create
from wavenet.engine.conditioning import ConditioningInputs
from wavenet.engine.sampling import Sampling, draw_uniforms, uniform_generator
from wavenet.model import WaveNet


def random_model(config: ModelConfig, seed: int = 0) -> WaveNet:
    """A float32 model with biases, peaked logits, and outputs that depend on its conditioning."""
    torch.manual_seed(seed)
    model = WaveNet(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith("conditioning."):
                weight.add_(torch.randn_like(weight) * 0.1)
            elif name.endswith("bias"):
                weight.add_(torch.randn_like(weight) * 0.3)
        model.head.output.weight.mul_(200 if config.output == "mulaw" else 3)
    return model


def double_model(config: ModelConfig, seed: int = 0) -> WaveNet:
    """A float64 model with outputs far from zero and open rectifiers, for tests of formulas and gradients."""
    torch.manual_seed(seed)
    model = WaveNet(config).double()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(3.0 if "conditioning" in name else 0.0, 0.3)  # opens the rectifiers of the frame network
        model.skip.bias.fill_(9.0)  # opens the rectifiers of the head; in a narrow network all of them may be shut
        model.head.hidden.weight.abs_()
        model.head.output.weight.normal_()
    return model


def engine_for(name: str, model: WaveNet, precision: str = "auto", threads: int | None = 1) -> Engine[Any]:
    """An engine with one thread: products this small would only wait for a second one."""
    return create(name, model.config, model.state_dict(), precision, threads=threads)


def random_codes(config: ModelConfig, streams: int, samples: int, seed: int = 0) -> NDArray[np.int64]:
    """Codes [B, T] of the model's output: uniform for mu-law, a loud normal distribution for 16 bits."""
    generator = np.random.default_rng(seed)
    if config.output == "mulaw":
        return generator.integers(0, 256, (streams, samples))
    return np.clip(3_000 * generator.standard_normal((streams, samples)), -32_768, 32_767).astype(np.int64)


def random_conditioning(config: ModelConfig, streams: int, samples: int, seed: int = 0) -> ConditioningInputs | None:
    """Different features and a different blend of speakers for every stream; None for an unconditioned model."""
    if not config.conditioned:
        return None
    generator = np.random.default_rng(seed)
    speaker = features = None
    if config.speakers:
        shares = generator.random((streams, len(config.speakers)))
        speaker = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    if config.features is not None:
        frames = -(-samples // config.hop)
        features = (generator.standard_normal((streams, config.features.bands, frames)) - 5).astype(np.float32)
    return ConditioningInputs(speaker, features)


def definition_outputs(
    model: WaveNet, codes: NDArray[np.int64], conditioning: ConditioningInputs | None = None
) -> NDArray[np.float32]:
    """Output parameters [B, T, A] that `WaveNet.forward` gives for each code, after a start from silence."""
    silence = np.full((len(codes), 1), quantizer_for(model.config.output).silence)
    inputs = np.concatenate([silence, codes[:, :-1]], axis=1)
    arrays = (None, None) if conditioning is None else (conditioning.speaker, conditioning.features)
    with torch.no_grad():
        outputs: NDArray[np.float32] = model(
            torch.from_numpy(inputs), *(None if array is None else torch.from_numpy(array) for array in arrays)
        ).numpy()
    return outputs


def draw(
    engine: Engine[Any], state: Any, samples: int, seed: int = 7, sampling: Sampling | None = None
) -> NDArray[np.int64]:
    """The next codes [B, samples] of a state; stream i draws with seed + i."""
    generators = [uniform_generator(seed + stream) for stream in range(state.streams)]
    return engine.generate(state, draw_uniforms(generators, samples), sampling or Sampling())
