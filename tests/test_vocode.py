"""Copy-synthesis as a user meets it: `wavenet vocode`, `generate --speaker`, and `evaluate` of conditioned models."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet import checkpoint, cli
from wavenet.config import MelConfig, ModelConfig
from wavenet.data import audio
from wavenet.evaluation import copy_synthesis
from wavenet.features import mel_spectrogram

RATE = 8_000
MEL = {"hop": 80, "fft": 256, "window": 160, "bands": 20, "high": 4_000.0}


def saved(path, **options):
    torch.manual_seed(0)
    config = ModelConfig(
        cycles=1,
        layers_per_cycle=4,
        residual_channels=6,
        skip_channels=8,
        sample_rate=RATE,
        frame_channels=8,
        **options,
    )
    model = wavenet.WaveNet(config)
    checkpoint.save_model(path, model)
    return path


@pytest.fixture
def vocoder(tmp_path):
    return saved(tmp_path / "a vocoder.safetensors", output="gaussian", features=MEL, linear_prediction=8)


@pytest.fixture
def voices(tmp_path):
    return saved(tmp_path / "voices.safetensors", speakers=("ann", "bob"))


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "in put.wav"
    audio.write(path, 0.3 * np.sin(2 * np.pi * 220 * np.arange(4_050) / RATE), RATE)
    return path


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def error_of(capsys, *arguments):
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_copy_is_as_long_and_what_the_generator_renders(vocoder, recording, tmp_path):
    out = tmp_path / "copy.flac"
    assert run("vocode", vocoder, recording, "-o", out, "--seed", 4, "--temperature", 0.7) == 0
    sound, rate = soundfile.read(out, dtype="float32")
    generator = wavenet.Generator.load(vocoder)
    features = mel_spectrogram(audio.read(recording, RATE), generator.config.features)
    expected = generator.render(features=features, seed=4, temperature=0.7)
    assert rate == RATE
    assert len(sound) == 4_050
    assert len(expected) == features.shape[1] * 80 == 4_080
    assert np.array_equal(sound, expected[:4_050])


def test_a_voiced_temperature_is_the_generators(vocoder, recording, tmp_path):
    out = tmp_path / "copy.wav"
    options = ("--temperature", 0.9, "--voiced-temperature", 0.4)
    assert run("vocode", vocoder, recording, "-o", out, *options) == 0
    generator = wavenet.Generator.load(vocoder)
    features = mel_spectrogram(audio.read(recording, RATE), generator.config.features)
    expected = generator.render(features=features, temperature=0.9, voiced_temperature=0.4)
    assert np.array_equal(soundfile.read(out, dtype="float32")[0], expected[:4_050])
    assert run("vocode", vocoder, recording, "-o", out, "--voiced-temperature", -1) == 2


def test_other_rates_and_channels(vocoder, tmp_path):
    stereo = tmp_path / "stereo.ogg"
    soundfile.write(stereo, np.random.default_rng(0).standard_normal((22_050, 2)) * 0.1, 44_100)
    assert run("vocode", vocoder, stereo, "-o", tmp_path / "copy.wav") == 0
    assert soundfile.info(tmp_path / "copy.wav").frames == 4_000


def test_features_in_a_file_make_the_same_sound(vocoder, recording, tmp_path):
    mel = tmp_path / "fea tures.npy"
    assert run("vocode", vocoder, recording, "-o", tmp_path / "a.wav", "--save-mel", mel) == 0
    assert run("vocode", vocoder, "--mel", mel, "-o", tmp_path / "b.wav") == 0
    a, b = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    assert np.array_equal(a, b[: len(a)])
    assert len(b) == 4_080


def test_parameters_that_differ_are_named(vocoder, recording, tmp_path, capsys):
    mel = tmp_path / "mel.npy"
    assert run("vocode", vocoder, recording, "-o", tmp_path / "a.wav", "--save-mel", mel) == 0
    parameters = json.loads(mel.with_suffix(".npy.json").read_text())
    mel.with_suffix(".npy.json").write_text(json.dumps({**parameters, "floor": 1e-3}))
    capsys.readouterr()
    assert "floor = 0.001" in error_of(capsys, "vocode", vocoder, "--mel", mel, "-o", tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists()


def test_raw_samples_on_standard_output(vocoder, recording, capfdbinary):
    assert run("vocode", vocoder, recording, "-o", "-") == 0
    assert len(capfdbinary.readouterr().out) == 2 * 4_050


def test_what_cannot_be_is_told_in_one_line(vocoder, voices, recording, tmp_path, capsys):
    out = tmp_path / "x.wav"
    assert "or --mel" in error_of(capsys, "vocode", vocoder, "-o", out)
    assert "wavenet generate" in error_of(capsys, "vocode", voices, recording, "-o", out)
    assert "wavenet vocode" in error_of(capsys, "generate", vocoder, "-o", out)
    assert "no such folder" in error_of(capsys, "vocode", vocoder, recording, "-o", tmp_path / "none" / "x.wav")
    assert "no speakers" in error_of(capsys, "vocode", vocoder, recording, "-o", out, "--speaker", "ann")
    np.save(tmp_path / "t.npy", np.zeros((51, 20), np.float32))
    assert "transpose" in error_of(capsys, "vocode", vocoder, "--mel", tmp_path / "t.npy", "-o", out)
    assert not out.exists()


def test_speakers_by_name_and_blended(voices, tmp_path, capsys):
    for name, speaker in (("ann", "ann"), ("bob", "bob"), ("both", "ann=1,bob=1")):
        assert run("generate", voices, "-o", tmp_path / f"{name}.wav", "--seconds", 0.1, "--speaker", speaker) == 0
    capsys.readouterr()
    sounds = {(tmp_path / f"{name}.wav").read_bytes() for name in ("ann", "bob", "both")}
    assert len(sounds) == 3
    unknown = error_of(capsys, "generate", voices, "--speaker", "bop")
    assert "did you mean 'bob'" in unknown and "ann, bob" in unknown
    assert "ann, bob" in error_of(capsys, "generate", voices)


def test_a_name_with_an_equals_sign_is_a_name(tmp_path):
    model = saved(tmp_path / "odd.safetensors", speakers=("a=b", "c"))
    assert run("generate", model, "-o", tmp_path / "x.wav", "--seconds", 0.05, "--speaker", "a=b") == 0


@pytest.fixture
def folder(tmp_path):
    for speaker, hertz in (("ann", 220), ("bob", 110)):
        (tmp_path / "voices" / speaker).mkdir(parents=True)
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE) * np.hanning(2 * RATE)
        audio.write(tmp_path / "voices" / speaker / "tone.wav", tone, RATE)
    return tmp_path / "voices"


def test_evaluate_is_told_who_speaks(voices, folder, capsys):
    model = checkpoint.load_model(voices)
    true = copy_synthesis.evaluate(model, folder, speakers="folders").bits
    each = [copy_synthesis.evaluate(model, folder / name, speaker=name).bits for name in ("ann", "bob")]
    other = [
        copy_synthesis.evaluate(model, folder / name, speaker=told).bits
        for name, told in (("ann", "bob"), ("bob", "ann"))
    ]
    assert true == pytest.approx(np.mean(each))
    assert true != pytest.approx(np.mean(other), abs=1e-6)
    assert "ann, bob" in error_of(capsys, "evaluate", voices, folder)


def test_griffin_lim_is_aligned_and_in_tune():
    mel = MelConfig(sample_rate=RATE, **MEL)
    time = np.arange(RATE) / RATE
    sound = np.where((time > 0.3) & (time < 0.6), 0.3 * np.sin(2 * np.pi * 440 * time), 0.0).astype(np.float32)
    copy = copy_synthesis.griffin_lim(mel_spectrogram(sound, mel), mel, len(sound))
    assert len(copy) == len(sound)
    spectrum = np.abs(np.fft.rfft(copy))
    assert np.argmax(spectrum) == pytest.approx(440, abs=25)  # bins of 1 Hz; bands are 60 Hz wide there
    power = np.cumsum(np.square(copy)) / np.square(copy).sum()
    assert np.searchsorted(power, 0.5) / RATE == pytest.approx(0.45, abs=0.01)  # the middle of the tone


def test_copies_stand_between_floor_and_ceiling(vocoder, folder, tmp_path, capsys):
    pytest.importorskip("pesq", reason="the extra 'metrics' is not installed")
    table, save = tmp_path / "copies.csv", tmp_path / "copies"
    assert run("evaluate", vocoder, folder, "--copies", 1, "--csv", table, "--save", save) == 0
    assert "bits per sample" in capsys.readouterr().out
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == list(copy_synthesis.METHODS)
    assert {row["file"] for row in rows} == {"ann/tone.wav"}
    assert float(rows[2]["log_mel_db"]) == 0.0
    assert float(rows[0]["log_mel_db"]) > float(rows[1]["log_mel_db"]) > 0
    for maker in copy_synthesis.METHODS:
        assert soundfile.info(save / maker / "ann" / "tone.wav.wav").frames == 2 * RATE
    assert "--copies 0" in error_of(capsys, "evaluate", vocoder, folder, "--copies", 0, "--csv", table)
    missing = error_of(capsys, "evaluate", vocoder, folder, "--csv", tmp_path / "none" / "x.csv")
    assert "--csv" in missing
