"""`wavenet evaluate --tune`: which sampling options are tried and chosen, and when they are stored."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import MEL, SAMPLE_RATE, Capture, error_of, run, save_model
from training_runs import CONDITIONED, trainer_for, write_tones

from wavenet.checkpoint import read_model
from wavenet.config import DataConfig, SamplingConfig
from wavenet.data import audio, dataset
from wavenet.evaluation import tuning
from wavenet.evaluation.tuning import Trial, Tuner, choose
from wavenet.training import recipe
from wavenet.training.run_directory import RunDirectory

GRID = {"voiced_temperature": (1.0, 0.5), "top_p": (None, 0.9), "refine": (0, 2, 8)}
START = SamplingConfig(1.0, 1.0, refine=2)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four recordings: one is too short."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for index, seconds in enumerate((1.6, 1.0, 1.7, 1.8)):
        walk = np.cumsum(np.random.default_rng(index).uniform(-0.05, 0.05, round(seconds * SAMPLE_RATE)))
        noise = 0.8 * np.sin(walk) * np.sin(np.arange(len(walk)) / 900) ** 3  # low noise that swells and fades
        audio.write(folder / f"{index}.wav", noise, SAMPLE_RATE)
    return folder


@pytest.fixture
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "GRID", GRID)
    monkeypatch.setattr(tuning, "START", START)


@pytest.fixture
def by_options(monkeypatch: pytest.MonkeyPatch, small_grid: None) -> None:
    """Figures that depend on the options only, so that the choice is known: (PESQ, STOI, log-mel distance)."""

    def compare(tuner: Tuner, clip: Any, copy: Any) -> dict[str, float]:
        return {"pesq": 2 + copy[0], "stoi": 0.9, "log_mel_db": 1.0}

    def generate(tuner: Tuner, options: SamplingConfig) -> tuple[list[Any], float]:
        pesq = {(1.0, None): 0.1, (0.5, None): 0.4, (0.5, 0.9): 0.3}[options.voiced_temperature or 0, options.top_p]
        return [np.array([pesq])] * tuner.recordings, tuner.seconds / 4

    def refine(tuner: Tuner, copies: list[Any], iterations: int) -> tuple[list[Any], float]:
        return [copy + iterations for copy in copies], iterations * tuner.seconds / 16

    for function in (compare, generate):
        monkeypatch.setattr(Tuner, f"_{function.__name__}", function)
    monkeypatch.setattr(Tuner, "_refine", refine)
    monkeypatch.setattr(tuning, "REAL_TIME", 1.0)


def tuner_of(model: Path, clips: Path, count: int = 10, **options: Any) -> Tuner:
    recordings = dataset.open_folder(clips, SAMPLE_RATE, DataConfig(validation=0.0))
    return Tuner(*read_model(model), recordings, count, **options)


def trial(refine: int, *scores: float) -> Trial:
    return Trial(SamplingConfig(refine=refine), 0, 0, 0, 9, np.array(scores))


def test_the_first_value_within_one_standard_error_of_the_best_is_chosen() -> None:
    """Leads of the best: 1, 0, -1, 2 have the mean 0.5, deviation 1.29 and error 0.645; 1, 1, 1, 1.1 have 0.025."""
    best = trial(3, 4.0, 4.0, 4.0, 4.0)
    assert choose([trial(0, 3.0, 4.0, 5.0, 2.0), best]).options.refine == 0
    assert choose([trial(0, 3.0, 3.0, 3.0, 2.9), best]) is best
    assert choose([best, trial(4, 4.0, 4.0, 4.0, 4.0)]) is best
    assert choose([trial(0, 3.0, math.nan), trial(1, 3.1, 9.0)]).options.refine == 1  # where both are defined
    assert choose([trial(0, math.nan), trial(1, math.nan)]).options.refine == 0


def test_one_option_is_changed_at_a_time(vocoder: Path, clips: Path, by_options: None) -> None:
    tuner = tuner_of(vocoder, clips)
    tried = [(trial.options.voiced_temperature, trial.options.top_p, trial.options.refine) for trial in tuner.run()]
    assert tried == [(1.0, None, 2), (0.5, None, 2), (0.5, 0.9, 2), (0.5, None, 0), (0.5, None, 8)]
    assert tuner.options == SamplingConfig(1.0, 0.5, refine=8)
    assert tuner.best.pesq == pytest.approx(10.4)
    assert tuner.best.times_real_time == pytest.approx(1 / (1 / 4 + 8 / 16))


@pytest.mark.parametrize(
    ("real_time", "chosen"),
    [
        (1.5, 2),  # 8 iterations are 1.33 x real time, 2 are 2.67
        (100, 0),  # the model alone is slower: 90% of its speed, 4
    ],
)
def test_options_that_are_slower_than_real_time_are_not_chosen(
    vocoder: Path, clips: Path, by_options: None, monkeypatch: pytest.MonkeyPatch, real_time: float, chosen: int
) -> None:
    monkeypatch.setattr(tuning, "REAL_TIME", real_time)
    tuner = tuner_of(vocoder, clips)
    assert len(list(tuner.run())) > 1
    assert tuner.options.refine == chosen


def test_trials_are_measured_on_copies_of_the_recordings(vocoder: Path, clips: Path, small_grid: None) -> None:
    counts: list[tuple[int, int]] = []
    assert tuner_of(vocoder, clips, 2).seconds == pytest.approx(1.6 + 1.8)  # the first and the last one
    tuner = tuner_of(vocoder, clips, 1, progress=lambda *count: counts.append(count))
    trials = list(tuner.run())
    assert counts == [(done, 5) for done in range(1, 6)]
    assert trials[0].log_mel_db > 0 and trials[0].times_real_time > 0
    assert len({trial.log_mel_db for trial in trials}) == len(trials)
    unrefined, more = (next(t for t in trials if t.options.refine == refine) for refine in (0, 8))
    assert more.log_mel_db < unrefined.log_mel_db
    assert next(tuner_of(vocoder, clips, 1).run()).log_mel_db == trials[0].log_mel_db


def test_guided_audio_is_tried(vocoder: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "START", SamplingConfig())
    monkeypatch.setattr(tuning, "GRID", {"particles": (0, 2)})
    plain, guided = tuner_of(vocoder, clips, 1).run()
    assert (plain.options.particles, guided.options.particles) == (0, 2)
    assert guided.log_mel_db != plain.log_mel_db  # other audio


def test_without_pesq_the_log_mel_distance_decides(
    vocoder: Path, clips: Path, small_grid: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    tuner = tuner_of(vocoder, clips, 1)
    trials = list(tuner.run())
    assert tuner.criterion == "log_mel_db" and math.isnan(trials[0].pesq)
    assert tuner.best.log_mel_db == min(trial.log_mel_db for trial in trials)


def test_the_options_of_the_model_do_not_matter(vocoder: Path, clips: Path, tmp_path: Path, small_grid: None) -> None:
    other = save_model(
        tmp_path / "other.safetensors",
        output="gaussian",
        features=MEL,
        linear_prediction=8,
        sampling=SamplingConfig(0.3, 0.2, None, 0.5, 7),
    )
    first, second = (next(tuner_of(model, clips, 1).run()) for model in (vocoder, other))
    assert first.log_mel_db == second.log_mel_db


def test_the_chosen_options_are_printed_and_stored(
    vocoder: Path, clips: Path, capsys: Capture, by_options: None
) -> None:
    config, tensors = read_model(vocoder)
    assert run("evaluate", vocoder, clips, "--tune", "--copies", 2) == 0
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    assert rows[0][:6] == ["temperature", "voiced", "top-p", "particles", "refine", "PESQ"]
    assert [row[:4] for row in rows[1:4]] == [["1", "1", "-", "0"], ["1", "0.5", "-", "0"], ["1", "0.5", "0.9", "0"]]
    assert rows[-1] == ["1", "0.5", "-", "0", "8", "10.400", "0.9000", "1.00", "1.3", "chosen"]
    assert "by PESQ on 2 recordings, 3.4 s; speed on one core" in printed.err
    assert printed.err.splitlines()[-1].endswith("stored temperature 1, voiced temperature 0.5, refine 8")
    after, tensors_after = read_model(vocoder)
    assert after == dataclasses.replace(config, sampling=SamplingConfig(1.0, 0.5, refine=8))
    assert all(np.array_equal(tensors[name], tensors_after[name]) for name in tensors)


def test_ctrl_c_changes_nothing(
    vocoder: Path, clips: Path, capsys: Capture, by_options: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, generate = vocoder.read_bytes(), Tuner._generate

    def interrupted(tuner: Tuner, options: SamplingConfig) -> Any:
        if options.top_p:
            raise KeyboardInterrupt
        return generate(tuner, options)

    monkeypatch.setattr(Tuner, "_generate", interrupted)
    assert run("evaluate", vocoder, clips, "--tune") == 130
    assert vocoder.read_bytes() == before
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted: {vocoder} is unchanged"


def test_a_run_stores_them_for_its_later_models_too(
    tmp_path: Path, clips: Path, capsys: Capture, by_options: None
) -> None:
    overrides = (*CONDITIONED["16 bits"], "training.steps=2")
    trainer = trainer_for(write_tones(tmp_path / "tones"), tmp_path / "run", *overrides)
    trainer.train()
    run_directory = RunDirectory(tmp_path / "run")
    with run_directory.lock():
        message = error_of(capsys, "evaluate", tmp_path / "run", clips, "--tune")
    assert f"a training is running here (process {os.getpid()} on " in message
    assert message.endswith("; tune when it has ended")
    assert run("evaluate", tmp_path / "run", clips, "--tune") == 0
    chosen = SamplingConfig(1.0, 0.5, refine=8)
    assert read_model(tmp_path / "run")[0].sampling == chosen
    stored = recipe.load(run_directory.recipe)
    assert stored == dataclasses.replace(
        trainer.recipe, model=dataclasses.replace(trainer.recipe.model, sampling=chosen)
    )


def test_what_cannot_be_tuned_is_refused_before_any_work(
    vocoder: Path, voices: Path, clips: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert "is not conditioned on spectrograms" in error_of(capsys, "evaluate", voices, clips, "--tune")
    message = error_of(capsys, "evaluate", vocoder, clips, "--tune", "--refine", 3, "--csv", "x.csv")
    assert "--csv, --refine: not with --tune" in message
    assert "--copies 0: --tune needs copies" in error_of(capsys, "evaluate", vocoder, clips, "--tune", "--copies", 0)
    os.chmod(vocoder, 0o444)
    assert "is read-only" in error_of(capsys, "evaluate", vocoder, clips, "--tune")
    os.chmod(vocoder, 0o644)
    (tmp_path / "short").mkdir()
    (clips / "1.wav").rename(tmp_path / "short" / "1.wav")
    assert run("evaluate", vocoder, tmp_path / "short", "--tune") == 2
    assert capsys.readouterr().err.splitlines()[-1] == "wavenet: no recording of 1.5 s or more to choose options with"


def test_speakers_are_checked_before_the_recordings_are_tried(tmp_path: Path, clips: Path, capsys: Capture) -> None:
    model = save_model(tmp_path / "two.safetensors", output="gaussian", features=MEL, speakers=("ann", "bob"))
    assert "give --speakers (folders or FILE.csv) or --speaker" in error_of(capsys, "evaluate", model, clips, "--tune")
    assert "'eve': unknown" in error_of(capsys, "evaluate", model, clips, "--tune", "--speaker", "eve")
    table = tmp_path / "speakers.csv"
    table.write_text("".join(f"{index}.wav,eve\n" for index in range(4)))
    assert run("evaluate", model, clips, "--tune", "--speakers", table) == 2
    printed = capsys.readouterr()
    assert "'eve': unknown" in printed.err and not printed.out


def test_a_model_that_cannot_refine_is_tuned_without(
    tmp_path: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "GRID", {"particles": (0, 1), "top_p": (None, 0.9), "refine": (0, 2)})
    model = save_model(tmp_path / "apart.safetensors", output="gaussian", features={**MEL, "hop": 160})
    counts: list[tuple[int, int]] = []
    tuner = tuner_of(model, clips, 1, progress=lambda *count: counts.append(count))
    tried = [(trial.options.particles, trial.options.top_p, trial.options.refine) for trial in tuner.run()]
    assert tried == [(0, None, 0), (0, 0.9, 0)]
    assert counts == [(1, 2), (2, 2)]


def test_few_recordings_give_a_note(vocoder: Path, clips: Path, capsys: Capture, by_options: None) -> None:
    assert run("evaluate", vocoder, clips, "--tune", "--copies", 1) == 0
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("by PESQ on 1 recording, ") for line in lines)
    assert lines[-2].startswith("note: chosen on 1 recording: too few to choose by")


def test_silent_recordings_change_nothing(vocoder: Path, clips: Path, capsys: Capture, small_grid: None) -> None:
    for path in clips.iterdir():
        audio.write(path, np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    before = vocoder.read_bytes()
    assert run("evaluate", vocoder, clips, "--tune") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("wavenet: the recordings are silent, or too short")
    assert vocoder.read_bytes() == before
