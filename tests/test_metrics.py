"""Distances between a copy and its original: values by hand, order under noise, NaN where they are not defined."""

import math
import subprocess
import sys
from dataclasses import asdict, astuple
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavenet.data.audio import read
from wavenet.evaluation import metrics
from wavenet.evaluation.metrics import Audio, Comparison, MetricUnavailable

SAMPLE_RATE = 16_000
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


def test_a_copy_that_is_the_original(speech: Audio) -> None:
    assert metrics.log_mel_distance(speech, speech, SAMPLE_RATE) == 0
    assert metrics.mel_cepstral_distortion(speech, speech, SAMPLE_RATE) == 0
    assert metrics.pitch_error(speech, speech, SAMPLE_RATE) == metrics.PitchError(0, 0)
    assert metrics.stoi(speech, speech, SAMPLE_RATE) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100])
def test_halving_the_amplitude_is_6_db_in_every_band_and_none_in_the_cepstrum(sample_rate: int) -> None:
    noise = white(0.5, sample_rate)  # equally strong in every band, far from the floor
    assert metrics.log_mel_distance(noise, noise / 2, sample_rate) == pytest.approx(HALF_DB, abs=1e-6)
    assert metrics.log_mel_distance(noise / 2, noise, sample_rate) == pytest.approx(HALF_DB, abs=1e-6)
    assert metrics.mel_cepstral_distortion(noise, noise / 2, sample_rate) == pytest.approx(0, abs=1e-6)


def test_loudness_does_not_count_in_the_cepstrum_of_speech(speech: Audio) -> None:
    assert metrics.mel_cepstral_distortion(speech, speech / 8, SAMPLE_RATE) == pytest.approx(0, abs=1e-4)


def test_a_silent_copy_is_as_far_as_the_floor() -> None:
    # The floor is 80 dB below the loudest cell; the other cells are nearer to it by their distance from the loudest.
    noise = white()
    loudest = 10 * np.log10(metrics._mel(noise, SAMPLE_RATE))
    expected = 80 - (loudest.max() - loudest).mean()
    assert metrics.log_mel_distance(noise, 0 * noise, SAMPLE_RATE) == pytest.approx(expected, abs=1e-6)


def test_digital_silence_is_not_far_from_faint_noise() -> None:
    # 1 s of noise at -20 dB and 1 s of nothing; the copy has noise 100 dB below the first, under the floor.
    first = white()
    original = np.concatenate([first, np.zeros(SAMPLE_RATE)])
    copy = np.concatenate([first, white(seed=1) * 1e-5])
    assert metrics.log_mel_distance(original, copy, SAMPLE_RATE) == pytest.approx(0, abs=0.01)
    assert metrics.mel_cepstral_distortion(original, copy, SAMPLE_RATE) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("order", [1, 5, 13])
