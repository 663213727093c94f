"""The native engine computes conditioning, linear prediction and frames in C++ only, for every kind of model.

NumPy's versions are those of the other engines, and what C++ is tested against.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from builders import conditioned_config, random_model
from two_tier_data import two_tiers

from wavenet import frame_coding
from wavenet.engine import conditioning, frame_sampler, frame_step
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.nn import interpolation, linear_prediction

pytest.importorskip("wavenet.engine._native")
MADE = Path(__file__).parent.parent / "samples" / "made"
SHIPPED = sorted(file.stem for file in MADE.glob("*.safetensors") if file.stem != "turns")  # a labeller
SECONDS = 0.05


@pytest.fixture
def without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> NoReturn:
        raise AssertionError("computed in NumPy")

    for owner, names in {
        conditioning.Conditioner: ("__init__", "frames", "pitches"),
        conditioning: ("interpolation_weights", "predictor_rows", "pitch_periods", "voiced"),
        frame_coding.FrameCoding: ("__init__",),
        frame_sampler.FrameSampler: ("__init__",),
        frame_step.FrameNetwork: ("__init__",),
        interpolation: ("interpolation_weights",),
        linear_prediction: ("_cepstrum", "_correlation_matrix", "_resolution", "adapted_rows", "levinson"),
        linear_prediction.LinearPredictor: ("__init__",),
    }.items():
        for name in names:
            monkeypatch.setattr(owner, name, refused)


def generate(generator: Generator, **options: Any) -> None:
    """A file, a stream and a primed session; with features where the model needs them."""
    config = generator.config
    clip = 0.1 * np.sin(np.arange(round(2 * SECONDS * config.sample_rate)) / 10).astype(np.float32)
    if config.speakers:
        options["speaker"] = dict.fromkeys(config.speakers[:2], 1.0)
    if config.features is not None and (config.frame_model is None or "features" in options):
        options["features"] = mel_spectrogram(clip, config.features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that are no voice
        assert np.isfinite(generator.render(SECONDS, **options)).all()
        assert sum(map(len, generator.stream(SECONDS, **options))) == generator.samples(SECONDS)
        options.pop("refine", None)
        session = generator.session(seed=1, prime=clip[: len(clip) // 2], **options)
        assert len(session.next(100)) == len(session.copy().next(100)) == 100


@pytest.mark.usefixtures("without_numpy")
@pytest.mark.parametrize("precision", ["f32", "int8"])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models(name: str, precision: str) -> None:
    """Single tiers, vocoders and models of two tiers, refined as they recommend."""
    generate(Generator.load(MADE / f"{name}.safetensors", "native", precision, threads=1))


@pytest.mark.usefixtures("without_numpy")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("speech", {"temperature": 0.8}),  # whose level is kept
        ("speech", {"mute": [1], "count": 2}),
        ("vocoder", {"particles": 2, "refine": 0}),
        ("vocoder-universal", {"voiced_temperature": 0.5, "temperature": 0.9}),
        ("voice-base", {"pitch": 200.0, "loudness": -20.0, "temperature": 0.8}),
        ("voice-base", {"features": None}),
    ],
)
def test_options(name: str, options: dict[str, Any]) -> None:
    if "count" in options:
        assert np.isfinite(Generator.load(MADE / f"{name}.safetensors", "native").render(SECONDS, **options)).all()
    else:
        generate(Generator.load(MADE / f"{name}.safetensors", "native", "int8", threads=1), **options)


@pytest.mark.parametrize("kind", ["backward-adaptive", "two tiers", "causal"])
def test_kinds_that_are_not_shipped(kind: str, request: pytest.FixtureRequest) -> None:
    model = {
        "backward-adaptive": lambda: random_model(conditioned_config(speakers=False, hop=None, order=5)),
        "two tiers": lambda: two_tiers(speakers=("a", "b"), output="logistic", mixtures=2, linear_prediction=4),
        "causal": lambda: random_model(conditioned_config(hop=4, order=3, taps=3, frame_network="causal")),
    }[kind]()
    request.getfixturevalue("without_numpy")
    generate(Generator.from_model(model, "native", threads=1))
