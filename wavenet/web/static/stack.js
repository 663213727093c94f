// The drawing of a stack: the cone to the newest output, the recent audio below it at the same scale, and for the model's
// own stack a button for every layer and cycle, over its rows.

import { conePath, drawCone, drawPlainCone, drawRuler, drawSeen, levelHeights } from "./cone.js";
import { element, reducedMotion } from "./dom.js";
import { coneEdges, coneNodes, grainOf, plainReceptiveField, receptiveField } from "./receptive_field.js";
import { Gain, Surface, TimeAxis, drawWaveform, onColours } from "./surface.js";

const TOP = 20; // pixels above the output
const AUDIO = 84;
const RULER = 36;
const SEEN = 16; // the strip of what is seen, between the stack and the audio
const CYCLES = 26; // to the left
const NARROW = 560;
const SLACK = 1.12; // of the receptive field are shown
const LABELS = "11px system-ui, sans-serif";
const HOLD = 300; // ms for which another stack is shown on the axis of the one before, so that the cone is seen to grow
const GLIDE = 350; // ms until the axis fits it
const GLOW = 0.45; // RMS of z at which a row is as bright as it gets

const MARKUP = `
  <canvas class="glow" aria-hidden="true"></canvas>
  <canvas class="cone" role="img"></canvas>
  <canvas class="audio" aria-hidden="true"></canvas>
  <div class="cycles" role="group" aria-label="Mute cycles"></div>
  <div class="rows" role="toolbar" aria-orientation="vertical" aria-label="Mute layers: arrow keys move, space mutes"></div>`;

export class StackView {
  // onwatch(layer or null): a layer is hovered or focused, or left; onmute([layers]): those are clicked.
  constructor(figure, { onwatch, onmute }) {
    figure.innerHTML = MARKUP;
    Object.assign(this, { figure, onwatch, onmute });
    this.glow = new Surface(figure.querySelector(".glow"));
    this.cone = new Surface(figure.querySelector(".cone"));
    this.audio = new Surface(figure.querySelector(".audio"));
    this.rows = figure.querySelector(".rows");
    this.cycles = figure.querySelector(".cycles");
    this.gain = new Gain();
    this.strengths = null;
    this.samples = new Float32Array(0);
    this.muted = new Set();
    this.selected = 0;
    this.logarithmic = false;
    this.zoom = 0;
    this.shown = null; // samples on the axis now, on their way to those of the zoom
    this.listen();
    onColours(figure, (colours) => {
      this.colours = colours;
      this.draw();
    });
    new ResizeObserver(() => {
      if (this.fit()) this.draw();
    }).observe(figure);
  }

