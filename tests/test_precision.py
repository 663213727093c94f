"""Mixed precision: losses close to float32, and the scale of the loss in float16."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from interrupted_runs import interrupt
from torch import Tensor, nn
from training_runs import at_step, trainer_for, write_tones

from wavenet import ModelConfig, WaveNet
from wavenet.checkpoint import load_model
from wavenet.nn.outputs import masked_loss
from wavenet.training import precision
from wavenet.training.precision import FIRST_SCALE, GROWTH_STEPS, LARGEST_SCALE, Precision, check_scale

CPU = torch.device("cpu")
CONFIG = ModelConfig(1, 4, residual_channels=16, skip_channels=32)


def weight_with_gradient(*values: float) -> nn.Parameter:
    weight = nn.Parameter(torch.zeros(len(values)))
    weight.grad = torch.tensor(values)
    return weight


def scale_of(state: Precision) -> float:
    return state.state()[0]


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_loss_and_gradients_are_close_to_those_of_float32(name: str) -> None:
    torch.manual_seed(0)
    model = WaveNet(CONFIG)
    codes = torch.randint(0, 256, (2, 101))
    mask = torch.ones(2, 100, dtype=torch.bool)

    def gradients(name: str) -> tuple[Tensor, Tensor]:
        state = Precision(name, CPU)
        model.zero_grad()
        with state.autocast():
            loss = masked_loss(model(codes[:, :-1]), codes[:, 1:], mask)
        assert loss.dtype == torch.float32
        state.scaled(loss).backward()
        weights = list(model.parameters())
        state.clip(weights, 1e6)
        assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in weights)
        return loss.detach(), torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])

    (exact, expected), (loss, gradient) = gradients("float32"), gradients(name)
    # relative rounding errors of 2^-8 (bfloat16) and 2^-11 (float16) of products whose errors are independent
    assert abs(loss - exact) < 0.002
    assert (gradient - expected).norm() < {"bf16": 0.02, "fp16": 0.004}[name] * expected.norm()


def test_gradients_are_unscaled_before_they_are_clipped() -> None:
    state = Precision("fp16", CPU)
    weight = weight_with_gradient(3 * FIRST_SCALE, -4 * FIRST_SCALE)  # true norm 5
    assert state.clip([weight], 10.0) == 5.0
    assert weight.grad is not None
    assert weight.grad.tolist() == [3.0, -4.0]
    weight = weight_with_gradient(3 * FIRST_SCALE, -4 * FIRST_SCALE)
    assert state.clip([weight], 1.0) == 5.0
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, -0.8]))


def test_norm_is_not_finite_when_a_gradient_is_not() -> None:
    weights = [weight_with_gradient(1.0), weight_with_gradient(math.inf)]
    assert not math.isfinite(Precision("fp16", CPU).clip(weights, 1.0))


def test_scale_is_halved_and_doubled() -> None:
    state = Precision("fp16", CPU)
    assert state.scaled(torch.tensor(1.0)) == FIRST_SCALE
    state.update(torch.tensor(False))
    assert scale_of(state) == FIRST_SCALE / 2
    for _ in range(GROWTH_STEPS - 1):
        state.update(torch.tensor(True))
    assert scale_of(state) == FIRST_SCALE / 2
    state.update(torch.tensor(True))
    assert scale_of(state) == FIRST_SCALE


def test_scale_stays_within_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "GROWTH_STEPS", 1)
    state = Precision("fp16", CPU)
    for _ in range(20):
        state.update(torch.tensor(True))
    assert scale_of(state) == LARGEST_SCALE
    for _ in range(40):
        state.update(torch.tensor(False))
    assert scale_of(state) == 1.0


def test_a_restored_scale_goes_on_exactly() -> None:
    state, restored = Precision("fp16", CPU), Precision("fp16", CPU)
    state.update(torch.tensor(False))
    for _ in range(GROWTH_STEPS - 2):
        state.update(torch.tensor(True))
    restored.restore(state.state())
    for finite in (True, True, False):
        for one in (state, restored):
            one.update(torch.tensor(finite))
        assert restored.state() == state.state()


def test_a_run_may_go_on_in_another_precision() -> None:
    state = Precision("fp16", CPU)
    state.restore(Precision("bf16", CPU).state())
    assert scale_of(state) == FIRST_SCALE
    Precision("bf16", CPU).restore(state.state())


IMPOSSIBLE = ([1.0], ["a", "b"], [0.5, 0.0], [math.nan, 0.0], [2.0, -1.0], [2.0, float(GROWTH_STEPS)])


@pytest.mark.parametrize("state", IMPOSSIBLE)
def test_impossible_scales_are_refused(state: list[object]) -> None:
    with pytest.raises(ValueError, match="scale of the loss"):
        check_scale(state)


def test_float32_and_bf16_scale_nothing() -> None:
    for name in ("float32", "bf16"):
        state = Precision(name, CPU)
        loss = torch.tensor(2.0)
        assert state.scaled(loss) is loss
        state.update(torch.tensor(False))
        assert state.state() == []
        assert torch.is_autocast_enabled("cpu") is False
        with state.autocast():
            assert torch.is_autocast_enabled("cpu") is (name == "bf16")


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_run_in_half_precision_is_continued_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(precision, "GROWTH_STEPS", 3)  # the scale changes before and after the interruption
    folder = write_tones(tmp_path / "clips")
    budget = ["training.steps=12", "training.validate_steps=6", f"training.precision={name}"]
    whole = trainer_for(folder, tmp_path / "whole", *budget)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer_for(folder, tmp_path / "cut", *budget).train(at_step(4, interrupt))
    resumed = trainer_for(folder, tmp_path / "cut", *budget)
    assert resumed.state.precision.state() == ([2 * FIRST_SCALE, 1.0] if name == "fp16" else [])
    resumed.train()
    assert resumed.state.precision.state() == whole.state.precision.state()
    for left, right in zip(whole.state.model.parameters(), resumed.state.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_compiled_training_has_the_same_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "COMPILER", "aot_eager")  # the graphs of a compiler, without compiling them
    folder = write_tones(tmp_path / "clips")
    norms = []
    for compile in ("false", "true"):
        training = trainer_for(folder, tmp_path / compile, f"training.compile={compile}", "training.steps=2")
        training.gradients(training.batches.batch(0))
        norms.append(torch.stack([weight.grad.norm() for weight in training.state.weights if weight.grad is not None]))
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-4, atol=1e-7)
    assert len(norms[0]) == len(training.state.weights)
    training.train()
    assert load_model(training.run.path).config == training.recipe.model
