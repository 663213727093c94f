"""Gradients of a training step: in pieces, side by side, and with fewer activations kept, as those of one pass."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from wavenet.config import MelConfig, ModelConfig, TrainingConfig
from wavenet.model import WaveNet
from wavenet.nn.outputs import masked_loss
from wavenet.training.batches import Batch
from wavenet.training.distributed import SINGLE, Processes
from wavenet.training.gradients import Gradients
from wavenet.training.gradients import _set as set_gradients
from wavenet.training.threads import PERIOD, RECENT, SOONEST, TRIALS, ThreadCount, Threads, candidates, most_threads

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    cycles=2,
    layers_per_cycle=3,
    residual_channels=16,
    skip_channels=32,
    speakers=("ann", "bob"),
    features=MelConfig(window=20, fft=25, hop=7, bands=5),
)
ROWS, SAMPLES = 5, 60
TRAINING = TrainingConfig(batch=ROWS, crop=SAMPLES)


def random_batch() -> Batch:
    torch.manual_seed(1)
    codes = torch.randint(0, 256, (ROWS, SAMPLES + 1))
    mask = torch.rand(ROWS, SAMPLES) < torch.linspace(0, 1, ROWS)[:, None]  # the first row has no targets at all
    features = torch.randn(ROWS, 5, 16) - 5
    speaker = torch.arange(ROWS) % 2
    count = int(mask.sum())
    return Batch(codes[:, :-1], codes[:, 1:], mask, speaker, features, 9, None, count, count)


def computed(training: TrainingConfig = TRAINING, threads: int = 1) -> tuple[Tensor, list[Tensor]]:
    """The loss and the gradients of a batch."""
    torch.manual_seed(0)
    model = WaveNet(CONFIG)
    gradients = Gradients(model, training, SINGLE, CPU)
    gradients.threads, gradients.thread_count = Threads(threads), ThreadCount([threads])
    loss = gradients(random_batch())
    return loss, [weight.grad for weight in model.parameters() if weight.grad is not None]


def test_gradients_are_those_of_the_whole_batch() -> None:
    loss, gradients = computed()
    torch.manual_seed(0)
    model, batch = WaveNet(CONFIG), random_batch()
    expected = masked_loss(model(batch.inputs, batch.speaker, batch.features, batch.first), batch.targets, batch.mask)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert len(gradients) == len(list(model.parameters()))
    for gradient, weight in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("accumulation", "threads"), [(1, 2), (1, 5), (2, 1), (2, 3), (5, 2), (9, 1)])
def test_threads_and_accumulation_change_no_bit(accumulation: int, threads: int) -> None:
    loss, gradients = computed()
    other, others = computed(replace(TRAINING, accumulation=accumulation), threads)
    assert torch.equal(loss, other)
    assert all(torch.equal(one, two) for one, two in zip(gradients, others, strict=True))


def test_activation_checkpointing_changes_nothing_but_rounding() -> None:
    loss, gradients = computed()
    other, others = computed(replace(TRAINING, activation_checkpointing=True), 2)
    torch.testing.assert_close(other, loss)
    for one, two in zip(gradients, others, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-7)


def test_a_batch_without_targets_has_gradients_of_zero() -> None:
    model, batch = WaveNet(CONFIG), random_batch()
    empty = replace(batch, mask=torch.zeros_like(batch.mask), count=0)
    assert Gradients(model, TRAINING, SINGLE, CPU)(empty) == 0
    assert all(not weight.grad.any() for weight in model.parameters() if weight.grad is not None)


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_results_are_added_in_order_whichever_is_ready_first() -> None:
    second = threading.Event()

    def compute(item: int) -> tuple[int, int]:
        if item == 0:
            assert second.wait(60)
        if item == 1:
            second.set()
        return item, torch.get_num_threads()

    results: list[tuple[int, int]] = []
    Threads(2).map(2, compute, range(6), results.append)
    assert results == [(item, 1) for item in range(6)]


GRAPHS_IN_TWO_THREADS = """
import faulthandler, threading, torch
from wavenet.training.threads import sharing
faulthandler.dump_traceback_later(120, exit=True)
weights = [torch.zeros(4, 4, requires_grad=True) for _ in range(200)]
both = threading.Barrier(2)
class Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight):
        return weight.clone()
def transpose(weight):  # torch.t would keep the GIL
    return weight.t()
def use(function):
    for _ in range(200):
        both.wait()
        for weight in weights:
            function(weight)
