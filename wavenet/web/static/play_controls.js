// The controls of the Play section: sampling, pitch and loudness, and voices.

import { Slider, element } from "./dom.js";
import { Pad } from "./pad.js";

const percent = (share) => `${Math.round(100 * share)} %`;
const logarithmic = { value: (x) => Math.round(2 ** x), position: (k) => Math.log2(k) };

// What each slider sets, for which models, and the value that the model itself recommends.
const SLIDERS = [
  {
    name: "temperature",
    label: "Temperature",
    hint: "Lower is more predictable, higher more adventurous.",
    ...{ min: 0, max: 1.5, step: 0.01 },
    show: (value) => value.toFixed(2),
    own: ({ sampling, twoTiers }) => (twoTiers ? sampling.frame_temperature : sampling.temperature) ?? 1,
  },
  {
    name: "voicedTemperature",
    label: "Temperature of voiced sounds",
    hint: "In sounds with a pitch, such as vowels.",
    ...{ min: 0, max: 1.5, step: 0.01 },
    show: (value) => value.toFixed(2),
    has: ({ features }) => features,
    own: ({ sampling }) => sampling.voiced_temperature ?? sampling.temperature ?? 1,
  },
  {
    name: "topK",
    label: "Top-k",
    hint: "Draws from the k most probable of 256 levels only.",
    ...{ min: 0, max: 8, step: 0.05, scale: logarithmic },
    show: (value) => (value >= 256 ? "all 256" : String(value)),
    has: ({ output }) => output === "mulaw",
    own: ({ sampling }) => sampling.top_k ?? 256,
  },
  {
    name: "topP",
    label: "Top-p",
    hint: "Draws from the most probable levels that share this probability.",
    ...{ min: 0.05, max: 1, step: 0.01 },
    show: (value) => (value >= 1 ? "all" : percent(value)),
    own: ({ sampling }) => sampling.top_p ?? 1,
  },
];

// Of models that draw their own frames: a value, or null for the model's choice.
const CURVES = [
  { name: "pitch", label: "Pitch", unit: "Hz", range: "pitch", usual: [60, 400] },
  { name: "loudness", label: "Loudness", unit: "dBFS", range: "level", usual: [-60, -15] },
];

// Builds the sampling controls of a loaded model into a card, with a button that goes back to its own options.
export function mountSampling(card, reset, engine) {
  const config = { ...engine.config, sampling: engine.config.sampling ?? {}, twoTiers: engine.info.twoTiers };
  const sliders = SLIDERS.filter(({ has }) => !has || has(config)).map((options) => {
    const slider = new Slider(options, (value) => engine.set({ [options.name]: value }));
    slider.value = engine.controls[options.name] ?? options.own(config);
    return { slider, name: options.name, own: options.own(config) };
  });
  const curves = engine.info.twoTiers ? CURVES.map((options) => mountCurve(options, engine)) : [];
  card.replaceChildren(...sliders.map(({ slider }) => slider.root), ...curves.map((curve) => curve.root));
  reset.onclick = () => {
    for (const { slider, own } of sliders) slider.value = own;
    engine.set(Object.fromEntries(sliders.map(({ name, own }) => [name, own])));
    for (const curve of curves) curve.free();
  };
}

// A slider that acts only while its box is not ticked.
function mountCurve({ name, label, unit, range, usual }, engine) {
  const [min, max] = (engine.config.training_range?.[range] ?? usual).map(Math.round);
  const text = (value) => `${String(value).replace("-", "−")} ${unit}`;
  const free = element("input", { type: "checkbox" });
  const show = (value) => (free.checked ? "free" : text(value));
  const slider = new Slider({ label, min, max, step: 1, show }, (value) => set(value));
  const set = (value) => {
    free.checked = value === null;
    slider.update();
    engine.set({ [name]: value });
  };
  const now = engine.controls[name] ?? null;
  free.checked = now === null;
  slider.value = now ?? Math.round(name === "pitch" ? Math.sqrt(min * max) : (min + max) / 2);
  free.addEventListener("change", () => set(free.checked ? null : slider.value));
  slider.root.append(
    element("label", { className: "free hint" }, free, ` The model chooses the ${label.toLowerCase()}`),
  );
  return { root: slider.root, free: () => set(null) };
}

// The shares when one of them is set and the others keep their proportions.
export function rebalanced(shares, index, share) {
  const others = shares.reduce((sum, value, i) => (i === index ? sum : sum + value), 0);
  return shares.map((value, i) => {
    if (i === index) return share;
    return others > 0 ? (value * (1 - share)) / others : (1 - share) / (shares.length - 1);
  });
}

// Builds a pad for two to four voices and a slider for each voice into a card.
export function mountVoices(card, engine) {
  const names = engine.info.speakers;
  let shares = engine.controls.speakers ?? names.map((_, i) => (i === 0 ? 1 : 0));
  const set = (changed, from) => {
    shares = changed;
    if (pad && from !== pad) pad.shares = shares;
    sliders.forEach((slider, i) => {
      if (from !== slider) slider.value = shares[i];
    });
    if (from) engine.set({ speakers: shares });
  };
  const pad = Pad.sizes.includes(names.length) ? new Pad(names, (moved) => set(moved, pad)) : null;
  const sliders = names.map((label, i) => {
    const slider = new Slider({ label, min: 0, max: 1, step: 0.01, show: percent }, (share) =>
      set(rebalanced(shares, i, share), slider),
    );
    return slider;
  });
  const list = element("div", { className: "voices" }, ...sliders.map((slider) => slider.root));
  card.replaceChildren(...(pad ? [pad.root] : []), list);
  set(shares, null);
}
