// The Play section: transport, display, models, and the cards with controls.

import { clock, element, parts } from "./dom.js";
import { LevelMeter } from "./level_meter.js";
import { CLIPS_MARKUP, Clips } from "./play_clips.js";
import { mountSampling, mountVoices } from "./play_controls.js";
import { BRANCHES_MARKUP, Branches, TAKE_MARKUP, Take, newSeed } from "./play_takes.js";
import { Spectrogram } from "./spectrogram.js";

const MARKUP = `
  <h1 id="play-title">A neural network that makes up sound</h1>
  <p class="lead" data-part="lead">
    It was trained on recordings to do one thing: given the last moments of a sound, to predict the next sample. Press play,
    and it goes on and on from its own predictions.
  </p>
  <p class="notice error" role="alert" data-part="error" hidden></p>
  <div class="panel instrument">
    <div class="transport">
      <button type="button" class="primary play" data-part="play" disabled>
        <svg viewBox="0 0 20 20" aria-hidden="true"><path data-part="icon" /></svg><span data-part="playText">Play</span>
      </button>
      <button type="button" data-part="restart" disabled>Restart</button>
      <div class="field"><label for="seed">Seed</label><input id="seed" type="number" min="0" step="1" value="0" data-part="seed" /></div>
      <button type="button" data-part="newSeed" disabled>New seed</button>
      <dl class="readout">
        <div><dt>Heard</dt><dd data-part="time">0:00.0</dd></div>
        <div><dt>Generates</dt><dd data-part="speed">–</dd></div>
      </dl>
    </div>
    <div class="loading" data-part="loading" hidden><progress aria-label="Loading the model" data-part="progress"></progress><span data-part="loadingText"></span></div>
    <p class="notice" data-part="waiting" hidden></p>
    <div class="display">
      <canvas class="spectrogram" role="img" aria-label="Spectrogram of the last seconds: frequency upwards, time to the right" data-part="spectrogram"></canvas>
      <canvas class="level" role="meter" aria-label="Level" aria-valuemin="-60" aria-valuemax="0" data-part="level"></canvas>
    </div>
    <div class="source">
      <div class="field"><label for="model">Model</label><select id="model" data-part="model"></select></div>
      <div class="field">
        <label for="precision">Precision</label>
        <select id="precision" data-part="precision">
          <option value="int8">8-bit, faster</option>
          <option value="f32">32-bit</option>
        </select>
      </div>
      <div class="field" data-part="originField" hidden>
        <label for="origin">Computed by</label>
        <select id="origin" data-part="origin">
          <option value="browser">this browser</option>
          <option value="server">the server</option>
        </select>
      </div>
      <label class="button">Open a model<input type="file" accept=".safetensors" class="spoken" data-part="modelFile" /></label>
      <p class="hint" data-part="about"></p>
    </div>
  </div>
  <div class="cards" data-part="cards" inert>
    <div class="stack">
      <div class="panel card" data-part="voicesCard" hidden><h2>Voices</h2><div data-part="voices"></div></div>
      <div class="panel card">
        <div class="title"><h2>Sampling</h2><button type="button" class="plain" data-part="resetSampling">The model's own</button></div>
        <div class="sliders" data-part="sampling"></div>
      </div>
    </div>
    <div class="stack">
      <div class="panel card">${CLIPS_MARKUP}</div>
      <div class="panel card">${BRANCHES_MARKUP}</div>
    </div>
    <div class="stack"><div class="panel card">${TAKE_MARKUP}</div></div>
  </div>
  <details class="keys">
    <summary>Keys</summary>
    <p>While no control has the focus: <kbd>Space</kbd> plays and pauses, <kbd>R</kbd> restarts, <kbd>N</kbd> takes a new seed,
    <kbd>B</kbd> keeps a moment. <kbd>Tab</kbd> moves through the controls; arrow keys move sliders, and move the point in the
    pad of voices (with <kbd>Shift</kbd> in smaller steps).</p>
  </details>
  <p class="spoken" aria-live="polite" data-part="announcement"></p>`;

const PLAY_ICON = "M5 3l12 7-12 7z";
const PAUSE_ICON = "M4 3h4v14h-4zM12 3h4v14h-4z";
const KEYS = { " ": "play", r: "restart", n: "newSeed", b: "keep" }; // the buttons that they press
const MANY = 99; // x real time; more cannot be measured

export function mountPlay(section, engine, manifest) {
  section.innerHTML = MARKUP;
  return new Play(section, engine, manifest);
}

