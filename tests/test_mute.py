"""Muted layers: every engine against the definition with z = 0, in sessions and on the command line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import (
    CONDITIONED,
    definition_outputs,
    draw,
    engine_for,
    random_codes,
    random_conditioning,
    random_model,
)
from commands import SAMPLE_RATE, error_of, run, save_vocoder
from numpy.typing import NDArray
from two_tier_data import MEL, generator_of, hum

from wavenet import checkpoint
from wavenet.config import ModelConfig
from wavenet.data import audio
from wavenet.data.quantizers import quantizer_for
from wavenet.engine import torch_step
from wavenet.engine.conditioning import ConditioningInputs
from wavenet.features import mel_spectrogram
from wavenet.generate import Generator
from wavenet.model import WaveNet

NAMES = ("native", "torch", "naive")
SHAPES = {"free mu-law": ModelConfig(2, 3, 2, 8, gate_channels=7, skip_channels=12), **CONDITIONED}
TOLERANCE = 1e-4  # of logits whose spread is several units


def muted_outputs(
    model: WaveNet, codes: NDArray[np.int64], mute: Iterable[int], inputs: ConditioningInputs | None = None
) -> NDArray[np.float32]:
    """`definition_outputs` of the model, where a hook sets z of these layers to zero, and x with it."""

    def zeroed(layer: Any, arguments: tuple[Any, ...], outputs: tuple[Any, Any]) -> tuple[Any, Any]:
        x, z = arguments[0], torch.zeros_like(outputs[1])
        return (x if layer.residual is None else x + layer.residual(z)), z

    hooks = [model.layers[layer].register_forward_hook(zeroed) for layer in mute]
    outputs = definition_outputs(model, codes, inputs)
    for hook in hooks:
        hook.remove()
    return outputs


@pytest.mark.parametrize("shape", SHAPES)
def test_a_muted_layer_has_z_zero_in_every_engine(shape: str) -> None:
    config = SHAPES[shape]
    model = random_model(config)
    codes = random_codes(config, 2, 40)
    inputs = random_conditioning(config, 2, 40)
    arrays = (None, None) if inputs is None else (inputs.speaker, inputs.features)
    given = [None if array is None else torch.from_numpy(array) for array in arrays]
    for mute in ((1,), (0, config.layers - 1), range(config.layers)):
        expected = muted_outputs(model, codes, mute, inputs)
        plain = definition_outputs(model, codes, inputs)
        assert not np.allclose(expected, plain, atol=100 * TOLERANCE)
        muted = torch.isin(torch.arange(config.layers), torch.tensor(list(mute)))
        silence = np.full((2, 1), quantizer_for(config.output).silence)
        with torch.no_grad():
            forward = model(torch.from_numpy(np.concatenate([silence, codes[:, :-1]], axis=1)), *given, muted=muted)
        np.testing.assert_allclose(forward.numpy(), expected, atol=TOLERANCE, rtol=0)
        for name in NAMES:
            engine = engine_for(name, model)
            state = engine.new_state(2, inputs)
            state.mute = mute
            np.testing.assert_allclose(engine.logits(state, codes), expected, atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize("name", [*NAMES, "int8"])
def test_primed_generated_and_fed_samples_have_the_same_muted_layers(name: str) -> None:
    """The layers change between calls; what earlier samples left in the queues stays."""
    config = SHAPES["free mu-law"]
    engine = engine_for("native" if name == "int8" else name, random_model(config), "int8" if name == "int8" else "f32")
    fed, primed = engine.new_state(2), engine.new_state(2)
    for index, mute in enumerate([(2, 3), (), (0, 5), (1,)]):
        fed.mute = primed.mute = mute
        codes = random_codes(config, 2, 9, seed=index)
        engine.logits(fed, codes)
        engine.prime(primed, codes)
        copied = primed.copy()
        assert copied.mute == primed.mute == mute
        np.testing.assert_array_equal(draw(engine, primed.copy(), 20), draw(engine, fed.copy(), 20))
        primed.mute = ()
        other = draw(engine, primed.copy(), 20)
        assert bool(mute) != np.array_equal(other, draw(engine, copied, 20))
        primed.assign(fed)
        assert primed.mute == mute


def test_engines_agree_while_the_muted_layers_change() -> None:
    config = SHAPES["free mu-law"]
    model = random_model(config)
    codes = random_codes(config, 2, 60)
    outputs = []
    for name in NAMES:
        engine = engine_for(name, model)
        state, parts = engine.new_state(2), []
        for first, mute in ((0, ()), (13, (0, 3)), (26, (4,)), (39, ())):
            state.mute = mute
            parts.append(engine.logits(state, codes[:, first : first + 13]))
        outputs.append(np.concatenate(parts, axis=1))
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], atol=TOLERANCE, rtol=1e-4)
    assert not np.allclose(outputs[0], definition_outputs(model, codes[:, :52]), atol=0.1)


@pytest.mark.parametrize("limit", [2**30, 0], ids=["folded", "unfolded"])
def test_folded_and_unfolded_weights_with_muted_layers(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_step, "FOLD_UP_TO", limit)
    model = random_model(SHAPES["free mu-law"])
    codes = random_codes(model.config, 1, 30)
    engine = engine_for("torch", model)
    state = engine.new_state(1)
    state.mute = (0, 4)
    expected = muted_outputs(model, codes, (0, 4))
    np.testing.assert_allclose(engine.logits(state, codes), expected, atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_threads_and_batches_mute_alike(precision: str) -> None:
    model = random_model(ModelConfig(2, 4, 2, 32, skip_channels=64))
    expected = Generator.from_model(model, "native", precision, 1).render(0.05, mute=(1, 6))
    for threads in (2, 3):
        generator = Generator.from_model(model, "native", precision, threads)
        np.testing.assert_array_equal(generator.render(0.05, mute=(1, 6)), expected)
        batch = generator.render(0.05, mute=(1, 6), count=4)
        np.testing.assert_array_equal(batch[0], expected)
    assert not np.array_equal(expected, generator.render(0.05))


def test_a_session_is_muted_from_the_next_call_on() -> None:
    generator = Generator.from_model(random_model(SHAPES["free mu-law"]), "native", threads=1)
    session = generator.session(mute=[4, 1, 4], prime=np.linspace(-0.5, 0.5, 50))
    assert session.mute == (1, 4)
    branch, plain = session.copy(), generator.session(prime=np.linspace(-0.5, 0.5, 50))
    first = session.next(30)
    assert not np.array_equal(first, plain.next(30))
    session.mute = None
    assert (session.mute, branch.mute) == ((), (1, 4))
    np.testing.assert_array_equal(branch.next(30), first)
    branch.mute = ()
    np.testing.assert_array_equal(branch.next(30), session.next(30))


def test_a_session_of_two_tiers_and_a_guided_one_mute_the_layers_of_the_network() -> None:
    generator = generator_of()
    muted, frames = generator.session(mute=(0, 2)), generator.session()
    audio_of_both = [session.next(700) for session in (muted, frames)]
    assert not np.array_equal(*audio_of_both)
    np.testing.assert_array_equal(muted.frames(0, 10), frames.frames(0, 10))  # the slow tier draws the same
    muted.mute, frames.mute = (), (0, 2)
    assert not np.array_equal(muted.next(600), frames.next(600))
    features = mel_spectrogram(hum(0.1), MEL)
    plain, quiet = (generator.render(features=features, particles=2, mute=mute) for mute in (None, (0, 2)))
    assert not np.array_equal(plain, quiet)


@pytest.mark.parametrize("wrong", [(6,), (-1,), 3, "3", (True,), (1.0,), ("a",)])
def test_what_is_not_a_layer_is_refused_in_one_line(wrong: Any) -> None:
    generator = Generator.from_model(random_model(SHAPES["free mu-law"]), "native", threads=1)
    session = generator.session(mute=(2,))
    state = engine_for("naive", random_model(SHAPES["free mu-law"])).new_state(1)
    for assign in (
        lambda: generator.session(mute=wrong),
        lambda: setattr(session, "mute", wrong),
        lambda: setattr(state, "mute", wrong),
    ):
        with pytest.raises(ValueError, match=r"^mute = .*: must be layers of the model, from 0 to 5[^\n]*$"):
            assign()
    assert (session.mute, state.mute) == ((2,), ())


def test_the_command_line_mutes_indices_and_ranges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = random_model(SHAPES["free mu-law"])
    checkpoint.save_model(tmp_path / "m.safetensors", model)
    generator = Generator.from_model(model, threads=1)
    command = [
        "generate",
        tmp_path / "m.safetensors",
        "-o",
        tmp_path / "new.wav",
        "--seconds",
        "0.05",
        "--threads",
        "1",
    ]
    for text, layers in (("3", (3,)), ("1,4", (1, 4)), ("0,2-4", (0, 2, 3, 4))):
        assert run(*command, "--mute", text) == 0
        written = audio.read(tmp_path / "new.wav", generator.sample_rate)
        np.testing.assert_allclose(written, generator.render(0.05, mute=layers), atol=1e-4)
    capsys.readouterr()
    for text, message in (
        ("6", "from 0 to 5"),
        ("x", "expected layers, such as 3,4"),
        ("-1", "expected layers"),
        ("4-2", "4-2 is not a range"),
        ("0-999999999999", "is not a range"),
    ):
        assert message in error_of(capsys, *command, "--mute", text)


def test_vocode_mutes_layers(tmp_path: Path) -> None:
    model = save_vocoder(tmp_path / "vocoder.safetensors")
    np.save(tmp_path / "mel.npy", np.random.default_rng(0).normal(-4, 1, (20, 12)).astype(np.float32))
    written = []
    for options in ([], ["--mute", "1,2"]):
        assert run("vocode", model, "--mel", tmp_path / "mel.npy", "-o", tmp_path / "new.wav", *options) == 0
        written.append(audio.read(tmp_path / "new.wav", SAMPLE_RATE))
    assert not np.array_equal(*written)
