"""`TwoTiers`: a network with a frame model, its configuration, and its model file."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Capture, run
from frame_data import MEL, SMALL, random_coding

from wavenet import checkpoint, engine
from wavenet.config import ConfigError, MelConfig, ModelConfig, SamplingConfig, from_dict
from wavenet.evaluation import bench
from wavenet.frame_model_config import FrameModelConfig
from wavenet.generate import Generator
from wavenet.model import WaveNet
from wavenet.two_tiers import TwoTiers, new_model

NETWORK = ModelConfig(1, 3, residual_channels=8, skip_channels=8, features=MEL, frame_channels=4)
CONFIG = dataclasses.replace(NETWORK, frame_model=SMALL)


def two_tiers(config: ModelConfig = CONFIG) -> TwoTiers:
    torch.manual_seed(1)
    model = TwoTiers(config)
    assert config.frame_model is not None
    model.frame_model.set_coding(random_coding(config.frame_model, max(1, len(config.speakers))))
    return model


@pytest.mark.parametrize("speakers", [(), ("ann", "bob")])
def test_a_model_file_has_both_tiers(tmp_path: Path, speakers: tuple[str, ...]) -> None:
    config = dataclasses.replace(CONFIG, speakers=speakers)
    model = two_tiers(config)
    checkpoint.save_model(tmp_path / "model.safetensors", model)
    loaded = checkpoint.load_model(tmp_path / "model.safetensors")
    assert isinstance(loaded, TwoTiers) and loaded.config == config
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)
    assert {name: tuple(tensor.shape) for name, tensor in after.items()} == config.shapes | config.frame_model_shapes


def test_a_file_without_a_tensor_of_the_frame_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    checkpoint.save_model(file, two_tiers())
    tensors, metadata = checkpoint.read_tensors(file)
    del tensors["frame_model.coding.limits"]
    checkpoint.write_tensors(file, tensors, metadata)
    with pytest.raises(checkpoint.CheckpointError, match=r"'frame_model.coding.limits' is missing"):
        checkpoint.load_model(file)


def test_the_fast_tier_starts_as_without_a_slow_one() -> None:
    torch.manual_seed(1)
    alone = WaveNet(NETWORK).state_dict()
    both = two_tiers().state_dict()
    assert all(torch.equal(both[name], tensor) for name, tensor in alone.items())


def test_updating_the_sampling_options_keeps_the_frame_model(tmp_path: Path) -> None:
    file, model = tmp_path / "model.safetensors", two_tiers()
    checkpoint.save_model(file, model)
    checkpoint.update_config(file, sampling=SamplingConfig(0.7))
    loaded = checkpoint.load_model(file)
    assert loaded.config == dataclasses.replace(CONFIG, sampling=SamplingConfig(0.7))
    assert torch.equal(loaded.state_dict()["frame_model.skip.weight"], model.frame_model.skip.weight)


@pytest.mark.parametrize("name", ["naive", "torch", "native"])
def test_engines_run_the_fast_tier(name: str) -> None:
    if name == "native" and not engine.native_installed():
        pytest.skip("the native engine is not built")
    model = two_tiers()
    plain = WaveNet(NETWORK)
    plain.load_state_dict({key: model.state_dict()[key] for key in NETWORK.shapes})
    features = np.full((MEL.bands, 4), -3.0, np.float32)
    audio = [Generator.from_model(each, engine=name).render(features=features) for each in (model, plain)]
    assert np.array_equal(*audio) and np.ptp(audio[0]) > 0


def test_info_describes_both_tiers(tmp_path: Path, capsys: Capture) -> None:
    checkpoint.save_model(tmp_path / "model.safetensors", two_tiers())
    assert run("info", tmp_path / "model.safetensors") == 0
    output = capsys.readouterr().out
    assert re.search(r"f32 in all +[0-9.]+ x real time, with frames \([0-9.,]+ x\)\n", output)
    assert "frame model      3 layers, " in output and "receptive field 0.1 s, 6 components" in output


def test_bench_measures_all_that_a_model_computes(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.OtherParts(frames=0.1, refinement=0.25).with_network(2.0) == pytest.approx(1 / 0.85)
    assert bench.OtherParts().with_network(2.0) == 2.0
    assert bench.other_parts(WaveNet(NETWORK)) == bench.OtherParts()
    config = dataclasses.replace(CONFIG, sampling=SamplingConfig(refine=1))
    checkpoint.save_model(tmp_path / "model.safetensors", new_model(config))
    for name in ("GENERATION_SECONDS", "PART_SECONDS"):
        monkeypatch.setattr(bench, name, 0.05)
    assert run("bench", tmp_path / "model.safetensors") == 0
    titles, *rows, parts, _ = capsys.readouterr().out.splitlines()
    assert "x real time      in all " in titles
    assert all(0 < float(row.split()[5]) < float(row.split()[4]) + 0.001 for row in rows if "native" in row)
    assert parts.startswith("in all: with frames (") and "1 iterations of refinement (" in parts


def test_a_configuration_survives_json() -> None:
    assert from_dict(ModelConfig, json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    assert from_dict(ModelConfig, {"features": {}, "frame_model": {"mixtures": 3}}).frame_model == FrameModelConfig(
        mixtures=3
    )


def test_what_a_frame_model_needs() -> None:
    with pytest.raises(ConfigError, match="frame_model: needs features"):
        ModelConfig(frame_model=SMALL)
    with pytest.raises(ConfigError, match="components = 48: at most features.bands"):
        ModelConfig(features=MelConfig(bands=40), frame_model=FrameModelConfig())
    with pytest.raises(ConfigError, match=r"frame_model.layer: unknown"):
        from_dict(ModelConfig, {"features": {}, "frame_model": {"layer": 3}})
    with pytest.raises(ValueError, match="has no frame_model"):
        TwoTiers(NETWORK)
    assert type(new_model(NETWORK)) is WaveNet and type(new_model(CONFIG)) is TwoTiers
