"""`wavenet evaluate` from the user's side: bits per sample of speakers, copies and their figures, what is missing."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import MEL, SAMPLE_RATE, Capture, error_of, run, save_model

import wavenet
from wavenet import checkpoint
from wavenet.config import MelConfig
from wavenet.data import audio
from wavenet.evaluation import copy_synthesis
from wavenet.evaluation.signals import Signal
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
    assert [row["method"] for row in rows] == ["model", "griffin-lim", "griffin-lim refined", "recording"]
    assert [row["refine"] for row in rows] == ["0", "0", "40", "0"]
    assert {row["file"] for row in rows} == {"ann/tone.wav"}
    assert {row["words"] for row in rows} == {"nan"}  # not counted
    distances = [float(row["log_mel_db"]) for row in rows]
    assert distances == sorted(distances, reverse=True) and distances[-1] == 0
    for method in ("model", "griffin-lim", "griffin-lim-refined", "recording"):
        assert soundfile.info(save / method / "ann" / "tone.wav.wav").frames == 2 * SAMPLE_RATE
    assert "difference: model minus griffin-lim, recording by recording" in printed.out
    assert printed.out.splitlines()[-1] == "model: temperature 1"
    assert "note: no confidence intervals: they need several recordings" in printed.err.splitlines()
    assert "--csv: with --copies 0" in error_of(capsys, "evaluate", vocoder, folder, "--copies", 0, "--csv", table)
    missing = error_of(capsys, "evaluate", vocoder, folder, "--csv", tmp_path / "none" / "x.csv")
    assert "--csv" in missing


def test_a_refined_model_is_compared_with_itself_unrefined(
    vocoder: Path, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    save, table = tmp_path / "copies", tmp_path / "copies.csv"
    options = ("--copies", 1, "--refine", 3, "--seed", 5, "--save", save, "--csv", table)
    assert run("evaluate", vocoder, folder, *options) == 0
    with open(table, newline="") as file:
        refinement = {row["method"]: int(row["refine"]) for row in csv.DictReader(file)}
    assert list(refinement.items()) == list(zip(copy_synthesis.METHODS, (3, 0, 0, 3, 0), strict=True))
    generator = wavenet.Generator.load(vocoder)
    features = mel_spectrogram(audio.read(folder / "ann" / "tone.wav", SAMPLE_RATE), generator.config.features)
    for method, iterations in (("model", 3), ("model-unrefined", 0)):
        expected = generator.render(features=features, seed=5, refine=iterations)
        written = audio.read(save / method / "ann" / "tone.wav.wav", SAMPLE_RATE)
        assert np.abs(written - expected).max() <= 1 / 32_768
    printed = capsys.readouterr().out
    assert "difference: model minus griffin-lim refined, recording by recording\nrefined: 3 iterations\n" in printed
    assert printed.splitlines()[-1] == "model: temperature 1, refine 3"


def test_features_that_cannot_be_refined_cost_only_that_method(tmp_path: Path, folder: Path) -> None:
    model = save_model(tmp_path / "model.safetensors", output="gaussian", features={**MEL, "hop": 160})
    recordings = copy_synthesis.evaluate(checkpoint.load_model(model), folder).recordings
    made = copy_synthesis.copies(wavenet.Generator.load(model), recordings, 1)
    assert [copy.method for copy in made] == ["model", "griffin-lim", "recording"]


def test_words_are_counted_if_asked_for(
    vocoder: Path, folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf:
        """Finds two words in the recording and one in every copy, which has less or more power."""

        def words(self, signal: Signal) -> list[str]:
            return ["two", "words"] if np.square(signal.audio).mean() == recorded else ["words"]

    recorded = np.square(audio.read(folder / "ann" / "tone.wav", SAMPLE_RATE).astype(np.float64)).mean()
    monkeypatch.setattr("wavenet.evaluation.words.Recogniser", Deaf)
    table = tmp_path / "copies.csv"
    assert run("evaluate", vocoder, folder, "--copies", 1, "--words", "--csv", table) == 0
    assert "words lost, of 2" in capsys.readouterr().out
    with open(table, newline="") as file:
        assert [(row["words_lost"], row["words"]) for row in csv.DictReader(file)] == [("1", "2")] * 3 + [("0", "2")]
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    message = error_of(capsys, "evaluate", vocoder, folder, "--words")
    assert message == "wavenet: counting words needs pocketsphinx: pip install 'wavenet-toolkit[metrics]'"


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
    assert [len(copy.audio) for copy in made] == [SAMPLE_RATE] * 4
    assert {copy.seconds for copy in made} == {1.0}
    original = audio.read(folder / "ann" / "tone.wav", SAMPLE_RATE)
    assert np.array_equal(made[-1].audio, original[:SAMPLE_RATE])


def test_a_full_disk_names_the_table(
    vocoder: Path, folder: Path, tmp_path: Path, capsys: Capture, fill_disk: Callable[[], None]
) -> None:
    assert run("evaluate", vocoder, folder, "--copies", 0) == 0  # now the folder is in the cache
    capsys.readouterr()

    fill_disk()
    table = tmp_path / "copies.csv"
    assert run("evaluate", vocoder, folder, "--copies", 1, "--csv", table) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"wavenet: {table}: cannot be written (No space left on device)"


@pytest.mark.parametrize("option", ["--refine", "--particles"])
def test_options_that_the_model_does_not_have_are_refused_first(
    option: str, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    model = save_model(tmp_path / "apart.safetensors", output="gaussian", features={**MEL, "hop": 160})
    message = error_of(capsys, "evaluate", model, folder, option, 5)  # the only line
    assert f"{option[2:]} = 5: needs windows that overlap by half" in message


def test_without_a_recording_to_copy_nothing_is_written(vocoder: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "short").mkdir()
    audio.write(tmp_path / "short" / "a.wav", 0.1 * np.sin(np.arange(SAMPLE_RATE)), SAMPLE_RATE)
    outputs = {f"--{name}": tmp_path / name for name in ("csv", "save", "page")}
    assert run("evaluate", vocoder, tmp_path / "short", *(part for item in outputs.items() for part in item)) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "no recording of 1.5 s or more to copy; nothing is written"
    assert not any(path.exists() for path in outputs.values())
