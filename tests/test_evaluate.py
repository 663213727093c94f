"""`wavenet evaluate` from the user's side: bits per sample of speakers, copies and their figures, what is missing."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import MEL, SAMPLE_RATE, Capture, error_of, run

import wavenet
from wavenet import checkpoint
from wavenet.config import MelConfig
from wavenet.data import audio
from wavenet.evaluation import copy_synthesis
from wavenet.features import mel_spectrogram


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for speaker, hertz in (("ann", 220), ("bob", 110)):
        (tmp_path / "voices" / speaker).mkdir(parents=True)
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
        audio.write(tmp_path / "voices" / speaker / "tone.wav", tone * np.hanning(len(tone)), SAMPLE_RATE)
    return tmp_path / "voices"


def test_each_recording_is_predicted_with_its_speaker(voices: Path, folder: Path, capsys: Capture) -> None:
    model = checkpoint.load_model(voices)
    right = copy_synthesis.evaluate(model, folder, speakers="folders").bits
    each = [copy_synthesis.evaluate(model, folder / name, speaker=name).bits for name in ("ann", "bob")]
    wrong = [
        copy_synthesis.evaluate(model, folder / name, speaker=other).bits
        for name, other in (("ann", "bob"), ("bob", "ann"))
    ]
    assert right == pytest.approx(np.mean(each))
    assert right != pytest.approx(np.mean(wrong), abs=1e-6)
    assert "ann, bob" in error_of(capsys, "evaluate", voices, folder)


@pytest.mark.parametrize(
    ("fft", "window", "hop"), [(256, 160, 80), (255, 255, 80), (257, 257, 80), (257, 161, 81), (301, 300, 75)]
)
def test_griffin_lim_keeps_position_and_pitch(fft: int, window: int, hop: int) -> None:
    mel = MelConfig(sample_rate=SAMPLE_RATE, **{**MEL, "fft": fft, "window": window, "hop": hop})  # type: ignore[arg-type]
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = np.where((time > 0.3) & (time < 0.6), 0.3 * np.sin(2 * np.pi * 440 * time), 0.0).astype(np.float32)
    copy = copy_synthesis.griffin_lim(mel_spectrogram(tone, mel), mel, len(tone))
    assert len(copy) == len(tone)
    spectrum = np.abs(np.fft.rfft(copy))
    assert np.argmax(spectrum) == pytest.approx(440, abs=25)  # bins of 1 Hz; bands are 60 Hz wide there
    power = np.cumsum(np.square(copy)) / np.square(copy).sum()
    assert np.searchsorted(power, 0.5) / SAMPLE_RATE == pytest.approx(0.45, abs=0.01)  # the middle of the tone


def test_copies_of_the_model_and_of_griffin_lim_are_compared(
    vocoder: Path, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    table, save = tmp_path / "copies.csv", tmp_path / "copies"
    assert run("evaluate", vocoder, folder, "--copies", 1, "--csv", table, "--save", save) == 0
    printed = capsys.readouterr()
    assert "bits per sample" in printed.out
    assert "training:" not in printed.err
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == list(copy_synthesis.METHODS)
    assert {row["file"] for row in rows} == {"ann/tone.wav"}
    assert float(rows[2]["log_mel_db"]) == 0.0
    assert float(rows[0]["log_mel_db"]) > float(rows[1]["log_mel_db"]) > 0
    for method in copy_synthesis.METHODS:
        assert soundfile.info(save / method / "ann" / "tone.wav.wav").frames == 2 * SAMPLE_RATE
    assert "--csv: with --copies 0" in error_of(capsys, "evaluate", vocoder, folder, "--copies", 0, "--csv", table)
    missing = error_of(capsys, "evaluate", vocoder, folder, "--csv", tmp_path / "none" / "x.csv")
    assert "--csv" in missing


def test_options_of_copies_are_named_where_nothing_is_copied(voices: Path, folder: Path, capsys: Capture) -> None:
    error_output = error_of(capsys, "evaluate", voices, folder, "--voiced-temperature", 0.5, "--save", "copies")
    assert "--save, --voiced-temperature: " in error_output and "not conditioned on spectrograms" in error_output
    assert "--copies: " in error_of(capsys, "evaluate", voices, folder, "--copies", 2)


def test_a_missing_package_costs_only_its_figure(
    vocoder: Path, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    assert run("evaluate", vocoder, folder, "--copies", 1) == 0
    printed = capsys.readouterr()
    assert "bits per sample" in printed.out and "STOI" in printed.out
    assert "PESQ" not in printed.out
    assert "note: PESQ needs pesq: pip install 'wavenet-toolkit[metrics]'" in printed.err.splitlines()


def test_of_a_long_recording_the_beginning_is_copied(
    vocoder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_synthesis, "MOST_SECONDS", 1.0)
    recordings = copy_synthesis.evaluate(checkpoint.load_model(vocoder), folder).recordings
    generator = wavenet.Generator.load(vocoder)
    made = list(copy_synthesis.copies(generator, recordings, 1))
    assert [len(copy.audio) for copy in made] == [SAMPLE_RATE] * 3
    assert {copy.seconds for copy in made} == {1.0}
    original = audio.read(folder / "ann" / "tone.wav", SAMPLE_RATE)
    assert np.array_equal(made[2].audio, original[:SAMPLE_RATE])


def test_a_full_disk_names_the_table(
    vocoder: Path, folder: Path, tmp_path: Path, capsys: Capture, fill_disk: Callable[[], None]
) -> None:
    assert run("evaluate", vocoder, folder, "--copies", 0) == 0  # now the folder is in the cache
    capsys.readouterr()

    fill_disk()
    table = tmp_path / "copies.csv"
    assert run("evaluate", vocoder, folder, "--copies", 1, "--csv", table) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"wavenet: {table}: cannot be written (No space left on device)"
