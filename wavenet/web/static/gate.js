// The gate of one layer: z of all channels over the last seconds, and for one channel the equation with its numbers.

import { Slider } from "./dom.js";
import { Surface, onColours } from "./surface.js";

const COLUMNS = 120; // of the strip, one for each "watched" event
const FULL = 0.9; // |z| of the strongest colour
const RANGE = 4; // of a and b on the curves
const WIDTH = 160;
const HEIGHT = 104;

const curve = (f, low, high) => {
  const points = Array.from({ length: 65 }, (_, i) => {
    const value = RANGE * (i / 32 - 1);
    return `${at(value).toFixed(1)} ${height(f(value), low, high).toFixed(1)}`;
  });
  return `M${points.join(" L")}`;
};
const at = (value) => 8 + ((WIDTH - 16) * (Math.max(-RANGE, Math.min(RANGE, value)) + RANGE)) / (2 * RANGE);
const height = (value, low, high) => HEIGHT - 20 - ((HEIGHT - 32) * (value - low)) / (high - low);
export const sigmoid = (b) => 1 / (1 + Math.exp(-b));

const plot = (name, f, low, high, title) => `
  <figure>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true">
      <path class="axis" d="M8 ${height(0, low, high)} H${WIDTH - 8} M${at(0)} 6 V${HEIGHT - 16}"/>
      <path class="curve" d="${curve(f, low, high)}"/>
      <text x="8" y="${HEIGHT - 3}">−${RANGE}</text><text x="${WIDTH - 8}" y="${HEIGHT - 3}" class="end">${RANGE}</text>
      <text x="${at(0)}" y="${HEIGHT - 3}" class="middle">${name} = 0</text>
      <text x="${at(0) - 4}" y="${height(high, low, high) + 4}" class="end">${high}</text>
      <path class="drop" d=""/><circle r="5" cx="${at(0)}" cy="${height(f(0), low, high)}"/>
    </svg>
    <figcaption>${title}</figcaption>
  </figure>`;

const MARKUP = `
  <h3>One gate of that layer</h3>
  <p class="unwatched" hidden>This model runs on the server: its gates cannot be watched here. Muting works.</p>
  <div class="watched">
    <canvas class="heat" role="img"></canvas>
    <p class="hint legend"><span class="minus">z = −1</span><span class="ramp" aria-hidden="true"></span><span class="plus">z = 1</span>
      <span class="seconds">all channels, the last 8 seconds</span></p>
    <div class="choice"></div>
    <div class="equation" role="group" aria-label="The gate's equation">
      <p><i>z</i> = tanh(<i>a</i>) × σ(<i>b</i>)</p>
      <p><b class="z">–</b> = tanh(<b class="a">–</b>) × σ(<b class="b">–</b>)</p>
      <p><b class="z">–</b> = <b class="tanh">–</b> × <b class="sigmoid">–</b></p>
    </div>
    <div class="curves">
      ${plot("a", Math.tanh, -1, 1, "tanh(<i>a</i>): the value, −1 to 1")}
      ${plot("b", sigmoid, 0, 1, "σ(<i>b</i>): how much of it passes, 0 to 1")}
    </div>
    <p class="hint waiting">The numbers move while the model plays.</p>
  </div>`;

export class GateView {
  // onselect(channel): chosen with the slider or in the strip.
  constructor(panel, { onselect }) {
    panel.innerHTML = MARKUP;
    this.find = (selector) => panel.querySelector(selector);
    this.numbers = Object.fromEntries(
      ["a", "b", "z", "tanh", "sigmoid"].map((n) => [n, panel.querySelectorAll(`.equation .${n}`)]),
    );
    this.plots = [...panel.querySelectorAll(".curves svg")].map((svg) => ({
      point: svg.querySelector("circle"),
      drop: svg.querySelector(".drop"),
    }));
    this.surface = new Surface(this.find(".heat"));
    this.image = document.createElement("canvas");
    this.channel = 0;
    this.channels = 0;
    const show = (channel) => `${channel} of ${this.channels}`;
    this.slider = new Slider({ label: "Channel", min: 1, max: 1, step: 1, show }, (channel) => onselect(channel - 1));
    this.find(".choice").append(this.slider.root);
    this.surface.canvas.addEventListener("click", (event) => {
      const share = event.offsetY / this.surface.height;
      if (this.channels) onselect(Math.max(0, Math.min(this.channels - 1, Math.floor(share * this.channels))));
    });
    onColours(panel, (colours) => {
      const [minus, plus] = [colours.second, colours.accent].map((name) => rgb(name));
      Object.assign(this, { colours, minus, plus, zero: rgb(colours.panel) });
      this.repaint();
    });
    new ResizeObserver(() => {
      if (this.surface.fit()) this.draw();
    }).observe(this.surface.canvas);
  }

