// The Explain section: the stack of the model that plays, one of its layers, and one gate of that layer.

import { Guide } from "./guide.js";
import { GateView } from "./gate.js";
import { LayerView } from "./layer.js";
import { StackView } from "./stack.js";
import {
  layerRows,
  msText,
  plainReceptiveField,
  receptiveField,
  samplesText,
  scales,
  stackOf,
} from "./receptive_field.js";
import { Slider, element, reducedMotion } from "./dom.js";

const FRAME = 66; // ms between drawings while audio plays
const CALM_FRAME = 1000; // the same where motion is not wanted
// What can be drawn: name, least and most; more if the model has more.
const SIZES = { perCycle: ["Layers per cycle", 1, 12], cycles: ["Cycles", 1, 4], kernel: ["Kernel size", 2, 4] };

const MARKUP = `
  <h2 id="explain-title">Explain</h2>
  <div class="panel guide" role="region" aria-label="Six steps"></div>
  <div class="panel whole">
    <div class="head"><h3>The whole stack</h3> <span class="badge"></span>
      <button type="button" class="this-model">This model</button></div>
    <div class="sizes"></div>
    <label class="logarithmic"><input type="checkbox"> Logarithmic time</label>
    <table class="sees"><caption class="spoken">What one output sample depends on</caption><tbody>
      <tr class="dilated"><th scope="row">dilated</th><td class="samples"></td><td class="ms"></td><td class="sum"></td></tr>
      <tr class="plain"><th scope="row">without dilation</th><td class="samples"></td><td class="ms"></td><td class="sum"></td></tr>
    </tbody></table>
    <div class="drawing"></div>
    <p class="hint drawn"></p>
    <div class="mutes">
      <button type="button" class="listen">Play</button>
      <div class="scales" role="group" aria-label="Mute a scale: the layers of one dilation in all cycles"></div>
      <button type="button" class="unmute">Unmute all</button>
    </div>
    <p class="status" role="status"></p>
    <p class="hint note" hidden></p>
    <details><summary>The stack as a table</summary><table class="layers"></table></details>
  </div>
  <div class="levels"><div class="panel layer-panel"></div><div class="panel gate-panel"></div></div>`;

export function mountExplain(section, engine) {
  return new Explain(section, engine);
}

class Explain {
  constructor(section, engine) {
    section.classList.add("explain");
    section.innerHTML = MARKUP;
    Object.assign(this, { section, engine });
    this.find = (selector) => section.querySelector(selector);
    this.selected = this.channel = 0;
    this.hovered = null;
    this.onScreen = new Set(); // of the panels
    const panels = { whole: ".whole", layer: ".layer-panel", gate: ".gate-panel" };
    this.panels = Object.fromEntries(Object.entries(panels).map(([name, selector]) => [name, this.find(selector)]));
    this.strengths = null;
    this.stackView = new StackView(this.find(".drawing"), {
      onwatch: (layer, keep) => this.watch(layer, keep),
      onmute: (layers) => this.toggle(layers),
    });
    this.layerView = new LayerView(this.panels.layer, { onselect: (layer) => this.watch(layer, true) });
    this.gateView = new GateView(this.panels.gate, { onselect: (channel) => this.selectChannel(channel) });
    this.guide = new Guide(this.find(".guide"), {
      onstep: ({ stack }) => this.draw(stack ?? this.own),
      onmute: (layers) => this.mute(layers),
    });
    this.makeSliders();
    this.listen();
    this.setModel();
  }

  makeSliders() {
    const draw = () => this.draw(stackOf(...["cycles", "perCycle", "kernel"].map((name) => this.sizes[name].value)));
    const sizes = Object.entries(SIZES).map(([name, [label, min, max]]) => [
      name,
      new Slider({ label, min, max, step: 1 }, draw),
    ]);
    this.sizes = Object.fromEntries(sizes);
    const show = (zoom) => msText(this.stackView.targetAt(zoom), this.sampleRate);
    this.zoom = new Slider({ label: "Zoom", min: 0, max: 1, step: 0.02, show }, (zoom) => {
      this.stackView.setScale({ zoom });
      this.refresh();
    });
    this.find(".sizes").append(...[...sizes.map(([, slider]) => slider), this.zoom].map((slider) => slider.root));
  }

