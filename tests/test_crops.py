"""Random crops: their inputs, targets, masks and margins, and how often each sample is drawn."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import ALL_TRAINING, SAMPLE_RATE, clips_of, write_files

from wavenet import mulaw
from wavenet.config import DataConfig
from wavenet.data import audio
from wavenet.data.clips import Clips
from wavenet.data.crops import random_crops
from wavenet.data.dataset import open_folder
from wavenet.data.quantizers import LINEAR, quantizer_for


def marked(*lengths: int) -> Clips:
    """Clips in which every sample has another code, so that a code identifies it; none is the code of silence."""
    codes = np.delete(np.arange(256), mulaw.SILENCE)[: sum(lengths)]
    return clips_of(*lengths, values=audio.to_int16(mulaw.decode(codes)))


def places(clips: Clips) -> dict[int, tuple[int, int]]:
    """Clip and position of each code."""
    return {int(code): (i, at) for i in range(len(clips)) for at, code in enumerate(clips.codes(i))}


@pytest.mark.parametrize("join", [False, True])
def test_inputs_are_the_true_previous_samples(join: bool) -> None:
    clips = marked(40, 3, 25, 1)
    where = places(clips)
    assert len(where) == 69
    inputs, targets, mask, *_ = random_crops(clips, 500, 10, np.random.default_rng(0), DataConfig(join=join))
    assert inputs.shape == targets.shape == mask.shape == (500, 10)
    assert inputs.dtype == targets.dtype == np.int64
    assert mask.dtype == np.bool_
    seams = starts = 0
    for row in range(500):
        length = int(mask[row].sum())
        assert mask[row, :length].all()
        assert length >= 1
        assert length == 10 or not join
        assert (inputs[row, length:] == mulaw.SILENCE).all()
        assert (targets[row, length:] == mulaw.SILENCE).all()
        np.testing.assert_array_equal(inputs[row, 1:length], targets[row, : length - 1])
        clip, at = where[targets[row, 0]]
        assert inputs[row, 0] == (clips.codes(clip)[at - 1] if at else mulaw.SILENCE)
        starts += at == 0
        for code in targets[row, 1:length]:
            next_clip, next_at = where[code]
            if at + 1 < clips.lengths[clip]:
                assert (next_clip, next_at) == (clip, at + 1)
            else:  # beyond the end only when joined, and to a first sample
                assert join
                assert next_at == 0
                seams += 1
            clip, at = next_clip, next_at
    assert starts > 0
    assert (seams > 0) == join


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("crop", [1, 7, 10, 60])
def test_every_sample_is_equally_often_a_target(join: bool, crop: int) -> None:
    clips = marked(40, 3, 25, 1, 10)
    rng = np.random.default_rng(1)
    counts = np.zeros(256)
    for _ in range(20):
        drawn = random_crops(clips, 1_000, crop, rng, DataConfig(join=join))
        counts += np.bincount(drawn.targets[drawn.mask], minlength=256)
    counts = counts[list(places(clips))]
    # Each count is near a Poisson variable: all 79 of them are within six standard deviations.
    tolerance = 6 * np.sqrt(
        counts.mean() * (3 if join and crop == 60 else 1)
    )  # a clip may come twice in one joined crop
    assert abs(counts - counts.mean()).max() < tolerance


def test_a_clip_shorter_than_a_crop_appears_whole() -> None:
    clips = marked(5)
    inputs, targets, mask, samples, bounds, drawn = random_crops(clips, 20, 8, np.random.default_rng(0), margin=2)
    codes = list(clips.codes(0))
    for row in range(20):
        assert list(targets[row]) == codes + [mulaw.SILENCE] * 3
        assert list(inputs[row]) == [mulaw.SILENCE, *codes[:4], *[mulaw.SILENCE] * 3]
        assert list(mask[row]) == [True] * 5 + [False] * 3
        assert list(samples[row]) == [0, 0, *clips.clip(0), *[0] * 5]  # the margin, the clip, padding and the margin
        assert list(bounds[row]) == [2, 7]
        assert drawn[row] == 0


def test_a_long_clip_fills_nearly_all_crops() -> None:
    clips = clips_of(30_000)
    mask = random_crops(clips, 2_000, 100, np.random.default_rng(0)).mask
    assert mask.mean() == pytest.approx(30_000 / 30_099, abs=2e-3)  # 99 of 30,099 windows reach over an end


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("margin", [1, 4, 50])
def test_the_margin_of_a_crop_is_from_its_own_clip(join: bool, margin: int) -> None:
    lengths = (40, 3, 25, 1, 90)
    clips = clips_of(*lengths, values=np.arange(1, 160, dtype=np.int16))  # a sample identifies its position; none is 0
    begins = np.cumsum(lengths) - lengths
    crop = 10
    size = margin + crop + margin
    drawn = random_crops(clips, 300, crop, np.random.default_rng(2), DataConfig(join=join), LINEAR, margin)
    assert drawn.samples.shape == (300, size)
    assert drawn.samples.dtype == np.int16
    assert drawn.bounds.shape == (300, 2)
    assert drawn.clips.shape == (300,)
    cut_front = cut_back = seams = 0
    for samples, bounds, inputs, targets, mask, clip in zip(
        drawn.samples, drawn.bounds, drawn.inputs, drawn.targets, drawn.mask, drawn.clips, strict=True
    ):
        begin, end = bounds
        length = int(mask.sum())
        np.testing.assert_array_equal(
            targets[:length], samples[margin : margin + length]
        )  # 16-bit codes are the samples
        np.testing.assert_array_equal(inputs[:length], samples[margin - 1 : margin - 1 + length])
        assert not samples[:begin].any()
        assert not samples[end:].any()
        at = int(targets[0]) - 1 - begins[clip]  # of the first target in its clip
        assert 0 <= at < lengths[clip]
        assert begin == max(0, margin - at)
        first, last = begins[clip] + max(0, at - margin), begins[clip] + lengths[clip]
        own = clips.samples[first:last][: size - begin]
        np.testing.assert_array_equal(samples[begin : begin + len(own)], own)
        rest = [int(sample) for sample in samples[begin + len(own) : end]]
        if not join or begin + len(own) >= margin + crop:
            assert rest == []
        while rest:  # whole clips one after the other, except the last
            other = list(begins).index(rest[0] - 1)
            whole = list(clips.clip(other))
            assert rest[: len(whole)] == whole[: len(rest)]
            assert end in (size, begin + len(own)) or end >= margin + crop
            rest = rest[len(whole) :]
            seams += 1
        cut_front += begin > 0
        cut_back += end < size
    assert min(cut_front, cut_back) > 0
    assert (seams > 0) == join


@pytest.mark.parametrize("output", ["mulaw", "logistic"])
def test_crops_hold_the_codes_of_the_output(output: str) -> None:
    clips = clips_of(4, values=np.array([-32_768, -5, 0, 32_767], np.int16))
    targets = random_crops(clips, 1, 4, np.random.default_rng(0), quantizer=quantizer_for(output)).targets[0]
    assert list(targets) == ([0, 127, 128, 255] if output == "mulaw" else [-32_768, -5, 0, 32_767])


def test_joined_crops_stay_with_one_speaker() -> None:
    lengths, speakers = (5, 5, 7, 3, 20, 4), ["ann", "bob", "ann", "ann", "bob", "cid"]
    places = [100 * clip + place for clip, length in enumerate(lengths) for place in range(length)]
    clips = clips_of(*lengths, values=np.array(places, np.int16))
    clips.speakers = speakers
    followed = np.zeros((6, 6), int)  # [clip, the clip that follows it]
    drawn = random_crops(clips, 2_000, 30, np.random.default_rng(3), DataConfig(join=True), quantizer=LINEAR)
    for row, clip in zip(drawn.targets, drawn.clips, strict=True):
        sources = row // 100
        assert sources[0] == clip
        assert {speakers[source] for source in sources} == {speakers[clip]}
        seams = np.flatnonzero(np.diff(row) != 1)
        np.add.at(followed, (sources[seams], sources[seams + 1]), 1)
    same = np.array(speakers)[:, None] == np.array(speakers)
    assert not followed[~same].any()
    assert followed[5, 5] > 100  # the only clip of a speaker is followed by itself
    for clip in (0, 2, 3):  # three clips of ann: each follows in a third of the cases
        share = followed[clip, [0, 2, 3]] / followed[clip].sum()
        assert abs(share - 1 / 3).max() < 5 * np.sqrt(2 / 9 / followed[clip].sum())  # five standard deviations


def test_crops_are_drawn_by_the_generator_alone() -> None:
    clips = clips_of(3_000, 500)
    first = random_crops(clips, 4, 100, np.random.default_rng((7, 3)), DataConfig(join=True))
    random_crops(clips, 4, 50, np.random.default_rng(1))
    again = random_crops(clips, 4, 100, np.random.default_rng((7, 3)), DataConfig(join=True))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(
        first[1], random_crops(clips, 4, 100, np.random.default_rng((7, 4)), DataConfig(join=True))[1]
    )


def test_the_order_of_the_data_is_that_of_earlier_versions() -> None:
    """Crops of the version before drawing and reading were separated, so that its runs can be continued."""
    clips = clips_of(900, 37, 1_500, 4, values=np.random.default_rng(0).integers(-9_000, 9_000, 2_441).astype(np.int16))
    clips.speakers = ["ann", "bob", "bob", "ann"]
    digest = hashlib.sha256()
    for join in (False, True):
        data = DataConfig(join=join, pitch_shift=(0.7, 1.4), pitch_shift_share=0.5, gain_shift=(-6.0, 3.0))
        for part in random_crops(clips, 50, 300, np.random.default_rng((5, 9)), data, margin=20):
            if part.dtype != np.int16 and part.shape != (50, 300):  # audio depends on the resampler's rounding
                digest.update(part.tobytes())
    assert digest.hexdigest() == "393e900754747006136bd98e01a00327d1de21a6ddc30fd69ae3d580ddfbeb71"


def test_there_must_be_clips() -> None:
    with pytest.raises(ValueError, match="no clips"):
        random_crops(
            Clips(np.zeros(9, np.int16), np.zeros(0, np.int64), np.zeros(0, np.int64), SAMPLE_RATE),
            1,
            1,
            np.random.default_rng(),
        )


def test_crops_of_a_folder(folder: Path) -> None:
    write_files(folder, range(5), samples=3_000)
    recordings = open_folder(folder, SAMPLE_RATE, ALL_TRAINING)
    _, targets, mask, *_ = random_crops(recordings.train, 8, 256, np.random.default_rng(0), DataConfig(join=True))
    assert mask.all()
    known = b"".join(recordings.train.codes(i).astype(np.uint8).tobytes() for i in range(5))
    assert sum(row.astype(np.uint8).tobytes() in known for row in targets) >= 5  # except rows with a seam


def test_nothing_of_torch_is_imported() -> None:
    code = "import sys, wavenet.data.dataset; sys.exit('torch' in sys.modules or 'librosa' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
