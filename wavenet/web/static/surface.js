// A canvas that is sharp on every screen, the page's colours, and what several drawings share.

import { onColourScheme } from "./dom.js";

const COLOURS = ["page", "panel", "text", "faint", "line", "accent", "second", "warn"];

// Calls work with the design variables of page.css, now and whenever they change between light and dark.
export function onColours(element, work) {
  onColourScheme(() => {
    const style = getComputedStyle(element);
    work(Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])));
  });
}

// A canvas whose units are CSS pixels.
export class Surface {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.width = this.height = 0;
  }

  // Adopts the size on the page; true if it changed. Reads the layout: call it outside of animations.
  fit() {
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    const scale = devicePixelRatio || 1;
    if (width === this.width && height === this.height && scale === this.scale) return false;
    Object.assign(this, { width, height, scale });
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    return true;
  }

  clear() {
    const { context, scale, width, height } = this;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.globalAlpha = 1;
    return context;
  }
}

// Time from the newest sample back, as positions on a drawing: `at(lag)` is the x of the right edge of the sample that
// many samples back, from `right` (lag 0) to `left` (lag `shown`), on a linear or a logarithmic axis.
export class TimeAxis {
  constructor(left, right, shown, logarithmic = false) {
    Object.assign(this, { left, right, shown, logarithmic });
    this.width = right - left;
    this.whole = Math.log2(1 + shown);
  }

  at(lag) {
    const share = this.logarithmic ? Math.log2(1 + lag) / this.whole : lag / this.shown;
    return this.right - share * this.width;
  }

  // The middle of a sample's column, where its node is drawn.
  node(lag) {
    return this.at(lag + 0.5);
  }

  // The width of the newest column.
  get column() {
    return this.at(0) - this.at(1);
  }

  lagAt(x) {
    const share = Math.min(1, Math.max(0, (this.right - x) / this.width));
    return Math.min(this.shown - 1, Math.floor(this.logarithmic ? 2 ** (share * this.whole) - 1 : share * this.shown));
  }
}

// The waveform of the newest samples: for every pixel the extremes of the samples in it, or a line and dots where samples
// are far apart. colour(lag): of that part of the waveform.
export function drawWaveform(context, axis, samples, middle, amplitude, colour) {
  const count = samples.length;
  const value = (lag) => samples[count - 1 - lag] ?? 0;
  const y = (sample) => middle - amplitude * Math.max(-1, Math.min(1, sample));
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  let lag = 0;
  let now = null;
  const finish = () => now !== null && context.stroke();
  const goTo = (x, height, shade) => {
    if (shade !== now) {
      if (now !== null) (context.lineTo(x, height), context.stroke());
      context.beginPath();
      context.strokeStyle = now = shade;
      context.moveTo(x, height);
    } else context.lineTo(x, height);
  };
  const last = Math.min(count, Math.ceil(axis.shown));
  while (lag < last) {
    const x = axis.node(lag);
    const shade = colour(lag);
    let low = value(lag);
    let high = low;
    const first = low;
    let end = lag + 1;
    for (; end < last && x - axis.node(end) < 1; ++end) {
      const sample = value(end);
      if (sample < low) low = sample;
      if (sample > high) high = sample;
    }
    if (end === lag + 1) goTo(x, y(first), shade);
    else {
      goTo(x, y(high), shade);
      goTo(x, y(low), shade);
    }
    lag = end;
  }
  finish();
  for (lag = 0; lag < last && axis.node(lag) - axis.node(lag + 1) >= 7; ++lag) {
    context.fillStyle = colour(lag);
    context.beginPath();
    context.arc(axis.node(lag), y(value(lag)), 2.5, 0, 7);
    context.fill();
  }
}

// The loudest of the recent samples, which falls slowly, so that quiet audio fills its strip, too, without pumping.
export class Gain {
  constructor() {
    this.peak = 0.1;
  }

  follow(samples) {
    let peak = 0.02;
    for (let i = 0; i < samples.length; ++i) peak = Math.max(peak, Math.abs(samples[i]));
    this.peak = Math.max(peak, this.peak + (peak - this.peak) * 0.05);
    return 1 / this.peak;
  }
}
