// A live spectrogram: the last seconds that were heard, the newest on the right, with axes in kHz and seconds. Where less
// motion is preferred, new columns overwrite the oldest in place, as on an oscilloscope, instead of scrolling.

import { colours, crisp, onColourScheme, reducedMotion } from "./dom.js";
import { Spectrum } from "./fft.js";

const WINDOW_SECONDS = 0.03;
const FLOOR = -88; // dB relative to a sine of full scale: the colour of the background
const CEILING = -18;
const LEFT = 30; // CSS pixels for the axes
const BOTTOM = 20;
const WIDE = 600; // CSS pixels from which more seconds are shown
const FAR_BEHIND = 0.4; // seconds that may wait to be drawn

// The numbers of a colour such as #0a6c74.
const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// 256 colours, RGBA in one number each, through the given ones.
function ramp(stops) {
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (stops.length - 1);
    const below = Math.min(Math.floor(place), stops.length - 2);
    const [r, g, b] = stops[below].map((from, c) => Math.round(from + (stops[below + 1][c] - from) * (place - below)));
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
}

export class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.image = document.createElement("canvas"); // one column of pixels for each window, used as a ring
    this.seconds = canvas.clientWidth > WIDE ? 8 : 4;
    this.setRate(16000);
    onColourScheme(() => this.recolour());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  setRate(sampleRate) {
    this.sampleRate = sampleRate;
    const size = 2 ** Math.round(Math.log2(WINDOW_SECONDS * sampleRate));
    this.spectrum = new Spectrum(size);
    this.hop = size / 4;
    this.bins = size / 2;
    this.columns = Math.ceil((this.seconds * sampleRate) / this.hop);
    this.levels = new Uint8Array(this.columns * this.bins); // of the ring, column after column
    Object.assign(this.image, { width: this.columns, height: this.bins });
    this.column = this.image.getContext("2d").createImageData(1, this.bins);
    this.past = new Float32Array(size);
    this.clear();
  }

  clear() {
    this.waiting = []; // blocks of samples that were heard and are not drawn yet
    this.waitingSamples = 0;
    this.filled = 0; // samples of `past` since the last column
    this.count = 0; // columns so far
    this.marks = []; // {column, text}
    this.past.fill(0);
    this.levels.fill(0);
    if (this.palette) this.recolour();
  }

  recolour() {
    const palette = colours(this.canvas);
    const [low, accent, high] = ["panel", "accent", "text"].map((name) => channels(palette[name]));
    const mix = (a, b, share) => a.map((value, i) => value + (b[i] - value) * share);
    this.palette = ramp([low, mix(low, accent, 0.22), mix(low, accent, 0.7), mix(accent, high, 0.25), high]);
    for (let column = 0; column < this.columns; ++column) this.paint(column);
    this.draw();
  }

  // Samples as they are heard. They are drawn as time passes, which evens out the blocks.
  push(samples) {
    this.waiting.push(samples);
    this.waitingSamples += samples.length;
    while (this.waitingSamples - this.waiting[0].length > this.seconds * this.sampleRate)
      // nobody looked
      this.waitingSamples -= this.waiting.shift().length;
  }

  // A line with a text, such as where the audio was restarted.
  mark(text) {
    this.advance(this.waitingSamples);
    if (this.marks.at(-1)?.column === this.count) this.marks.pop();
    this.marks.push({ column: this.count, text });
  }

  // Draws what was heard in the seconds since the last call. Returns whether there was anything.
  step(seconds) {
    if (this.waitingSamples === 0) return false;
    const late = this.waitingSamples - FAR_BEHIND * this.sampleRate;
    this.advance(Math.round(Math.max(seconds * this.sampleRate, late)));
    this.draw();
    return true;
  }

  advance(samples) {
    while (samples > 0 && this.waiting.length) {
      const block = this.waiting[0];
      const taken = Math.min(samples, block.length, this.hop - this.filled);
      this.past.copyWithin(0, taken);
      this.past.set(block.subarray(0, taken), this.past.length - taken);
      if (taken < block.length) this.waiting[0] = block.subarray(taken);
      else this.waiting.shift();
      this.waitingSamples -= taken;
      this.filled += taken;
      samples -= taken;
      if (this.filled === this.hop) this.addColumn();
    }
  }

  addColumn() {
    const { bins } = this;
    this.filled = 0;
    const column = this.count++ % this.columns;
    const decibels = this.spectrum.of(this.past);
    for (let bin = 0; bin < bins; ++bin)
      this.levels[column * bins + bin] = Math.max(
        0,
        Math.min(255, (255 * (decibels[bin] - FLOOR)) / (CEILING - FLOOR)),
      );
    this.paint(column);
    while (this.marks.length && this.marks[0].column < this.count - this.columns) this.marks.shift();
  }

  paint(column) {
    const { bins, levels, palette } = this;
    const pixels = new Uint32Array(this.column.data.buffer);
    for (let bin = 0; bin < bins; ++bin) pixels[bins - 1 - bin] = palette[levels[column * bins + bin]];
    this.image.getContext("2d").putImageData(this.column, column, 0);
  }

  draw() {
    const { context, width, height } = crisp(this.canvas);
    if (!width) return; // not laid out
    const palette = colours(this.canvas);
    const plot = { x: LEFT, y: 6, width: width - LEFT - 1, height: height - BOTTOM - 6 };
    context.clearRect(0, 0, width, height);
    this.drawImage(context, plot);
    context.font = `11px ${palette.sans}`;
    this.drawAxes(context, plot, palette);
    this.drawMarks(context, plot, palette);
  }

  // Where the newest column ends, in columns from the left of the plot.
  get newest() {
    return reducedMotion.matches ? this.count % this.columns : this.columns;
  }

  drawImage(context, { x, y, width, height }) {
    const { columns, image, bins } = this;
    const split = reducedMotion.matches ? 0 : this.count % columns; // the oldest column
    const scale = width / columns;
    const piece = (from, count, to) => {
      if (count > 0) context.drawImage(image, from, 0, count, bins, x + to * scale, y, count * scale, height);
    };
    piece(split, columns - split, 0);
    piece(0, split, columns - split);
  }

  drawAxes(context, { x, y, width, height }, palette) {
    context.strokeStyle = palette.line;
    context.strokeRect(x - 0.5, y - 0.5, width + 1, height + 1);
    context.fillStyle = palette.faint;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const top = this.sampleRate / 2000; // kHz
    const each = [1, 2, 4, 5, 10].find((step) => top / step <= 5) ?? 20;
    for (let kilohertz = 0; kilohertz <= top; kilohertz += each) {
      const at = y + height * (1 - kilohertz / top);
      const text = kilohertz + each > top ? `${kilohertz} kHz` : String(kilohertz);
      if (text.length < 4) context.fillText(text, x - 6, Math.max(at, y + 5));
      else text.split(" ").forEach((line, i) => context.fillText(line, x - 6, Math.max(at, y + 5) + 13 * i));
    }
    context.textBaseline = "alphabetic";
    if (reducedMotion.matches) {
      const at = x + (width * this.newest) / this.columns;
      context.fillStyle = palette.second;
      context.fillRect(at, y, 2, height);
      return;
    }
    for (let second = 0; second <= this.seconds; second += this.seconds > 4 ? 2 : 1) {
      const at = x + width * (1 - second / this.seconds);
      context.textAlign = second === 0 ? "right" : second === this.seconds ? "left" : "center";
      context.fillText(second === 0 ? "now" : `−${second} s`, at, y + height + 15);
    }
  }

  drawMarks(context, { x, y, width, height }, palette) {
    context.textAlign = "left";
    for (const { column, text } of this.marks) {
      const place = reducedMotion.matches ? column % this.columns : this.newest - (this.count - column);
      if (place < 0) continue;
      const at = Math.round(x + (width * place) / this.columns);
      context.fillStyle = palette.second;
      context.fillRect(at, y, 1, height);
      context.fillStyle = palette.panel; // the text is readable on any sound
      context.fillRect(at + 1, y, context.measureText(text).width + 8, 17);
      context.fillStyle = palette.second;
      context.fillText(text, at + 5, y + 12);
    }
  }
}
