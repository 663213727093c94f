"""What several test modules build: models with logits far from flat, codes, conditioning, and the definition's output.

A freshly initialised WaveNet has logits close to zero and biases of zero, which would hide errors. All models here are
random but far from that, and small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from wavenet.config import MelConfig, ModelConfig
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import Engine, create
from wavenet.engine.conditioning import ConditioningInputs
from wavenet.engine.sampling import Sampling, draw_uniforms, uniform_generator
from wavenet.model import WaveNet


def small_mel(hop: int) -> MelConfig:
    """Features that cost little; a hop of 3 or 7 divides neither blocks nor the receptive field."""
    return MelConfig(window=20, fft=80 + hop % 2, hop=hop, bands=5)  # pitch periods up to half of the fft


def conditioned_config(
    speakers: bool = True, hop: int | None = 3, output: str = "logistic", order: int = 0, taps: int = 0, **others: Any
) -> ModelConfig:
    """A small network with the conditioning named; `order` and `taps` where its output and features allow them.

    Without features an `order` is that of backward-adaptive prediction: from 20 samples, updated every 2 or 3 samples.
    """
    order = 0 if output == "mulaw" else order
    sample_rate = 1_000 if order and hop is None else 16_000
    return ModelConfig(
        **{"cycles": 2, "layers_per_cycle": 3, "residual_channels": 8, "skip_channels": 12, **others},
        output=output,
        mixtures=3,
        speakers=("ann", "bob", "eve") if speakers else (),
        features=None if hop is None else small_mel(hop),
        frame_channels=6,
        linear_prediction=order,
        pitch_taps=taps if order and hop else 0,
        sample_rate=sample_rate,
    )


conditioned_configs = st.builds(
    conditioned_config,
    speakers=st.booleans(),
    hop=st.sampled_from([None, 3, 4, 7]),
    output=st.sampled_from(["mulaw", "logistic", "gaussian"]),
    order=st.sampled_from([0, 1, 9]),
    taps=st.sampled_from([0, 1, 5]),
    frame_network=st.sampled_from(["plain", "parallel", "causal"]),
    cycles=st.integers(1, 2),
    layers_per_cycle=st.integers(1, 3),
    kernel_size=st.integers(2, 3),
    residual_channels=st.sampled_from([1, 5, 8]),
    gate_channels=st.sampled_from([1, 4, 17]),
    skip_channels=st.sampled_from([6, 11]),
)
CONDITIONED = {
    "mulaw": conditioned_config(output="mulaw"),
    "speakers": conditioned_config(hop=None),
    "free": conditioned_config(speakers=False, hop=None, output="gaussian"),
    "gaussian": conditioned_config(hop=7, output="gaussian", order=4, kernel_size=3),
    "parallel": conditioned_config(speakers=False, order=9, frame_network="parallel", gate_channels=17),
    "causal": conditioned_config(hop=4, order=2, taps=3, frame_network="causal"),
    "pitch": conditioned_config(hop=4, order=2, taps=3),
    "adaptive": conditioned_config(hop=None, order=5),
    "free and adaptive": conditioned_config(speakers=False, hop=None, output="gaussian", order=9),
}


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
    """Different features and a different mixture of speakers for every stream; None for an unconditioned model."""
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
