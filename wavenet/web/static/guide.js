// Six steps from one sample to what the model hears, each with the stack that it is about.

import { element } from "./dom.js";
import { msText, receptiveField, plainReceptiveField, samplesText, stackOf } from "./receptive_field.js";

// own, rate, config: the model's stack, sample rate and configuration. Each step: {title, text, stack (null: the model's),
// long: whether it offers to mute the long dilations}. At most two sentences each.
export function guideSteps(own, rate, config) {
  const features = Boolean(config?.features);
  const heard = receptiveField(own, longLayers(own, features));
  return [
    {
      title: "Two samples",
      text:
        "A WaveNet makes audio one sample at a time, each from the samples before it. " +
        "One layer with two taps lets every output see two of them.",
      stack: stackOf(1, 1),
    },
    {
      title: "Twice as far",
      text:
        "The taps of the second layer lie 2 apart, and each reads a result of two samples: it sees 4. " +
        "With 4 and 8 apart, the next layers see 8 and 16.",
      stack: stackOf(1, 4),
    },
    {
      title: "Eight layers, 256 samples",
      text:
        `Every layer doubles what is seen: 1 + 1 + 2 + 4 + … + 128 = ${samplesText(256)}, ${msText(256, rate)} of this audio. ` +
        `Eight layers without dilation see ${plainReceptiveField(stackOf(1, 8))}.`,
      stack: stackOf(1, 8),
    },
    {
      title: "Nothing is lost",
      text:
        "Wide taps skip no sample: the layers below have read those between them, so the strip under the cone is full. " +
        "And there is still one output for every sample, unlike with pooling.",
      stack: stackOf(1, 5),
    },
    {
      title: "Cycles repeat",
      text: cyclesText(own, rate),
      stack: null,
    },
    {
      title: "Hear it",
      text:
        `Play, and in the middle of a word mute the dilations from ${longFrom(own, features)} up: what is left sees ` +
        `${samplesText(heard)}, ${msText(heard, rate)}. ${whatIsHeard(config ?? {})}`,
      stack: null,
      long: true,
    },
  ];
}

function cyclesText(own, rate) {
  const reach = receptiveField(own);
  const all = `${samplesText(reach)}, ${msText(reach, rate)}`;
  if (own.cycles === 1)
    return `This model has one cycle, which sees ${all}. Others repeat it, which adds context and processes every time scale again.`;
  const one = samplesText(receptiveField(stackOf(1, own.perCycle, own.kernel)));
  return (
    `This model runs through its dilations ${own.cycles === 2 ? "twice" : `${own.cycles} times`}: one cycle sees ${one}, ` +
    `all ${own.cycles} see ${all}. Further cycles only add context, but every time scale is processed again, from richer values.`
  );
}

function introduction(own) {
  return {
    title: `Why do ${own.dilations.length} layers see ${samplesText(receptiveField(own))}?`,
    text:
      "Below is the network that plays: every output sample depends on the audio under its cone. " +
      "Six short steps say why the cone is so wide, and the last lets you hear it.",
  };
}

// What is heard then, as the shipped models do it: speech.safetensors muted in a word goes on with one sound, or with
// silence; vocoders keep the words and lose the regularity of the voice, which refinement gives back.
const WITHOUT_FEATURES =
  "A model of speech then holds one sound or falls silent: " +
  "it is a network without layers that it relies on, not one trained with a shorter context.";
const WITH_FEATURES =
  "The words stay, because the features bring them; " +
  "the voice gets rougher and quieter, in a network without layers that it relies on.";
const REFINED =
  "Little of that is heard here, because the features bring the words, and refinement makes the audio agree with them.";

function whatIsHeard({ features, sampling }) {
  if (!features) return WITHOUT_FEATURES;
  return sampling?.refine ? REFINED : WITH_FEATURES;
}

// The shortest dilation that the last step mutes.
function longFrom({ dilations }, features) {
  return Math.min(features ? 8 : 128, Math.max(...dilations));
}

export function longLayers(stack, features) {
  const from = longFrom(stack, features);
  return new Set(stack.dilations.flatMap((dilation, layer) => (dilation >= from ? [layer] : [])));
}

const MARKUP = `
  <ol class="steps"></ol>
  <div class="step" aria-live="polite"><h3></h3><p></p></div>
  <div class="moves">
    <button type="button" class="previous">Back</button>
    <button type="button" class="next primary">Next</button>
    <button type="button" class="try" hidden></button>
  </div>`;

export class Guide {
  // onstep({stack}): a step is shown; onmute(layers): the last step's offer.
  constructor(panel, { onstep, onmute }) {
    panel.innerHTML = MARKUP;
    Object.assign(this, { onstep, onmute, index: -1 });
    this.find = (selector) => panel.querySelector(selector);
    this.find(".previous").addEventListener("click", () => this.go(this.index - 1));
    this.find(".next").addEventListener("click", () => this.go(this.index + 1));
    this.find(".try").addEventListener("click", () => this.onmute(longLayers(this.own, this.features)));
  }

  setModel(own, sampleRate, config) {
    const features = Boolean(config?.features);
    Object.assign(this, { own, features, steps: guideSteps(own, sampleRate, config) });
    this.find(".try").textContent = `Mute dilations from ${longFrom(own, features)} up`;
    this.find(".steps").replaceChildren(
      ...this.steps.map(({ title }, i) => {
        const button = element("button", {
          type: "button",
          textContent: i + 1,
          ariaLabel: `Step ${i + 1}: ${title}`,
        });
        button.addEventListener("click", () => this.go(i));
        return element("li", {}, button);
      }),
    );
    this.render();
  }

  go(index) {
    this.index = Math.max(0, Math.min(this.steps.length - 1, index));
    this.render();
    this.onstep(this.steps[this.index]);
  }

  render() {
    const { title, text, long } = this.steps[this.index] ?? introduction(this.own);
    this.find("h3").textContent = this.index < 0 ? title : `${this.index + 1}. ${title}`;
    this.find(".step p").textContent = text;
    this.find(".try").hidden = !long;
    this.find(".next").textContent = this.index < 0 ? "Start" : "Next";
    this.find(".previous").disabled = this.index <= 0;
    this.find(".next").disabled = this.index === this.steps.length - 1;
    this.find(".steps").childNodes.forEach((item, i) => {
      if (i === this.index) item.firstChild.setAttribute("aria-current", "step");
      else item.firstChild.removeAttribute("aria-current");
    });
  }
}