class Play {
  constructor(section, engine, manifest) {
    this.ui = parts(section);
    Object.assign(this, { engine, models: [...manifest.models], past: null, loads: 0 });
    const { ui } = this;
    const shared = {
      guard: (work) => this.guard(work),
      announce: (text) => (ui.announcement.textContent = text),
    };
    this.announce = shared.announce;
    this.spectrogram = new Spectrogram(ui.spectrogram);
    this.meter = new LevelMeter(ui.level);
    this.clips = new Clips(ui, engine, {
      ...shared,
      onclip: (samples) => this.begin(samples, samples ? "continues" : "new clip"),
    });
    this.branches = new Branches(ui, engine, { ...shared, onmark: (text) => this.spectrogram.mark(text) });
    this.take = new Take(ui, engine, shared);
    this.listen();
    this.followEngine();
    this.animate();
    this.fillModels();
    this.open(this.models[0]);
  }

  // Runs what a control starts, and shows why it failed.
  async guard(work) {
    this.showError("");
    try {
      await work();
    } catch (error) {
      this.showError(error.message);
    }
  }

  showError(text) {
    this.ui.error.textContent = text;
    this.ui.error.hidden = !text;
  }

  listen() {
    const { ui, engine } = this;
    ui.play.addEventListener("click", () => this.guard(() => (engine.playing ? engine.pause() : engine.play())));
    ui.restart.addEventListener("click", () => this.restart());
    ui.newSeed.addEventListener("click", () => {
      ui.seed.value = newSeed();
      this.restart();
    });
    ui.seed.addEventListener("change", () => this.restart());
    ui.model.addEventListener("change", () => this.open(this.models[ui.model.selectedIndex]));
    ui.precision.addEventListener("change", () => this.reopen());
    ui.origin.addEventListener("change", () => {
      this.models[ui.model.selectedIndex].source = ui.origin.value;
      this.reopen();
    });
    ui.modelFile.addEventListener("change", () => {
      const [file] = ui.modelFile.files;
      ui.modelFile.value = "";
      if (file) this.openFile(file);
    });
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file?.name.endsWith(".safetensors")) this.openFile(file);
      else if (file) this.guard(() => this.clips.offer(file));
    });
    document.addEventListener("keydown", (event) => {
      const free = event.target === document.body || event.target === document.documentElement;
      const button = ui[KEYS[event.key]];
      if (!free || !button || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      button.click();
    });
  }

  // Restarts with the seed in its field.
  restart() {
    const { ui, engine } = this;
    const seed = Math.max(0, Math.min(Number.MAX_SAFE_INTEGER, Math.floor(ui.seed.valueAsNumber || 0)));
    ui.seed.value = seed;
    return this.guard(async () => {
      this.begin(this.past, `seed ${seed}`);
      await engine.restart({ seed });
      this.take.refresh();
    });
  }

  // Prepares the display for another start, after the past that the audio continues.
  begin(past, text) {
    this.past = past;
    this.branches.refresh();
    if (past) this.spectrogram.push(past.slice(-this.engine.info.sampleRate * this.spectrogram.seconds));
    this.spectrogram.mark(text);
  }

  // Models ----------------------------------------------------------------------------------------------------------

  fillModels() {
    const { ui, models } = this;
    const text = ({ name, kind }) => (!kind || name.includes(kind) ? name : `${name} (${kind})`);
    ui.model.replaceChildren(...models.map((model) => element("option", {}, text(model))));
    ui.model.selectedIndex = Math.max(0, models.indexOf(this.opened));
  }

  openFile(file) {
    return this.guard(async () => {
      const name = file.name.replace(/\.safetensors$/, "");
      await this.load({ name, kind: "opened here", bytes: await file.arrayBuffer() });
    });
  }

  open(model, controls) {
    return this.guard(() => this.load(model, controls));
  }

  // Opens the model that is chosen again; the one that plays keeps its controls.
  reopen() {
    const model = this.models[this.ui.model.selectedIndex];
    return this.open(model, model === this.opened ? this.engine.controls : {});
  }

  // Another one that is chosen meanwhile takes its place.
  async load(model, controls) {
    const { ui, engine } = this;
    const load = ++this.loads;
    try {
      const bytes = model.source === "server" ? {} : { file: undefined, bytes: await this.download(model) };
      if (load !== this.loads) return;
      if (!(await engine.load({ ...model, ...bytes }, { precision: ui.precision.value, controls }))) return;
      if (!this.models.includes(model)) this.models.push(model);
      this.opened = model;
    } finally {
      if (load === this.loads) {
        ui.loading.hidden = true;
        this.fillModels();
      }
    }
  }

  // The bytes of a model file, with its progress shown.
  async download({ name, file, bytes }) {
    if (!file) return bytes;
    const { ui } = this;
    const response = await fetch(file);
    if (!response.ok) throw new Error(`${file}: ${response.status} ${response.statusText}`);
    const size = bytes ?? Number(response.headers.get("Content-Length"));
    const pieces = [];
    let loaded = 0;
    ui.loading.hidden = false;
    for await (const piece of streamed(response.body)) {
      pieces.push(piece);
      loaded += piece.length;
      ui.progress.value = size ? Math.min(1, loaded / size) : 0;
      ui.loadingText.textContent = `Loading ${name}, ${megabytes(loaded)} of ${megabytes(size)} MB`;
    }
    return new Blob(pieces).arrayBuffer();
  }

  showModel() {
    const { ui, engine, spectrogram } = this;
    const { sampleRate, layers, receptiveField, speakers } = engine.info;
    this.past = null;
    if (spectrogram.sampleRate !== sampleRate) spectrogram.setRate(sampleRate);
    else spectrogram.mark(engine.model.name);
    ui.lead.textContent = lead(engine.info);
    ui.about.textContent =
      `${layers} layers look back over ${receptiveField.toLocaleString("en")} samples: ` +
      `${Math.round((1000 * receptiveField) / sampleRate)} ms at ${sampleRate / 1000} kHz.`;
    ui.speed.textContent = "–";
    const { source, sources } = engine.model; // of a studio, which may compute it, too
    ui.originField.hidden = !(sources?.length > 1);
    ui.origin.value = source ?? "browser";
    ui.voicesCard.hidden = speakers.length < 2;
    if (speakers.length > 1) mountVoices(ui.voices, engine);
    mountSampling(ui.sampling, ui.resetSampling, engine);
    this.clips.refresh();
    this.branches.refresh();
    this.take.refresh();
    ui.cards.inert = false;
    for (const button of [ui.play, ui.restart, ui.newSeed]) button.disabled = false;
    this.announce(`${engine.model.name} is ready`);
  }

  // The engine's events -----------------------------------------------------------------------------------------------

  followEngine() {
    const { ui, engine, spectrogram, meter } = this;
    const on = (name, action) => engine.addEventListener(name, ({ detail }) => action(detail));
    on("model", () => this.showModel());
    on("error", ({ message }) => this.showError(message));
    on("audio", ({ block }) => {
      spectrogram.push(block);
      meter.push(block);
    });
    on("report", ({ position, speed, ahead }) => {
      ui.time.textContent = clock(position / engine.info.sampleRate);
      if (speed) ui.speed.textContent = `${speed > MANY ? `over ${MANY}` : speed.toFixed(1)} x real time`;
      if (!ui.waiting.hidden) this.showAhead(ahead);
    });
    on("state", (state) => this.showState(state));
    this.showState({ playing: false });
  }

  showState({ playing, waiting, ahead }) {
    const { ui } = this;
    ui.icon.setAttribute("d", playing ? PAUSE_ICON : PLAY_ICON);
    ui.playText.textContent = playing ? "Pause" : "Play";
    if (waiting && ui.waiting.hidden) this.announce("Slower than real time: it generates ahead");
    ui.waiting.hidden = !waiting;
    if (waiting) this.showAhead(ahead);
  }

  showAhead(seconds) {
    const { ui, engine } = this;
    ui.waiting.textContent =
      `This browser is slower than real time (${engine.speed?.toFixed(2) ?? "?"} x): it generates ahead, and plays in ` +
      `stretches without gaps. ${seconds.toFixed(1)} s are ready.`;
  }

  animate() {
    let last = performance.now();
    const frame = (now) => {
      const seconds = Math.min(1, (now - last) / 1000);
      last = now;
      this.spectrogram.step(seconds);
      this.meter.step(seconds);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

// The pieces of a ReadableStream, which is not iterable itself in every browser.
async function* streamed(stream) {
  const reader = stream.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
}

// What is said about a model to somebody who has never heard of WaveNet.
function lead({ sampleRate, receptiveField, speakers, needsClip, twoTiers }) {
  const [rate, ms] = [sampleRate.toLocaleString("en"), Math.round((1000 * receptiveField) / sampleRate)];
  if (needsClip)
    return (
      `This one is a vocoder. It sees the spectrogram of a clip, the picture below, and invents a waveform for it, sample by sample, ` +
      `${rate} times a second. No sample of the clip is copied. Press play, and compare.`
    );
  const voices = speakers.length > 1 ? ` It knows ${speakers.length} voices, and those between them.` : "";
  const tiers = twoTiers ? " A second network sketches the spectrogram that it fills with sound." : "";
  return (
    `It was trained on recordings to do one thing: given the last ${ms} ms of a sound, to predict the next sample. Press play, and ` +
    `it goes on from its own predictions, ${rate} times a second: sound that no one has recorded.${voices}${tiers} Move the controls while it plays.`
  );
}
