"""The definition of the frame model: a WaveNet over encoded frames, with an exact likelihood of the next frame.

    encoded frame t -> linear -> layer 0 -> layer 1 -> ... -> layer L-1      the layers of `wavenet.model`
                                   |           |                 |
                                  z_0         z_1      ...     z_(L-1)       skip sum, ReLU: h
    h -> source head: p(loudness, voicing, pitch)                            a mixture
    h, source -> shape head: p(shape | loudness, voicing, pitch)             a mixture of diagonal Gaussians

The distribution of frame t + 1 is the product of both. Means are relative to a linear prediction of every dimension
from the last frames, scales to the deviation of its residual, so that training begins there.

Sources: Blaauw and Bonada 2017, "A neural parametric singing synthesizer" (a WaveNet over the frames of a
vocoder, with mixture outputs); Bishop 1994, "Mixture density networks"; van den Oord et al. 2016 for the stack. The
frames are those of `wavenet.frame_coding`. `wavenet.engine.frame_sampler` generates.

Symbols: B streams, T frames, D = 3 + K dimensions, R residual and S skip channels, L layers, M mixture components.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import MelConfig, ModelConfig
from wavenet.frame_coding import FrameCoding
from wavenet.frame_model_config import (
    BUMP_RANGE,
    BUMPS,
    LOUDNESS,
    MAX_LOG_SCALE,
    MAX_PITCH_LOG_SCALE,
    MIN_LOG_SCALE,
    PITCH,
    SOURCE,
    SOURCE_PARAMETERS,
    VOICING,
    FrameModelConfig,
)
from wavenet.frame_prediction import FramePrediction
from wavenet.model import ResidualLayer, delayed
from wavenet.nn import fused
from wavenet.nn.conditioning import GateBias
from wavenet.nn.fused import LayerWeights

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class SourceDistribution(NamedTuple):
    """A mixture of M components over loudness, voicing and pitch; in a component they are independent. [..., M] each.

    Only a voiced frame has a pitch.
    """

    log_weights: Tensor
    loudness: Tensor  # mean
    loudness_log_scale: Tensor
    pitch: Tensor  # mean, if voiced
    pitch_log_scale: Tensor
    voicing_logit: Tensor

    def log_prob(self, source: Tensor) -> Tensor:
        """ln of the density [...] of sources [..., 3]: loudness, voicing, and voicing times pitch."""
        loudness, voicing, pitch = source[..., None, :].unbind(-1)  # [..., 1] each
        level = _log_gaussian(loudness, self.loudness, self.loudness_log_scale)
        tone = _log_gaussian(pitch, self.pitch, self.pitch_log_scale)
        voiced, unvoiced = F.logsigmoid(self.voicing_logit) + tone, F.logsigmoid(-self.voicing_logit)
        return torch.logsumexp(self.log_weights + level + torch.where(voicing > 0.5, voiced, unvoiced), dim=-1)


class ShapeDistribution(NamedTuple):
    """A mixture of M diagonal Gaussians over the shape, given the source."""

    log_weights: Tensor  # [..., M]
    means: Tensor  # [..., M, K]
    log_scales: Tensor  # [..., M, K]

    def log_prob(self, shape: Tensor) -> Tensor:
        """ln of the density [...] of shapes [..., K]."""
        components = _log_gaussian(shape[..., None, :], self.means, self.log_scales).sum(-1)  # [..., M]
        return torch.logsumexp(self.log_weights + components, dim=-1)


def _log_gaussian(value: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    return -0.5 * torch.square((value - mean) * torch.exp(-log_scale)) - log_scale - LOG_SQRT_2PI


def source_inputs(source: Tensor) -> Tensor:
    """Sources [..., 3] -> [..., 3 + bumps]: with Gaussian functions of the pitch, which are 0 for unvoiced frames.

    The harmonics move over the bands with the pitch, so that the shape is not a smooth function of it. Radial basis
    functions make it a linear one (Broomhead and Lowe 1988).
    """
    centres = torch.linspace(-BUMP_RANGE, BUMP_RANGE, BUMPS, dtype=source.dtype, device=source.device)
    distance = (source[..., PITCH:SOURCE] - centres) * ((BUMPS - 1) / (2 * BUMP_RANGE))  # in distances of two centres
    bumps = torch.exp(-0.5 * torch.square(distance)) * source[..., VOICING:PITCH]
    return torch.cat([source, bumps], dim=-1)


class SourceHead(nn.Module):
    """From h to the distribution of the next source: ReLU(h) in one hidden layer."""

    def __init__(self, config: FrameModelConfig) -> None:
        super().__init__()
        self.mixtures = config.source_mixtures
        self.hidden = nn.Linear(config.skip_channels, config.skip_channels)
        self.output = nn.Linear(config.skip_channels, self.mixtures * SOURCE_PARAMETERS)

    def forward(self, h: Tensor, predicted: Tensor, deviation: Tensor) -> SourceDistribution:
        """h [..., S], linear predictions [..., D], deviations of their residuals [D] -> parameters [..., M] each."""
        outputs = self.output(F.relu(self.hidden(h))).unflatten(-1, (self.mixtures, SOURCE_PARAMETERS))
        logit, loudness, loudness_scale, pitch, pitch_scale, voicing = outputs.unbind(-1)  # [..., M] each
        predicted, log_deviation = predicted[..., None, :], deviation.log()
        return SourceDistribution(
            F.log_softmax(logit, dim=-1),
            predicted[..., LOUDNESS] + deviation[LOUDNESS] * loudness,
            log_deviation[LOUDNESS] + loudness_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE),
            predicted[..., PITCH] + deviation[PITCH] * pitch,
            log_deviation[PITCH] + pitch_scale.clamp(MIN_LOG_SCALE, MAX_PITCH_LOG_SCALE),
            voicing,
        )

    def reset_parameters(self) -> None:
        """Initialise: all outputs close to zero, the components with different loudness: equal ones would stay so."""
        _reset_head(self.hidden, self.output)
        with torch.no_grad():
            self.output.bias.view(self.mixtures, SOURCE_PARAMETERS)[:, 1] = torch.linspace(-0.7, 0.7, self.mixtures)


class ShapeHead(nn.Module):
    """From h and the source of the next frame to the distribution of its shape."""

    def __init__(self, config: FrameModelConfig) -> None:
        super().__init__()
        self.mixtures, self.components = config.mixtures, config.components
        self.hidden = nn.Linear(config.skip_channels, config.skip_channels)
        self.source = nn.Linear(SOURCE + BUMPS, config.skip_channels, bias=False)
        self.output = nn.Linear(config.skip_channels, self.mixtures * (1 + 2 * self.components))

    def forward(self, h: Tensor, source: Tensor, predicted: Tensor, deviation: Tensor) -> ShapeDistribution:
        """h [..., S], sources [..., 3], predictions [..., D], deviations [D] -> M components over K dimensions."""
        outputs = self.output(F.relu(self.hidden(h) + self.source(source_inputs(source))))
        size = self.mixtures * self.components
        logits, means, scales = outputs.split([self.mixtures, size, size], dim=-1)
        means, scales = (part.unflatten(-1, (self.mixtures, self.components)) for part in (means, scales))
        return ShapeDistribution(
            F.log_softmax(logits, dim=-1),
            predicted[..., None, SOURCE:] + deviation[SOURCE:] * means,
            deviation[SOURCE:].log() + scales.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE),
        )

    def reset_parameters(self) -> None:
        """Initialise: all outputs close to zero, with different means; the bumps have no effect yet."""
        _reset_head(self.hidden, self.output)
        size = self.mixtures * self.components
        with torch.no_grad():
            self.output.bias[self.mixtures : self.mixtures + size].normal_(std=0.3)
            self.source.weight[:, :SOURCE].normal_(std=0.5)
            self.source.weight[:, SOURCE:].zero_()


def _reset_head(hidden: nn.Linear, output: nn.Linear) -> None:
    nn.init.normal_(hidden.weight, std=math.sqrt(2 / hidden.in_features))
    nn.init.normal_(output.weight, std=0.03 / math.sqrt(output.in_features))
    nn.init.zeros_(hidden.bias)
    nn.init.zeros_(output.bias)


class CodingTensors(nn.Module):
    """The arrays of a `FrameCoding` as buffers, which are saved with the model and not trained."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))


