"""The split by time: stretches of every recording are held out where files are few and long."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from recordings import SAMPLE_RATE, clips_of, contents, write_noise
from training_runs import SMALL, trainer_for

from wavenet.config import ConfigError, DataConfig
from wavenet.data import audio
from wavenet.data.clips import Clips
from wavenet.data.dataset import Recordings, Summary, open_folder
from wavenet.data.split import GAP_SECONDS, kind_of_split, stretches
from wavenet.training import recipe, run_policy
from wavenet.training.run_directory import RunDirectory

BY_TIME = DataConfig(split="time")


def key(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=20).digest()


def write_ramps(folder: Path, seconds: list[int]) -> None:
    """Recordings whose every hundredth of a second has another value, so that a sample tells its time."""
    for i, length in enumerate(seconds):
        values = np.arange(100 * length) + 3_000 * i
        audio.write(folder / f"{i}.wav", np.repeat(values, SAMPLE_RATE // 100) / np.float32(32_768), SAMPLE_RATE)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.5])
@pytest.mark.parametrize("length", [1, 2, 9, 333, 16_000, 4_000_001])
def test_stretches_are_the_share_of_a_recording(length: int, share: float) -> None:
    for number in range(20):
        starts, size, gap = stretches(key(number), length, SAMPLE_RATE, share)
        held = len(starts) * size
        assert share * length - len(starts) - 1 < held <= share * length
        assert gap <= GAP_SECONDS * SAMPLE_RATE
        ends = [0, *(end for start in starts for end in (start, start + size)), length]
        assert ends == sorted(ends)
        assert all(later - start - size >= 2 * gap for start, later in itertools.pairwise(starts))
        assert length - held - 2 * gap * len(starts) >= (length - held) / 2  # enough is left for training


def test_long_recordings_have_several_stretches_at_places_that_differ() -> None:
    starts, size, gap = stretches(key(0), 3_600 * SAMPLE_RATE, SAMPLE_RATE, 0.05)
    assert len(starts) == 18
    assert size == 10 * SAMPLE_RATE
    assert gap == SAMPLE_RATE
    np.testing.assert_allclose(np.diff(starts), 200 * SAMPLE_RATE, atol=1)
    places = [stretches(key(i), 100 * SAMPLE_RATE, SAMPLE_RATE, 0.05)[0][0] / (95 * SAMPLE_RATE) for i in range(100)]
    assert min(places) < 0.1
    assert max(places) > 0.9
    assert np.mean(places) == pytest.approx(0.5, abs=0.15)  # five standard deviations of a uniform mean


def test_every_recording_is_held_out_in_part_and_its_neighbours_are_used_for_neither(folder: Path) -> None:
    write_ramps(folder, [30, 25, 8])
    recordings = open_folder(folder, SAMPLE_RATE, BY_TIME)
    trained = np.unique(np.concatenate(list(recordings.train)))  # in hundredths of a second
    assert list(recordings.validation.names) == ["0.wav", "1.wav", "2.wav"]
    for i, (seconds, gap) in enumerate([(30, 100), (25, 100), (8, 40)]):  # a gap is no longer than its stretch
        held = recordings.validation.clip(i).astype(int)
        assert len(held) == round(0.05 * seconds * SAMPLE_RATE)
        assert ((held >= 3_000 * i) & (held < 3_000 * i + 100 * seconds)).all()
        near = (trained > held[0] - gap) & (trained < held[-1] + gap)
        assert not near.any()
        own = trained[(trained >= 3_000 * i) & (trained < 3_000 * i + 100 * seconds)]
        assert len(own) >= 100 * seconds - (held[-1] - held[0]) - 2 * gap - 4
    summary = recordings.summary
    assert (summary.train_files, summary.validation_files, summary.stretches) == (3, 3, 3)
    assert summary.train_seconds + summary.validation_seconds + summary.gap_seconds == pytest.approx(63)
    assert f"left out {summary.gap_seconds:.1f} seconds: up to a second on both sides" in " ".join(summary.lines())
    training = f"training: 3 files, {summary.train_seconds:.1f} seconds"
    assert f"{training}; validation: 5% of each file, 3.1 seconds in 3 stretches" in summary.lines()


def test_added_renamed_and_copied_files_change_nothing(folder: Path, tmp_path: Path) -> None:
    for i in range(3):
        write_noise(folder / f"{i}.wav", 20_000 + 1_000 * i, seed=i)
    first = open_folder(folder, SAMPLE_RATE, BY_TIME)
    shutil.rmtree(tmp_path / "cache")
    write_noise(folder / "new.wav", 30_000, seed=9)
    (folder / "0.wav").rename(folder / "other.wav")
    shutil.copy(folder / "1.wav", folder / "copy.wav")
    second = open_folder(folder, SAMPLE_RATE, BY_TIME)
    assert contents(first.train) < contents(second.train)
    assert contents(first.validation) < contents(second.validation)
    assert len(second.validation) == 5
    assert not contents(second.train) & contents(second.validation)


def test_every_speaker_is_represented(folder: Path) -> None:
    for i, name in enumerate(("ann", "bob", "cid")):
        write_noise(folder / name / "a.wav", 1_000 * 20**i, seed=i)
    recordings = open_folder(folder, SAMPLE_RATE, DataConfig(split="time", speakers="folders"))
    assert list(recordings.validation.speakers or ()) == ["ann", "bob", "cid"]
    assert set(recordings.train.speakers or ()) == {"ann", "bob", "cid"}
    assert recordings.summary.held_out_speakers == []


def test_silence_at_the_ends_is_left_out_of_training(folder: Path) -> None:
    edges = np.zeros(2 * SAMPLE_RATE)
    tone = 0.5 * np.ones(16 * SAMPLE_RATE)
    audio.write(folder / "a.wav", np.concatenate([edges, tone, edges]), SAMPLE_RATE)
    whole, cut = (
        open_folder(folder, SAMPLE_RATE, DataConfig(split="time", edge_silence=silence)) for silence in (-1.0, 0.5)
    )
    assert contents(whole.validation) == contents(cut.validation)
    silent, loud = (
        [int((np.concatenate(list(recordings.train)) == value).sum()) for recordings in (whole, cut)]
        for value in (0, 16_384)
    )
    assert silent[0] > silent[1] > 0
    assert silent[1] <= 2 * 0.5 * SAMPLE_RATE
    assert loud[0] == loud[1] > 10 * SAMPLE_RATE
    assert cut.summary.edge_seconds == (silent[0] - silent[1]) / SAMPLE_RATE
    assert whole.summary.gap_seconds == cut.summary.gap_seconds


@pytest.mark.parametrize(
    ("files", "seconds", "share", "kind"),
    [
        (12, 170, 0.05, "time"),
        (199, 20, 0.05, "time"),
        (200, 20, 0.05, "files"),  # ten files are held out
        (12, 19, 0.05, "files"),  # less than a second of each
        (1, 30, 0.05, "time"),
        (1, 10, 0.05, "files"),
        (12, 170, 0.0, "files"),
    ],
)
def test_automatic_choice(files: int, seconds: int, share: float, kind: str) -> None:
    lengths = np.full(files, seconds * SAMPLE_RATE)
    keys = np.array([key(number) for number in range(files)], f"V{len(key(0))}")
    assert kind_of_split(keys, lengths, SAMPLE_RATE, DataConfig(validation=share)) == kind
    for chosen in ("files", "time"):
        assert kind_of_split(keys, lengths, SAMPLE_RATE, DataConfig(validation=share, split=chosen)) == chosen
    copies = np.tile(keys, 2)
    assert kind_of_split(copies, np.tile(lengths, 2), SAMPLE_RATE, DataConfig(validation=share)) == kind


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="split = 'both': unknown; known: auto, files, time"):
        DataConfig(split="both")


def test_a_validation_uses_parts_of_all_stretches() -> None:
    lengths = [3 * SAMPLE_RATE, 100, *[5 * SAMPLE_RATE] * 8]
    clips = clips_of(*lengths, values=np.zeros(sum(lengths), np.int16))
    clips.names, clips.speakers = [f"{i}.wav" for i in range(10)], ["ann", "bob"] * 5
    parts = clips.spread(30.0)  # three seconds of each, where there are as many
    assert list(parts.offsets) == list(clips.offsets)
    assert list(parts.lengths) == [3 * SAMPLE_RATE, 100, *[3 * SAMPLE_RATE] * 8]
    parts = clips.spread(10.0)  # two seconds each of half of them
    assert list(parts.names) == ["0.wav", "2.wav", "4.wav", "6.wav", "8.wav"]
    assert list(parts.speakers or ()) == ["ann"] * 5
    assert set(parts.lengths) == {2 * SAMPLE_RATE}
    assert list(clips.spread(1_000.0).lengths) == lengths
    assert list(clips.spread(0.01).lengths) == [80]
    none = Clips(np.zeros(0, np.int16), np.zeros(0, np.int64), np.zeros(0, np.int64), SAMPLE_RATE)
    assert len(none.spread(30.0)) == 0
    for kind, used in (("time", 5), ("files", 10)):
        assert len(Recordings(clips, clips, Summary("folder", SAMPLE_RATE, split=kind)).validated(10.0)) == used


@pytest.fixture
def long_files(folder: Path) -> Path:
    for i in range(3):
        write_noise(folder / f"{i}.wav", 25 * SAMPLE_RATE, seed=i)
    return folder


def test_a_run_keeps_its_split_when_files_are_added(long_files: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    trainer_for(long_files, run.path, "training.steps=2").train()
    assert recipe.load(run.recipe).data.split == "time"
    for i in range(40):
        write_noise(long_files / f"short {i}.wav", 400, seed=100 + i)
    assert open_folder(long_files, SAMPLE_RATE, DataConfig()).summary.split == "files"  # as a new run would have it
    mine = tmp_path / "mine.toml"
    mine.write_text(recipe.load(None, SMALL).to_toml())
    assert 'split = "auto"' in mine.read_text()
    for name in (None, str(mine)):
        continued = run_policy.recipe_for(run, name, ["training.steps=4"])
        assert continued.data.split == "time"
        assert open_folder(long_files, SAMPLE_RATE, continued.data).summary.split == "time"
    with pytest.raises(ConfigError, match="was started with data.split = 'time', not 'files'"):
        run_policy.recipe_for(run, None, ["data.split=files"])


def test_a_run_of_an_earlier_version_keeps_its_split_by_files(long_files: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    trainer_for(long_files, run.path, "training.steps=2", "data.split=files").train()
    text = run.recipe.read_text()
    assert 'split = "files"\n' in text
    run.recipe.write_text(text.replace('split = "files"\n', ""))
    continued = run_policy.recipe_for(run, None, ["training.steps=4"])
    assert continued.data.split == "files"
    assert run_policy.recipe_for(run, None, [], fresh=True).data.split == "auto"
