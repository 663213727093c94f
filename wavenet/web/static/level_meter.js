// A level meter: RMS of what is heard as a bar, its peak as a line that falls slowly, in dBFS.

import { colours, crisp, decibels, onColourScheme } from "./dom.js";

const FLOOR = -60; // dBFS
const TICKS = [0, -12, -24, -36, -48, -60];
const LOUD = -3; // dBFS, of the peak: nearly clipped
const FALL = 24; // dB a second
const BAR = 12; // CSS pixels

export class LevelMeter {
  constructor(canvas) {
    this.canvas = canvas;
    this.silence();
    onColourScheme(() => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  silence() {
    this.rms = this.peak = -120;
    this.draw();
  }

  push(block) {
    let squares = 0;
    let peak = 0;
    for (const sample of block) {
      squares += sample * sample;
      peak = Math.max(peak, Math.abs(sample));
    }
    this.rms = Math.max(this.rms, decibels(Math.sqrt(squares / block.length)));
    this.peak = Math.max(this.peak, decibels(peak));
  }

  // Lets the level fall as far as it does in these seconds.
  step(seconds) {
    if (this.peak < FLOOR - FALL) return;
    this.draw();
    this.rms -= 2 * FALL * seconds;
    this.peak -= FALL * seconds;
  }

  draw() {
    const { context, width, height } = crisp(this.canvas);
    if (!width) return;
    const palette = colours(this.canvas);
    const [top, bottom] = [6, height - 20];
    const place = (level) => bottom - (bottom - top) * Math.min(1, Math.max(0, 1 - level / FLOOR));
    context.clearRect(0, 0, width, height);
    context.fillStyle = palette.shade;
    context.fillRect(0, top, BAR, bottom - top);
    context.fillStyle = palette.accent;
    context.fillRect(0, place(this.rms), BAR, bottom - place(this.rms));
    if (this.peak > FLOOR) {
      context.fillStyle = this.peak > LOUD ? palette.warn : palette.text;
      context.fillRect(0, place(this.peak), BAR, 2);
    }
    context.font = `11px ${palette.sans}`;
    context.fillStyle = palette.faint;
    context.textBaseline = "middle";
    for (const tick of TICKS) context.fillText(String(tick).replace("-", "−"), BAR + 5, Math.max(place(tick), top + 5));
    context.fillText("dBFS", 0, height - 7);
    this.canvas.setAttribute("aria-valuenow", String(Math.round(Math.max(this.rms, FLOOR))));
    this.canvas.setAttribute(
      "aria-valuetext",
      `${Math.round(Math.max(this.rms, FLOOR))} decibels relative to full scale`,
    );
  }
}
