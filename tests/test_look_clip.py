"""`wavenet look clip`: profiles of known signals, in bounded memory, and the picture and messages of the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import Capture, error_of, run
from numpy.typing import NDArray

from wavenet.data import audio
from wavenet.evaluation import clip_profile
from wavenet.evaluation.clip_profile import ClipProfile, profile


def tone(frequency: float, seconds: float, sample_rate: int, amplitude: float = 0.5) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)).astype(
        np.float32
    )


def written(path: Path, samples: NDArray[np.float32], sample_rate: int) -> Path:
    audio.write(path, samples, sample_rate)
    return path


@pytest.mark.parametrize("sample_rate", [4_000, 16_000, 44_100])
def test_a_tone_is_where_it_is(sample_rate: int, tmp_path: Path) -> None:
    samples = tone(400.0, 1.0, sample_rate)
    peak = float(np.abs(samples).max())  # at 4 kHz no sample is at the peak of the sine
    clip = profile(written(tmp_path / "a.wav", samples, sample_rate))
    assert (clip.name, clip.sample_rate, clip.seconds) == ("a.wav", sample_rate, 1.0)
    middle = clip.decibels[:, clip.decibels.shape[1] // 2]  # [rows]
    row = sample_rate / 2 / len(middle)
    assert int(middle.argmax()) * row == pytest.approx(400.0, abs=1.5 * row)
    assert middle.max() == pytest.approx(20 * np.log10(0.5), abs=1.5)  # between two bins a sine loses 1.4 dB
    assert clip.frame_levels[10] == pytest.approx(20 * np.log10(0.5) - 3.01, abs=0.1)  # RMS of a sine of 0.5
    assert np.nanmedian(clip.pitch) == pytest.approx(400.0, rel=0.01)
    assert clip.high.max() == pytest.approx(peak, abs=1e-3) and clip.low.min() == pytest.approx(-peak, abs=1e-3)
    assert clip.text.startswith(
        f"1.0 s at {sample_rate:,} Hz, peak {20 * np.log10(peak):.1f} dBFS, RMS -9.0 dBFS, 0% silent, "
    )


def test_a_click_is_in_its_column_and_frame(tmp_path: Path) -> None:
    samples = np.zeros(16_000, np.float32)
    samples[8_000] = 0.9
    clip = profile(written(tmp_path / "a.wav", samples, 16_000))
    assert clip.column == 40 and clip.frame == 320  # 2.5 and 20 ms
    assert np.flatnonzero(clip.high > 0.5).tolist() == [200]
    assert np.flatnonzero(clip.levels).tolist() == [25]
    energy = clip.power.sum(1)  # [columns], of windows of 32 ms around their columns
    assert abs(int(energy.argmax()) - 200) <= 1 and energy[190] == energy[211] == 0


def test_a_long_clip_is_in_fewer_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_profile, "_pitch", lambda piece, sample_rate, frames: np.full(frames, np.nan))
    samples = np.concatenate([tone(500.0, 60.0, 8_000, 0.2), np.zeros(8_000 * 20, np.float32)])
    samples[8_000 * 30] = 0.8
    clip = profile(written(tmp_path / "a.flac", samples, 8_000))
    assert clip.column == 20 * 4  # samples: 80 s are 32,000 columns of 2.5 ms; four of them became one
    assert len(clip.low) == len(clip.high) == len(clip.power) == 8_000
    assert np.flatnonzero(clip.high > 0.5).tolist() == [3_000]  # 30 s of 10 ms
    assert (clip.power[:5_990].sum(1) > 0.01).all() and (clip.power[6_010:] == 0).all()
    assert len(clip.levels) == 4_000 and clip.seconds == 80.0


def test_a_clip_shorter_than_a_window(tmp_path: Path) -> None:
    clip = profile(written(tmp_path / "a.wav", np.full(30, 0.5, np.float32), 8_000))
    assert clip.samples == 30 and len(clip.low) == 2 and len(clip.levels) == 1
    assert clip.levels[0] == pytest.approx(0.25, rel=1e-3) and np.isnan(clip.pitch).all()
    assert "0.0 s" in clip.text and "pitch" not in clip.text


def test_silence_has_no_level(tmp_path: Path) -> None:
    clip = profile(written(tmp_path / "a.wav", np.zeros(8_000, np.float32), 8_000))
    assert clip.text == "1.0 s at 8,000 Hz, digital silence, 100% silent, 0% voiced"


def test_the_command_draws_clips_of_any_sample_rate(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "other").mkdir()
    clips = [
        written(tmp_path / "a.wav", tone(200.0, 0.5, 8_000), 8_000),
        written(tmp_path / "other" / "a.wav", np.zeros(22_050, np.float32), 44_100),
    ]
    assert run("look", "clip", *clips, "-o", tmp_path / "clips.svg") == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["a.wav", "a.wav"]
    text = (tmp_path / "clips.svg").read_text()
    for words in ("a.wav (1)", "a.wav (2)", "time, seconds", "frequency, kHz", "level, dBFS", "pitch, Hz"):
        assert f">{words}<" in text


def test_pictures_of_clips_are_small_and_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    clips = [written(tmp_path / f"{index}.wav", noise, 16_000) for index in range(4)]
    files = [tmp_path / f"{index}.png" for index in range(2)]
    assert [run("look", "clip", *clips, "-o", file) for file in files] == [0, 0]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size < 250_000  # noise is the largest


def test_what_is_no_clip_is_refused_in_a_line(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "a.png"
    look = ("look", "clip")
    assert "none.wav: no such file" in error_of(capsys, *look, tmp_path / "none.wav", "-o", picture)
    assert "a directory" in error_of(capsys, *look, tmp_path, "-o", picture)
    (tmp_path / "text.wav").write_text("no audio")
    assert "text.wav: unreadable" in error_of(capsys, *look, tmp_path / "text.wav", "-o", picture)
    assert "a.gif: a picture ends in" in error_of(capsys, *look, tmp_path / "none.wav", "-o", tmp_path / "a.gif")
    assert "at most 12" in error_of(capsys, *look, *["a.wav"] * 13, "-o", picture)
    assert not picture.exists()


def test_a_profile_of_all_samples() -> None:
    assert ClipProfile("a", 8_000, samples=4_000).seconds == 0.5


def test_ctrl_c_in_compiled_code_ends_the_command(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")

    def interrupted(*arguments: object) -> None:
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()

    monkeypatch.setattr("wavenet.evaluation.clip_profile.profile", interrupted)
    assert run("look", "clip", "a.wav", "-o", tmp_path / "a.png") == 130
    assert capsys.readouterr().err == ""
