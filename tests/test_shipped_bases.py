"""The base models of the package, and when a run starts from one."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavenet.checkpoint import read_model
from wavenet.config import ConfigError
from wavenet.training import recipe, run_policy, shipped_bases
from wavenet.training.base_model import load, recipe_from
from wavenet.training.run_directory import RunDirectory
from wavenet.training.shipped_bases import shipped_base


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def test_the_package_has_a_base_for_voice() -> None:
    chosen = recipe.load("voice")
    file = shipped_base(chosen)
    assert file is not None
    config, _ = read_model(file)
    assert config.layers == chosen.model.layers and config.features == chosen.model.features
    assert shipped_base(None) == file  # without a recipe the first one
    for other in ("speech", "vocoder-24k"):
        assert shipped_base(recipe.load(other)) is None


def test_voice_has_the_network_of_the_universal_vocoder() -> None:
    voice, universal = recipe.load("voice"), recipe.load("vocoder-universal")
    assert voice.model.shapes == universal.model.shapes and voice.model.frame_model is not None
    assert (voice.training.base, voice.training.minutes) == ("auto", 15)
    file = shipped_base(voice)
    assert file is not None
    started = recipe_from(load(file), "voice", [])
    assert started.model.frame_model == voice.model.frame_model
    assert started.training.learning_rate == 1.2e-3


def test_what_a_run_starts_from(run: RunDirectory) -> None:
    file = shipped_base(recipe.load("voice"))
    assert run_policy.start_of(run, None, "voice", []) == file
    assert run_policy.start_of(run, "auto", "voice", []) == file
    assert run_policy.start_of(run, "auto", None, []) == file
    assert run_policy.start_of(run, "none", "voice", []) is None
    assert run_policy.start_of(run, None, "voice", ["training.base=none"]) is None
    assert run_policy.start_of(run, None, "speech", []) is None
    assert run_policy.start_of(run, "mine.safetensors", "voice", []) == Path("mine.safetensors")
    other = ["model.residual_channels=40"]
    assert run_policy.start_of(run, None, "voice", other) is None
    with pytest.raises(ConfigError, match="--from auto: the package has no base model with this network"):
        run_policy.start_of(run, "auto", "voice", other)
    with pytest.raises(ConfigError, match="training.base = 'car': unknown"):
        run_policy.start_of(run, None, "voice", ["training.base=car"])


@pytest.mark.parametrize(
    ("begun", "given", "message"),
    [
        ("", "none", None),
        ("", "auto", "was started from random weights, not from a base model of the package: leave out --from"),
        ("/elsewhere/voice-base.safetensors", "auto", None),
        ("/elsewhere/voice-base.safetensors", "none", "was started from .*voice-base.safetensors, not from random"),
        ("/my/model.safetensors", "auto", "was started from /my/model.safetensors, not from a base model"),
    ],
)
def test_a_run_that_exists_is_continued_unless_its_start_is_contradicted(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, begun: str, given: str, message: str | None
) -> None:
    run.create()
    run.state.touch()
    monkeypatch.setattr(run_policy, "base_of", lambda path: begun)
    assert run_policy.start_of(run, None, "voice", []) is None
    assert run_policy.start_of(run, given, "voice", [], fresh=True) == (
        None if given == "none" else shipped_base(recipe.load("voice"))
    )
    if message is None:
        assert run_policy.start_of(run, given, "voice", []) is None
    else:
        with pytest.raises(ConfigError, match=message):
            run_policy.start_of(run, given, "voice", [])


def test_bases_that_are_missing_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_bases, "__file__", str(tmp_path / "wavenet" / "training" / "shipped_bases.py"))
    assert shipped_base(recipe.load("voice")) is None