  listen() {
    const { engine } = this;
    this.find(".logarithmic input").addEventListener("input", ({ target }) => {
      this.stackView.setScale({ logarithmic: target.checked });
      this.refresh();
    });
    this.find(".this-model").addEventListener("click", () => this.draw(this.own));
    this.find(".unmute").addEventListener("click", () => this.mute(new Set()));
    this.find(".listen").addEventListener("click", () => (engine.playing ? engine.pause() : engine.play()));
    this.find(".scales").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.toggle(scales(this.own)[button.dataset.scale].layers);
    });
    this.find("table.layers").addEventListener("change", (event) => this.toggle([Number(event.target.value)]));
    engine.addEventListener("model", () => this.setModel());
    engine.addEventListener("state", () => this.showPlaying());
    engine.addEventListener("report", () => this.adoptMutes()); // another part of the page may have gone back to a branch
    engine.addEventListener("watched", ({ detail }) => this.showWatched(detail));
    document.addEventListener("visibilitychange", () => this.run());
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries)
        if (isIntersecting) this.onScreen.add(target);
        else this.onScreen.delete(target);
      this.watchCurrent();
      this.run();
    });
    for (const panel of Object.values(this.panels)) observer.observe(panel);
  }

  get current() {
    return this.hovered ?? this.selected;
  }

  // Adopts the engine's model; before there is one, the shape of a common one holds its place.
  setModel() {
    const { info, config } = this.engine;
    this.own = stackOf(config?.cycles ?? 2, config?.layers_per_cycle ?? 10, config?.kernel_size ?? 2);
    if (info) this.own.dilations = Array.from(info.dilations);
    this.sampleRate = info?.sampleRate ?? 16000;
    this.selected = Math.floor(this.own.perCycle / 2);
    this.channel = 0;
    this.hovered = this.strengths = null;
    for (const [name, [, , most]] of Object.entries(SIZES)) this.sizes[name].input.max = Math.max(most, this.own[name]);
    this.watched = undefined;
    this.gateView.setModel(info?.gateChannels ?? 0, this.engine.canWatch !== false);
    this.makeScales();
    this.showNote(config);
    this.muted = new Set(this.engine.controls?.mute ?? []);
    this.guide.setModel(this.own, this.sampleRate, config);
    this.draw(this.own);
    this.showMuted();
    this.showSelected();
    this.showPlaying();
  }

  makeScales() {
    const buttons = scales(this.own).map(({ dilation }, i) => {
      const button = element("button", {
        type: "button",
        textContent: dilation,
        ariaLabel: `Mute dilation ${dilation}`,
      });
      button.dataset.scale = i;
      return button;
    });
    this.find(".scales").replaceChildren("Mute a scale: ", ...buttons);
  }

  showNote(config) {
    const { linear_prediction, pitch_taps, features } = config ?? {};
    const besides = [linear_prediction && "linear prediction", pitch_taps && "pitch taps", features && "features"];
    const note = this.find(".note");
    note.hidden = !besides.some(Boolean);
    const listed = new Intl.ListFormat("en").format(besides.filter(Boolean));
    note.textContent = `This is what the convolutions see; ${listed} bring in more of the past or of the clip.`;
  }

  // Draws a stack: the model's own one, which can be muted and watched, or one that is only an idea.
  draw(stack) {
    const { own } = this;
    this.isOwn = Object.keys(SIZES).every((name) => stack[name] === own[name]);
    this.stack = this.isOwn ? own : stack;
    for (const name of Object.keys(SIZES)) this.sizes[name].value = this.stack[name];
    this.find(".whole").classList.toggle("idea", !this.isOwn);
    this.find(".badge").textContent = this.isOwn
      ? `the ${this.engine.info?.twoTiers ? "fast tier of the " : ""}model that plays`
      : "only a drawing";
    this.find(".this-model").disabled = this.isOwn;
    this.find(".drawn").textContent = this.isOwn
      ? "Point at a layer to watch it below, click to mute it. Lines are connections to the newest output, brightness and bars how " +
        "strongly each layer responds; the audio has the same scale."
      : `Lines are connections to the newest output; the audio is the model's, which itself sees ${samplesText(receptiveField(own))}.`;
    this.showReach();
    this.stackView.show(this.stack, {
      own: this.isOwn,
      sampleRate: this.sampleRate,
      description: this.describe(),
    });
    this.zoom.value = this.stackView.zoom;
    this.showTable();
    this.refresh();
  }

  describe() {
    const { stack, sampleRate } = this;
    const reach = receptiveField(stack);
    return (
      `${this.isOwn ? "The model's" : "A drawn"} stack of ${stack.dilations.length} layers above its recent audio: the newest output ` +
      `depends on ${samplesText(reach)}, ${msText(reach, sampleRate)}. All numbers are in the table below`
    );
  }

  showReach() {
    const { stack, sampleRate, isOwn } = this;
    const { kernel, cycles, perCycle, dilations } = stack;
    const muted = isOwn ? this.muted : new Set();
    const write = (row, samples, sum) => {
      this.find(`.sees .${row} .samples`).textContent = samplesText(samples);
      this.find(`.sees .${row} .ms`).textContent = msText(samples, sampleRate);
      this.find(`.sees .${row} .sum`).textContent = sum;
    };
    const powers = perCycle < 5 ? dilations.slice(0, perCycle).join(" + ") : `1 + 2 + … + ${dilations[perCycle - 1]}`;
    const times = cycles > 1 ? `${cycles} × (${powers})` : `(${powers})`;
    const sum = `= 1 + ${kernel > 2 ? `${kernel - 1} × ` : ""}${kernel > 2 || cycles > 1 ? times : powers}`;
    write(
      "dilated",
      receptiveField(stack, muted),
      muted.size ? `with ${muted.size} of ${dilations.length} layers muted` : sum,
    );
    write(
      "plain",
      plainReceptiveField(stack),
      `= 1 + ${kernel > 2 ? `${kernel - 1} × ` : ""}${dilations.length} layers`,
    );
  }

  showTable() {
    const { stack, isOwn, sampleRate } = this;
    const rows = layerRows(stack).map(
      ({ layer, cycle, dilation, span, total }) =>
        `<tr><th scope="row">${layer}</th><td>${cycle}</td><td>${dilation}</td><td>${span}</td><td>${total}</td>` +
        `<td>${msText(total, sampleRate)}</td>` +
        (isOwn ? `<td><input type="checkbox" value="${layer}" aria-label="Mute layer ${layer}"></td>` : "") +
        "</tr>",
    );
    const heads = [
      "Layer",
      "Cycle",
      "Dilation",
      "Spans, samples",
      "Sees, samples",
      "Sees, ms",
      ...(isOwn ? ["Mute"] : []),
    ];
    this.find("table.layers").innerHTML =
      `<caption>${isOwn ? "The model's stack" : "The drawn stack"}, kernel ${stack.kernel}: what a layer spans by itself, and what it ` +
      `sees through those below</caption><thead><tr>${heads.map((h) => `<th scope="col">${h}</th>`).join("")}</tr></thead>` +
      `<tbody>${rows.join("")}</tbody>`;
    this.markTable();
  }

  markTable() {
    for (const box of this.section.querySelectorAll(".layers input")) box.checked = this.muted.has(Number(box.value));
  }

  // Mutes these layers, or lets them sound again if all of them are muted.
  toggle(layers) {
    const muted = new Set(this.muted);
    const all = layers.every((layer) => muted.has(layer));
    for (const layer of layers) all ? muted.delete(layer) : muted.add(layer);
    this.mute(muted);
  }

  mute(layers) {
    this.muted = new Set([...layers].sort((a, b) => a - b));
    if (this.engine.info) this.engine.set({ mute: [...this.muted] });
    if (!this.isOwn) this.draw(this.own);
    this.showMuted();
    this.find(".status").textContent = this.muted.size
      ? `${this.muted.size} of ${this.own.dilations.length} layers muted: ${this.describeReach()}`
      : `All layers sound: ${this.describeReach()}`;
  }

  describeReach() {
    const reach = receptiveField(this.own, this.muted);
    return `the output depends on ${reach === 1 ? "" : "at most "}the last ${samplesText(reach)}, ${msText(reach, this.sampleRate)}.`;
  }

  adoptMutes() {
    const now = this.engine.controls?.mute ?? [];
    if (now.length === this.muted.size && now.every((layer) => this.muted.has(layer))) return;
    this.muted = new Set(now);
    this.showMuted();
  }

  showMuted() {
    this.stackView.setMuted(this.muted);
    this.showReach();
    this.markTable();
    for (const button of this.section.querySelectorAll(".scales button"))
      button.setAttribute(
        "aria-pressed",
        scales(this.own)[button.dataset.scale].layers.every((l) => this.muted.has(l)),
      );
    this.find(".unmute").disabled = this.muted.size === 0;
    this.showLayer();
  }

  // Another layer is watched: while it is pointed at (null: no longer), or from now on.
  watch(layer, keep = false) {
    const before = this.current;
    if (keep) this.selected = layer;
    this.hovered = keep ? null : layer;
    if (this.current !== before) this.showSelected();
  }

  selectChannel(channel) {
    this.channel = channel;
    this.gateView.show(this.current, this.own.dilations[this.current], channel);
  }

  showSelected() {
    this.watchCurrent();
    this.stackView.select(this.current);
    this.showLayer();
    this.selectChannel(this.channel);
    this.refresh();
  }

  showLayer() {
    this.layerView.show(this.own, this.sampleRate, this.current, this.muted);
  }

  watchCurrent() {
    const { engine } = this;
    if (!engine.info || engine.canWatch === false) return;
    const wanted = this.onScreen.size ? this.current : null;
    if (wanted !== this.watched) engine.watch((this.watched = wanted));
  }

  showWatched({ layer, a, b, z, strengths }) {
    if (!this.onScreen.size) return;
    this.strengths = strengths;
    if (layer !== this.current) return;
    const now = performance.now();
    if (reducedMotion.matches && now - (this.shownAt ?? 0) < CALM_FRAME) return;
    this.shownAt = now;
    this.gateView.update({ a, b, z });
  }

  showPlaying() {
    this.find(".listen").textContent = this.engine.playing ? "Pause" : "Play";
    this.find(".listen").disabled = !this.engine.info;
    this.run();
  }

  // The drawings follow the audio, while it plays and they are on the screen. A timer, because frames of animation come more
  // often than these drawings need, and the thread that generates has priority.
  run() {
    const wanted = this.onScreen.size > 0 && this.engine.playing && !document.hidden;
    this.refresh();
    if (wanted === (this.timer !== undefined)) return;
    clearInterval(this.timer);
    let frame = 0;
    const step = () => this.refresh(++frame);
    this.timer = wanted ? setInterval(step, reducedMotion.matches ? CALM_FRAME : FRAME) : undefined;
  }

  // frame: its number; the larger drawings, which change more slowly, are drawn in some of the frames.
  refresh(frame = 0) {
    const { engine, strengths, stackView, layerView, onScreen, panels } = this;
    const every = (frames) => frame % frames === 0 || reducedMotion.matches;
    const wanted = Math.max(stackView.wanted, layerView.shown);
    const samples = engine.info ? engine.recent(wanted) : new Float32Array(wanted);
    if (onScreen.has(panels.whole)) {
      stackView.setAudio(samples);
      if (every(3)) stackView.setStrengths(strengths);
    }
    if (onScreen.has(panels.layer) && every(2)) layerView.update(samples, strengths?.[this.current] ?? null);
  }
}
