"""Figures of a copy beside its original: numbers by hand, order under noise, and NaN where nothing can be told."""

import math
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from wavenet.data import audio
from wavenet.evaluation import metrics
from wavenet.evaluation.metrics import Comparison, MetricUnavailable

RATE = 16_000
SPEECH = Path(__file__).parents[1] / "samples" / "speech"
HALF_DB = 20 * math.log10(2)  # 6.02: what halving the amplitude takes away


@pytest.fixture(scope="module")
def speech():
    return audio.read(SPEECH / "if-correct-press.flac", RATE)  # 2.1 s


def white(seconds=1.0, rate=RATE, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))


def harmonic(hertz, seconds=1.0, rate=RATE):
    """Ten harmonics, each as strong as its number is low."""
    time = np.arange(int(seconds * rate)) / rate
    return 0.1 * sum(np.sin(2 * np.pi * hertz * n * time) / n for n in range(1, 11))


def test_a_copy_that_is_the_original(speech):
    assert metrics.log_mel_distance(speech, speech, RATE) == 0
    assert metrics.mel_cepstral_distortion(speech, speech, RATE) == 0
    assert metrics.pitch_error(speech, speech, RATE) == metrics.PitchError(0, 0)
    assert metrics.stoi(speech, speech, RATE) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_halving_the_amplitude_is_6_db_in_every_band_and_none_in_the_cepstrum(rate):
    sound = white(0.5, rate)  # as strong in every band, far from the floor
    assert metrics.log_mel_distance(sound, sound / 2, rate) == pytest.approx(HALF_DB, abs=1e-6)
    assert metrics.log_mel_distance(sound / 2, sound, rate) == pytest.approx(HALF_DB, abs=1e-6)
    assert metrics.mel_cepstral_distortion(sound, sound / 2, rate) == pytest.approx(0, abs=1e-6)


def test_loudness_does_not_count_in_the_cepstrum_of_speech(speech):
    assert metrics.mel_cepstral_distortion(speech, speech / 8, RATE) == pytest.approx(0, abs=1e-4)


def test_a_silent_copy_is_as_far_as_the_floor():
    # The floor hangs 80 dB below the loudest cell; the other cells are nearer to it by what they are softer.
    sound = white()
    loudest = 10 * np.log10(metrics._mel(sound, RATE))
    expected = 80 - (loudest.max() - loudest).mean()
    assert metrics.log_mel_distance(sound, 0 * sound, RATE) == pytest.approx(expected, abs=1e-6)


def test_digital_silence_is_not_far_from_faint_noise():
    # 1 s of noise at -20 dB and 1 s of nothing; the copy has noise 100 dB below the first, under the floor.
    first = white()
    original = np.concatenate([first, np.zeros(RATE)])
    copy = np.concatenate([first, white(seed=1) * 1e-5])
    assert metrics.log_mel_distance(original, copy, RATE) == pytest.approx(0, abs=0.01)
    assert metrics.mel_cepstral_distortion(original, copy, RATE) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("order", [1, 5, 13])
def test_mel_cepstral_distortion_of_a_cosine_over_the_bands(monkeypatch, order):
    # Spectra that differ by 4 dB * cos(order * pi * (band + 1/2) / 80): c_order differs by 2 dB, and the formula gives
    # sqrt(2) * 2 = 2.83 dB, the RMS of that cosine.
    tilt = 4 * np.cos(np.pi * order * (np.arange(80) + 0.5) / 80)
    spectra = iter([np.ones((80, 3)), 7 * 10 ** (tilt[:, None] / 10) * np.ones(3)])
    monkeypatch.setattr(metrics, "_mel", lambda sound, rate: next(spectra))
    assert metrics.mel_cepstral_distortion(white(), white(), RATE) == pytest.approx(2 * math.sqrt(2))


def test_mel_cepstral_distortion_ends_at_coefficient_13(monkeypatch):
    tilt = 4 * np.cos(np.pi * 14 * (np.arange(80) + 0.5) / 80)
    spectra = iter([np.ones((80, 3)), 10 ** (tilt[:, None] / 10) * np.ones(3)])
    monkeypatch.setattr(metrics, "_mel", lambda sound, rate: next(spectra))
    assert metrics.mel_cepstral_distortion(white(), white(), RATE) == pytest.approx(0, abs=1e-9)


