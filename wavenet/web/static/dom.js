// Small helpers for the sections' markup.

// The elements of a section that its module works with, by the name in their data-part.
export function parts(root) {
  return Object.fromEntries(
    Array.from(root.querySelectorAll("[data-part]"), (element) => [element.dataset.part, element]),
  );
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A slider with its name and value above it and an explanation below. scale: from the slider's position to the value and
// back, for those that are not linear. show: the value as text, for eyes and for screen readers.
export class Slider {
  static count = 0;

  constructor(
    { label, hint, min, max, step, show = String, scale = { value: (x) => x, position: (x) => x } },
    oninput,
  ) {
    const id = `slider-${++Slider.count}`;
    this.show = show;
    this.scale = scale;
    this.shown = element("span", { className: "value", ariaHidden: "true" });
    this.input = element("input", { type: "range", id, min, max, step });
    this.input.addEventListener("input", () => {
      this.update();
      oninput(this.value);
    });
    this.root = element(
      "div",
      { className: "control" },
      element("label", { htmlFor: id, textContent: label }),
      this.shown,
      this.input,
    );
    if (hint) {
      this.root.append(element("p", { className: "hint", id: `${id}-hint`, textContent: hint }));
      this.input.setAttribute("aria-describedby", `${id}-hint`);
    }
  }

  get value() {
    return this.scale.value(Number(this.input.value));
  }

  set value(value) {
    this.input.value = this.scale.position(value);
    this.update(value);
  }

  update(value = this.value) {
    const { input } = this;
    const text = this.show(value);
    this.shown.textContent = text;
    input.setAttribute("aria-valuetext", text);
    input.style.setProperty("--share", `${(100 * (input.value - input.min)) / (input.max - input.min)}%`);
  }
}

// A time in seconds as minutes and seconds, such as 1:04.3.
export function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

export const decibels = (level) => 20 * Math.log10(Math.max(level, 1e-6));

// The design variables as canvases need them; again after a change of the colour scheme.
export function colours(canvas) {
  const style = getComputedStyle(canvas);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue(`--${name}`).trim() });
}

// Calls back now and whenever the browser changes between light and dark.
export function onColourScheme(callback) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
  callback();
}

export const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

// Gives a canvas as many pixels as the screen has under it, and a context that draws in CSS pixels.
export function crisp(canvas) {
  const ratio = globalThis.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}
