"""Files that the reader of models in C++ accepts: it reads the same from them as `wavenet.checkpoint.read_model`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import TINY, WHOLE, assert_agreement, assert_same, file_of, native, native_refusal

from wavenet.config import FrameModelConfig, MelConfig, ModelConfig, SamplingConfig
from wavenet.data.tensor_file import encode

CLONE = Path(__file__).parents[1]


@pytest.mark.parametrize("file", sorted((CLONE / "samples/made").glob("*.safetensors")), ids=lambda file: file.stem)
def test_shipped_models_are_read_alike(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    if assert_agreement(content, tmp_path) is None:
        assert_same(content, tmp_path)
        native().check_model_file(str(file))
    else:
        assert "labeller" in str(native_refusal(content))


@st.composite
def model_configs(draw: st.DrawFn) -> ModelConfig:
    """A small configuration of any kind."""
    rate = draw(st.integers(1_000, 384_000))
    fft = draw(st.sampled_from([16, 64, 2_048]))
    bands = draw(st.integers(1, 6))
    local = draw(st.booleans())
    tiers = local and draw(st.booleans())
    output = draw(st.sampled_from(["mulaw", "logistic", "gaussian"]))
    order = 0 if output == "mulaw" else draw(st.integers(0, 5))
    mel = MelConfig(
        **{"sample_rate": rate, "fft": fft, "window": draw(st.integers(4, fft)), "hop": draw(st.integers(1, fft))},
        **{"bands": bands, "high": min(8_000.0, rate / 2), "floor": draw(st.floats(1e-30, 1.0))},
        **{"scale": draw(st.sampled_from(["slaney", "htk"])), "area": draw(st.booleans())},
    )
    pitch = local and order and len(set(mel.pitch_periods)) == 2
    small = st.integers(1, 3)
    return ModelConfig(
        cycles=draw(small),
        layers_per_cycle=draw(st.integers(1, 6)),
        kernel_size=draw(st.integers(2, 5)),
        residual_channels=draw(small),
        gate_channels=draw(st.none() | small),
        skip_channels=draw(small),
        head_channels=draw(st.none() | small),
        output=output,
        mixtures=draw(small),
        sample_rate=rate,
        speakers=tuple(
            draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True, max_size=3))
        ),
        speaker_channels=draw(small),
        features=mel if local else None,
        frame_network=draw(st.sampled_from(["plain", "parallel", "causal"])),
        frame_channels=draw(st.integers(4, 9)),
        linear_prediction=order,
        pitch_taps=draw(st.sampled_from([0, 1, 9])) if pitch else 0,
        frame_model=FrameModelConfig(
            cycles=draw(small),
            layers_per_cycle=draw(small),
            residual_channels=draw(small),
            skip_channels=draw(small),
            components=draw(st.integers(1, bands)),
            mixtures=draw(small),
            source_mixtures=draw(small),
            prediction_order=draw(st.integers(1, 16)),
        )
        if tiers
        else None,
        sampling=SamplingConfig(draw(st.floats(0, 1e300)), top_p=draw(st.none() | st.floats(0, 1, exclude_min=True))),
    )


@settings(max_examples=60)
@given(model_configs(), st.sampled_from(["f4", "f2"]))
def test_random_models_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, config: ModelConfig, dtype: str
) -> None:
    assert_same(file_of(config, dtype=dtype), tmp_path_factory.getbasetemp())


def test_every_half_is_converted_exactly(tmp_path: Path) -> None:
    config = ModelConfig(**{**TINY, "output": "mulaw", "residual_channels": 256})
    halves = np.arange(65_536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    tensors = {name: np.zeros(shape, np.float16) for name, shape in config.shapes.items()}
    tensors["embedding.weight"] = np.where(np.isfinite(halves), halves, 0).astype(np.float16)
    content = encode(tensors, {"wavenet.format": "1", "wavenet.config": json.dumps(config.to_dict())})
    assert_same(content, tmp_path)


@pytest.mark.parametrize(
    "file", sorted((CLONE / "libwavenet/tests/corpus/model").glob("*")), ids=lambda file: file.name
)
def test_the_corpus_of_the_fuzzer_is_treated_as_in_python(file: Path, tmp_path: Path) -> None:
    if assert_agreement(file.read_bytes(), tmp_path, same_part=False) is None:
        assert_same(file.read_bytes(), tmp_path)


def test_files_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mödel\n.safetensors"
    file.write_bytes(file_of(WHOLE))
    native().check_model_file(str(file))
    file.write_bytes(file_of(WHOLE)[:-1])
    with pytest.raises(ValueError, match=r"mödel\\x0a.safetensors: not a complete .safetensors file"):
        native().check_model_file(str(file))
    for content, message in ((b"", "empty"), (b"PK\x03\x04", "pickle"), (b"\x80\x02}q", "pickle")):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            native().check_model_file(str(file))
    with pytest.raises(ValueError, match="no such file"):
        native().check_model_file(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="a folder"):
        native().check_model_file(str(tmp_path))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="not a regular file"):
            native().check_model_file(str(tmp_path / "pipe"))