def test_mel_cepstral_distortion_hears_only_where_the_original_sounds():
    original = np.concatenate([white(), np.zeros(RATE)])
    copy = original + np.concatenate([np.zeros(RATE + 1_024), harmonic(200)[1_024:]])  # a window after the noise
    assert metrics.mel_cepstral_distortion(original, copy, RATE) == pytest.approx(0, abs=1e-9)
    assert metrics.log_mel_distance(original, copy, RATE) > 10


@pytest.mark.parametrize(("hertz", "rate"), [(80.0, 8_000), (220.0, 16_000), (500.0, 44_100)])
def test_pitch_of_a_tone(hertz, rate):
    found = metrics.pitch(harmonic(hertz, 0.5, rate), rate)
    assert len(found) == 1 + rate // 2 // round(0.01 * rate)  # every 10 ms
    inner = found[4:-4]  # windows of 64 ms that the clip's ends do not cut
    assert np.abs(1_200 * np.log2(inner / hertz)).max() <= 6  # half a step of 10 cents, and a little


def test_a_semitone_is_100_cents():
    error = metrics.pitch_error(harmonic(220), harmonic(220 * 2 ** (1 / 12)), RATE)
    assert error.cents == pytest.approx(100, abs=5)
    assert error.voicing == pytest.approx(0, abs=0.03)


def test_noise_for_a_tone_is_a_voicing_error():
    error = metrics.pitch_error(harmonic(220), white(), RATE)
    assert error.voicing > 0.95
    half = np.concatenate([harmonic(220), white()])  # 2 s, of which the first is voiced
    assert metrics.pitch_error(half, np.tile(white(), 2), RATE).voicing == pytest.approx(0.5, abs=0.05)


def test_hum_in_the_pauses_is_no_pitch():
    found = metrics.pitch(np.concatenate([harmonic(220), 0.001 * harmonic(100)]), RATE)
    assert np.isnan(found[106:]).all() and np.isfinite(found[4:96]).all()


