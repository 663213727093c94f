"""`wavenet look influence`: gradients against differences by hand, the lags, and the messages of the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import CONDITIONED, double_model, random_codes, random_conditioning, random_model
from commands import SAMPLE_RATE, Capture, error_of, run, save_model
from test_look_scales import written_clip

from wavenet.config import ModelConfig
from wavenet.evaluation.influence import Influence, measure
from wavenet.evaluation.probe import Probe
from wavenet.nn.outputs import negative_log_likelihood

SMALL = ModelConfig(1, 3, 2, 6, skip_channels=8, sample_rate=SAMPLE_RATE)  # sees 8 samples


def test_the_lags_of_a_known_gradient() -> None:
    found = Influence(16_000, 1, np.sqrt([0.6, 0.2, 0.12, 0.06, 0.02]))
    np.testing.assert_allclose(found.cumulative, [0.6, 0.8, 0.92, 0.98, 1.0])
    assert [found.within(share) for share in (0.5, 0.9, 0.99)] == [1, 3, 5]
    assert found.table() == [
        "gradient of the log-probability of a sample, RMS over 1 positions",
        "50% of the influence within 1 samples, 0.0625 ms",
        "90% of the influence within 3 samples, 0.1875 ms",
        "99% of the influence within 5 samples, 0.3125 ms",
        "receptive field 5 samples, 0.3125 ms: 99% of the influence lie in 100.00% of it",
    ]


def test_it_is_the_gradient_of_a_linear_input() -> None:
    """16-bit samples: against central differences of the log-probability."""
    config = ModelConfig(1, 3, 2, 6, skip_channels=8, output="gaussian", sample_rate=SAMPLE_RATE)
    model = double_model(config)
    codes = random_codes(config, 1, config.context + 1)[0]
    found = measure(Probe(model, codes, None), positions=1)
    step = 50  # codes
    for lag in (1, 2, 8):
        values = []
        for sign in (-1, 1):
            moved = codes.copy()
            moved[-1 - lag] += sign * step
            with torch.no_grad():
                outputs = model(torch.from_numpy(moved[None, :-1]))[:, -1]
            values.append(float(negative_log_likelihood("gaussian", outputs, torch.from_numpy(codes[-1:]))))
        expected = abs(values[1] - values[0]) / (2 * step / 32_768)
        assert found.gradient[lag - 1] == pytest.approx(expected, rel=0.01)


def test_nothing_beyond_the_layers_that_are_used() -> None:
    """Without the last layer, whose dilation is 4, a prediction sees 4 samples."""
    model = random_model(SMALL)
    with torch.no_grad():
        model.typed_layers[2].dilated.weight[0] = 0  # the tap on the past of the last layer
    found = measure(Probe(model, random_codes(SMALL, 1, 100)[0], None), positions=20)
    assert found.positions == 20 and found.receptive_field == 8
    assert (found.gradient[:4] > 0).all() and (found.gradient[4:] == 0).all()
    assert found.within(0.99) <= 4


@pytest.mark.parametrize("shape", CONDITIONED)
def test_every_kind_of_model(shape: str) -> None:
    config = CONDITIONED[shape]
    samples = config.context + 20
    inputs = random_conditioning(config, 1, samples)
    found = measure(Probe(random_model(config), random_codes(config, 1, samples)[0], inputs), positions=4)
    assert found.gradient.shape == (config.receptive_field,)
    assert np.isfinite(found.gradient).all() and found.gradient[0] > 0 and found.gradient[-1] > 0


def test_the_command_prints_and_draws(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    model, clip = save_model(tmp_path / "a.safetensors"), written_clip(tmp_path / "a.wav")
    assert run("look", "influence", model, clip, "--positions", 8, "-o", tmp_path / "a.svg") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "RMS over 8 positions" in lines[0] and lines[-1].startswith("receptive field 16 samples, 2 ms: ")
    text = (tmp_path / "a.svg").read_text()
    for words in ("lag, samples before the predicted one", "lag, ms at 8,000 Hz", "receptive field: 16 samples, 2 ms"):
        assert f">{words}<" in text


def test_what_cannot_be_measured_is_refused_in_a_line(tmp_path: Path, voices: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    model, clip = save_model(tmp_path / "a.safetensors"), written_clip(tmp_path / "a.wav", 0.002)
    look = ("look", "influence")
    assert "a prediction depends on 16, 2 ms" in error_of(capsys, *look, model, clip)
    assert "speaker: required" in error_of(capsys, *look, voices, clip)
    assert "no such file" in error_of(capsys, *look, model, tmp_path / "none.wav")
    assert "a picture ends in" in error_of(capsys, *look, "none", clip, "-o", tmp_path / "a.txt")
