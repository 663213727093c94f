"""Training of a frame model: its batches, and that the loss falls below linear prediction."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from frame_data import MEL, SMALL, random_coding, random_frame_model, random_frames
from recordings import clips_of

from wavenet.config import MelConfig
from wavenet.data.clips import Clips
from wavenet.frame_prediction import FramePrediction, reference_levels
from wavenet.training.frame_batches import (
    NOISE,
    RESIDUAL_NOISE,
    FrameBatches,
    FrameClips,
    encoded_clips,
    fit_coding,
)
from wavenet.training.frame_training import (
    FROM_SCRATCH,
    FrameTrainer,
    frame_model_from,
    held_out_nats,
    new_frame_model,
)
from wavenet.training.recorded_frames import recorded_frames

LOW_RATE = MelConfig(sample_rate=8_000, window=320, fft=512, hop=80, bands=40, high=4_000.0)


def frame_clips(*lengths: int, voices: list[int] | None = None) -> FrameClips:
    """Clips of random frames whose loudness states the clip and the position: 1000 clip + position."""
    frames = [random_frames(SMALL, length, i)[0] for i, length in enumerate(lengths)]
    for i, part in enumerate(frames):
        part[:, 0] = 1_000 * i + np.arange(len(part))
    return FrameClips(random_coding(), frames, voices or [0] * len(lengths))


def batches_of(clips: FrameClips, batch: int = 5, crop: int = 20, seed: int = 0) -> FrameBatches:
    return FrameBatches(clips, np.ones(SMALL.dimensions), batch, crop, seed)


def noisy_voice(seconds: float, pitch: float, seed: int) -> np.ndarray:
    """Audio, int16 at 8 kHz: a harmonic tone of this pitch in noise."""
    time = np.arange(int(8_000 * seconds)) / 8_000
    tone = sum(np.cos(2 * np.pi * k * pitch * time) / k for k in range(1, 12))
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (3_000 * tone + 300 * noise).astype(np.int16)


def test_a_batch_follows_from_seed_and_step_alone() -> None:
    clips = frame_clips(50, 30)
    first = batches_of(clips).batch(3)
    again = batches_of(clips)
    again.batch(9)
    for one, other in zip(first, again.batch(3), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first.targets, again.batch(4).targets)
    assert not torch.equal(first.targets, batches_of(clips, seed=1).batch(3).targets)


def test_crops_are_consecutive_frames_of_one_voice_and_continue_with_another_clip() -> None:
    clips = frame_clips(50, 3, 30, 8, voices=[0, 1, 0, 1])
    starts: set[tuple[int, int]] = set()
    begins = 0
    for step in range(60):
        batch = batches_of(clips).batch(step)
        assert batch.inputs.shape == batch.targets.shape == (5, 20, SMALL.dimensions)
        for targets, voice in zip(batch.targets[..., 0].numpy(), batch.voices.tolist(), strict=True):
            clip, position = np.divmod(targets.astype(int), 1_000)
            begins += position[0] == 0
            assert set(clip) <= ({0, 2} if voice == 0 else {1, 3})
            new = np.diff(targets) != 1
            assert (position[1:][new] == 0).all()  # another clip, from its start
            ends = np.array([50, 3, 30, 8])[clip[:-1][new]]
            assert (position[:-1][new] == ends - 1).all()
            starts.add((clip[0], position[0]))
    assert len(starts) > 70  # of 95
    assert begins / 300 == pytest.approx(0.1 + 0.9 * 4 / 91, abs=0.06)


def test_some_crops_begin_before_a_clip_with_a_zero_frame() -> None:
    clips = frame_clips(400, 300, voices=[0, 1])
    batch = FrameBatches(clips, np.full(SMALL.dimensions, 1e-3), 200, 20).batch(0)
    before = batch.inputs[:, 0].abs().amax(-1) < 0.5  # only disturbed
    assert 8 < before.sum() < 40
    assert (batch.targets[before, 0, 0] % 1_000 == 0).all()
    assert (batch.inputs[:, 1:, 0] - batch.targets[:, :-1, 0]).abs().max() < 0.5


def test_frames_of_digital_silence_differ() -> None:
    clips = clips_of(4_000, values=np.zeros(4_000, np.int16))
    (frames,) = recorded_frames(clips, LOW_RATE).frames
    np.testing.assert_array_equal(frames, recorded_frames(clips, LOW_RATE).frames[0])
    assert 0.1 < frames[5:-5].std(axis=0).mean() < 1
    assert frames.mean() < LOW_RATE.silence + 5


def test_inputs_are_disturbed_targets_one_frame_earlier() -> None:
    clips = frame_clips(4_000)
    deviation = np.ones(SMALL.dimensions)
    deviation[4] = 5.0
    batch = FrameBatches(clips, deviation, 40, 200).batch(0)
    noise = (batch.inputs[:, 1:] - batch.targets[:, :-1]).numpy()  # [B, T - 1, D]
    assert np.abs(noise[..., 1]).max() == 0
    voiced = batch.targets[:, :-1, 1].numpy() > 0
    assert np.abs(noise[..., 2][~voiced]).max() < 1e-6 < np.abs(noise[..., 2][voiced]).max()
    sizes = noise.std(axis=1)  # [B, D]: each crop has its own
    size = np.hypot(NOISE, RESIDUAL_NOISE)
    assert (sizes[:, 3] < 2 * size * 1.3).all() and sizes[:, 3].std() > 0.02
    assert np.sqrt(np.square(sizes[:, 3]).mean()) == pytest.approx(size * (4 / 3) ** 0.5, rel=0.2)
    assert np.median(sizes[:, 4] / sizes[:, 3]) == pytest.approx(5, rel=0.2)


def test_there_must_be_frames() -> None:
    with pytest.raises(ValueError, match="there are no frames to draw crops from"):
        batches_of(frame_clips())


def test_a_coding_of_recordings_has_the_voices_of_its_speakers() -> None:
    parts = [noisy_voice(1.0, 200, 0), noisy_voice(1.5, 300, 1), noisy_voice(0.5, 204, 2)]
    joined = clips_of(*map(len, parts), values=np.concatenate(parts))
    clips = recorded_frames(
        Clips(joined.samples, joined.offsets, joined.lengths, 8_000, ["ann", "bob", "ann"]), LOW_RATE
    )
    coding = fit_coding(clips, LOW_RATE, 6, ("bob", "ann"))
    np.testing.assert_allclose(np.exp(coding.pitch[:, 0]), [300, 201], rtol=0.03)
    encoded = encoded_clips(clips, coding, ("bob", "ann"))
    assert encoded.voices == [1, 0, 1]
    assert [frames.shape for frames in encoded.frames] == [(100, 9), (150, 9), (50, 9)]
    single = fit_coding(clips, LOW_RATE, 6)
    assert single.mean.shape == (1, 40)
    assert encoded_clips(clips, single).voices == [0, 0, 0]
    kept = fit_coding(clips, LOW_RATE, 6, ("bob", "ann"), base=single)
    np.testing.assert_array_equal(kept.analysis, single.analysis)
    np.testing.assert_allclose(kept.pitch, coding.pitch)
    with pytest.raises(ValueError, match="speaker 'eve' has no recordings"):
        fit_coding(clips, LOW_RATE, 6, ("bob", "ann", "eve"))


def switching(count: int, seed: int) -> np.ndarray:
    """Encoded frames [count, D] that alternate between two spectra: no linear prediction tells when."""
    rng = np.random.default_rng(seed)
    frames = 0.1 * rng.standard_normal((count, SMALL.dimensions)).astype(np.float32)
    state = (np.arange(count) // 5) % 2
    frames[:, 1] = state
    frames[:, 2] *= state
    frames[:, 3:] += np.where(state[:, None], 1, -1) * np.array([1, -1, 1, -1, 1, -1], np.float32)
    return frames


@pytest.mark.parametrize("speakers", [0, 2])
def test_training_falls_below_linear_prediction(speakers: int) -> None:
    torch.manual_seed(0)
    coding = random_coding(voices=max(1, speakers))
    training = FrameClips(coding, [switching(300, seed) for seed in range(2)], [0, min(1, speakers)])
    held_out = FrameClips(coding, [switching(100, 7), switching(1, 8)], [0, 0])
    model = new_frame_model(SMALL, MEL, training, speakers)
    levels = reference_levels(training.frames, held_out.frames, SMALL.prediction_order)
    config = dataclasses.replace(FROM_SCRATCH, crop=40, learning_rate=2e-2, warmup=5, ema=0.9)
    trainer, steps = FrameTrainer(model, training, config), 60
    first = held_out_nats(model, held_out)
    seen = [trainer.update(step / steps) for step in range(steps)]
    assert all(nats is not None for nats in seen)
    last = held_out_nats(trainer.average, held_out)
    assert last.total < levels.linear - 2 < first.total
    assert last.source < first.source and last.shape < first.shape
    assert last.total == pytest.approx(held_out_nats(model, held_out).total, abs=2)


def test_a_model_from_a_base_keeps_its_weights_and_predicts_the_new_recordings() -> None:
    clips = FrameClips(random_coding(voices=3), [switching(200, 3)], [0])
    base = random_frame_model(speakers=2)
    model = frame_model_from(base, clips, voices=[1, None, 0])
    old, new = base.state_dict(), model.state_dict()
    of_recordings = ("speaker.weight", "prediction", "deviation", "coding.")
    assert all(torch.equal(old[name], new[name]) for name in old if not name.startswith(of_recordings))
    assert np.array_equal(model.frame_coding.pitch, clips.coding.pitch)
    rows = old["speaker.weight"]
    torch.testing.assert_close(new["speaker.weight"], torch.stack([rows[1], rows.mean(0), rows[0]]))
    expected = FramePrediction.fit(clips.frames, 2)
    np.testing.assert_allclose(model.deviation.numpy(), expected.deviation, rtol=1e-6)
    np.testing.assert_allclose(model.prediction.numpy(), expected.coefficients, rtol=1e-6)
    single, alone = random_frame_model(), FrameClips(random_coding(), clips.frames, [0])
    assert frame_model_from(single, alone).speakers == 0
    added = frame_model_from(single, FrameClips(random_coding(voices=2), clips.frames, [0]), voices=[None, None])
    assert added.speakers == 2 and added.speaker.weight.abs().max() == 0
    with pytest.raises(ValueError, match="the base has several voices"):
        frame_model_from(base, clips)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    clips = FrameClips(random_coding(), [switching(100, 0)], [0])
    model = new_frame_model(SMALL, MEL, clips)
    trainer = FrameTrainer(model, clips, dataclasses.replace(FROM_SCRATCH, crop=20))
    with torch.no_grad():
        model.shape.hidden.bias[0] = float("nan")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert trainer.update(0.0) is None
    assert all(
        torch.equal(before[name], weight) for name, weight in model.state_dict().items() if name != "shape.hidden.bias"
    )
    assert np.isnan(held_out_nats(model, FrameClips(clips.coding, [], [])).total)
