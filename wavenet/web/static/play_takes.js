// Branches and downloads in the Play section: moments to return to, and the take with the settings that reproduce it.

import { clock, colours, crisp, element, onColourScheme } from "./dom.js";
import { wavFile } from "./wav.js";

const THUMBNAIL_SECONDS = 1.5;
const MOST_BRANCHES = 12;

export const BRANCHES_MARKUP = `
  <h2>Branches</h2>
  <p class="hint">Keep a moment and come back to it: the same past, and another future.</p>
  <div class="buttons"><button type="button" data-part="keep">Keep this moment</button></div>
  <ol class="branches" data-part="branches"></ol>`;

export const TAKE_MARKUP = `
  <h2>Take it with you</h2>
  <p class="hint" data-part="takeText">What was generated since the start, and the settings that make it again.</p>
  <div class="buttons">
    <button type="button" data-part="saveAudio">Audio (WAV)</button>
    <button type="button" data-part="saveSettings">Settings (JSON)</button>
  </div>
  <p class="hint">The same samples on the command line:</p>
  <div class="command"><code data-part="command"></code><button type="button" data-part="copy">Copy</button></div>`;

export class Branches {
  constructor(ui, engine, { guard, announce, onmark }) {
    Object.assign(this, { ui, engine, guard, announce, onmark });
    this.made = 0;
    ui.keep.addEventListener("click", () => guard(() => this.keep()));
  }

  // After another start: the branches of the one before are gone.
  refresh() {
    this.made = 0;
    this.ui.branches.replaceChildren();
    this.ui.keep.disabled = false;
  }

  async keep() {
    const { engine, ui } = this;
    if (ui.branches.childElementCount >= MOST_BRANCHES) return;
    const { sampleRate } = engine.info;
    const recent = engine.recent(Math.round(THUMBNAIL_SECONDS * sampleRate));
    const time = clock(engine.position / sampleRate);
    const id = await engine.branch();
    const name = String.fromCharCode(65 + (this.made++ % 26));
    this.onmark(name);
    const picture = element("canvas", { ariaHidden: "true" });
    const back = element(
      "button",
      { type: "button", className: "back" },
      picture,
      element("strong", {}, name),
      ` ${time}`,
    );
    back.setAttribute("aria-label", `Return to ${name}, at ${time}`);
    const other = element("button", { type: "button", textContent: "Another way" });
    other.setAttribute("aria-label", `From ${name} another way, with other random numbers`);
    back.addEventListener("click", () => this.returnTo(id, name));
    other.addEventListener("click", () => this.returnTo(id, name, newSeed()));
    ui.branches.append(element("li", {}, back, other));
    onColourScheme(() => drawWaveform(picture, recent));
    ui.keep.disabled = ui.branches.childElementCount >= MOST_BRANCHES;
    this.announce(`Branch ${name} at ${time}`);
  }

  returnTo(id, name, seed) {
    return this.guard(async () => {
      this.onmark(`back to ${name}`);
      await this.engine.returnTo(id, seed === undefined ? {} : { seed });
    });
  }
}

export const newSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000; // short enough to say

// The envelope of samples.
function drawWaveform(canvas, samples) {
  const { context, width, height } = crisp(canvas);
  context.clearRect(0, 0, width, height);
  context.fillStyle = colours(canvas).accent;
  const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0.02);
  for (let x = 0; x < width; ++x) {
    const [from, to] = [x, x + 1].map((edge) => Math.floor((edge * samples.length) / width));
    const peak = samples.subarray(from, to).reduce((most, sample) => Math.max(most, Math.abs(sample)), 0) / loudest;
    context.fillRect(x, (height / 2) * (1 - peak) - 0.5, 1, height * peak + 1);
  }
}

export class Take {
  constructor(ui, engine, { guard, announce }) {
    Object.assign(this, { ui, engine });
    ui.saveAudio.addEventListener("click", () => guard(() => this.saveAudio()));
    ui.saveSettings.addEventListener("click", () => guard(() => this.saveSettings()));
    ui.copy.addEventListener("click", () =>
      guard(async () => {
        await navigator.clipboard.writeText(ui.command.textContent);
        announce("The command is copied");
      }),
    );
  }

  get name() {
    return `${this.engine.model.name}-seed-${this.engine.seed}`;
  }

  refresh() {
    this.ui.command.textContent = this.engine.command(`${this.name}.json`);
  }

  saveAudio() {
    const { samples, settings } = this.engine.take;
    if (samples.length === 0) throw new Error("There is no audio yet: press play first.");
    const { clip, ...short } = settings; // a clip would make the comment larger than the audio
    const information = { INAM: this.name, ISFT: "WaveNet toolkit", ICMT: JSON.stringify(short) };
    save(wavFile(samples, this.engine.info.sampleRate, information), "audio/wav", `${this.name}.wav`);
  }

  saveSettings() {
    save(JSON.stringify(this.engine.take.settings, null, 1), "application/json", `${this.name}.json`);
  }
}

function save(content, type, download) {
  const href = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href, download }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
