"""Labelling of recordings, as a whole and in blocks, and the model files of labellers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import save_model
from labellers import HOP, SAMPLE_RATE, noise_of, small_labeller
from numpy.typing import NDArray

import wavenet
from wavenet import checkpoint
from wavenet.checkpoint import CheckpointError
from wavenet.config import ConfigError
from wavenet.features import mel_spectrogram
from wavenet.labelling import Labeller, Labels

KINDS: list[dict[str, Any]] = [{}, {"head": "plain", "causal": True}, {"input": "samples"}]
SAMPLES = 41 * SAMPLE_RATE + 37  # more than two blocks of 20 s; the last frame is not whole


def pushed(labeller: Labeller, audio: NDArray[np.float32], block: int, **options: float) -> Labels:
    """The labels of a session, which gets the audio in blocks."""
    session = labeller.session(**options)
    parts = [session.push(audio[start : start + block]) for start in range(0, len(audio), block)]
    parts.append(session.finish())
    return Labels(
        [segment for part in parts for segment in part.segments],
        np.concatenate([part.probabilities for part in parts]),
        labeller.classes,
        labeller.frame_seconds,
    )


@pytest.mark.parametrize("options", KINDS)
def test_blocks_give_what_the_network_gives_for_the_whole_recording(options: dict[str, Any]) -> None:
    labeller, audio = small_labeller(**options), noise_of(SAMPLES if options != KINDS[2] else 5 * SAMPLE_RATE + 37)
    mel, frames = labeller.config.features, -(-len(audio) // HOP)
    whole = np.pad(audio, (0, frames * HOP - len(audio))) if mel is None else mel_spectrogram(audio, mel)
    with torch.no_grad():
        expected = labeller.network(torch.from_numpy(whole)[None])[0].softmax(-1).numpy()
    labels = labeller(audio)
    assert labels.probabilities.shape == (frames, 3)
    assert np.allclose(labels.probabilities, expected, atol=1e-5)
    assert len({*expected.argmax(1).tolist()}) > 1  # several classes
    rebuilt = np.zeros(frames, np.int64)
    for start, end, label in labels.segments:
        first, last = round(start / 0.01), -(-round(end * SAMPLE_RATE) // HOP)
        rebuilt[first:last] = labels.classes.index(label)
    assert np.array_equal(rebuilt, labels.probabilities.argmax(1))
    assert all(segment.end <= len(audio) / SAMPLE_RATE for segment in labels.segments)


@pytest.mark.parametrize("options", KINDS)
def test_labels_are_identical_for_every_block_size(options: dict[str, Any]) -> None:
    labeller, audio = small_labeller(**options), noise_of(SAMPLES if options != KINDS[2] else 5 * SAMPLE_RATE + 37)
    whole = labeller(audio, smoothing=0.08, min_duration=0.05)
    assert len(whole.segments) > 5
    for block in (777, 8_000, 100_000):
        labels = pushed(labeller, audio, block, smoothing=0.08, min_duration=0.05)
        assert np.array_equal(labels.probabilities, whole.probabilities)
        assert labels.segments == whole.segments


@pytest.mark.parametrize("options", KINDS)
def test_a_label_depends_on_the_look_ahead_and_no_more(options: dict[str, Any]) -> None:
    labeller, audio = small_labeller(**options), noise_of(2 * SAMPLE_RATE)
    before = labeller(audio).probabilities
    end = 60 * HOP + round(labeller.look_ahead * SAMPLE_RATE)  # frame 59 depends on the samples before this one
    later, at = audio.copy(), audio.copy()
    later[end:] = 0
    at[end - 2 * HOP :] *= -3
    assert np.array_equal(labeller(later).probabilities[:60], before[:60])
    assert not np.array_equal(labeller(at).probabilities[59], before[59])


def test_short_blocks_change_nothing_but_rounding() -> None:
    labeller, audio = small_labeller(), noise_of(3 * SAMPLE_RATE)
    session = labeller.session(block_seconds=0.1)
    parts = [session.push(audio), session.finish()]
    assert len(parts[0].probabilities) == 220  # all but the look-ahead of 0.73 s, in blocks of ten frames
    found = np.concatenate([part.probabilities for part in parts])
    assert np.allclose(found, labeller(audio).probabilities, atol=1e-5)


def test_the_look_ahead_by_hand() -> None:
    # dilations 1, 2, 4, the average of 64 frames to each side, and half of the transform beyond the last frame
    assert small_labeller().look_ahead == pytest.approx((7 + 64) * 0.01 + (256 - 80) / 2 / SAMPLE_RATE)
    assert small_labeller(head="plain", input="samples").look_ahead == pytest.approx(0.03)


def test_a_session_forgets_the_audio_that_it_does_not_need() -> None:
    labeller = small_labeller(head="plain")
    session, most = labeller.session(smoothing=0.1, min_duration=0.1, block_seconds=10.0), 0
    for _ in range(80):
        session.push(noise_of(SAMPLE_RATE // 2))
        most = max(most, sum(map(len, session._pieces)))
    assert most < 11.5 * SAMPLE_RATE  # a block of ten seconds and its context
    assert len(session._smoother._kept) < 100


def test_a_session_returns_labels_as_soon_as_they_are_complete() -> None:
    labeller = small_labeller(head="plain")
    session = labeller.session(block_seconds=10.0)
    blocks = [len(session.push(noise_of(SAMPLE_RATE)).probabilities) for _ in range(21)]
    assert [index for index, frames in enumerate(blocks) if frames] == [10, 20]  # with the context of ten seconds
    assert sum(blocks) == 2_000 and len(session.finish().probabilities) == 100
    with pytest.raises(ValueError, match="finished"):
        session.push(noise_of(10))


@pytest.mark.parametrize("sample_rate", [0, -1, float("nan"), float("inf"), "16000"])
def test_sample_rates_that_are_not_possible_are_named(sample_rate: Any) -> None:
    with pytest.raises(ValueError, match="sample_rate = .*: must be a number of samples per second above 0"):
        small_labeller()(noise_of(100), sample_rate=sample_rate)


def test_other_sample_rates_are_resampled() -> None:
    labeller, audio = small_labeller(), noise_of(SAMPLE_RATE)
    smooth = np.convolve(audio, np.ones(8) / 8, "same").astype(np.float32)
    twice = np.interp(np.arange(2 * SAMPLE_RATE) / 2, np.arange(SAMPLE_RATE), smooth).astype(np.float32)
    found = labeller(twice, sample_rate=2 * SAMPLE_RATE).probabilities
    assert found.shape == (100, 3) and np.abs(found - labeller(smooth).probabilities).mean() < 0.05


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.zeros((2, 100), np.float32), r"must be \[samples\], one channel"),
        (np.zeros(100, np.int16), "int16"),
        (np.full(100, np.nan), "NaN"),
    ],
)
def test_audio_that_cannot_be_labelled_is_refused(audio: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_labeller()(audio)


@pytest.mark.parametrize(
    "options", [{"smoothing": -1.0}, {"min_duration": float("nan")}, {"smoothing": 1e3}, {"block_seconds": 0.0}]
)
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"(smoothing|min_duration|block_seconds) = .*: must be between"):
        small_labeller().session(**options)


@pytest.mark.parametrize("options", [*KINDS, {"input": "samples", "causal": True, "joint_loss": 0.1}])
def test_a_model_file_gives_the_same_labels(options: dict[str, Any], tmp_path: Path) -> None:
    labeller, path = small_labeller(**options), tmp_path / "labels.safetensors"
    checkpoint.save_model(path, labeller.network)
    loaded = wavenet.Labeller.load(path)
    assert loaded.config == labeller.config and loaded.classes == ("", "a", "b")
    audio = noise_of(4_000)
    assert np.array_equal(loaded(audio).probabilities, labeller(audio).probabilities)


def test_labellers_and_generators_are_distinguished(tmp_path: Path) -> None:
    labels, generator = tmp_path / "labels.safetensors", save_model(tmp_path / "generator.safetensors")
    checkpoint.save_model(labels, small_labeller().network)
    assert checkpoint.is_labeller(labels) and not checkpoint.is_labeller(generator)
    with pytest.raises(
        CheckpointError, match=r"^[^\n]*a labeller, which generates no audio: use it with wavenet label$"
    ):
        wavenet.Generator.load(labels)
    with pytest.raises(CheckpointError, match=r"^[^\n]*not a labeller, but a model that generates audio"):
        Labeller.load(generator)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output.bias": None}, "the tensor 'output.bias' is missing"),
        ({"extra": np.zeros(1, np.float32)}, "the tensor 'extra' does not belong"),
        ({"output.bias": np.zeros(7, np.float32)}, r"'output.bias' is F32 \[7\]"),
        ({"output.bias": np.full(3, np.nan, np.float32)}, "NaN"),
    ],
)
def test_the_tensors_must_be_exactly_those_of_the_network(
    change: dict[str, NDArray[np.float32] | None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "labels.safetensors"
    checkpoint.save_model(path, small_labeller().network)
    tensors, metadata = checkpoint.read_tensors(path)
    changed = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    checkpoint.write_tensors(path, changed, metadata)
    with pytest.raises(CheckpointError, match=message):
        Labeller.load(path)


def test_a_configuration_of_a_labeller_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "labels.safetensors"
    checkpoint.save_model(path, small_labeller().network)
    tensors, metadata = checkpoint.read_tensors(path)
    values = {**json.loads(metadata["wavenet.config"]), "head": "other"}
    checkpoint.write_tensors(path, tensors, {**metadata, "wavenet.config": json.dumps(values)})
    with pytest.raises(CheckpointError, match="its configuration cannot be used: head = 'other'"):
        Labeller.load(path)
