"""libwavenet as WebAssembly: the same samples as the native engine, in a runtime and in a browser's audio thread."""

from __future__ import annotations

import functools
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import open_page, serving, wasm
from commands import save_model
from numpy.typing import NDArray

import wavenet.web
from wavenet.generate import Generator

MODEL = Path(__file__).parents[1] / "samples" / "made" / "speech.safetensors"
SAMPLES = 20_000
PRECISIONS = ("int8", "f32")
OK = 0


@pytest.fixture(scope="module")
def module() -> Path:
    return wasm()


@functools.cache
def native(precision: str) -> NDArray[np.float32]:
    generator = Generator.load(MODEL, engine="native", precision=precision, threads=1)
    return generator.render(seconds=SAMPLES / generator.sample_rate, seed=7)


class Instance:
    """The module in wasmtime, with memory as its only import."""

    def __init__(self, path: Path) -> None:
        wasmtime = pytest.importorskip("wasmtime", reason="pip install wasmtime")
        engine = wasmtime.Engine()
        module = wasmtime.Module.from_file(engine, str(path))
        self.imports = [(wanted.module, wanted.name) for wanted in module.imports]
        self.store = wasmtime.Store(engine)
        self.memory = wasmtime.Memory(self.store, wasmtime.MemoryType(wasmtime.Limits(64, None)))
        self.exports = wasmtime.Instance(self.store, module, [self.memory]).exports(self.store)
        self("_initialize")

    def __call__(self, name: str, *arguments: float) -> Any:
        return self.exports[name](self.store, *arguments)

    def put(self, data: bytes) -> int:
        pointer: int = self("malloc", len(data))
        self.memory.write(self.store, data, pointer)
        return pointer

    def get(self, pointer: int, size: int) -> bytes:
        return bytes(self.memory.read(self.store, pointer, pointer + size))

    def error(self) -> str:
        return self.get(self("wavenet_last_error"), 300).split(b"\0")[0].decode()

    def open(self, model: bytes, precision: str) -> int:
        handle = self.put(bytes(4))
        status = self(
            "wavenet_model_open_bytes", self.put(model), len(model), self.put(precision.encode() + b"\0"), handle
        )
        assert status == OK, self.error()
        opened: int = struct.unpack("<I", self.get(handle, 4))[0]
        return opened

    def render(self, stream: int, samples: int, block: int = 500) -> NDArray[np.float32]:
        out, blocks = self("malloc", 4 * block), []
        for _ in range(samples // block):
            assert self("wavenet_stream_process", stream, out, block) == OK
            blocks.append(np.frombuffer(self.get(out, 4 * block), dtype=np.float32))
        return np.concatenate(blocks)


def test_the_module_is_small_and_imports_nothing_but_memory(module: Path) -> None:
    assert module.stat().st_size < 1_000_000
    assert Instance(module).imports == [("env", "memory")]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_module_generates_what_the_native_engine_does(module: Path, precision: str) -> None:
    instance = Instance(module)
    model = instance.open(MODEL.read_bytes(), precision)
    audio = instance.render(instance("wavenet_stream_new", model, 7, 500), SAMPLES)
    # float32: logits differ in the last bits, which moves a draw in 100,000; here it moves none
    np.testing.assert_array_equal(audio, native(precision))
    assert len(np.unique(audio)) > 100


def test_bad_bytes_trap_and_leave_a_message(module: Path) -> None:
    instance = Instance(module)
    with pytest.raises(Exception, match="wasm trap"):
        instance.open(b"no model at all", "int8")
    assert "model" in instance.error() or "file" in instance.error()


RENDER = """async ({ model, samples, load, controls, wrong }) => {
  const { createVoice, readConfig } = await import("/wavenet.js");
  const bytes = await (await fetch(model)).arrayBuffer();
  const context = new OfflineAudioContext(1, samples, readConfig(bytes).sample_rate);
  const voice = await createVoice(context, bytes, load);
  const reports = [], errors = [];
  voice.onreport = (report) => reports.push(report);
  voice.onerror = (message) => errors.push(message);
  voice.set(controls);
  voice.node.connect(context.destination);
  const rendered = await context.startRendering();
  while (errors.length < wrong) await new Promise((resolve) => setTimeout(resolve, 5)); // they come as messages
  return { audio: Array.from(rendered.getChannelData(0)), reports, errors, info: voice.info };
}"""


@pytest.fixture(scope="module")
def served(module: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with the files of a page, and its address."""
    folder = tmp_path_factory.mktemp("page")
    for name in wavenet.web.FILES:
        shutil.copy(wavenet.web.file(name), folder)
    shutil.copy(MODEL, folder / "speech.safetensors")
    (folder / "index.html").write_text("<!doctype html><link rel=icon href=data:,>")

    with serving(folder) as address:
        yield folder, address


@pytest.fixture(scope="module")
def page(served: tuple[Path, str]) -> Iterator[Any]:
    with open_page(served[1]) as opened:
        yield opened


def render(page: Any, precision: str = "int8", controls: dict[str, Any] | None = None, **changes: Any) -> Any:
    options = {"model": "speech.safetensors", "samples": SAMPLES, "controls": controls or {}, "wrong": 0, **changes}
    return page.evaluate(RENDER, {"load": {"precision": precision, "seed": 7}, **options})


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_browser_renders_what_the_native_engine_does(page: Any, precision: str) -> None:
    rendered = render(page, precision)
    assert rendered["errors"] == []
    np.testing.assert_array_equal(np.array(rendered["audio"], dtype=np.float32), native(precision))
    assert (rendered["info"]["sampleRate"], rendered["info"]["layers"]) == (16_000, 20)
    report = rendered["reports"][0]
    assert report["position"] == 1_664  # the first whole block after a tenth of a second
    assert report["level"] == pytest.approx(float(np.sqrt(np.mean(native(precision)[:1_664] ** 2))), rel=1e-4)
    assert report["starved"] == 0


def test_controls_in_a_browser_act_as_in_python(page: Any) -> None:
    generator = Generator.load(MODEL, engine="native", precision="int8", threads=1)
    expected = generator.render(seconds=SAMPLES / generator.sample_rate, seed=7, temperature=0.5, top_k=40)
    load = {"precision": "int8", "seed": 7, "controls": {"temperature": 0.5, "topK": 40}}
    rendered = render(page, load=load)  # later ones come as messages, at some block
    np.testing.assert_array_equal(np.array(rendered["audio"], dtype=np.float32), expected)


def test_a_browser_says_what_is_wrong(page: Any, served: tuple[Path, str]) -> None:
    for controls, message in (
        ({"voices": 3}, "voices: there is no such control; there are temperature,"),
        ({"temperature": -1}, "temperature: must be a finite number from 0"),
    ):
        errors = render(page, controls=controls, samples=1_000, wrong=1)["errors"]
        assert len(errors) == 1
        assert errors[0].startswith(message)
    other = save_model(served[0] / "other.safetensors")
    (served[0] / "broken.safetensors").write_bytes(other.read_bytes()[:-10])
    with pytest.raises(Exception, match="tensor|file|bytes"):
        render(page, model="broken.safetensors")
