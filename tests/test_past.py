"""Disturbed pasts: what the network reads differs from the recording, what it is to predict does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import CONDITIONED, trainer_for, write_voices

from wavenet.training.past import GAIN_SHARE, past_gains


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return write_voices(tmp_path / "voices")


def test_gains_vary_slowly_on_a_share_of_the_crops() -> None:
    gains = past_gains((2_000, 3_000), 16_000, 2.0, np.random.default_rng(0))
    assert gains.shape == (2_000, 3_000)
    assert gains.dtype == np.float32
    constant = (gains == 1).all(1)
    assert (~constant).mean() == pytest.approx(GAIN_SHARE, abs=0.05)
    decibels = 20 * np.log10(gains[~constant])
    assert abs(decibels.mean()) < 0.1
    assert decibels[:, ::480].std() == pytest.approx(2.0, rel=0.03)  # at the values, 30 ms apart
    assert abs(np.diff(decibels)).max() < 2 * 6 * 2.0 / 480  # per sample


@pytest.mark.parametrize("kind", ["features", "16 bits", "all"])
def test_targets_and_conditioning_are_undisturbed(kind: str, voices: Path, tmp_path: Path) -> None:
    settings = [*CONDITIONED[kind], "training.batch=40"]
    plain = trainer_for(voices, tmp_path / "plain", *settings).batches.batch(3)
    disturbed = trainer_for(voices, tmp_path / "run", *settings, "training.past_gain=3.0").batches.batch(3)
    assert torch.equal(plain.targets, disturbed.targets)
    assert torch.equal(plain.mask, disturbed.mask)
    assert plain.features is not None
    assert disturbed.features is not None
    assert torch.equal(plain.features, disturbed.features)
    changed = (plain.inputs != disturbed.inputs).any(1)
    assert changed.float().mean().item() == pytest.approx(GAIN_SHARE, abs=0.25)
    assert torch.equal(
        disturbed.inputs[~changed, 1:][disturbed.mask[~changed, 1:]],
        disturbed.targets[~changed, :-1][disturbed.mask[~changed, 1:]],
    )
    again = trainer_for(voices, tmp_path / "again", *settings, "training.past_gain=3.0").batches.batch(3)
    assert torch.equal(again.inputs, disturbed.inputs)
