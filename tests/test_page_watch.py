"""The page's engine: watched gates, machines that are too slow, what is refused, audio threads without allocations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import save_model
from page_engine import SPEECH, VOCODER, VOICE, EnginePage, engine_page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnginePage]:
    with engine_page(tmp_path_factory.mktemp("engine")) as opened:
        yield opened


def test_watched_gates(page: EnginePage) -> None:
    page.load(VOICE)
    script = """
      engine.set({ mute: [4] });
      const seen = [];
      engine.addEventListener("watched", ({ detail }) =>
        seen.push(Object.fromEntries(Object.entries(detail).map(([k, v]) => [k, v.length ? Array.from(v) : v]))));
      engine.watch(argument);
      await engine.restart(); // it is still watched
      await engine.play();
      await until(() => seen.length > 2);
      engine.pause();
      engine.watch(null);
      return seen.at(-1);"""
    found = page.do(script, 2)
    assert found["layer"] == 2
    assert len(found["a"]) == len(found["b"]) == len(found["z"]) == 8
    a, b = np.array(found["a"]), np.array(found["b"])
    np.testing.assert_allclose(np.tanh(a) / (1 + np.exp(-b)), found["z"], atol=1e-3)
    strengths = np.array(found["strengths"])
    assert len(strengths) == 6
    assert strengths[2] == pytest.approx(float(np.sqrt(np.mean(np.square(found["z"])))), rel=1e-4)
    assert strengths[4] == 0 and (strengths[[0, 1, 2, 3, 5]] > 0).all()


def test_a_slow_machine_generates_ahead_and_plays_in_stretches(page: EnginePage) -> None:
    page.load(VOICE, throttle=0.7)
    script = """
      const log = [];
      engine.addEventListener("state", ({ detail }) => log.push(detail));
      await engine.play();
      await until(() => engine.waiting);
      await until(() => !engine.waiting);
      const { ahead } = engine;
      await until(() => engine.waiting); // the stretch is over
      engine.pause();
      return { ahead, position: engine.position, speed: engine.speed, waited: log.filter((s) => s.waiting).length };"""
    found = page.do(script)
    assert found["speed"] < 0.75
    assert found["ahead"] > 1.9  # seconds
    assert found["position"] > 1.9 * 8_000  # without a gap, as `waiting` says
    assert found["waited"] >= 1
    take = page.take("")
    np.testing.assert_array_equal(take.audio, take.replayed())


def test_another_model_while_one_plays(page: EnginePage) -> None:
    page.load(VOICE)
    script = """
      await heard(1000);
      await engine.play();
      const first = engine.load(engine.manifest.models[1]);
      await Promise.all([first, engine.load(engine.manifest.models[argument])]); // the later one wins
      const { playing } = engine;
      await until(() => engine.position >= 3000);
      engine.pause();
      return [playing, engine.model.name, engine.info.sampleRate];"""
    assert page.do(script, SPEECH) == [True, "speech", 16_000]
    take = page.take("")
    np.testing.assert_array_equal(take.audio, page.generator(SPEECH).session(seed=0).next(len(take.audio)))


def test_a_dropped_model_file_and_what_is_none(page: EnginePage, tmp_path: Path) -> None:
    page.load(VOICE)
    content = save_model(tmp_path / "own.safetensors").read_bytes()
    script = """
      const bytes = Uint8Array.from(argument).buffer;
      try { await engine.load({ name: "own", bytes }); } catch (error) { return error.message; }
      await heard(1000);
      return [engine.model.name, engine.model.sha256.length, engine.take.samples.length >= 1000];"""
    assert page.do(script, list(content)) == ["own", 64, True]
    assert page.do(script, list(b"RIFF" + bytes(40))) == "own: is not a model file of this toolkit"
    assert page.do(script, list(content[:-4])).startswith("own: ")
    assert page.do("await heard(engine.position + 500); return engine.model.name") == "own"  # it plays on


def test_what_is_refused_says_so(page: EnginePage) -> None:
    page.load(VOICE)
    script = """
      engine.set({ temperature: 0.8 });
      engine.set({ temperature: -1 });
      engine.set({ voices: 2 });
      await until(() => failures.length === 2);
      await engine.resynthesise(new Float32Array(100));
      await engine.openMicrophone();
      let returned;
      try { await engine.returnTo("none"); } catch (error) { returned = error.message; }
      await heard(1000); // it still plays
      return [failures, engine.controls, returned];"""
    failures, controls, returned = page.do(script)
    assert failures[0].startswith("temperature: must be a finite number")
    assert failures[1].startswith("voices: there is no such control; there are temperature,")
    assert failures[2:] == [
        "this model resynthesises no recording: it continues one",
        "this model has no use for a microphone: it resynthesises nothing",
    ]
    assert controls == {"temperature": 0.8}
    assert returned == "this branch belongs to an earlier start"
    script = """
      await open_engine();
      await engine.load({ ...engine.manifest.models[argument], clip: undefined });
      await engine.play();
      await engine.prime(new Float32Array(100));
      return [failures, engine.playing];"""
    failures, playing = page.do(script, VOCODER)
    assert failures[0].startswith("this model resynthesises a recording")
    assert failures[1] == "this model continues no recording: it resynthesises one"
    assert not playing
    missing = """
      await open_engine();
      try { await engine.load({ name: 'x', file: 'x.safetensors' }); } catch (error) { return error.message; }"""
    message = page.do(missing)
    page.page.errors[:] = [error for error in page.page.errors if "404" not in error]  # the browser's own line
    assert "x.safetensors: 404" in message


ALLOCATIONS = """
  class Port { postMessage() {} }
  if (globalThis.run) return;
  globalThis.sampleRate = 8000;
  globalThis.AudioWorkletProcessor = class { port = new Port(); };
  const classes = {};
  globalThis.registerProcessor = (name, processor) => (classes[name] = processor);
  await import("/processor.js?stubbed");
  await import("/player.js?stubbed");
  const inputs = [], outputs = [[new Float32Array(128)]];

  const generating = new classes.wavenet();
  const bytes = async (name) => (await fetch(name)).arrayBuffer();
  generating.port.onmessage({ data: { load: { wasm: await bytes("/wavenet.wasm"), model: await bytes(argument) } } });
  generating.sendReport = () => generating.startReport(); // messages are objects

  const player = new classes["wavenet-player"]({ processorOptions: { capacity: 1 << 22 } });
  player.receive({ block: new Float32Array(1 << 22).fill(0.5), position: 0, epoch: 1 });
  player.sendReport = () => (player.since = 0);

  globalThis.run = (name, count) => {
    const processor = { generating, player }[name];
    for (let i = 0; i < count; ++i) processor.process(inputs, outputs);
    return outputs[0][0].some((sample) => sample !== 0);
  };
"""


@pytest.mark.parametrize("name", ["generating", "player"])
def test_the_audio_thread_allocates_nothing(page: EnginePage, name: str) -> None:
    page.do(ALLOCATIONS, "/voice.safetensors")
    devtools = page.page.context.new_cdp_session(page.page)

    def used_after(calls: int) -> int:
        """Bytes of the heap that were allocated by this many calls, as far as they were not collected."""
        assert page.page.evaluate("([name, calls]) => run(name, calls)", [name, calls])
        size: int = devtools.send("Runtime.getHeapUsage")["usedSize"]
        return size

    used_after(8_000)  # optimises the code
    devtools.send("HeapProfiler.enable")
    devtools.send("HeapProfiler.collectGarbage")
    sizes = np.array([used_after(2_000) for _ in range(8)])
    one_each = 2_000 * 12  # bytes, if every call allocated the smallest object
    assert np.median(np.diff(sizes)) < one_each, sizes
