"""Audio from spectrograms and of speakers from the user's side: `wavenet vocode`, and `generate --speaker`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import BLOCK, FIRST, SAMPLE_RATE, Capture, error_of, run, save_model

import wavenet
from wavenet.config import MelConfig
from wavenet.data import audio
from wavenet.engine import native_installed
from wavenet.features import mel_spectrogram
from wavenet.mel_config import LOOKAHEAD_SECONDS
from wavenet.refined_session import RefinedSession, file_lookahead


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "in put.wav"
    audio.write(path, 0.3 * np.sin(2 * np.pi * 220 * np.arange(4_050) / SAMPLE_RATE), SAMPLE_RATE)
    return path


def test_a_copy_is_as_long_and_what_the_generator_renders(vocoder: Path, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.flac"
    assert run("vocode", vocoder, recording, "-o", out, "--seed", 4, "--temperature", 0.7) == 0
    written, sample_rate = soundfile.read(out, dtype="float32")
    generator = wavenet.Generator.load(vocoder)
    assert generator.config.features is not None
    features = mel_spectrogram(audio.read(recording, SAMPLE_RATE), generator.config.features)
    expected = generator.render(features=features, seed=4, temperature=0.7)
    assert sample_rate == SAMPLE_RATE
    assert len(written) == 4_050
    assert len(expected) == features.shape[1] * 80 == 4_080
    assert np.array_equal(written, expected[:4_050])


def test_a_voiced_temperature_is_that_of_the_generator(vocoder: Path, recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.wav"
    options = ("--temperature", 0.9, "--voiced-temperature", 0.4)
    assert run("vocode", vocoder, recording, "-o", out, *options) == 0
    generator = wavenet.Generator.load(vocoder)
    assert generator.config.features is not None
    features = mel_spectrogram(audio.read(recording, SAMPLE_RATE), generator.config.features)
    expected = generator.render(features=features, temperature=0.9, voiced_temperature=0.4)
    assert np.array_equal(soundfile.read(out, dtype="float32")[0], expected[:4_050])
    assert run("vocode", vocoder, recording, "-o", out, "--voiced-temperature", -1) == 2


def test_other_sample_rates_and_channels(vocoder: Path, tmp_path: Path) -> None:
    stereo = tmp_path / "stereo.ogg"
    soundfile.write(stereo, np.random.default_rng(0).standard_normal((22_050, 2)) * 0.1, 44_100)
    assert run("vocode", vocoder, stereo, "-o", tmp_path / "copy.wav") == 0
    assert soundfile.info(tmp_path / "copy.wav").frames == 4_000


def test_features_in_a_file_give_the_same_audio(vocoder: Path, recording: Path, tmp_path: Path) -> None:
    mel = tmp_path / "fea tures.npy"
    assert run("vocode", vocoder, recording, "-o", tmp_path / "a.wav", "--save-mel", mel) == 0
    assert run("vocode", vocoder, "--mel", mel, "-o", tmp_path / "b.wav") == 0
    a, b = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    assert np.array_equal(a, b[: len(a)])
    assert len(b) == 4_080


def test_parameters_that_differ_are_named(vocoder: Path, recording: Path, tmp_path: Path, capsys: Capture) -> None:
    mel = tmp_path / "mel.npy"
    assert run("vocode", vocoder, recording, "-o", tmp_path / "a.wav", "--save-mel", mel) == 0
    parameters = json.loads(mel.with_suffix(".npy.json").read_text())
    mel.with_suffix(".npy.json").write_text(json.dumps({**parameters, "floor": 1e-3}))
    capsys.readouterr()
    assert "floor = 0.001" in error_of(capsys, "vocode", vocoder, "--mel", mel, "-o", tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists()


def test_features_of_another_scale_are_refused_or_reported(vocoder: Path, tmp_path: Path, capsys: Capture) -> None:
    mel, out = tmp_path / "mel.npy", tmp_path / "x.wav"
    np.save(mel, np.full((20, 50), -80.0, np.float32))
    assert "they range from -80 to -80" in error_of(capsys, "vocode", vocoder, "--mel", mel, "-o", out)
    assert not out.exists()
    loud = np.random.default_rng(0).normal(0.0, 0.3, (20, 50)).clip(-0.8, 0.8)  # the normalisation is -5 +- 2.5
    np.save(mel, loud.astype(np.float32))
    assert run("vocode", vocoder, "--mel", mel, "-o", out) == 0
    warning = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wavenet: ")]
    assert len(warning) == 1
    assert "differ strongly from the training data's" in warning[0]


def test_raw_samples_on_standard_output(
    vocoder: Path, recording: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run("vocode", vocoder, recording, "-o", "-") == 0
    assert len(capfdbinary.readouterr().out) == 2 * 4_050


def test_wrong_arguments_are_refused_in_one_line(
    vocoder: Path, voices: Path, recording: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "x.wav"
    assert "or --mel" in error_of(capsys, "vocode", vocoder, "-o", out)
    assert "wavenet generate" in error_of(capsys, "vocode", voices, recording, "-o", out)
    assert "wavenet vocode" in error_of(capsys, "generate", vocoder, "-o", out)
    assert "no such folder" in error_of(capsys, "vocode", vocoder, recording, "-o", tmp_path / "none" / "x.wav")
    assert "no speakers" in error_of(capsys, "vocode", vocoder, recording, "-o", out, "--speaker", "ann")
    np.save(tmp_path / "t.npy", np.zeros((51, 20), np.float32))
    assert "transpose" in error_of(capsys, "vocode", vocoder, "--mel", tmp_path / "t.npy", "-o", out)
    assert not out.exists()


def test_a_full_disk_names_the_features(
    vocoder: Path, recording: Path, tmp_path: Path, capsys: Capture, fill_disk: Callable[[], None]
) -> None:
    fill_disk()
    mel = tmp_path / "mel.npy"
    assert run("vocode", vocoder, recording, "-o", tmp_path / "a.wav", "--save-mel", mel) == 1
    assert capsys.readouterr().err == f"wavenet: {mel}: cannot be written (No space left on device)\n"


@pytest.mark.parametrize(
    ("options", "generated"),
    [((), 1_000), (("--refine", 10), 2_000)],  # of 2,720 samples generated, 100 ms of look-ahead are not refined
    ids=["plain", "refined"],
)
def test_an_interruption_keeps_what_was_generated(
    vocoder: Path,
    recording: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    generated: int,
) -> None:
    original = wavenet.Session.next

    def interrupted(session: wavenet.Session, samples: int) -> np.ndarray:
        if session.position > generated:
            raise KeyboardInterrupt
        return original(session, samples)

    monkeypatch.setattr(wavenet.Session, "next", interrupted)
    out = tmp_path / "x.wav"
    assert run("vocode", vocoder, recording, "-o", out, *options) == 130
    assert capsys.readouterr().err.startswith("interrupted: kept 0.2 s in ")
    assert soundfile.info(out).frames == FIRST + 2 * BLOCK


@pytest.mark.parametrize("output", ["file", "-"])
def test_refined_audio_is_written_while_it_is_generated(
    vocoder: Path, recording: Path, tmp_path: Path, output: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    out = tmp_path / "copy.wav"
    assert run("vocode", vocoder, recording, "--refine", 20, "-o", out if output == "file" else "-") == 0
    generator = wavenet.Generator.load(vocoder)
    mel = generator.config.features
    assert mel is not None
    features = mel_spectrogram(audio.read(recording, SAMPLE_RATE), mel)
    session = generator.session(features=features, count=1)
    lookahead = file_lookahead(mel, 20) if output == "file" else LOOKAHEAD_SECONDS
    expected = np.rint(32_768 * RefinedSession(session, mel, 20, 4_050, lookahead).next(4_050)[0])
    written = out.read_bytes()[44:] if output == "file" else capfdbinary.readouterr().out
    np.testing.assert_array_equal(np.frombuffer(written, "<i2"), expected)


def test_the_look_ahead_of_files_has_an_iteration_for_every_frame() -> None:
    mel = MelConfig(hop=160)  # 10 ms
    found = [file_lookahead(mel, iterations) for iterations in (1, 40, 100, 1_000)]
    assert found == pytest.approx([LOOKAHEAD_SECONDS, 0.4, 1.0, 1.0])


def test_refinement_needs_features(
    voices: Path, vocoder: Path, recording: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert "refine = 3: this model has no features" in error_of(capsys, "generate", voices, "--refine", 3)
    wrong = error_of(capsys, "vocode", vocoder, recording, "-o", tmp_path / "x.wav", "--refine", -1)
    assert wrong == "wavenet: refine = -1: must be a whole number from 0 to 1,000"


def test_speakers_by_name_and_mixture(voices: Path, tmp_path: Path, capsys: Capture) -> None:
    for name, speaker in (("ann", "ann"), ("bob", "bob"), ("both", "ann=1,bob=1")):
        assert run("generate", voices, "-o", tmp_path / f"{name}.wav", "--seconds", 0.1, "--speaker", speaker) == 0
    capsys.readouterr()
    assert len({(tmp_path / f"{name}.wav").read_bytes() for name in ("ann", "bob", "both")}) == 3
    unknown = error_of(capsys, "generate", voices, "--speaker", "bop")
    assert "did you mean 'bob'" in unknown and "ann, bob" in unknown
    assert "ann, bob" in error_of(capsys, "generate", voices)


def test_a_name_with_an_equals_sign_is_a_name(tmp_path: Path) -> None:
    model = save_model(tmp_path / "odd.safetensors", speakers=("a=b", "c"))
    assert run("generate", model, "-o", tmp_path / "x.wav", "--seconds", 0.05, "--speaker", "a=b") == 0


@pytest.mark.skipif(not native_installed(), reason="the other engines need torch")
def test_no_slow_package_is_imported(vocoder: Path, recording: Path, tmp_path: Path) -> None:
    code = "import sys; from wavenet import cli; print(cli.main(sys.argv[1:]), *sys.modules)"
    arguments = ["vocode", str(vocoder), str(recording), "-o", str(tmp_path / "x.wav"), "--refine", "2", "--save-mel"]
    command = [sys.executable, "-c", code, *arguments, str(tmp_path / "mel.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    exit_code, *modules = done.stdout.split()
    assert exit_code == "0"
    assert not {"torch", "torchaudio", "librosa", "scipy", "numba", "sounddevice"} & set(modules)