def test_mel_cepstral_distortion_of_a_cosine_over_the_bands(monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    # Spectra that differ by 4 dB * cos(order * pi * (band + 1/2) / 80): c_order differs by 2 dB, and the formula gives
    # sqrt(2) * 2 = 2.83 dB, the RMS of that cosine.
    tilt = 4 * np.cos(np.pi * order * (np.arange(80) + 0.5) / 80)
    spectra = iter([np.ones((80, 3)), 7 * 10 ** (tilt[:, None] / 10) * np.ones(3)])
    monkeypatch.setattr(metrics, "_mel", lambda audio, sample_rate: next(spectra))
    assert metrics.mel_cepstral_distortion(white(), white(), SAMPLE_RATE) == pytest.approx(2 * math.sqrt(2))


def test_mel_cepstral_distortion_has_13_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    tilt = 4 * np.cos(np.pi * 14 * (np.arange(80) + 0.5) / 80)
    spectra = iter([np.ones((80, 3)), 10 ** (tilt[:, None] / 10) * np.ones(3)])
    monkeypatch.setattr(metrics, "_mel", lambda audio, sample_rate: next(spectra))
    assert metrics.mel_cepstral_distortion(white(), white(), SAMPLE_RATE) == pytest.approx(0, abs=1e-9)


def test_mel_cepstral_distortion_ignores_frames_where_the_original_is_silent() -> None:
    original = np.concatenate([white(), np.zeros(SAMPLE_RATE)])
    copy = original + np.concatenate([np.zeros(SAMPLE_RATE + 1_024), harmonic(200)[1_024:]])  # a window after the noise
    assert metrics.mel_cepstral_distortion(original, copy, SAMPLE_RATE) == pytest.approx(0, abs=1e-9)
    assert metrics.log_mel_distance(original, copy, SAMPLE_RATE) > 10


@pytest.mark.parametrize(("hertz", "sample_rate"), [(80.0, 8_000), (220.0, 16_000), (500.0, 44_100)])
def test_pitch_of_a_tone(hertz: float, sample_rate: int) -> None:
    found = metrics.pitch(harmonic(hertz, 0.5, sample_rate), sample_rate)
    assert len(found) == 1 + sample_rate // 2 // round(0.01 * sample_rate)  # every 10 ms
    inner = found[4:-4]  # windows of 64 ms that the clip's ends do not cut
    assert np.abs(1_200 * np.log2(inner / hertz)).max() <= 6  # half a step of 10 cents, and a little


def test_a_semitone_is_100_cents() -> None:
    error = metrics.pitch_error(harmonic(220), harmonic(220 * 2 ** (1 / 12)), SAMPLE_RATE)
    assert error.cents == pytest.approx(100, abs=5)
    assert error.voicing == pytest.approx(0, abs=0.03)


def test_noise_instead_of_a_tone_is_a_voicing_error() -> None:
    error = metrics.pitch_error(harmonic(220), white(), SAMPLE_RATE)
    assert error.voicing > 0.95
    half = np.concatenate([harmonic(220), white()])  # 2 s, of which the first is voiced
    assert metrics.pitch_error(half, np.tile(white(), 2), SAMPLE_RATE).voicing == pytest.approx(0.5, abs=0.05)


def test_hum_in_the_pauses_is_no_pitch() -> None:
    found = metrics.pitch(np.concatenate([harmonic(220), 0.001 * harmonic(100)]), SAMPLE_RATE)
    assert np.isnan(found[106:]).all() and np.isfinite(found[4:96]).all()


def test_noise_lowers_intelligibility(speech: Audio) -> None:
    noise = white(len(speech) / SAMPLE_RATE)
    scores = [metrics.stoi(speech, speech + level * noise, SAMPLE_RATE) for level in (0, 0.1, 0.3, 1, 3)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.7


def test_stoi_at_another_rate(speech: Audio) -> None:
    rough = speech + 0.3 * white(len(speech) / SAMPLE_RATE)
    original, copy = (metrics._resampled(clip.astype(np.float64), SAMPLE_RATE, 44_100) for clip in (speech, rough))
    assert metrics.stoi(original, copy, 44_100) == pytest.approx(metrics.stoi(speech, rough, SAMPLE_RATE), abs=0.01)


def test_pesq_of_a_copy_that_is_the_original(speech: Audio) -> None:
    # No disturbance is a raw score of 4.5. P.862.2 maps it to 0.999 + 4 / (1 + exp(-1.3669 * 4.5 + 3.8224)) = 4.644,
    # and P.862.1 to 0.999 + 4 / (1 + exp(-1.4945 * 4.5 + 4.6607)) = 4.549.
    assert metrics.pesq(speech, speech, SAMPLE_RATE) == pytest.approx(4.644, abs=1e-3)
    assert metrics.pesq(speech, speech / 2, SAMPLE_RATE) == pytest.approx(4.644, abs=1e-3)  # levels are aligned
    assert metrics.pesq(speech, speech, 8_000) == pytest.approx(4.549, abs=1e-3)
    assert metrics.pesq(speech, speech, 11_025) == pytest.approx(4.549, abs=1e-3)


def test_noise_lowers_quality(speech: Audio) -> None:
    noise = white(len(speech) / SAMPLE_RATE)
    scores = [metrics.pesq(speech, speech + level * noise, SAMPLE_RATE) for level in (0, 0.01, 0.03, 0.1, 1)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 1.3


def test_pesq_of_long_audio_is_the_mean_of_its_pieces(speech: Audio) -> None:
    speech = np.resize(speech, 10 * SAMPLE_RATE)
    copies = [speech + level * white(10) for level in (0.01, 0.1)]
    apart = [metrics.pesq(speech, copy, SAMPLE_RATE) for copy in copies]
    assert metrics.pesq(np.tile(speech, 2), np.concatenate(copies), SAMPLE_RATE) == pytest.approx(np.mean(apart))
    silence = np.zeros(10 * SAMPLE_RATE)
    together = metrics.pesq(np.concatenate([speech, silence]), np.concatenate([copies[0], silence]), SAMPLE_RATE)
    assert together == pytest.approx(apart[0])


def test_pesq_of_more_utterances_than_its_buffers_hold(speech: Audio) -> None:
    word = speech[SAMPLE_RATE // 2 : SAMPLE_RATE // 2 + 5_000]
    many = np.tile(np.concatenate([word, np.zeros(5_000)]), 240)  # 150 s
    assert metrics.pesq(many, many, SAMPLE_RATE) == pytest.approx(4.644, abs=1e-3)


def figures(original: Audio, copy: Audio) -> list[float]:
    """Every figure but PESQ."""
    pitches = metrics.pitch_error(original, copy, SAMPLE_RATE)
    functions = (metrics.log_mel_distance, metrics.mel_cepstral_distortion, metrics.stoi)
    return [*astuple(pitches), *(function(original, copy, SAMPLE_RATE) for function in functions)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "audio", [np.zeros(SAMPLE_RATE), np.zeros(0), white(0.02), np.zeros(320), np.ones(1, np.float32)]
)
def test_figures_of_silence_and_20_ms_are_nan(audio: Audio) -> None:
    assert np.isnan(figures(audio, audio)).all()
    assert np.isnan(metrics.pitch(audio, SAMPLE_RATE)).all()


@pytest.mark.parametrize("audio", [np.zeros(SAMPLE_RATE), np.zeros(0), white(0.02), white(0.25)])
def test_no_pesq_of_silence_and_a_quarter_of_a_second(audio: Audio) -> None:
    assert math.isnan(metrics.pesq(audio, audio, SAMPLE_RATE))


def test_no_pesq_of_a_silent_copy(speech: Audio) -> None:
    assert math.isnan(metrics.pesq(speech, 0 * speech, SAMPLE_RATE))


def test_a_silent_copy_has_figures(speech: Audio) -> None:
    cents, voicing, log_mel, mcd, stoi = figures(speech, 0 * speech)
    assert math.isnan(cents)
    assert voicing == np.isfinite(metrics.pitch(speech, SAMPLE_RATE)).mean()  # all that was voiced
    assert log_mel > 20 and mcd > 3
    assert stoi == pytest.approx(0, abs=1e-6)


def test_no_stoi_of_less_than_30_frames(speech: Audio) -> None:
    assert math.isnan(metrics.stoi(speech[8_000:14_000], speech[8_000:14_000], SAMPLE_RATE))  # 0.375 s


def test_the_longer_one_is_cut_by_less_than_a_window(speech: Audio) -> None:
    assert metrics.log_mel_distance(speech, speech[:-1_023], SAMPLE_RATE) == 0
    assert metrics.log_mel_distance(speech[:-1_023], speech, SAMPLE_RATE) == 0
    functions = (metrics.log_mel_distance, metrics.mel_cepstral_distortion, metrics.pitch_error, metrics.stoi)
    for function in (*functions, metrics.pesq, metrics.compare):
        with pytest.raises(ValueError, match="differ by less than 1,024") as caught:
            function(speech, speech[:-1_024], SAMPLE_RATE)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("copy", "words"),
    [(np.zeros((2, 8)), "copy: expected .samples., got .* .2, 8."), (np.array([np.nan]), "copy: contains NaN")],
)
def test_other_arrays_are_refused(copy: Audio, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metrics.log_mel_distance(np.zeros(8), copy, SAMPLE_RATE)


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    function = {"pesq": metrics.pesq, "pystoi": metrics.stoi}[package]
    with pytest.raises(MetricUnavailable, match=rf"needs {package}: pip install 'wavenet-toolkit\[metrics\]'"):
        function(white(), white(), SAMPLE_RATE)


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_figures_that_can_be_computed_are_computed(
    speech: Audio, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    missing = {"pesq": "pesq", "pystoi": "stoi"}[package]
    message = f"{missing.upper()} needs {package}: pip install 'wavenet-toolkit[metrics]'"
    assert metrics.missing_packages() == {missing: message}
    computed = asdict(metrics.compare(speech, speech, SAMPLE_RATE))
    assert [name for name, figure in computed.items() if math.isnan(figure)] == [missing]


def test_a_package_that_cannot_be_imported_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pesq.py").write_text("raise ImportError('built for another NumPy')")
    monkeypatch.delitem(sys.modules, "pesq", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert list(metrics.missing_packages()) == ["pesq"]


def test_nothing_is_missing_where_the_extra_is_installed() -> None:
    assert metrics.missing_packages() == {}


def test_compare_holds_every_figure(speech: Audio) -> None:
    copy = speech + 0.03 * white(len(speech) / SAMPLE_RATE).astype(np.float32)
    cents, voicing, log_mel, mcd, stoi = figures(speech, copy)
    expected = Comparison(log_mel, mcd, cents, voicing, metrics.pesq(speech, copy, SAMPLE_RATE), stoi)
    assert metrics.compare(speech, copy, SAMPLE_RATE) == expected
    assert np.isfinite(astuple(expected)).all()


def test_means_and_counts_leave_nan_out() -> None:
    nan = math.nan
    rows = [Comparison(1, 2, 3, 0.5, 4, 1), Comparison(3, nan, nan, 0.25, 2, nan), Comparison(2, 4, nan, 0, nan, nan)]
    assert metrics.mean(rows) == Comparison(2, 3, 3, 0.25, 3, 1)
    assert all(math.isnan(figure) for figure in astuple(metrics.mean([])))
    figures = {"log_mel_db": 3, "mcd_db": 2, "pitch_cents": 1, "voicing_error": 3, "pesq": 2, "stoi": 1}
    assert metrics.counts(rows) == figures


def test_neither_torch_nor_the_extras_are_imported() -> None:
    code = "import sys, wavenet.evaluation.metrics; sys.exit(bool({'torch', 'pesq', 'pystoi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
