// One layer of the model: its taps on the recent audio, and the paths of figure 4 of the WaveNet paper.

import { Slider } from "./dom.js";
import { msText, receptiveField, samplesText } from "./receptive_field.js";
import { Gain, Surface, TimeAxis, drawWaveform, onColours } from "./surface.js";

const LEAST_SHOWN = 12; // samples

const MARKUP = `
  <h3>One layer of the model</h3>
  <div class="choice"></div>
  <p class="sentence"></p>
  <canvas class="taps" role="img"></canvas>
  <svg class="paths" viewBox="0 0 340 304" role="img">
    <defs><marker id="explain-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
      <path d="M0 0 L8 4 L0 8 z"/></marker></defs>
    <g class="inputs"></g>
    <path class="wire residual" d="M200 258 H318 V44 H213"/>
    <rect x="30" y="218" width="240" height="26" rx="6"/>
    <text class="convolution" x="150" y="235"></text>
    <path class="wire" d="M100 218 V189"/><path class="wire" d="M200 218 V189"/>
    <text x="90" y="208" class="symbol">a</text><text x="190" y="208" class="symbol">b</text>
    <rect x="72" y="161" width="56" height="26" rx="13"/><text x="100" y="178">tanh</text>
    <rect x="172" y="161" width="56" height="26" rx="13"/><text x="200" y="178">sigmoid</text>
    <path class="wire" d="M100 161 V138 H138"/><path class="wire" d="M200 161 V138 H163"/>
    <g class="gated">
      <circle cx="150" cy="138" r="11"/><text x="150" y="143">×</text>
      <text x="160" y="121" class="symbol start z"></text>
      <path class="wire" d="M150 127 V112 H80 V93"/><path class="wire to-residual" d="M150 112 H200 V93"/>
    </g>
    <rect x="52" y="67" width="56" height="26" rx="6"/><text x="80" y="84">1 × 1</text>
    <path class="wire" d="M80 67 V38"/><text x="80" y="18">skip: added up over</text><text x="80" y="32">all layers → output</text>
    <g class="to-residual">
      <rect x="172" y="67" width="56" height="26" rx="6"/><text x="200" y="84">1 × 1</text>
      <path class="wire" d="M200 67 V57"/>
      <circle cx="200" cy="44" r="11"/><text x="200" y="49">+</text>
      <path class="wire" d="M200 33 V24"/>
    </g>
    <text x="200" y="16" class="next"></text>
    <text x="312" y="150" class="sideways" transform="rotate(-90 312 150)">residual</text>
  </svg>`;

export class LayerView {
  // onselect(layer): chosen with the slider.
  constructor(panel, { onselect }) {
    panel.innerHTML = MARKUP;
    this.panel = panel;
    this.find = (selector) => panel.querySelector(selector);
    const show = (layer) =>
      this.stack ? `${layer} (of 0 to ${this.stack.dilations.length - 1}), dilation ${this.row.dilation}` : "";
    this.slider = new Slider({ label: "Layer", min: 0, max: 0, step: 1, show }, onselect);
    this.find(".choice").append(this.slider.root);
    this.surface = new Surface(this.find(".taps"));
    this.gain = new Gain();
    this.samples = new Float32Array(0);
    onColours(panel, (colours) => {
      this.colours = colours;
      this.draw();
    });
    new ResizeObserver(() => {
      if (this.surface.fit()) this.draw();
    }).observe(this.surface.canvas);
  }

