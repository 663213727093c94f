"""`wavenet look scales`: measurements against the definition with muted layers, the audio, and the messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import CONDITIONED, definition_outputs, engine_for, random_codes, random_conditioning, random_model
from commands import SAMPLE_RATE, Capture, error_of, run, save_model
from numpy.typing import NDArray

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.data import audio
from wavenet.evaluation.likelihood import sample_bits
from wavenet.evaluation.probe import Probe
from wavenet.evaluation.scales import LayerScale, Scales, measure, mutes_of
from wavenet.labelling_config import LabellerConfig
from wavenet.labelling_model import LabellingNetwork
from wavenet.nn.outputs import negative_log_likelihood

SMALL = ModelConfig(2, 3, 2, 6, skip_channels=8, sample_rate=SAMPLE_RATE)
SAMPLES = 900  # more than a window of 64 ms at 8 kHz


def written_clip(path: Path, seconds: float = 0.2, sample_rate: int = 16_000) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.2, round(seconds * sample_rate))
    audio.write(path, noise.astype(np.float32), sample_rate)
    return path


def test_bits_with_muted_layers_are_those_of_the_definition() -> None:
    model = random_model(SMALL)
    codes = random_codes(SMALL, 1, 60)
    inputs = torch.from_numpy(np.concatenate([[[128]], codes[:, :-1]], axis=1))
    muted = torch.tensor([False, True, False, False, True, False])
    with torch.no_grad():
        outputs = model(inputs, muted=muted)[0]
    expected = negative_log_likelihood("mulaw", outputs, torch.from_numpy(codes[0])).numpy() / np.log(2)
    np.testing.assert_allclose(sample_bits(model, codes[0], mute=(1, 4)), expected, rtol=1e-4)
    np.testing.assert_allclose(sample_bits(engine_for("naive", model), codes[0], mute=(1, 4)), expected, rtol=1e-3)


@pytest.mark.parametrize("piece", [16_384, 600])
def test_strength_and_losses(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("likelihood", "scales"):
        monkeypatch.setattr(f"wavenet.evaluation.{module}.PIECE", piece)
    model = random_model(SMALL)
    codes = random_codes(SMALL, 1, SAMPLES)
    found = measure(Probe(model, codes[0], None))
    kept: list[NDArray[np.float32]] = []
    hook = model.layers[4].register_forward_hook(lambda layer, inputs, outputs: kept.append(outputs[1].numpy()))
    definition_outputs(model, codes)
    hook.remove()
    assert found.layers[4].strength == pytest.approx(float(np.sqrt(np.square(kept[0]).mean())), rel=1e-5)
    bits = sample_bits(model, codes[0]).mean()
    assert found.bits == pytest.approx(bits)
    assert found.layers[4].lost == pytest.approx(sample_bits(model, codes[0], mute=(4,)).mean() - bits)
    assert found.dilations[2] == pytest.approx(sample_bits(model, codes[0], mute=(1, 4)).mean() - bits)
    assert found.cycles[1] == pytest.approx(sample_bits(model, codes[0], mute=(3, 4, 5)).mean() - bits)
    assert [(layer.cycle, layer.dilation) for layer in found.layers] == [(0, 1), (0, 2), (0, 4), (1, 1), (1, 2), (1, 4)]
    assert not model.layers[4]._forward_hooks


def test_the_spectrum_is_that_of_z() -> None:
    """A layer whose z is a tone: its median frequency is that of the tone."""
    config = ModelConfig(1, 1, 2, 4, skip_channels=4, sample_rate=8_000)
    model = random_model(config)
    tone = np.tile([100, 128, 156, 128], 500)  # a quarter of the sample rate: 2 kHz
    (layer,) = measure(Probe(model, tone, None)).layers
    assert layer.frequency in (2_000.0, 4_000.0)  # or its only harmonic, z is not linear
    peaks = np.flatnonzero(layer.spectrum > 0.01 * layer.spectrum.max())
    assert all(min(abs(peak - 128), abs(peak - 256)) <= 1 for peak in peaks)  # of 257 bins of 15.625 Hz


@pytest.mark.parametrize("shape", ["speakers", "pitch", "adaptive"])
def test_conditioned_models(shape: str) -> None:
    config = CONDITIONED[shape]
    samples = round(0.064 * config.sample_rate) + 1
    inputs = random_conditioning(config, 1, samples)
    found = measure(Probe(random_model(config), random_codes(config, 1, samples)[0], inputs))
    assert len(found.layers) == config.layers and np.isfinite([layer.lost for layer in found.layers]).all()


def test_what_is_muted_in_turn() -> None:
    assert mutes_of(2, 2) == {
        "nothing-muted": (),
        "dilation-1-muted": (0, 2),
        "dilation-2-muted": (1, 3),
        "cycle-0-muted": (0, 1),
        "cycle-1-muted": (2, 3),
    }
    assert list(mutes_of(1, 2)) == ["nothing-muted", "dilation-1-muted", "dilation-2-muted"]


@pytest.mark.parametrize(
    ("frequencies", "words"),
    [
        ((900.0, 500.0, 100.0), "falls as the dilation grows (rank correlation -1.00): 900 Hz at dilation 1, 100 Hz"),
        ((100.0, 500.0, 900.0), "rises as the dilation grows (rank correlation +1.00)"),
        ((500.0, 500.0, 500.0), "does not follow the dilation (rank correlation +0.00)"),
    ],
)
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_the_reading_says_what_was_measured(frequencies: tuple[float, ...], words: str) -> None:
    layers = [LayerScale(0, 2**index, 0.5, np.ones(3), frequency, 0.1) for index, frequency in enumerate(frequencies)]
    lines = Scales(16_000, 3.0, layers, {1: 0.2, 2: 0.7, 4: -0.1}, []).reading()
    assert "Dilation 2 is missed most when muted (0.700 bits per sample), dilation 4 least (-0.100)." in lines[0]
    assert words in lines[-1]


def test_the_command_prints_draws_and_writes_audio(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    model, clip = tmp_path / "a.safetensors", written_clip(tmp_path / "a.wav")
    checkpoint.save_model(model, random_model(ModelConfig(2, 4, 2, 6, skip_channels=8, sample_rate=SAMPLE_RATE)))
    picture, folder = tmp_path / "scales.svg", tmp_path / "muted"
    assert run("look", "scales", model, clip, "-o", picture, "--audio", folder, "--seconds", 0.1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "cycle", "dilation", "ms", "RMS", "of", "z", "median", "Hz", "bits", "lost"]
    assert [line.split()[:3] for line in lines[1:9]] == [[str(i), str(i // 4), str(2 ** (i % 4))] for i in range(8)]
    assert "dilation 8 in all cycles: " in lines[12] and lines[-3].startswith("With all layers ")
    for words in ("bits per sample", "RMS of z", "Spectrum of z, cycle 1", "dilation, samples", "frequency, kHz"):
        assert f">{words}<" in picture.read_text()
    names = sorted(path.stem for path in folder.iterdir())
    assert names == sorted(mutes_of(2, 4))
    sounds = [audio.read(folder / f"{name}.wav", SAMPLE_RATE) for name in ("nothing-muted", "cycle-0-muted")]
    assert [len(sound) for sound in sounds] == [800, 800] and not np.array_equal(*sounds)


def test_a_vocoder_is_given_the_features_of_the_clip(vocoder: Path, tmp_path: Path) -> None:
    clip = written_clip(tmp_path / "a.wav", 0.15)
    assert run("look", "scales", vocoder, clip, "--audio", tmp_path / "muted") == 0
    assert len(audio.read(tmp_path / "muted" / "nothing-muted.wav", SAMPLE_RATE)) == 0.15 * SAMPLE_RATE


def test_what_cannot_be_measured_is_refused_in_a_line(tmp_path: Path, voices: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    model, clip = save_model(tmp_path / "a.safetensors"), written_clip(tmp_path / "a.wav")
    look = ("look", "scales")
    assert "none.wav: no such file" in error_of(capsys, *look, model, tmp_path / "none.wav")
    assert "a directory" in error_of(capsys, *look, model, tmp_path)
    assert "speaker: required" in error_of(capsys, *look, voices, clip)
    assert "speaker" in error_of(capsys, *look, model, clip, "--speaker", "ann")
    assert "of the 512 samples needed, 64 ms" in error_of(capsys, *look, model, written_clip(tmp_path / "b.wav", 0.05))
    audio.write(tmp_path / "c.wav", np.zeros(4_000), SAMPLE_RATE)
    assert "c.wav: silent" in error_of(capsys, *look, model, tmp_path / "c.wav")
    checkpoint.save_model(tmp_path / "l.safetensors", LabellingNetwork(LabellerConfig(("a",), layers_per_cycle=1)))
    assert "a labeller, which generates no audio" in error_of(capsys, *look, tmp_path / "l.safetensors", clip)
    assert "a picture ends in" in error_of(capsys, *look, "none", clip, "-o", tmp_path / "a.txt")
    assert "a.wav: is a file" in error_of(capsys, *look, model, clip, "--audio", clip)
