"""The Explain section of the page in Chromium: numbers, muting, watched gates, linked levels, keyboard, axe-core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import open_page, serving, wasm
from numpy.typing import NDArray

from wavenet import checkpoint, mulaw
from wavenet.config import ModelConfig
from wavenet.generate import Generator
from wavenet.model import WaveNet
from wavenet.web import site

CYCLES, PER_CYCLE, KERNEL = 2, 4, 3
SILENCE = 128
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file: eight layers in two cycles, kernel 3, 16 kHz, random, with peaked logits."""
    torch.manual_seed(0)
    model = WaveNet(ModelConfig(CYCLES, PER_CYCLE, KERNEL, residual_channels=8, skip_channels=16, sample_rate=16_000))
    model.head.output.weight.data.normal_()
    file = tmp_path_factory.mktemp("models") / "small.safetensors"
    checkpoint.save_model(file, model)
    return file


@pytest.fixture(scope="module")
def opened(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    wasm()
    folder = tmp_path_factory.mktemp("page") / "site"
    site.build([path], folder)
    with serving(folder) as address, open_page(address, viewport={"width": 1000, "height": 900}) as page:
        page.wait_for_function("globalThis.engine?.info")
        yield page
        assert page.errors == []


@pytest.fixture
def page(opened: Any) -> Any:
    """The page as a visitor finds it, with the model in float32."""
    opened.evaluate(
        "async () => { engine.pause(); await engine.load(engine.manifest.models[0], { precision: 'f32' }); }"
    )
    opened.mouse.move(0, 0)
    opened.locator("#explain .drawing").scroll_into_view_if_needed()
    return opened


def slider(page: Any, label: str) -> Any:
    return page.locator("#explain").get_by_label(label, exact=True)


def layer_button(page: Any, layer: int) -> Any:
    return page.get_by_role("button", name=f"Mute layer {layer}, dilation {2 ** (layer % PER_CYCLE)}", exact=True)


def muted(page: Any) -> list[int]:
    layers: list[int] = page.evaluate("engine.controls.mute ?? []")
    return layers


def table(page: Any) -> list[list[int]]:
    """Layer, cycle, dilation, span and total of every row of the table."""
    rows = "rows => rows.map(row => Array.from(row.cells).slice(0, 5).map(cell => Number(cell.textContent)))"
    found: list[list[int]] = page.locator("#explain .layers tbody tr").evaluate_all(rows)
    return found


def config_of(cycles: int, per_cycle: int, kernel: int) -> ModelConfig:
    return ModelConfig(cycles, per_cycle, kernel, residual_channels=4, skip_channels=4, sample_rate=16_000)


STACKS = [(1, 8, 2), (2, 10, 2), (3, 10, 2), (1, 5, 3), (4, 12, 4), (2, 8, 2), (5, 1, 7)]


@pytest.mark.parametrize("shape", STACKS)
def test_receptive_fields_and_spans_are_those_of_the_configuration(opened: Any, shape: tuple[int, int, int]) -> None:
    found = opened.evaluate(
        """async ([cycles, perCycle, kernel]) => {
          const m = await import("./receptive_field.js");
          const stack = m.stackOf(cycles, perCycle, kernel);
          return {total: m.receptiveField(stack), plain: m.plainReceptiveField(stack), rows: m.layerRows(stack),
                  edges: m.coneEdges(stack)};
        }""",
        shape,
    )
    config = config_of(*shape)
    kernel = config.kernel_size
    assert found["total"] == config.receptive_field
    assert found["plain"] == 1 + (kernel - 1) * config.layers
    assert [row["dilation"] for row in found["rows"]] == list(config.dilations)
    assert [row["span"] for row in found["rows"]] == [(kernel - 1) * d + 1 for d in config.dilations]
    totals = [1 + (kernel - 1) * sum(config.dilations[: layer + 1]) for layer in range(config.layers)]
    assert [row["total"] for row in found["rows"]] == totals
    assert found["edges"] == [config.receptive_field - total for total in (1, *totals)]


def test_known_numbers(opened: Any) -> None:
    """A kernel of 3 at dilations 1 to 16 spans 3, 5, 9, 17, 33; eight layers of kernel 2 see 256 samples, 16 ms."""
    spans, seen = opened.evaluate(
        """async () => {
          const m = await import("./receptive_field.js");
          const eight = m.receptiveField(m.stackOf(1, 8));
          return [[1, 2, 4, 8, 16].map((d) => m.span(3, d)), [m.samplesText(eight), m.msText(eight, 16000)]];
        }"""
    )
    assert spans == [3, 5, 9, 17, 33]
    assert seen == ["256 samples", "16 ms"]


@pytest.mark.parametrize("mute", [(), (1,), (0, 4), (3, 7), tuple(range(8))])
def test_the_cone_is_what_the_output_depends_on(opened: Any, path: Path, mute: tuple[int, ...]) -> None:
    model = checkpoint.load_model(path)
    assert isinstance(model, WaveNet)
    x = torch.randn(1, model.config.receptive_field + 5, 8, requires_grad=True)  # [B, T, R]
    silenced = torch.zeros(model.config.layers, dtype=torch.bool)
    silenced[list(mute)] = True
    above = x
    for index, layer in enumerate(model.typed_layers):
        above = above if silenced[index] else above + layer(above)[1]
    above[0, -1].sum().backward()
    assert x.grad is not None
    depends = (x.grad[0].abs().sum(-1) > 0).flip(0).numpy()  # [T], the newest first
    nodes = opened.evaluate(
        f"""async () => {{
          const m = await import("./receptive_field.js");
          return Array.from(m.coneNodes(m.stackOf({CYCLES}, {PER_CYCLE}, {KERNEL}), new Set({list(mute)}))[0]);
        }}"""
    )
    np.testing.assert_array_equal(np.array(nodes, dtype=bool), depends[: len(nodes)])
    assert not depends[len(nodes) :].any()
    if not mute:
        assert all(nodes)


def test_the_section_shows_the_model_and_what_is_drawn(page: Any) -> None:
    config = config_of(CYCLES, PER_CYCLE, KERNEL)
    section = page.locator("#explain")
    assert section.locator(".dilated").inner_text().split("\t")[:3] == ["dilated", "61 samples", "3.81 ms"]
    assert config.receptive_field == 61
    expected, total = [], 1
    for layer, dilation in enumerate(config.dilations):
        total += 2 * dilation
        expected.append([layer, layer // PER_CYCLE, dilation, 2 * dilation + 1, total])
    assert table(page) == expected
    for label, value in (("Layers per cycle", 8), ("Cycles", 1), ("Kernel size", 2)):
        slider(page, label).fill(str(value))
    assert section.locator(".badge").inner_text() == "only a drawing"
    assert section.locator(".dilated").inner_text().split("\t")[:3] == ["dilated", "256 samples", "16 ms"]
    assert section.locator(".plain").inner_text().split("\t")[:3] == ["without dilation", "9 samples", "0.563 ms"]
    assert table(page)[-1] == [7, 0, 128, 129, 256]
    assert section.locator(".rows button:visible, .layers input").count() == 0  # a drawing cannot be muted
    page.get_by_role("button", name="This model").click()
    assert section.locator(".badge").inner_text() == "the model that plays"
    assert table(page) == expected


def test_the_guide_leads_to_256_samples(page: Any) -> None:
    guide = page.locator("#explain .guide")
    page.get_by_role("button", name="Start", exact=True).click()
    for _ in range(2):
        page.get_by_role("button", name="Next").click()
    assert "256 samples, 16 ms" in guide.inner_text()
    assert page.locator("#explain .dilated .samples").inner_text() == "256 samples"
    for _ in range(3):
        page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Mute dilations from 8 up").click()
    assert muted(page) == [3, 7]
    assert "29 samples, 1.81 ms" in guide.inner_text()  # 1 + 2 x 2 x (1 + 2 + 4)
    assert "29 samples" in page.locator("#explain .status").inner_text()


def take(page: Any, samples: int) -> tuple[NDArray[np.float32], list[dict[str, Any]], dict[str, Any]]:
    """What was generated once so many samples were heard, the controls set since its start, and those of the start."""
    page.wait_for_function(f"engine.position >= {samples}")
    page.evaluate("engine.pause()")
    found = page.evaluate("({ samples: Array.from(engine.take.samples), settings: engine.take.settings })")
    return np.array(found["samples"], dtype=np.float32), found["settings"]["events"], found["settings"]["controls"]


def test_muting_acts_as_in_python(page: Any, path: Path) -> None:
    page.evaluate("engine.load(engine.manifest.models[0], { precision: 'int8' })")
    page.wait_for_function("engine.model.precision === 'int8' && !engine.loading")
    layer_button(page, 2).click()
    layer_button(page, 5).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    assert muted(page) == [2, 6]
    assert layer_button(page, 6).get_attribute("aria-pressed") == "true"
    page.evaluate("engine.restart({ seed: 5 })")
    page.locator("#explain .listen").click()
    page.wait_for_function("engine.position > 2000")
    heard = "mute => engine.take.settings.events.at(-1)?.set.mute.join() === mute"
    page.get_by_role("button", name="Mute dilation 2", exact=True).click()  # adds layers 1 and 5
    page.wait_for_function(heard, arg="1,2,5,6")
    page.get_by_role("button", name="Mute cycle 0", exact=True).click()  # and its others
    page.wait_for_function(heard, arg="0,1,2,3,5,6")
    page.get_by_role("button", name="Unmute all").click()
    page.wait_for_function(heard, arg="")
    audio, events, controls = take(page, page.evaluate("engine.position") + 2_000)
    assert controls["mute"] == [2, 6]
    assert [event["set"]["mute"] for event in events] == [[1, 2, 5, 6], [0, 1, 2, 3, 5, 6], []]
    session = Generator.load(path, engine="native", precision="int8", threads=1).session(seed=5)
    session.mute = controls["mute"]
    blocks, position = [], 0
    for event in (*events, {"position": len(audio), "set": {"mute": []}}):
        end = min(event["position"], len(audio))
        blocks.append(session.next(end - position))
        session.mute, position = event["set"]["mute"], end
    np.testing.assert_array_equal(audio, np.concatenate(blocks))
    plain = Generator.load(path, engine="native", precision="int8", threads=1).render(seconds=0.2, seed=5)
    assert not np.array_equal(audio[:3_200], plain)


def gates(model: WaveNet, audio: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """a, b and z [T, L, G] of the definition at the steps that generated these samples."""
    codes = np.concatenate([[SILENCE], mulaw.encode(audio[:-1])])
    x = model.embed(torch.from_numpy(codes.astype(np.int64))[None])
    found = []
    for layer in model.typed_layers:
        a, b = layer.dilated(x).chunk(2, dim=-1)
        x, z = layer(x)
        found.append(torch.stack([a[0], b[0], z[0]]))
    a, b, z = torch.stack(found, dim=2)  # of [3, T, L, G]
    return a, b, z


def test_watched_gates_are_those_of_the_definition(page: Any, path: Path) -> None:
    layer, channel = 5, 3
    page.evaluate(
        """() => {
          globalThis.events = [];
          engine.addEventListener("watched", ({ detail: { layer, ...values } }) => {
            const arrays = Object.entries(values).map(([name, array]) => [name, Array.from(array)]);
            const text = (name) => document.querySelector(`#explain .equation .${name}`).textContent;
            const shown = ["a", "b", "z"].map(text);
            events.push({ layer, shown, ...Object.fromEntries(arrays) });
          });
        }"""
    )
    slider(page, "Layer").fill(str(layer))
    slider(page, "Channel").fill(str(channel + 1))
    page.locator("#explain .listen").click()
    page.wait_for_function(f"events.filter(({{ layer }}) => layer === {layer}).length >= 8")
    audio, _, _ = take(
        page, page.evaluate("Math.ceil(engine.position + engine.ahead * engine.info.sampleRate) + 2_000")
    )
    model = checkpoint.load_model(path)
    assert isinstance(model, WaveNet)
    with torch.no_grad():
        a, b, z = (values.numpy() for values in gates(model, audio))
    compared = 0
    for event in page.evaluate("events"):
        distance = np.abs(z[:, event["layer"]] - np.array(event["z"])).max(axis=-1)
        step = int(distance.argmin())
        if event["layer"] != layer or distance[step] > 1e-4:
            continue  # generated, and not heard before the pause
        compared += 1
        np.testing.assert_allclose(a[step, layer], event["a"], atol=1e-4)
        np.testing.assert_allclose(b[step, layer], event["b"], atol=1e-4)
        np.testing.assert_allclose(np.sqrt((z[step] ** 2).mean(-1)), event["strengths"], atol=1e-4)
        values = [float(text.replace(MINUS, "-")) for text in event["shown"]]  # float() ignores spaces of any width
        np.testing.assert_allclose(values, [event[name][channel] for name in "abz"], atol=0.005 + 1e-6)
    assert compared >= 5


def test_selections_are_linked(page: Any) -> None:
    heat = page.locator("#explain .heat")
    slider(page, "Layer").focus()
    page.keyboard.press("End")
    assert layer_button(page, 7).get_attribute("tabindex") == "0"
    assert "layer 7, dilation 8" in heat.get_attribute("aria-label")
    assert "7 (of 0 to 7), dilation 8" in slider(page, "Layer").get_attribute("aria-valuetext")
    layer_button(page, 2).hover()
    assert slider(page, "Layer").input_value() == "2"
    assert "layer 2, dilation 4" in heat.get_attribute("aria-label")
    assert "4 samples (0.25 ms) apart" in page.locator("#explain .sentence").inner_text()
    page.mouse.move(0, 0)
    assert slider(page, "Layer").input_value() == "7"
    box = heat.bounding_box()
    heat.click(position={"x": 20, "y": box["height"] * 5.5 / 8})
    assert slider(page, "Channel").input_value() == "6"
    page.locator("#explain details").evaluate("details => details.open = true")
    page.get_by_label("Mute layer 1", exact=True).check()
    assert muted(page) == [1]
    assert layer_button(page, 1).get_attribute("aria-pressed") == "true"
    assert page.locator("#explain .dilated .samples").inner_text() == "57 samples"
    slider(page, "Layer").fill("2")  # its taps see 1 + 2 x 1 samples each, without layer 1
    assert "made of 3 samples; together they see 11 samples" in page.locator("#explain .sentence").inner_text()
    layer_button(page, 1).click()
    assert muted(page) == []
    assert not page.get_by_label("Mute layer 1", exact=True).is_checked()


def test_a_finger_watches_a_layer_before_it_mutes_it(page: Any) -> None:
    tap = "button => button.dispatchEvent(new PointerEvent('click', { bubbles: true, pointerType: 'touch' }))"
    layer_button(page, 1).evaluate(tap)
    assert (slider(page, "Layer").input_value(), muted(page)) == ("1", [])
    layer_button(page, 1).evaluate(tap)
    assert muted(page) == [1]


def test_it_moves_once_a_second_where_motion_is_not_wanted(page: Any) -> None:
    record = "globalThis.setInterval = (work, delay) => (delays.push(delay), original(work, delay))"
    page.evaluate(f"globalThis.delays = []; globalThis.original = setInterval; {record}; 0")
    for motion, delay in (("reduce", 1_000), ("no-preference", 66)):
        page.emulate_media(reduced_motion=motion)
        page.evaluate("delays.length = 0, engine.play()")
        page.wait_for_function("delays.length > 0")
        assert page.evaluate("delays") == [delay]
        page.evaluate("engine.pause()")


def test_everything_works_by_keyboard(page: Any) -> None:
    page.locator("#explain details").evaluate("details => details.open = false")
    slider(page, "Layers per cycle").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#explain .dilated .samples").inner_text() == "125 samples"  # 1 + 2 x 2 x 31
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # this model
    assert page.locator("#explain .dilated .samples").inner_text() == "61 samples"
    page.locator("#explain .steps button").first.focus()
    reached = []
    for _ in range(60):
        reached.append(
            page.evaluate("document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.textContent")
        )
        page.keyboard.press("Tab")
        if not page.evaluate("document.activeElement.closest('#explain')"):
            break
    for name in (
        "Step 6",
        "Cycles",
        "Zoom",
        "Logarithmic",
        "Mute cycle 1",
        "Mute layer",
        "Mute dilation 8",
        "Layer",
        "Channel",
    ):
        assert any((found or "").strip().startswith(name) for found in reached), name
    assert sum((found or "").startswith("Mute layer") for found in reached) == 1  # arrow keys move within


def test_a_model_of_the_server_can_be_muted_but_not_watched(page: Any) -> None:
    shown = page.evaluate(
        """async () => {
          const { mountExplain } = await import("./explain.js");
          const { info, config } = globalThis.engine;
          const engine = Object.assign(new EventTarget(), {
            canWatch: false, controls: {}, info, config, playing: false,
            recent: (n) => new Float32Array(n), set(controls) { Object.assign(this.controls, controls); },
          });
          const section = document.body.appendChild(document.createElement("section"));
          mountExplain(section, engine);
          section.querySelector(".rows button").click();
          const text = section.querySelector(".gate-panel").innerText;
          section.remove();
          return { text, muted: engine.controls.mute };
        }"""
    )
    assert "runs on the server" in shown["text"]
    assert "Channel" not in shown["text"]
    assert shown["muted"] == [7]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violations(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    page.emulate_media(color_scheme=scheme)
    page.locator("#explain details").evaluate("details => details.open = true")
    layer_button(page, 3).click()
    for step in ("Step 6: Hear it", "Step 3: Eight layers, 256 samples"):
        page.get_by_role("button", name=step).click()
        results = axe.Axe().run(page, context="#explain")
        assert [violation["id"] for violation in results.response["violations"]] == []
    page.get_by_role("button", name="Unmute all").click()


def test_it_fits_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for name in ("Step 2: Twice as far", "Step 5: Cycles repeat"):
        page.get_by_role("button", name=name).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    width, pixels = page.locator("#explain .cone").evaluate(
        "canvas => [canvas.clientWidth, canvas.width / devicePixelRatio]"
    )
    assert width == pytest.approx(pixels, abs=1)
    page.set_viewport_size({"width": 1000, "height": 900})
