"""The predicted memory of training: by arithmetic, and beside the peak of a process that trains."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import FEATURES, write_tones

from wavenet.training import recipe, training_memory
from wavenet.training.distributed import Processes
from wavenet.training.recipe import Recipe
from wavenet.training.training_memory import HEAP, Stack, TrainingMemory

TRAIN = """
import json, sys
from wavenet import cli
from wavenet.training import recipe, trainer
from wavenet.training.training_cost import peak_megabytes
from wavenet.training.training_memory import training_memory
folder, run, settings, share = json.loads(sys.argv[1])
predicted = training_memory(recipe.load(None, settings))
options = ["--memory", f"{share * predicted.peak / 1e6:.0f}M"] if share else []
code = cli.main(["train", folder, "--out", run, *options, *(part for text in settings for part in ("--set", text))])
print(json.dumps([code, predicted.peak, 1e6 * peak_megabytes()]))
"""
LONG = [  # its activations take as much memory as the program
    "model.cycles=2",
    "model.layers_per_cycle=8",
    "model.residual_channels=16",
    "model.skip_channels=16",
    "model.sample_rate=8000",
    "training.batch=2",
    "training.crop=50000",
    "training.clip_seconds=0.02",
    "training.steps=2",
]


def trained(folder: Path, run: Path, *settings: str, share: float = 0.0) -> tuple[float, float]:
    """Bytes predicted for a run, and the peak of a process that trains it, within a share of them if that is given."""
    arguments = json.dumps([str(folder), str(run), settings, share])
    # One thread: whether two of them are at their worst moments at the same time depends on what else the machine does.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN, arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    code, predicted, peak = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return predicted, peak


@pytest.mark.skipif(sys.platform == "win32", reason="the peak memory of a process is not reported")
@pytest.mark.parametrize(
    "settings",
    [[], [FEATURES, "model.output=logistic", "model.linear_prediction=8"]],
    ids=["mu-law", "vocoder"],
)
def test_the_prediction_is_within_a_fifth_of_the_peak(tmp_path: Path, settings: list[str]) -> None:
    folder = write_tones(tmp_path / "tones")
    predicted, peak = trained(folder, tmp_path / "run", *LONG, *settings)
    assert predicted == pytest.approx(peak, rel=0.2)


def small(*overrides: str) -> Recipe:
    """Two layers of 3 residual, 4 gate, 5 skip and 6 head channels; mu-law."""
    shape = ["cycles=1", "layers_per_cycle=2", "residual_channels=3", "gate_channels=4", "skip_channels=5"]
    return recipe.load(None, [f"model.{text}" for text in (*shape, "head_channels=6")] + list(overrides))


def test_the_values_of_a_step_are_those_of_layers_head_and_batch() -> None:
    stack = Stack(layers=2, residual=3, gate=4, skip=5)
    assert stack.kept == 2 * (3 + 4 + 4)  # x, sigmoid and z
    assert stack.backward == 5 + 3 + 2 * 8  # gradients: of the skip sum, of x, and of the gates
    chosen = small("training.batch=3", "training.crop=100", "training.past=20")
    head = 5 + 6 + 3 * 256
    assert training_memory.head_values(chosen.model) == head
    values = training_memory.step_values(chosen.model, chosen.training, rows=3, threads=None)
    assert values == 120 * 3 * (22 + head + 4)  # codes and targets are of 64 bits
    with_threads = training_memory.step_values(chosen.model, chosen.training, rows=3, threads=2)
    assert with_threads == 120 * (2 * (22 + head) + 3 * 4) + 2 * chosen.model.parameters


def test_checkpointing_keeps_the_input_of_each_cycle() -> None:
    chosen = small("model.cycles=4", "training.activation_checkpointing=true")
    assert training_memory.row_values(chosen.model, chosen.training) == 4 * 3 + 5 + 6 + 3 * 256
    deep = small(
        "model.cycles=4",
        "model.layers_per_cycle=10",
        "model.residual_channels=100",
        "training.activation_checkpointing=true",
    )
    cycle = Stack(10, 100, 4, 5)
    assert training_memory.row_values(deep.model, deep.training) == 4 * 100 + cycle.kept + 5 + cycle.backward


def test_parts_of_a_batch_are_in_memory_one_after_the_other() -> None:
    settings = ("training.batch=6", "training.crop=100")
    whole, thirds, sixths, more = (small(*settings, f"training.accumulation={n}") for n in (1, 3, 6, 60))
    per_row = 100 * training_memory.row_values(whole.model, whole.training)

    def of(chosen: Recipe, threads: int | None = None) -> int:
        return training_memory.step_values(chosen.model, chosen.training, 6, threads)

    assert of(whole) - of(thirds) == 4 * per_row
    assert of(thirds) - of(sixths) == per_row
    assert of(more) == of(sixths)
    assert of(whole, threads=2) == of(thirds, threads=2)  # two rows at a time, in any case
    assert of(whole, threads=2) - of(sixths, threads=2) == per_row + whole.model.parameters


def test_processes_share_the_rows_of_a_batch() -> None:
    chosen = small("training.batch=5")
    half = small("training.batch=3")  # of five rows one of two processes has three
    of = training_memory.training_memory
    assert of(chosen, processes=Processes(0, 2, 0, 2), process=0).step == of(half, process=0).step


def test_the_peak_is_that_of_the_largest_phase() -> None:
    memory = TrainingMemory(process=100, weights=10, workers=20, step=3, frame_step=1, validation=5)
    assert memory.peak == 138  # steps are on other threads than validations
    assert dataclasses.replace(memory, process=0).peak == 15
    assert dataclasses.replace(memory, process=0, step=7).peak == 17


def test_weights_are_counted_with_gradients_average_and_moments() -> None:
    chosen = recipe.load("voice")
    frame_model = chosen.model.frame_model
    assert frame_model is not None
    memory = training_memory.training_memory(chosen, process=0)
    assert memory.weights == 4 * 5 * (chosen.model.parameters + frame_model.parameters())
    assert memory.frame_step > 0
    assert training_memory.training_memory(recipe.load("speech"), process=0).frame_step == 0


def test_a_cuda_device_holds_no_program_and_no_gaps() -> None:
    cpu, cuda = (training_memory.training_memory(small("training.batch=1"), device) for device in ("cpu", "cuda"))
    assert cuda.process == 0 < cpu.process
    assert cpu.step == pytest.approx(HEAP * (cuda.step + 4 * small().model.parameters))


def test_workers_are_those_that_the_run_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavenet.training.feed.cores", lambda: 2)

    def workers(name: str, *settings: str) -> float:
        return training_memory.training_memory(recipe.load(name, settings), process=0).workers

    assert workers("speech") == workers("vocoder", "training.workers=0") == 0
    assert workers("vocoder") == workers("speech", "training.workers=1") == training_memory.WORKER_BYTES


def test_a_compiled_network_computes_the_crops_of_a_part_at_once() -> None:
    plain, compiled = (small("training.batch=6", f"training.compile={value}") for value in ("false", "true"))
    of = training_memory.training_memory
    assert of(compiled, process=0, threads=1).step > 3 * of(plain, process=0, threads=1).step