with sharing(weights):
    threads = [threading.Thread(target=use, args=[function]) for function in (transpose, Function.apply)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_share_weights_do_not_wait_for_each_other_for_ever() -> None:
    done = subprocess.run([sys.executable, "-c", GRAPHS_IN_TWO_THREADS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_graphs_of_a_step_have_the_same_nodes_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = WaveNet(CONFIG)
    gradients = Gradients(model, TRAINING, SINGLE, CPU)
    gradients.threads, gradients.thread_count = Threads(1), ThreadCount([1])
    firsts: list[int] = []
    loss_of = gradients._loss

    def marking(network: torch.nn.Module, batch: Batch, rows: slice) -> tuple[Tensor, Tensor]:
        nodes: list[Any] = [get_gradient_edge(weight).node for weight in model.parameters()]
        firsts.extend(node.metadata.setdefault("first", rows.start) for node in nodes)
        return loss_of(network, batch, rows)

    monkeypatch.setattr(gradients, "_loss", marking)
    gradients(random_batch())
    assert firsts == [0] * ROWS * len(list(model.parameters()))


def test_an_error_in_a_thread_is_raised() -> None:
    def fail(item: int) -> int:
        begun.append(item)
        raise MemoryError(f"item {item}")

    for count in (1, 2):
        begun: list[int] = []
        with pytest.raises(MemoryError, match="item"):
            Threads(2).map(count, fail, range(100), [].append)
        assert len(begun) <= count  # no thread starts another item


def trained(chooser: ThreadCount, steps: int, seconds: dict[int, float]) -> list[int]:
    """The numbers of threads of some steps that take so many seconds with each number."""
    used = []
    for _ in range(steps):
        used.append(chooser.next)
        chooser.record(seconds[used[-1]])
    return used


def test_the_number_of_threads_is_the_fastest() -> None:
    assert candidates(6) == [1, 2, 4, 6]
    chooser = ThreadCount(candidates(4))
    used = trained(chooser, 1 + 3 * TRIALS + 20, {1: 4.0, 2: 2.5, 4: 3.0})
    assert used[1 : 1 + 3 * TRIALS] == [1, 2, 4] * TRIALS  # in turns, after the first step
    assert set(used[1 + 3 * TRIALS :]) == {2}


def test_a_single_number_is_not_measured() -> None:
    chooser = ThreadCount(candidates(1))
    assert trained(chooser, 3 * PERIOD, {1: 1.0}) == [1] * 3 * PERIOD


def test_the_number_of_threads_changes_with_the_neighbours() -> None:
    chooser = ThreadCount([1, 2])
    trained(chooser, 1 + 2 * TRIALS, {1: 2.0, 2: 1.0})
    assert set(trained(chooser, SOONEST - 1, {2: 1.0})) == {2}
    busy = {1: 2.1, 2: 3.0}  # a neighbour has come: noticed by the median of the last steps
    assert trained(chooser, RECENT + 2 * TRIALS + 50, busy)[-50:] == [1] * 50
    quiet = {1: 2.1, 2: 1.0}  # it has gone, which one thread does not notice
    assert trained(chooser, PERIOD + 2 * TRIALS, quiet)[-1] == 2


def test_measurements_take_few_steps() -> None:
    """Even where the time per step changes all the time, less than 2 per cent of it are spent on the slower number."""
    chooser, slow = ThreadCount([1, 2]), 0
    for step in range(20 * SOONEST):
        slow += chooser.next == 1
        chooser.record((2.0 if chooser.next == 1 else 1.0) * (1 + step // 30 % 2))
    assert slow <= 20 * TRIALS


def test_processes_of_a_host_share_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavenet.training.threads.cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)  # as OMP_NUM_THREADS=6
    assert most_threads(SINGLE) == 6
    assert most_threads(Processes(0, 4, 0, 2)) == 4
    assert most_threads(Processes(0, 16, 0, 16)) == 1


def test_gradients_have_the_memory_layout_of_their_weights() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    set_gradients([weight], [torch.arange(6.0).view(3, 2).t()])  # as convolutions on a GPU return them
    assert weight.grad is not None
    assert weight.grad.stride() == (3, 1)
    assert weight.grad.tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("kind", ["plain", "parallel", "causal"])
def test_gradients_lie_in_memory_as_the_weights_do(kind: str) -> None:
    """Fused optimizers on the CPU pair weights and gradients in this order, whatever their strides are."""
    for accumulation in (1, 2):
        model = WaveNet(replace(CONFIG, frame_network=kind))
        gradients = Gradients(model, replace(TRAINING, accumulation=accumulation), SINGLE, CPU)
        gradients(random_batch())
        for name, weight in model.named_parameters():
            assert weight.grad is not None and weight.grad.stride() == weight.stride(), name