def test_noise_takes_away_intelligibility(speech):
    noise = white(len(speech) / RATE)
    scores = [metrics.stoi(speech, speech + level * noise, RATE) for level in (0, 0.1, 0.3, 1, 3)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.7


def test_stoi_at_another_rate(speech):
    rough = speech + 0.3 * white(len(speech) / RATE)
    faster = [metrics._resampled(sound.astype(np.float64), RATE, 44_100) for sound in (speech, rough)]
    assert metrics.stoi(*faster, 44_100) == pytest.approx(metrics.stoi(speech, rough, RATE), abs=0.01)


def test_pesq_of_a_copy_that_is_the_original(speech):
    pytest.importorskip("pesq")
    # No disturbance is a raw score of 4.5. P.862.2 maps it to 0.999 + 4 / (1 + exp(-1.3669 * 4.5 + 3.8224)) = 4.644,
    # and P.862.1 to 0.999 + 4 / (1 + exp(-1.4945 * 4.5 + 4.6607)) = 4.549.
    assert metrics.pesq(speech, speech, RATE) == pytest.approx(4.644, abs=1e-3)
    assert metrics.pesq(speech, speech / 2, RATE) == pytest.approx(4.644, abs=1e-3)  # levels are aligned
    assert metrics.pesq(speech, speech, 8_000) == pytest.approx(4.549, abs=1e-3)
    assert metrics.pesq(speech, speech, 11_025) == pytest.approx(4.549, abs=1e-3)


def test_noise_takes_away_quality(speech):
    pytest.importorskip("pesq")
    noise = white(len(speech) / RATE)
    scores = [metrics.pesq(speech, speech + level * noise, RATE) for level in (0, 0.01, 0.03, 0.1, 1)]
    assert scores == sorted(scores, reverse=True) and scores[-1] < 1.3


def test_pesq_of_long_sound_is_the_mean_of_its_pieces(speech):
    pytest.importorskip("pesq")
    speech = np.resize(speech, 10 * RATE)
    copies = [speech + level * white(10) for level in (0.01, 0.1)]
    apart = [metrics.pesq(speech, copy, RATE) for copy in copies]
    assert metrics.pesq(np.tile(speech, 2), np.concatenate(copies), RATE) == pytest.approx(np.mean(apart))
    silence = np.zeros(10 * RATE)
    together = metrics.pesq(np.concatenate([speech, silence]), np.concatenate([copies[0], silence]), RATE)
    assert together == pytest.approx(apart[0])


def test_pesq_survives_more_utterances_than_it_has_room_for(speech):
    pytest.importorskip("pesq")
    word = speech[RATE // 2 : RATE // 2 + 5_000]
    many = np.tile(np.concatenate([word, np.zeros(5_000)]), 240)  # 150 s
    assert metrics.pesq(many, many, RATE) == pytest.approx(4.644, abs=1e-3)


def figures(original, copy):
    """Every figure but PESQ."""
    pitches = metrics.pitch_error(original, copy, RATE)
    functions = (metrics.log_mel_distance, metrics.mel_cepstral_distortion, metrics.stoi)
    return [*astuple(pitches), *(function(original, copy, RATE) for function in functions)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sound", [np.zeros(RATE), np.zeros(0), white(0.02), np.zeros(320), np.ones(1, np.float32)])
def test_nothing_to_tell_of_silence_and_20_ms(sound):
    assert np.isnan(figures(sound, sound)).all()
    assert np.isnan(metrics.pitch(sound, RATE)).all()


@pytest.mark.parametrize("sound", [np.zeros(RATE), np.zeros(0), white(0.02), white(0.25)])
def test_no_pesq_of_silence_and_a_quarter_of_a_second(sound):
    pytest.importorskip("pesq")
    assert math.isnan(metrics.pesq(sound, sound, RATE))


def test_no_pesq_of_a_silent_copy(speech):
    pytest.importorskip("pesq")
    assert math.isnan(metrics.pesq(speech, 0 * speech, RATE))


def test_a_silent_copy_has_figures_all_the_same(speech):
    cents, voicing, log_mel, mcd, stoi = figures(speech, 0 * speech)
    assert math.isnan(cents)
    assert voicing == np.isfinite(metrics.pitch(speech, RATE)).mean()  # all that was voiced
    assert log_mel > 20 and mcd > 3
    assert stoi == pytest.approx(0, abs=1e-6)


def test_no_stoi_of_less_than_30_frames(speech):
    assert math.isnan(metrics.stoi(speech[8_000:14_000], speech[8_000:14_000], RATE))  # 0.375 s


def test_the_longer_one_is_cut_by_less_than_a_window(speech):
    assert metrics.log_mel_distance(speech, speech[:-1_023], RATE) == 0
    assert metrics.log_mel_distance(speech[:-1_023], speech, RATE) == 0
    functions = (metrics.log_mel_distance, metrics.mel_cepstral_distortion, metrics.pitch_error, metrics.stoi)
    for function in (*functions, metrics.pesq, metrics.compare):
        with pytest.raises(ValueError, match="differ by less than 1,024") as caught:
            function(speech, speech[:-1_024], RATE)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("copy", "words"),
    [(np.zeros((2, 8)), "copy: expected .samples., got .* .2, 8."), (np.array([np.nan]), "copy: holds NaN")],
)
def test_what_is_no_sound_is_refused(copy, words):
    with pytest.raises(ValueError, match=words):
        metrics.log_mel_distance(np.zeros(8), copy, RATE)


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    function = {"pesq": metrics.pesq, "pystoi": metrics.stoi}[package]
    with pytest.raises(MetricUnavailable, match=rf"needs {package}: pip install 'wavenet-toolkit\[metrics\]'"):
        function(white(), white(), RATE)


def test_compare_holds_every_figure(speech):
    pytest.importorskip("pesq")
    copy = speech + 0.03 * white(len(speech) / RATE).astype(np.float32)
    cents, voicing, log_mel, mcd, stoi = figures(speech, copy)
    expected = Comparison(log_mel, mcd, cents, voicing, metrics.pesq(speech, copy, RATE), stoi)
    assert metrics.compare(speech, copy, RATE) == expected
    assert np.isfinite(astuple(expected)).all()


def test_the_mean_leaves_nan_out():
    nan = math.nan
    rows = [Comparison(1, 2, 3, 0.5, 4, 1), Comparison(3, nan, nan, 0.25, 2, nan), Comparison(2, 4, nan, 0, nan, nan)]
    assert metrics.mean(rows) == Comparison(2, 3, 3, 0.25, 3, 1)
    assert all(math.isnan(figure) for figure in astuple(metrics.mean([])))


def test_nothing_of_torch_or_the_extras_is_imported():
    code = "import sys, wavenet.evaluation.metrics; sys.exit(bool({'torch', 'pesq', 'pystoi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