  show(stack, sampleRate, layer, muted) {
    const { kernel, dilations } = stack;
    const dilation = dilations[layer];
    const below = receptiveField({ kernel, dilations: dilations.slice(0, layer) }, muted); // what each tap sees
    const total = below + (kernel - 1) * dilation;
    Object.assign(this, { stack, sampleRate, muted: muted.has(layer), row: { dilation, below, total } });
    const layers = stack.dilations.length;
    const taps = stack.kernel === 2 ? "two taps" : `${stack.kernel} taps`;
    const each = below === 1 ? "one sample" : `what the layers below made of ${samplesText(below)}`;
    this.slider.input.max = layers - 1;
    this.slider.value = layer;
    this.find(".sentence").textContent =
      `Its ${taps} lie ${samplesText(dilation)} (${msText(dilation, sampleRate)}) apart. Each reads ${each}; ` +
      `together they see ${samplesText(total)}, ${msText(total, sampleRate)}.`;
    this.surface.canvas.setAttribute(
      "aria-label",
      `The ${taps} of layer ${layer} on the recent audio, ${samplesText(dilation)} apart`,
    );
    this.find(".convolution").textContent = `convolution: ${taps}, dilation ${dilation.toLocaleString("en")}`;
    const last = layer === layers - 1;
    this.find(".next").textContent = last ? "(the last layer)" : `to layer ${layer + 1}`;
    this.find(".paths").classList.toggle("last", last);
    this.find(".paths").classList.toggle("muted", this.muted);
    this.find(".paths").setAttribute(
      "aria-label",
      `Layer ${layer}: a convolution of dilation ${dilation} gives a and b; tanh of a times the sigmoid of b is z; ` +
        `through one 1 by 1 convolution z is added to the skip sum, and${last ? ", except in this last layer," : ""} through another to the ` +
        `layer's input, the residual path${this.muted ? ". The layer is muted: z is zero" : ""}`,
    );
    this.find(".inputs").innerHTML = inputs(stack.kernel, dilation);
    this.setStrength(null);
    this.draw();
  }

  setStrength(strength) {
    const text = this.muted ? "z = 0, muted" : strength === null ? "z" : `z, RMS ${strength.toFixed(2)}`;
    if (this.find(".z").textContent !== text) this.find(".z").textContent = text;
  }

  get shown() {
    return this.row ? Math.max(LEAST_SHOWN, Math.ceil(1.08 * this.row.total)) : 0;
  }

  update(samples, strength) {
    this.samples = samples;
    this.setStrength(strength);
    this.draw();
  }

  draw() {
    if (!this.row || !this.surface.width) return;
    const { colours, row, stack, surface } = this;
    const { width, height } = surface;
    const axis = new TimeAxis(6, width - 6, this.shown);
    const context = surface.clear();
    const foot = height - 18;
    const taps = Array.from({ length: stack.kernel }, (_, tap) => tap * row.dilation);
    context.fillStyle = colours.accent;
    for (const lag of taps) {
      // neighbouring taps see partly the same: the overlap is darker
      context.globalAlpha = 0.13;
      const left = axis.at(Math.min(axis.shown, lag + row.below));
      context.fillRect(left, 0, axis.at(lag) - left, foot);
    }
    context.globalAlpha = 1;
    const samples = this.samples.subarray(Math.max(0, this.samples.length - axis.shown));
    const amplitude = (foot / 2 - 4) * this.gain.follow(samples);
    drawWaveform(context, axis, samples, foot / 2, amplitude, (lag) =>
      lag < row.total ? colours.text : colours.faint,
    );
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "alphabetic";
    let free = Infinity;
    for (const lag of taps) {
      const x = axis.node(lag);
      context.fillStyle = context.strokeStyle = colours.accent;
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, foot);
      context.stroke();
      const text = lag ? `t − ${lag.toLocaleString("en")}` : "t";
      const half = context.measureText(text).width / 2;
      const centre = Math.max(half + 2, Math.min(width - half - 2, x));
      if (centre + half > free) continue;
      context.fillStyle = colours.text;
      context.textAlign = "center";
      context.fillText(text, centre, height - 4);
      free = centre - half - 8;
    }
  }
}

// The arrows from the taps, the newest to the right, above the residual path; of many taps, the first and the last.
function inputs(kernel, dilation) {
  const shown = kernel > 4 ? [0, 1, kernel - 1] : Array.from({ length: kernel }, (_, tap) => tap);
  const step = { 2: 100, 3: 80, 4: 54 }[shown.length];
  const parts = shown.map((tap, i) => {
    const x = 200 - step * i;
    const time = tap ? `t−${(tap * dilation).toLocaleString("en")}` : "t";
    const name = kernel === 2 ? `x(${time})` : time;
    return `<path class="wire" d="M${x} 280 V246"/><text x="${x}" y="297">${name}</text>`;
  });
  if (kernel > 4) parts.push(`<text x="${200 - 1.5 * step}" y="270">…</text>`);
  return parts.join("");
}
