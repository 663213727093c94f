"""Small networks with every kind of conditioning, for comparisons with formulas."""

from wavenet.config import ModelConfig

EVEN = {"window": 20, "fft": 24, "hop": 6, "bands": 5}
ODD = {"window": 20, "fft": 25, "hop": 7, "bands": 5}
SHAPE = {
    "cycles": 2,
    "layers_per_cycle": 2,
    "residual_channels": 3,
    "gate_channels": 4,
    "skip_channels": 6,
    "frame_channels": 8,
    "speaker_channels": 3,
}
SPEAKERS = ("ann", "bob", "cid")
CONDITIONINGS = {
    "speakers": ModelConfig(**SHAPE, speakers=SPEAKERS),
    "plain": ModelConfig(**SHAPE, features=ODD),
    "parallel": ModelConfig(**SHAPE, features=EVEN, frame_network="parallel"),
    "causal": ModelConfig(**SHAPE, features=EVEN, frame_network="causal"),
    "both": ModelConfig(**SHAPE, features=EVEN, speakers=SPEAKERS),
    "both, parallel": ModelConfig(**SHAPE, features=ODD, speakers=SPEAKERS, frame_network="parallel"),
    "16 bits": ModelConfig(**SHAPE, features=ODD, speakers=SPEAKERS, output="logistic", mixtures=2),
}
