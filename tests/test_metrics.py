"""Distances between a copy and its original: values by hand, order under noise, NaN where they are not defined."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, TypeVar

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.data.audio import read
from wavenet.evaluation import metrics
from wavenet.evaluation.metrics import Audio, Comparison, MetricUnavailable, Signal

SAMPLE_RATE = 16_000
T = TypeVar("T")
SPEECH = Path(__file__).parents[1] / "samples" / "speech"
HALF_DB = 20 * math.log10(2)  # 6.02: what halving the amplitude takes away


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    return read(SPEECH / "if-correct-press.flac", SAMPLE_RATE)  # 2.1 s


def white(seconds: float = 1.0, sample_rate: int = SAMPLE_RATE, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * sample_rate))


def harmonic(hertz: float, seconds: float = 1.0, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float64]:
    """Ten harmonics, with amplitudes of 1 / n."""
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    return 0.1 * np.sum([np.sin(2 * np.pi * hertz * n * time) / n for n in range(1, 11)], axis=0)


def between(figure: Callable[[Signal, Signal], T], original: Audio, copy: Audio, sample_rate: int = SAMPLE_RATE) -> T:
    """A figure of a recording [samples] and a copy of it [samples]."""
    return figure(Signal(original, sample_rate), Signal(copy, sample_rate))


def test_a_copy_that_is_the_original(speech: Audio) -> None:
    assert between(metrics.log_mel_distance, speech, speech) == 0
    assert between(metrics.mel_cepstral_distortion, speech, speech) == 0
    assert between(metrics.pitch_error, speech, speech) == metrics.PitchError(0, 0, 0)
    assert between(metrics.stoi, speech, speech) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100])
def test_halving_the_amplitude_is_6_db_in_every_band_and_none_in_the_cepstrum(sample_rate: int) -> None:
    noise = white(0.5, sample_rate)  # equally strong in every band, far from the floor
    assert between(metrics.log_mel_distance, noise, noise / 2, sample_rate) == pytest.approx(HALF_DB, abs=1e-6)
    assert between(metrics.log_mel_distance, noise / 2, noise, sample_rate) == pytest.approx(HALF_DB, abs=1e-6)
    assert between(metrics.mel_cepstral_distortion, noise, noise / 2, sample_rate) == pytest.approx(0, abs=1e-6)


def test_loudness_does_not_count_in_the_cepstrum_of_speech(speech: Audio) -> None:
    assert between(metrics.mel_cepstral_distortion, speech, speech / 8) == pytest.approx(0, abs=1e-4)


def test_a_silent_copy_is_as_far_as_the_floor() -> None:
    # The floor is 80 dB below the loudest cell; the other cells are nearer to it by their distance from the loudest.
    noise = white()
    loudest = 10 * np.log10(Signal(noise, SAMPLE_RATE).mel)
    expected = 80 - (loudest.max() - loudest).mean()
    assert between(metrics.log_mel_distance, noise, 0 * noise) == pytest.approx(expected, abs=1e-6)


def test_digital_silence_is_not_far_from_faint_noise() -> None:
    # 1 s of noise at -20 dB and 1 s of nothing; the copy has noise 100 dB below the first, under the floor.
    first = white()
    original = np.concatenate([first, np.zeros(SAMPLE_RATE)])
    copy = np.concatenate([first, white(seed=1) * 1e-5])
    assert between(metrics.log_mel_distance, original, copy) == pytest.approx(0, abs=0.01)
    assert between(metrics.mel_cepstral_distortion, original, copy) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050])
def test_mel_cepstral_distortion_is_the_rms_distance_of_the_spectral_envelopes(sample_rate: int) -> None:
    # 1 + z^-1 / 2 changes the spectrum of any signal by its own response, smooth enough for 24 coefficients. The mel
    # scale is WORLD's, from 40 Hz; without c_0 the RMS is that about the mean.
    noise = white(2, sample_rate)
    mels = np.linspace(np.log1p(40 / 700), np.log1p(sample_rate / 2 / 700), 1_000)
    angle = 2 * np.pi * 700 * np.expm1(mels) / sample_rate
    expected = (20 * np.log10(np.abs(1 + 0.5 * np.exp(-1j * angle)))).std()
    filtered = noise + 0.5 * np.concatenate([[0], noise[:-1]])
    distortion = between(metrics.mel_cepstral_distortion, noise, filtered, sample_rate)
    assert distortion == pytest.approx(expected, rel=0.1) and expected > 2


def test_the_mel_cepstrum_has_order_24(speech: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Signal(speech, SAMPLE_RATE).mel_cepstrum.shape == (1 + len(speech) // 160, 24)
    # One coefficient that differs by 0.1: 10 / ln 10 * sqrt(2) * 0.1 = 0.614 dB.
    monkeypatch.setattr(Signal, "envelope", np.ones((101, 513)))
    cepstra = iter([np.zeros((101, 24)), 0.1 * np.eye(24)[[23] * 101]])
    monkeypatch.setattr(Signal, "mel_cepstrum", property(lambda signal: next(cepstra)))
    assert between(metrics.mel_cepstral_distortion, white(), white()) == pytest.approx(0.61419, abs=1e-5)


def test_mel_cepstral_distortion_ignores_frames_where_the_original_is_silent() -> None:
    original = np.concatenate([white(), np.zeros(SAMPLE_RATE)])
    copy = original + np.concatenate([np.zeros(SAMPLE_RATE + 1_024), harmonic(200)[1_024:]])  # a window after the noise
    assert between(metrics.mel_cepstral_distortion, original, copy) == pytest.approx(0, abs=1e-9)
    assert between(metrics.log_mel_distance, original, copy) > 10


@pytest.mark.parametrize(("hertz", "sample_rate"), [(80.0, 8_000), (220.0, 16_000), (500.0, 44_100)])
def test_pitch_of_a_tone(hertz: float, sample_rate: int) -> None:
    found = Signal(harmonic(hertz, 0.5, sample_rate), sample_rate).pitch
    assert len(found) == 1 + sample_rate // 2 // round(0.01 * sample_rate)  # every 10 ms
    inner = found[4:-4]  # windows of 64 ms that the clip's ends do not cut
    assert np.abs(1_200 * np.log2(inner / hertz)).max() <= 6  # half a step of 10 cents, and a little


def test_a_semitone_is_100_cents() -> None:
    error = between(metrics.pitch_error, harmonic(220), harmonic(220 * 2 ** (1 / 12)))
    assert error.cents == pytest.approx(100, abs=5)
    assert error.gross == 0
    assert error.voicing == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(("ratio", "gross"), [(1.18, 0), (0.82, 0), (1.22, 1), (0.78, 1), (2, 1)])
def test_more_than_20_percent_is_a_gross_error_and_not_in_the_cents(ratio: float, gross: int) -> None:
    original = np.concatenate([harmonic(220), harmonic(220)])
    error = between(metrics.pitch_error, original, np.concatenate([harmonic(220), harmonic(ratio * 220)]))
    assert error.gross == pytest.approx(gross / 2, abs=0.05)  # the second half of the frames
    if gross:
        assert error.cents < 60  # a few frames in which the pitch changes; 22% alone are 344 cents
    else:
        assert error.cents == pytest.approx(abs(1_200 * math.log2(ratio)) / math.sqrt(2), rel=0.1)


def test_where_every_pitch_is_grossly_wrong_there_are_no_cents() -> None:
    error = between(metrics.pitch_error, harmonic(220), harmonic(440))
    assert error.gross == 1 and math.isnan(error.cents)


def test_the_pitch_error_of_faint_noise_is_below_the_resolution(speech: Audio) -> None:
    faint = white(len(speech) / SAMPLE_RATE)[: len(speech)] * (
        np.sqrt(np.square(speech).mean()) / 0.1 / 1_000
    )  # -60 dB
    error = between(metrics.pitch_error, speech, speech + faint)
    assert error.cents < 10 * math.sqrt(2 / 12) and error.gross == 0 and error.voicing < 0.01


def test_noise_instead_of_a_tone_is_a_voicing_error() -> None:
    error = between(metrics.pitch_error, harmonic(220), white())
    assert error.voicing > 0.95
    half = np.concatenate([harmonic(220), white()])  # 2 s, of which the first is voiced
    assert between(metrics.pitch_error, half, np.tile(white(), 2)).voicing == pytest.approx(0.5, abs=0.05)


def test_hum_in_the_pauses_is_no_pitch() -> None:
    found = Signal(np.concatenate([harmonic(220), 0.001 * harmonic(100)]), SAMPLE_RATE).pitch
    assert np.isnan(found[106:]).all() and np.isfinite(found[4:96]).all()


def test_noise_lowers_intelligibility(speech: Audio) -> None:
    noise = white(len(speech) / SAMPLE_RATE)
    scores = [between(metrics.stoi, speech, speech + level * noise) for level in (0, 0.1, 0.3, 1, 3)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.7


def test_stoi_at_another_rate(speech: Audio) -> None:
    rough = speech + 0.3 * white(len(speech) / SAMPLE_RATE)
    original, copy = (Signal(clip, SAMPLE_RATE).resampled(44_100) for clip in (speech, rough))
    assert between(metrics.stoi, original, copy, 44_100) == pytest.approx(
        between(metrics.stoi, speech, rough), abs=0.01
    )


def test_pesq_of_a_copy_that_is_the_original(speech: Audio) -> None:
    # No disturbance is a raw score of 4.5. P.862.2 maps it to 0.999 + 4 / (1 + exp(-1.3669 * 4.5 + 3.8224)) = 4.644,
    # and P.862.1 to 0.999 + 4 / (1 + exp(-1.4945 * 4.5 + 4.6607)) = 4.549.
    assert between(metrics.pesq, speech, speech) == pytest.approx(4.644, abs=1e-3)
    assert between(metrics.pesq, speech, speech / 2) == pytest.approx(4.644, abs=1e-3)  # levels are aligned
    assert between(metrics.pesq, speech, speech, 8_000) == pytest.approx(4.549, abs=1e-3)
    assert between(metrics.pesq, speech, speech, 11_025) == pytest.approx(4.549, abs=1e-3)


def test_noise_lowers_quality(speech: Audio) -> None:
    noise = white(len(speech) / SAMPLE_RATE)
    scores = [between(metrics.pesq, speech, speech + level * noise) for level in (0, 0.01, 0.03, 0.1, 1)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 1.3


def test_pesq_of_long_audio_is_the_mean_of_its_pieces(speech: Audio) -> None:
    speech = np.resize(speech, 10 * SAMPLE_RATE)
    copies = [speech + level * white(10) for level in (0.01, 0.1)]
    apart = [between(metrics.pesq, speech, copy) for copy in copies]
    assert between(metrics.pesq, np.tile(speech, 2), np.concatenate(copies)) == pytest.approx(np.mean(apart))
    silence = np.zeros(10 * SAMPLE_RATE)
    together = between(metrics.pesq, np.concatenate([speech, silence]), np.concatenate([copies[0], silence]))
    assert together == pytest.approx(apart[0])


def test_pesq_of_more_utterances_than_its_buffers_hold(speech: Audio) -> None:
    word = speech[SAMPLE_RATE // 2 : SAMPLE_RATE // 2 + 5_000]
    many = np.tile(np.concatenate([word, np.zeros(5_000)]), 240)  # 150 s
    assert between(metrics.pesq, many, many) == pytest.approx(4.644, abs=1e-3)


def figures(original: Audio, copy: Audio) -> list[float]:
    """Every figure but PESQ."""
    pitches = between(metrics.pitch_error, original, copy)
    functions = (metrics.log_mel_distance, metrics.mel_cepstral_distortion, metrics.stoi)
    return [*astuple(pitches), *(between(function, original, copy) for function in functions)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "audio", [np.zeros(SAMPLE_RATE), np.zeros(0), white(0.02), np.zeros(320), np.ones(1, np.float32)]
)
def test_figures_of_silence_and_20_ms_are_nan(audio: Audio) -> None:
    assert np.isnan(figures(audio, audio)).all()
    assert np.isnan(Signal(audio, SAMPLE_RATE).pitch).all()


@pytest.mark.parametrize("audio", [np.zeros(SAMPLE_RATE), np.zeros(0), white(0.02), white(0.25)])
def test_no_pesq_of_silence_and_a_quarter_of_a_second(audio: Audio) -> None:
    assert math.isnan(between(metrics.pesq, audio, audio))


def test_no_pesq_of_a_silent_copy(speech: Audio) -> None:
    assert math.isnan(between(metrics.pesq, speech, 0 * speech))


def test_a_silent_copy_has_figures(speech: Audio) -> None:
    gross, cents, voicing, log_mel, mcd, stoi = figures(speech, 0 * speech)
    assert math.isnan(gross) and math.isnan(cents)
    assert voicing == np.isfinite(Signal(speech, SAMPLE_RATE).pitch).mean()  # all that was voiced
    assert log_mel > 20 and mcd > 3
    assert stoi == pytest.approx(0, abs=1e-6)


def test_no_stoi_of_less_than_30_frames(speech: Audio) -> None:
    assert math.isnan(between(metrics.stoi, speech[8_000:14_000], speech[8_000:14_000]))  # 0.375 s


def test_the_longer_one_is_cut_by_less_than_a_window(speech: Audio) -> None:
    assert between(metrics.log_mel_distance, speech, speech[:-1_023]) == 0
    assert between(metrics.log_mel_distance, speech[:-1_023], speech) == 0
    functions = (metrics.log_mel_distance, metrics.mel_cepstral_distortion, metrics.pitch_error, metrics.stoi)
    for function in (*functions, metrics.pesq, metrics.compare):
        with pytest.raises(ValueError, match="differ by less than 1,024") as caught:
            between(function, speech, speech[:-1_024])
        assert len(str(caught.value).splitlines()) == 1


def test_sample_rates_must_be_equal(speech: Audio) -> None:
    with pytest.raises(ValueError, match="16000 samples per second and the copy 8000"):
        metrics.log_mel_distance(Signal(speech, SAMPLE_RATE), Signal(speech, 8_000))


@pytest.mark.parametrize(
    ("audio", "words"),
    [(np.zeros((2, 8)), "the audio has the shape .2, 8.; expected .samples."), (np.array([np.nan]), "contains NaN")],
)
def test_other_arrays_are_refused(audio: Audio, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Signal(audio, SAMPLE_RATE)


FIGURES = {"pesq": metrics.pesq, "stoi": metrics.stoi, "mcd_db": metrics.mel_cepstral_distortion}


@pytest.mark.parametrize("figure", ["pesq", "stoi", "mcd_db"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, figure: str) -> None:
    title, package = metrics.PACKAGES[figure]
    monkeypatch.setitem(sys.modules, package, None)
    message = f"{title} needs {package}: pip install 'wavenet-toolkit[metrics]'"
    with pytest.raises(MetricUnavailable) as caught:
        between(FIGURES[figure], white(), white())
    assert str(caught.value) == message
    assert metrics.missing_packages() == {figure: message}


@pytest.mark.parametrize("figure", ["pesq", "stoi", "mcd_db"])
def test_figures_that_can_be_computed_are_computed(speech: Audio, monkeypatch: pytest.MonkeyPatch, figure: str) -> None:
    monkeypatch.setitem(sys.modules, metrics.PACKAGES[figure][1], None)
    computed = asdict(between(metrics.compare, speech, speech))
    missing = [name for name, value in computed.items() if math.isnan(value)]
    assert missing == [figure, "words_lost", "words"]  # words are not counted here


def test_a_package_that_cannot_be_imported_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pesq.py").write_text("raise ImportError('built for another NumPy')")
    monkeypatch.delitem(sys.modules, "pesq", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert list(metrics.missing_packages()) == ["pesq"]


def test_nothing_is_missing_where_the_extra_is_installed() -> None:
    assert metrics.missing_packages() == {}


def test_compare_holds_every_figure(speech: Audio) -> None:
    copy = speech + 0.03 * white(len(speech) / SAMPLE_RATE).astype(np.float32)
    gross, cents, voicing, log_mel, mcd, stoi = figures(speech, copy)
    expected = Comparison(between(metrics.pesq, speech, copy), stoi, log_mel, mcd, gross, cents, voicing)
    assert np.isfinite(astuple(expected)[:7]).all() and np.isnan(astuple(expected)[7:]).all()
    assert astuple(between(metrics.compare, speech, copy))[:7] == astuple(expected)[:7]


def test_nothing_is_computed_twice(speech: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    pyin, tracked = librosa.pyin, []

    def counting(audio: Audio, **options: Any) -> Any:
        tracked.append(audio)
        return pyin(audio, **options)

    monkeypatch.setattr(librosa, "pyin", counting)
    original = Signal(speech, SAMPLE_RATE)
    for copy in (original, Signal(speech / 2, SAMPLE_RATE)):
        metrics.compare(original, copy)
    assert len(tracked) == 2


def test_neither_torch_nor_the_extras_are_imported() -> None:
    extras = "{'torch', 'pesq', 'pystoi', 'pyworld', 'pocketsphinx'}"
    code = f"import sys, wavenet.evaluation.words; sys.exit(bool({extras} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
