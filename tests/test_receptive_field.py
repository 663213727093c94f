"""Receptive fields against arithmetic by hand, and what `wavenet look receptive-field` prints and draws."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import Capture, error_of, run, save_model
from labellers import SMALL

from wavenet.config import ModelConfig
from wavenet.evaluation.receptive_field import Stack, stacks_of, summary, table
from wavenet.labelling_config import LabellerConfig
from wavenet.training import recipe

EIGHT = ["--set", "model.cycles=1", "--set", "model.layers_per_cycle=8"]


def texts(picture: Path) -> set[str]:
    """The texts of an SVG."""
    tags = ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    return {"".join(tag.itertext()).strip() for tag in tags}


def test_a_kernel_of_three_at_each_dilation_alone() -> None:
    for dilation, span in {1: 3, 2: 5, 4: 9, 8: 17, 16: 33}.items():
        (layer,) = Stack("network", (dilation,), 3, 16_000).layers
        assert layer.span == layer.total == span  # 2 d + 1


def test_a_kernel_of_two_spans_one_more_than_its_dilation() -> None:
    layers = Stack("network", (1, 2, 4, 8), 2, 16_000).layers
    assert [layer.span for layer in layers] == [2, 3, 5, 9]
    assert [layer.total for layer in layers] == [2, 4, 8, 16]  # 1 + 1, + 2, + 4, + 8
    assert [layer.plain for layer in layers] == [2, 3, 4, 5]


def test_eight_layers_from_1_to_128_see_256_samples() -> None:
    (stack,) = stacks_of(ModelConfig(cycles=1, layers_per_cycle=8))
    assert stack.total == stack.layers[-1].total == 256
    assert stack.milliseconds(stack.total) == 16.0  # 256 / 16,000 Hz
    assert summary(stack) == [
        "8 layers of kernel size 2 see 256 samples, 16 ms at 16,000 Hz.",
        "Without dilation: 9 samples, 0.5625 ms at 16,000 Hz; to see as much takes 255 layers.",
        "With a stride of 2 in every layer instead: 256 samples after layer 7, but one output for every 256.",
    ]


def test_five_layers_of_kernel_three_see_63_samples() -> None:
    layers = Stack("network", (1, 2, 4, 8, 16), 3, 16_000).layers
    assert [layer.total for layer in layers] == [3, 7, 15, 31, 63]  # 1 + 2 (1 + 2 + 4 + 8 + 16) = 63


def test_a_second_cycle_adds_as_much_as_the_first() -> None:
    (stack,) = stacks_of(ModelConfig(cycles=2, layers_per_cycle=10))
    assert stack.layers[9].total == 1_024 and stack.total == 2_047  # 1 + 2 x 1,023
    assert stack.total == ModelConfig(cycles=2, layers_per_cycle=10).receptive_field
    assert stack.as_deep_as_pooling.pooled == 2_048  # of 11 layers with a stride
    assert stack.as_deep_as_pooling.stride == 2_048


def test_pooling_sees_as_much_as_doubling_dilations_at_a_lower_resolution() -> None:
    for layer in Stack("network", tuple(2**index for index in range(12)), 3, 16_000).layers:
        assert layer.pooled == layer.total
        assert layer.stride == 2 * layer.dilation


def test_the_tree_is_that_of_figure_3_of_the_paper() -> None:
    levels = Stack("network", (1, 2, 4, 8), 2, 16_000).tree()
    assert levels == [list(range(-15, 1)), [-14, -12, -10, -8, -6, -4, -2, 0], [-12, -8, -4, 0], [-8, 0], [0]]


def test_a_two_sided_stack_sees_both_sides() -> None:
    config = LabellerConfig(**SMALL)  # 3 layers of kernel 3, over frames of 10 ms
    (stack,) = stacks_of(config)
    assert (stack.before, stack.after, stack.total) == (7, 7, 15)  # 1 + 2 + 4 to each side
    assert stack.tree()[0] == list(range(-7, 8)) and stack.tree()[1] == [-6, -4, -2, 0, 2, 4, 6]
    assert stack.unit == "frames" and stack.milliseconds(stack.total) == pytest.approx(150.0)
    assert (stack.before, stack.after) == config.stack_reach
    assert "7 before its own and 7 after it" in summary(stack)[0]
    assert "71 frames before its own and 71 after" in summary(stack)[-1]  # 64 more by the pooling branch of the head


def test_a_causal_labeller_over_samples_sees_the_past() -> None:
    (stack,) = stacks_of(LabellerConfig(**{**SMALL, "input": "samples", "causal": True, "kernel_size": 2}))
    assert (stack.before, stack.after, stack.unit, stack.rate) == (7, 0, "samples", 8_000)


def test_both_tiers_are_shown() -> None:
    config = recipe.load("voice").model
    fast, slow = stacks_of(config)
    assert config.frame_model is not None
    assert (fast.total, slow.total) == (config.receptive_field, config.frame_model.receptive_field)
    assert (slow.unit, slow.rate) == ("frames", config.sample_rate / config.hop)
    assert str(config.context - config.receptive_field) in fast.note


def test_a_line_for_each_layer() -> None:
    lines = table(stacks_of(ModelConfig(cycles=1, layers_per_cycle=8))[0])
    assert lines[0].split("  ")[0] == "layer" and "ms" in lines[0]
    assert [line.split() for line in lines[1:9]][3] == ["3", "8", "9", "16", "1"]
    assert lines[8].split() == ["7", "128", "129", "256", "16"]


def test_the_command_prints_text(tmp_path: Path, capsys: Capture) -> None:
    assert run("look", "receptive-field", *EIGHT, "-o", "-") == 0
    assert "8 layers of kernel size 2 see 256 samples, 16 ms at 16,000 Hz." in capsys.readouterr().out.splitlines()
    assert run("look", "receptive-field", save_model(tmp_path / "a.safetensors")) == 0
    assert "4 layers of kernel size 2 see 16 samples, 2 ms at 8,000 Hz." in capsys.readouterr().out
    assert run("look", "receptive-field", "voice") == 0
    assert {"network:", "frame model:"} < set(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("extension", ["png", "svg"])
def test_pictures_are_the_same_every_time(extension: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / f"{index}.{extension}" for index in range(2)]
    assert [run("look", "receptive-field", *EIGHT, "-o", file) for file in files] == [0, 0]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert 5_000 < files[0].stat().st_size < 120_000


def test_the_growth_of_large_stacks_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "growth.svg"
    assert run("look", "receptive-field", "labels", "-o", file) == 0
    assert {"dilated", "plain convolution: no dilation", "receptive field, ms at 100 frames/s"} < texts(file)


def test_an_svg_contains_its_words(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "tree.svg"
    assert run("look", "receptive-field", *EIGHT, "-o", file) == 0
    words = texts(file)
    assert {"layer 7, dilation 128", "receptive field, samples", "ms", "without dilation: 9 samples"} < words
    assert "Network: 8 layers of kernel size 2 see 256 samples, 16 ms at 16,000 Hz" in words


def test_invalid_arguments_are_refused_before_the_work(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    look = ("look", "receptive-field")
    assert "a.jpg: a picture ends in .png or .svg" in error_of(capsys, *look, "nothing", "-o", tmp_path / "a.jpg")
    assert "no such file or directory" in error_of(capsys, *look, "-o", tmp_path / "none" / "a.png")
    assert "nothing: no such file" in error_of(capsys, *look, "nothing", "-o", tmp_path / "a.png")
    model = save_model(tmp_path / "a.safetensors")
    assert "changes a recipe" in error_of(capsys, *look, model, "--set", "model.cycles=1")
    assert "layers_per_cycle = 0" in error_of(capsys, *look, "--set", "model.layers_per_cycle=0")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_without_matplotlib_a_line_says_what_to_install(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wavenet.plots.canvas", "wavenet.plots.receptive_field"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = error_of(capsys, "look", "receptive-field", "speech", "-o", tmp_path / "a.png")
    assert error == "wavenet: drawing needs matplotlib: pip install 'wavenet-toolkit[plots]'"
    assert run("look", "receptive-field", "speech") == 0  # text does not need it