class FrameModel(nn.Module):
    """Predicts the distribution of every next encoded frame: frames [B, T, D] -> distributions of T frames.

    speakers: number of voices; 0: a single one. A voice is a bias of the gates of all layers (van den Oord et al. 2016,
        section 2.5, global conditioning).
    Raises `ConfigError` for a configuration that does not fit the features.
    """

    def __init__(self, config: FrameModelConfig, mel: MelConfig, speakers: int = 0) -> None:
        super().__init__()
        config.check(mel)
        self.config, self.mel, self.speakers = config, mel, speakers
        width, last = config.residual_channels, config.layers - 1
        stack = ModelConfig(config.cycles, config.layers_per_cycle, residual_channels=width)
        self.input = nn.Linear(config.dimensions, width)
        self.layers = nn.ModuleList(ResidualLayer(stack, d, index == last) for index, d in enumerate(config.dilations))
        self.skip = nn.Linear(config.layers * width, config.skip_channels)
        self.source, self.shape = SourceHead(config), ShapeHead(config)
        if speakers:
            self.speaker = nn.Embedding(speakers, config.layers * 2 * width)
        self.prediction: Tensor
        self.deviation: Tensor
        self.register_buffer("prediction", torch.zeros(config.prediction_order, config.dimensions))
        self.register_buffer("deviation", torch.ones(config.dimensions))
        self.coding = CodingTensors(config.coding_shapes(mel, speakers))
        self.reset_parameters()

    def set_prediction(self, prediction: FramePrediction) -> None:
        """Use this linear prediction. Raises `RuntimeError` for one of another order or number of dimensions."""
        self.prediction.copy_(torch.from_numpy(prediction.coefficients))
        self.deviation.copy_(torch.from_numpy(prediction.deviation))

    def set_coding(self, coding: FrameCoding) -> None:
        """Use this coding. Raises `RuntimeError` for one of other voices or components."""
        self.coding.load_state_dict({name: torch.from_numpy(array) for name, array in coding.tensors().items()})

    @property
    def frame_coding(self) -> FrameCoding:
        """The coding of the frames that this model predicts."""
        arrays = {name: tensor.numpy(force=True) for name, tensor in self.coding.state_dict().items()}
        return FrameCoding.from_tensors(self.mel, arrays)

    def forward(
        self, inputs: Tensor, targets: Tensor, speaker: Tensor | None = None
    ) -> tuple[SourceDistribution, ShapeDistribution]:
        """The distributions of the frame after each of the inputs [B, T, D]. Before the first everything is zero.

        targets [B, T, D]: those frames, of which only the source is used: the shape's distribution depends on it.
        speaker: indices [B], or shares of all voices [B, speakers], for a model with speakers.
        Raises `ValueError` for wrong shapes, and for a speaker that is missing or that this model does not have.
        """
        if inputs.dim() != 3 or inputs.shape[1] == 0 or inputs.shape[2] != self.config.dimensions:
            raise ValueError(f"frames must be [B, T, {self.config.dimensions}], T >= 1, not {list(inputs.shape)}")
        h, predicted = self.hidden(inputs, speaker), self.predicted(inputs)
        source = self.source(h, predicted, self.deviation)
        return source, self.shape(h, targets[..., :SOURCE], predicted, self.deviation)

    def losses(self, inputs: Tensor, targets: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """-ln p of the targets [B, T, D], in nats per frame: of their sources [B, T], and of their shapes [B, T].

        targets[:, t] follows inputs[:, t]; arguments and errors as of `forward`. The sum is the exact negative log
        density of encoded frames. During training the inputs may be disturbed.
        """
        source, shape = self(inputs, targets, speaker)
        return -source.log_prob(targets[..., :SOURCE]), -shape.log_prob(targets[..., SOURCE:])

    def predicted(self, frames: Tensor) -> Tensor:
        """The linear prediction [B, T, D] of the frame after each of the frames [B, T, D]."""
        return sum((delayed(frames, p) * row for p, row in enumerate(self.prediction)), torch.zeros_like(frames))

    def hidden(self, frames: Tensor, speaker: Tensor | None = None) -> Tensor:
        """The stack and the skip sum: frames [B, T, D] -> h [B, T, S]."""
        x, gate_bias = self.input(frames), self._gate_bias(frames, speaker)  # [B, T, R]
        if fused.supports(x):
            return F.relu(self._fused_stack(x, gate_bias))
        gated = []
        for index, layer in enumerate(self.layers):
            x, z = layer(x, None if gate_bias is None else gate_bias.at_samples(index))
            gated.append(z)
        return F.relu(self.skip(torch.cat(gated, dim=-1)))

    def _fused_stack(self, x: Tensor, gate_bias: GateBias | None) -> Tensor:
        """All layers and the skip sum by `wavenet.nn.fused`: x [B, T, R] -> [B, T, S]."""
        layers = [LayerWeights(*layer.weights()) for layer in self.typed_layers]
        dilations = self.config.dilations
        return fused.residual_stack(x, layers, dilations, self.skip.weight, self.skip.bias, gate_bias)

    def _gate_bias(self, frames: Tensor, speaker: Tensor | None) -> GateBias | None:
        if (speaker is None) == bool(self.speakers):
            raise ValueError(
                "speaker: give one" if self.speakers else "this model has a single voice: leave out speaker"
            )
        if speaker is None:
            return None
        shares = speaker.is_floating_point()
        bias = speaker @ self.speaker.weight if shares else self.speaker(speaker)  # [B, L*2R]
        layers = bias.unflatten(-1, (self.config.layers, -1)).transpose(0, 1)  # [L, B, 2R]
        return GateBias(layers[:, None], frames.shape[1])

    @property
    def typed_layers(self) -> list[ResidualLayer]:
        """The layers, typed."""
        return [cast(ResidualLayer, layer) for layer in self.layers]

    def reset_parameters(self) -> None:
        """Initialise: all activations have about unit variance, and the distribution is about that of `prediction`."""
        nn.init.normal_(self.input.weight, std=1 / math.sqrt(self.input.in_features))
        nn.init.zeros_(self.input.bias)
        for layer in self.typed_layers:
            layer.reset_parameters()
        # z = tanh . sigmoid of unit inputs has a standard deviation of about 0.3
        nn.init.normal_(self.skip.weight, std=3 / math.sqrt(self.skip.in_features))
        nn.init.zeros_(self.skip.bias)
        self.source.reset_parameters()
        self.shape.reset_parameters()
        if self.speakers:
            nn.init.normal_(self.speaker.weight, std=0.05)