  // Another model: channels of its gates, and whether they can be watched.
  setModel(channels, canWatch) {
    this.channels = channels;
    this.find(".unwatched").hidden = canWatch;
    this.find(".watched").hidden = !canWatch;
    this.slider.input.max = Math.max(1, channels);
    this.history = new Float32Array(COLUMNS * channels); // column after column, the oldest first
    this.image.width = COLUMNS;
    this.image.height = channels;
    this.newest = null;
  }

  show(layer, dilation, channel) {
    if (layer !== this.layer) {
      this.history.fill(0);
      this.newest = null;
    }
    Object.assign(this, { layer, channel });
    this.slider.value = channel + 1;
    this.surface.canvas.setAttribute(
      "aria-label",
      `Heat map of z of the ${this.channels} channels of layer ${layer}, dilation ${dilation}, over the last seconds`,
    );
    this.showNumbers();
    this.repaint();
  }

  // a, b, z: Float32Array [channels] of the newest sample.
  update(newest) {
    const { history, channels } = this;
    history.copyWithin(0, channels);
    history.set(newest.z, history.length - channels);
    this.newest = newest;
    this.showNumbers();
    this.image.getContext("2d").drawImage(this.image, -1, 0);
    this.repaint(COLUMNS - 1);
  }

  showNumbers() {
    const { newest, channel, numbers, plots } = this;
    this.find(".waiting").style.visibility = newest ? "hidden" : "visible";
    const [a, b, z] = newest ? [newest.a[channel], newest.b[channel], newest.z[channel]] : [];
    const values = { a, b, z, tanh: newest && Math.tanh(a), sigmoid: newest && sigmoid(b) };
    for (const [name, value] of Object.entries(values))
      for (const text of numbers[name]) text.textContent = fixed(value);
    const ends = [
      [a ?? 0, values.tanh ?? 0, -1],
      [b ?? 0, values.sigmoid ?? 0.5, 0],
    ];
    ends.forEach(([value, result, low], i) => {
      const [x, y] = [at(value), height(result, low, 1)];
      plots[i].point.setAttribute("cx", x);
      plots[i].point.setAttribute("cy", y);
      plots[i].drop.setAttribute("d", `M${x} ${height(0, low, 1)} V${y} H${at(0)}`);
    });
  }

  // The strip from the history, or only its newest column.
  repaint(first = 0) {
    const { image, history, channels, minus, plus, zero } = this;
    if (!channels) return;
    const context = image.getContext("2d");
    const columns = COLUMNS - first;
    const pixels = context.createImageData(columns, channels);
    for (let column = 0; column < columns; ++column)
      for (let channel = 0; channel < channels; ++channel) {
        const z = history[(first + column) * channels + channel];
        const share = Math.min(1, Math.abs(z) / FULL);
        const ink = z < 0 ? minus : plus;
        const pixel = 4 * (channel * columns + column);
        for (let i = 0; i < 3; ++i) pixels.data[pixel + i] = zero[i] + (ink[i] - zero[i]) * share;
        pixels.data[pixel + 3] = 255;
      }
    context.putImageData(pixels, first, 0);
    this.draw();
  }

  draw() {
    const { surface, channels, channel, colours } = this;
    if (!channels || !surface.width) return;
    const context = surface.clear();
    context.imageSmoothingEnabled = false;
    context.drawImage(this.image, 0, 0, surface.width, surface.height);
    const row = surface.height / channels;
    context.strokeStyle = colours.text;
    context.lineWidth = 1;
    context.strokeRect(0.5, Math.round(channel * row) - 0.5, surface.width - 1, Math.max(3, Math.round(row)) + 1);
  }
}

// A number of constant width: a sign, a digit and two decimals.
function fixed(value) {
  if (value === undefined || value === null) return "–";
  const text = Math.abs(value).toFixed(2);
  return `${value < 0 && text !== "0.00" ? "−" : "\u2007"}${text}`; // a space as wide as a digit
}

// [red, green, blue] of any colour that CSS knows.
function rgb(colour) {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}
