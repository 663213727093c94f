"""Training on a GPU: the gradients of the CPU, every precision, no waiting for the device, runs continued exactly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from interrupted_runs import interrupt
from torch import Tensor
from training_runs import CONDITIONED, at_step, trainer_for, write_tones, write_voices

from wavenet import ModelConfig, WaveNet
from wavenet.checkpoint import load_model
from wavenet.config import TrainingConfig
from wavenet.training.batches import Batch
from wavenet.training.distributed import SINGLE
from wavenet.training.gradients import Gradients
from wavenet.training.precision import FIRST_SCALE
from wavenet.training_config import PRECISIONS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
CONFIG = ModelConfig(2, 5, residual_channels=16, skip_channels=32)


def random_batch(streams: int, samples: int) -> Batch:
    torch.manual_seed(1)
    codes = torch.randint(0, 256, (streams, samples + 1))
    mask = torch.rand(streams, samples) < 0.9
    count = int(mask.sum())
    return Batch(codes[:, :-1], codes[:, 1:], mask, None, None, 0, None, count, count)


def gradients_on(device: torch.device, batch: Batch, fused: bool | None = None, **training: object) -> Tensor:
    """The loss and all gradients, one after the other, on the CPU."""
    torch.manual_seed(0)
    model = WaveNet(CONFIG).to(device)
    model.fused = fused
    gradients = Gradients(model, TrainingConfig(batch=len(batch.inputs), **training), SINGLE, device)  # type: ignore[arg-type]
    loss = gradients(batch.to(device))
    weights = list(model.parameters())
    gradients.precision.clip(weights, 1e6)
    parts = [weight.grad.flatten() for weight in weights if weight.grad is not None]
    assert len(parts) == len(weights)
    return torch.cat([loss.flatten(), *parts]).cpu()


@pytest.mark.parametrize("fused", [None, False])
def test_gradients_are_those_of_the_cpu(fused: bool | None) -> None:
    batch = random_batch(3, 400)
    expected, found = gradients_on(CPU, batch, False), gradients_on(CUDA, batch, fused)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "error"), [("bf16", 0.03), ("fp16", 0.004)])
def test_gradients_in_half_precision_are_close(name: str, error: float) -> None:
    batch = random_batch(3, 400)
    expected, found = gradients_on(CUDA, batch), gradients_on(CUDA, batch, precision=name)
    assert abs(found[0] - expected[0]) < 0.002
    assert (found - expected).norm() < error * expected.norm()


def test_compiled_gradients_are_the_same() -> None:
    batch = random_batch(2, 100)
    found = gradients_on(CUDA, batch, compile=True)
    torch.testing.assert_close(found, gradients_on(CUDA, batch), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["none", "features", "speakers", "16 bits"])
def test_a_step_does_not_wait_for_the_device(tmp_path: Path, name: str, precision: str) -> None:
    folder = write_voices(tmp_path / "voices")
    overrides = [*CONDITIONED.get(name, []), f"training.precision={precision}", "data.validation=0.3"]
    training = trainer_for(folder, tmp_path / "run", *overrides, device="cuda")
    batches = [training.batches.batch(step).to(CUDA) for step in range(2)]
    training._update(batches[0])  # allocates
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        figures = training._update(batches[1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(map(math.isfinite, figures.tolist()))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_learns_and_is_continued_exactly(tmp_path: Path, precision: str) -> None:
    folder = write_tones(tmp_path / "clips")
    budget = ["training.steps=60", "training.validate_steps=30", f"training.precision={precision}"]
    whole = trainer_for(folder, tmp_path / "whole", *budget, device="cuda")
    result = whole.train()
    assert result is not None and result.bits < 7.5
    with pytest.raises(KeyboardInterrupt):
        trainer_for(folder, tmp_path / "cut", *budget, device="cuda").train(at_step(40, interrupt))
    resumed = trainer_for(folder, tmp_path / "cut", *budget, device="cuda")
    if precision == "fp16":
        assert resumed.state.precision.state() == [FIRST_SCALE, 40.0]
    resumed.train()
    for left, right in zip(whole.state.model.parameters(), resumed.state.model.parameters(), strict=True):
        assert left.device.type == "cuda" and torch.equal(left, right)
    assert load_model(resumed.run.path).config == resumed.recipe.model


@pytest.mark.parametrize("name", CONDITIONED)
def test_conditioned_networks_are_trained(tmp_path: Path, name: str) -> None:
    folder = write_voices(tmp_path / "voices")
    budget = [*CONDITIONED[name], "training.steps=6", "training.precision=bf16", "data.validation=0.3"]
    result = trainer_for(folder, tmp_path / "run", *budget, device="cuda").train()
    assert result is not None and math.isfinite(result.bits) and result.skipped == 0
