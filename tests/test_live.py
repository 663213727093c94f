"""`Generator.live`: int8 where float32 does not keep up with real time, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import random_model
from commands import run, save_model

from wavenet import engine as engines
from wavenet.config import ModelConfig
from wavenet.generate import Generator

CONFIG = ModelConfig(2, 3, 2, 8, skip_channels=16, sample_rate=8_000)


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The speed of generation by precision, x real time."""
    given = {"f32": 0.5, "int8": 2.0}
    monkeypatch.setattr(Generator, "_times_real_time", lambda self: given[self.precision])
    return given


@pytest.mark.parametrize(("f32", "int8", "used"), [(0.9, 2.0, "int8"), (0.9, 1.0, "f32"), (1.2, 2.0, "f32")])
@pytest.mark.filterwarnings("ignore:generating in int8")
def test_int8_is_used_where_it_alone_keeps_up(speeds: dict[str, float], f32: float, int8: float, used: str) -> None:
    speeds.update(f32=f32, int8=int8)
    generator = Generator.from_model(random_model(CONFIG), threads=1)
    assert generator.live().precision == used
    assert (generator.live() is generator) == (used == "f32")
    (block,) = generator.stream(0.05, seed=3, block=400)
    expected = Generator.from_model(random_model(CONFIG), "native", used, threads=1).render(0.05, seed=3)
    np.testing.assert_array_equal(block, expected)


@pytest.mark.parametrize("options", [("native", "f32"), ("native", "int8"), ("torch", "auto")])
def test_what_was_asked_for_is_kept(speeds: dict[str, float], options: tuple[str, str]) -> None:
    speeds["int8"] = 0.5
    generator = Generator.from_model(random_model(CONFIG), *options)
    assert generator.live() is generator


def test_render_is_not_changed_and_a_stream_says_so(speeds: dict[str, float]) -> None:
    generator = Generator.from_model(random_model(CONFIG), threads=1)
    exact = Generator.from_model(random_model(CONFIG), precision="f32", threads=1)
    np.testing.assert_array_equal(generator.render(0.05, seed=1), exact.render(0.05, seed=1))
    with pytest.warns(UserWarning, match="generating in int8: float32 does not keep up with real time"):
        generator.stream(0.05)


@pytest.mark.parametrize("shape", [{}, {"features": {"hop": 80, "window": 160}, "output": "gaussian"}])
def test_the_speed_is_measured_with_any_model(shape: dict[str, Any], tmp_path: Path) -> None:
    generator = Generator.load(save_model(tmp_path / "m.safetensors", **shape), threads=1)
    assert 0 < generator._times_real_time() < np.inf
    speakers = Generator.load(save_model(tmp_path / "s.safetensors", speakers=("ann", "bob")), threads=1)
    assert 0 < speakers._times_real_time() < np.inf


def test_standard_output_is_live_and_a_file_is_not(speeds: dict[str, float], tmp_path: Path, capsysbinary: Any) -> None:
    model_file = save_model(tmp_path / "m.safetensors")
    assert run("generate", model_file, "--seconds", 0.05, "-o", "-") == 0
    assert b"native engine, int8" in capsysbinary.readouterr().err
    assert run("generate", model_file, "--seconds", 0.05, "-o", tmp_path / "x.wav") == 0
    assert b"native engine, f32" in capsysbinary.readouterr().err


@pytest.mark.filterwarnings("ignore:generating in int8")
def test_the_speed_is_measured_once_and_the_weights_are_those_of_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def times_real_time(generator: Generator) -> float:
        measured.append(generator.precision)
        return 2.0 if generator.precision == "int8" else 0.5

    monkeypatch.setattr(Generator, "_times_real_time", times_real_time)
    model = random_model(CONFIG)
    generator = Generator.from_model(model, threads=1)
    expected = Generator.from_model(model, "native", "int8", threads=1).render(0.05, seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert generator.live() is generator.live()
    assert measured == ["f32", "int8"]
    np.testing.assert_array_equal(generator.live().render(0.05, seed=3), expected)


@pytest.mark.parametrize("engine", ["torch", "naive"])
def test_an_engine_gets_the_tensors_of_the_model_on_their_device(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    create = engines.create

    def noting(name: str, config: ModelConfig, weights: Any, *options: Any) -> Any:
        given.extend(weights.values())
        return create(name, config, weights, *options)

    monkeypatch.setattr(engines, "create", noting)
    Generator.from_model(random_model(CONFIG), engine)
    assert given and all(isinstance(weight, torch.Tensor) for weight in given)