  listen() {
    const { rows } = this;
    const layerOf = (event) => {
      const button = event.target.closest("button");
      return button && Number(button.dataset.layer);
    };
    rows.addEventListener("pointerover", (event) => {
      if (event.pointerType !== "touch" && layerOf(event) !== null) this.onwatch(layerOf(event));
    });
    rows.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && this.onwatch(null));
    rows.addEventListener("focusin", (event) => {
      if (event.target.matches(":focus-visible")) this.onwatch(layerOf(event), true);
    });
    // a finger cannot hover: its first tap watches a layer, the next mutes it
    rows.addEventListener("click", (event) => {
      const layer = layerOf(event);
      if (layer === null) return;
      const watches = event.pointerType === "touch" && layer !== this.selected;
      this.onwatch(layer, true);
      if (!watches) this.onmute([layer]);
    });
    rows.addEventListener("keydown", (event) => {
      const layers = rows.children.length;
      const moves = { ArrowUp: 1, ArrowDown: -1, Home: layers, End: -layers };
      if (!(event.key in moves)) return;
      event.preventDefault();
      const next = Math.max(0, Math.min(layers - 1, layerOf(event) + moves[event.key]));
      this.button(next).focus();
      this.onwatch(next, true);
    });
    this.cycles.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.onmute(this.layersOfCycle(Number(button.dataset.cycle)));
    });
  }

  button(layer) {
    return this.rows.children[this.rows.children.length - 1 - layer]; // the last layer is at the top
  }

  layersOfCycle(cycle) {
    const { perCycle } = this.stack;
    return Array.from({ length: perCycle }, (_, i) => cycle * perCycle + i);
  }

  // Shows a stack. own: whether it is the model's, which can be muted and watched.
  show(stack, { own, sampleRate, description }) {
    Object.assign(this, { stack, own, sampleRate });
    this.cone.canvas.setAttribute("aria-label", description);
    this.figure.classList.toggle("own", own);
    this.rows.hidden = this.cycles.hidden = !own;
    this.strengths = null;
    if (own) this.makeButtons();
    this.recompute();
    this.fit();
    this.shown ??= this.targetAt(this.zoom);
    this.draw();
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.glide(), reducedMotion.matches ? 0 : HOLD);
  }

  makeButtons() {
    const { dilations, cycles } = this.stack;
    const top = dilations.length - 1;
    this.rows.replaceChildren(
      ...dilations.map((_, i) => {
        const [layer, dilation] = [top - i, dilations[top - i]];
        const label = element("span", { textContent: dilation });
        const button = element(
          "button",
          { type: "button", ariaLabel: `Mute layer ${layer}, dilation ${dilation}` },
          label,
        );
        button.dataset.layer = layer;
        return button;
      }),
    );
    this.cycles.replaceChildren(
      ...Array.from({ length: cycles }, (_, i) => {
        const cycle = cycles - 1 - i; // the last one above
        const button = element("button", {
          type: "button",
          textContent: cycles > 6 ? cycle : `cycle ${cycle}`,
          ariaLabel: `Mute cycle ${cycle}`,
        });
        button.dataset.cycle = cycle;
        return button;
      }),
    );
    this.mark();
  }

  setMuted(muted) {
    this.muted = muted;
    this.recompute();
    this.mark();
    this.draw();
  }

  select(layer) {
    this.selected = layer;
    this.mark();
    this.drawGlow();
  }

  // The state of the buttons; one of them is in the order of the Tab key.
  mark() {
    if (!this.own) return;
    for (const button of this.rows.children) {
      const layer = Number(button.dataset.layer);
      button.setAttribute("aria-pressed", this.muted.has(layer));
      button.classList.toggle("selected", layer === this.selected);
      button.tabIndex = layer === this.selected ? 0 : -1;
    }
    for (const button of this.cycles.children)
      button.setAttribute(
        "aria-pressed",
        this.layersOfCycle(Number(button.dataset.cycle)).every((l) => this.muted.has(l)),
      );
  }

  get effective() {
    return this.own ? this.muted : new Set();
  }

  recompute() {
    if (!this.stack) return;
    this.grain = grainOf(this.stack);
    this.nodes = coneNodes(this.stack, this.effective, this.grain);
    this.edges = coneEdges(this.stack, this.effective);
  }

  // zoom: 0 for the whole cone to 1 for the 16 newest samples.
  setScale({ logarithmic = this.logarithmic, zoom = this.zoom }) {
    Object.assign(this, { logarithmic, zoom });
    clearTimeout(this.waiting);
    this.glide();
  }

  // Samples on the axis at a zoom.
  targetAt(zoom) {
    const whole = Math.max(8, SLACK * receptiveField(this.stack), 1 + plainReceptiveField(this.stack));
    return whole * (Math.min(whole, 16) / whole) ** zoom;
  }

  // Lets the axis grow or shrink to its new length.
  glide() {
    cancelAnimationFrame(this.frame);
    const target = this.targetAt(this.zoom);
    const from = this.shown;
    const started = performance.now();
    const step = (time) => {
      const share = reducedMotion.matches || document.hidden ? 1 : Math.min(1, Math.max(0, (time - started) / GLIDE));
      const eased = 1 - (1 - share) ** 3;
      this.shown = from * (target / from) ** eased;
      if (share === 1) this.shown = target;
      else this.frame = requestAnimationFrame(step);
      this.draw();
    };
    step(from === target ? Infinity : started);
  }

  fit() {
    const surfaces = [this.glow, this.cone, this.audio];
    return surfaces.map((surface) => surface.fit()).some(Boolean);
  }

  get geometry() {
    const { width, height } = this.cone;
    const narrow = width < NARROW;
    const bottom = height - AUDIO - RULER - SEEN;
    const axis = new TimeAxis(this.own ? CYCLES + 4 : 8, width - (narrow ? 58 : 104), this.shown, this.logarithmic);
    return { axis, narrow, bottom, heights: levelHeights(this.stack.dilations.length, TOP, bottom) };
  }

  // Everything, after a change of what is shown.
  draw() {
    if (!this.stack || !this.cone.width) return;
    const { axis, heights, bottom } = this.geometry;
    const { colours, stack, own, nodes, grain, sampleRate } = this;
    const ink = own ? colours.accent : colours.text;
    const context = this.cone.clear();
    context.save();
    context.beginPath();
    context.rect(axis.left - 4, 0, axis.width + 8, bottom + SEEN);
    context.clip();
    drawCone(context, { axis, heights, stack, muted: this.effective, nodes, grain, ink, colours });
    drawPlainCone(context, { axis, heights, stack, colours });
    context.restore();
    drawSeen(context, { axis, nodes, grain, y: bottom + 6, ink, colours });
    drawRuler(context, { axis, y: this.cone.height - RULER, sampleRate, colours });
    this.label(context, axis, heights);
    this.placeButtons(heights, bottom);
    this.drawGlow();
    this.drawAudio();
  }

  label(context, axis, heights) {
    const { colours, own, stack } = this;
    context.font = LABELS;
    context.fillStyle = colours.faint;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText("dilation", axis.right + 8, 8);
    const height = heights[0] - heights[1];
    const every = Math.max(1, Math.ceil(12 / height));
    if (!own)
      stack.dilations.forEach((dilation, layer) => {
        if (layer % every === 0) context.fillText(dilation, axis.right + 8, (heights[layer] + heights[layer + 1]) / 2);
      });
    else
      for (const button of this.rows.children) button.classList.toggle("unlabelled", button.dataset.layer % every > 0);
  }

  placeButtons(heights, bottom) {
    if (!this.own) return;
    const { rows, cycles } = this;
    for (const strip of [rows, cycles]) {
      strip.style.top = `${TOP}px`;
      strip.style.height = `${bottom - TOP}px`;
    }
  }

  // The newest samples, as many as `wanted`.
  setAudio(samples) {
    this.samples = samples;
    this.drawAudio();
  }

  // RMS of z of every layer, or null.
  setStrengths(strengths) {
    this.strengths = strengths;
    this.drawGlow();
  }

  get wanted() {
    return this.shown === null ? 0 : Math.ceil(Math.max(this.shown, this.targetAt(this.zoom))) + 1;
  }

  drawAudio() {
    if (!this.stack || !this.audio.width || this.shown === null) return;
    const { axis } = this.geometry;
    const { colours, edges, own } = this;
    const context = this.audio.clear();
    const middle = AUDIO / 2;
    context.save();
    context.beginPath();
    context.rect(axis.left, 0, axis.width + 8, AUDIO);
    context.clip();
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(axis.left, middle);
    context.lineTo(axis.right, middle);
    context.stroke();
    const seen = edges[0];
    const plain = plainReceptiveField(this.stack);
    const ink = own ? colours.accent : colours.text;
    const colour = (lag) => (lag > seen ? colours.faint : lag < plain ? colours.second : ink);
    drawWaveform(context, axis, this.samples, middle, (middle - 6) * this.gain.follow(this.samples), colour);
    context.restore();
  }

  // The strength of every layer, as the brightness of its row and as a bar, and the watched layer.
  drawGlow() {
    if (!this.stack || !this.glow.width || this.shown === null) return;
    const context = this.glow.clear();
    if (!this.own) return;
    const { axis, heights, narrow } = this.geometry;
    const { colours, edges, strengths, selected, muted, stack } = this;
    context.save();
    context.beginPath();
    context.rect(axis.left - 4, 0, axis.width + 8, heights[0] + 1);
    context.clip();
    context.fillStyle = colours.line;
    context.globalAlpha = 0.6;
    context.fillRect(axis.left - 4, heights[selected + 1], axis.width + 8, heights[selected] - heights[selected + 1]);
    context.fillStyle = colours.accent;
    for (let layer = 0; strengths && layer < stack.dilations.length; ++layer) {
      if (muted.has(layer)) continue;
      context.globalAlpha = Math.min(0.5, (0.5 * strengths[layer]) / GLOW);
      conePath(context, axis, edges, heights, layer, layer + 1);
      context.fill();
    }
    context.globalAlpha = 1;
    this.drawTaps(context, axis, heights);
    context.restore();
    if (strengths) this.drawStrengths(context, axis, heights, narrow);
  }

  // The connections of the watched layer to the newest sample.
  drawTaps(context, axis, heights) {
    const { selected, stack, colours } = this;
    context.strokeStyle = colours.text;
    context.lineWidth = 2.5;
    context.setLineDash(this.muted.has(selected) ? [4, 4] : []);
    context.beginPath();
    for (let tap = 0; tap < stack.kernel; ++tap) {
      context.moveTo(axis.node(0), heights[selected + 1]);
      context.lineTo(axis.node(tap * stack.dilations[selected]), heights[selected]);
    }
    context.stroke();
  }

  drawStrengths(context, axis, heights, narrow) {
    const left = axis.right + (narrow ? 34 : 62);
    context.font = LABELS;
    context.fillStyle = this.colours.faint;
    context.textBaseline = "middle";
    if (!narrow) context.fillText("RMS z", left, 8);
    const widest = this.glow.width - left - 4;
    const height = heights[0] - heights[1];
    const thick = Math.max(1, Math.min(8, height - 3));
    this.strengths.forEach((strength, layer) => {
      const y = (heights[layer] + heights[layer + 1] - thick) / 2;
      context.fillStyle = this.colours.line;
      context.fillRect(left, y, widest, thick);
      context.fillStyle = this.colours.accent;
      context.fillRect(left, y, widest * Math.min(1, strength), thick);
    });
  }
}
