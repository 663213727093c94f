// Clips in the Play section: a chosen, dropped or recorded one is the past that the model continues, or for vocoders the
// sound to resynthesise; and the microphone as it comes.

const LONGEST_PAST = 5; // seconds, the last ones of a clip: many times what a network looks back
const LONGEST_COPY = 60; // seconds that a vocoder resynthesises
const LONGEST_RECORDING = 20; // seconds

const TEXTS = {
  past: {
    title: "Continue a sound",
    hint: "The model goes on from the end of a clip of yours, as if it had made it. You can drop one anywhere on the page.",
  },
  copy: {
    title: "A sound to make again",
    hint: "The model hears only the spectrogram of a clip and invents the waveform. You can drop one anywhere on the page.",
  },
};

export const CLIPS_MARKUP = `
  <h2 data-part="clipTitle"></h2>
  <p class="hint" data-part="clipHint"></p>
  <div class="buttons">
    <label class="button">Choose a clip<input type="file" accept="audio/*" class="spoken" data-part="clipFile" /></label>
    <button type="button" data-part="record">Record</button>
    <button type="button" data-part="example">Example</button>
    <button type="button" data-part="microphone" aria-pressed="false">Live microphone</button>
  </div>
  <p class="clip" data-part="clip" hidden><span data-part="clipName"></span> <button type="button" class="plain" data-part="forget">Forget it</button></p>
  <audio controls preload="none" aria-label="The clip itself, to compare" data-part="original" hidden></audio>`;

export class Clips {
  // onclip(samples | null) is called before the engine restarts with a clip as its past; guard runs work whose failure is
  // shown; announce tells screen readers.
  constructor(ui, engine, { onclip, guard, announce }) {
    Object.assign(this, { ui, engine, onclip, announce });
    this.recorder = null;
    ui.clipFile.addEventListener("change", () => {
      const [file] = ui.clipFile.files;
      ui.clipFile.value = ""; // so that the same one can be chosen again
      if (file) guard(() => this.offer(file));
    });
    ui.record.addEventListener("click", () => guard(() => this.record()));
    ui.example.addEventListener("click", () => guard(() => this.example()));
    ui.microphone.addEventListener("click", () => guard(() => this.toggleMicrophone()));
    ui.forget.addEventListener("click", () => guard(() => this.forget()));
  }

  get copies() {
    return this.engine.info.needsClip;
  }

  // After another model was loaded.
  refresh() {
    const { ui, copies } = this;
    const { clip } = this.engine.model;
    const { title, hint } = copies ? TEXTS.copy : TEXTS.past;
    ui.clipTitle.textContent = title;
    ui.clipHint.textContent = hint;
    ui.example.hidden = !clip;
    ui.microphone.hidden = !copies;
    this.show(copies && clip ? fileName(clip) : null);
    this.showOriginal(copies && clip ? clip : null);
    this.showMicrophone(false);
  }

  // What a vocoder resynthesises can be heard beside it; address: of its audio, null for none.
  showOriginal(address) {
    const { original } = this.ui;
    if (original.src.startsWith("blob:")) URL.revokeObjectURL(original.src);
    original.hidden = !address;
    if (address) original.src = address;
    else original.removeAttribute("src");
  }

  show(text) {
    this.ui.clip.hidden = !text;
    this.ui.clipName.textContent = text ?? "";
    this.ui.forget.hidden = this.copies;
  }

  // A File of the user's.
  async offer(file) {
    await this.use(file, file.name);
  }

  async example() {
    const { clip } = this.engine.model;
    const response = await fetch(clip);
    if (!response.ok) throw new Error(`${clip} could not be loaded: ${response.status} ${response.statusText}`);
    await this.use(await response.blob(), fileName(clip));
  }

  // file: a Blob.
  async use(file, name) {
    const { engine, copies } = this;
    const { info } = engine;
    const { sampleRate } = info;
    let samples;
    try {
      samples = await engine.decode(await file.arrayBuffer());
    } catch {
      throw new Error(`${name} is no audio that this browser can decode: WAV, FLAC, MP3 or Ogg will do.`);
    }
    if (info !== engine.info) return this.use(file, name); // another model was loaded meanwhile
    const seconds = samples.length / sampleRate;
    if (seconds < 0.05) throw new Error(`${name} is only ${samples.length} samples long: choose a longer clip.`);
    if (copies) samples = samples.slice(0, LONGEST_COPY * sampleRate);
    else samples = samples.slice(-LONGEST_PAST * sampleRate);
    if (!samples.every(Number.isFinite)) throw new Error(`${name} contains values that are no numbers (NaN or infinity).`);
    const part =
      samples.length / sampleRate < seconds
        ? `, of which the ${copies ? "first" : "last"} ${copies ? LONGEST_COPY : LONGEST_PAST} s are used`
        : "";
    this.closeMicrophone();
    this.onclip(copies ? null : samples);
    if (copies) await engine.resynthesise(samples, name);
    else await engine.prime(samples, name);
    this.show(`${name}, ${seconds.toFixed(1)} s${part}`);
    this.showOriginal(copies ? URL.createObjectURL(file) : null);
    this.announce(copies ? `${name} will be made again` : `Continues ${name}`);
  }

  async forget() {
    this.onclip(null);
    await this.engine.prime(null);
    this.show(null);
    this.ui.clipFile.focus();
  }

  // Starts a recording, or ends the one that runs.
  async record() {
    if (this.recorder) return this.recorder.stop();
    const stream = await openMicrophone();
    const { ui } = this;
    const recorder = (this.recorder = new MediaRecorder(stream));
    const pieces = [];
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    const timer = setInterval(() => {
      ui.record.textContent = `Stop recording (${Math.floor(seconds())} s)`;
      if (seconds() > LONGEST_RECORDING) recorder.stop();
    }, 200);
    ui.record.textContent = "Stop recording";
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    await new Promise((resolve) => {
      recorder.onstop = recorder.onerror = resolve;
      recorder.start();
    });
    clearInterval(timer);
    this.recorder = null;
    ui.record.textContent = "Record";
    for (const track of stream.getTracks()) track.stop();
    await this.use(new Blob(pieces), "recording");
  }

  async toggleMicrophone() {
    if (this.listening) return this.closeMicrophone();
    let failed = false; // the engine reports why
    this.engine.addEventListener("error", () => (failed = true), { once: true });
    await this.engine.openMicrophone();
    if (failed) return;
    this.showMicrophone(true);
    this.show("The microphone, as it comes: use headphones, or it hears itself");
    this.showOriginal(null);
  }

  closeMicrophone() {
    if (!this.listening) return;
    this.engine.closeMicrophone();
    this.showMicrophone(false);
    this.show(null);
  }

  showMicrophone(listening) {
    this.listening = listening;
    this.ui.microphone.setAttribute("aria-pressed", String(listening));
  }
}

const fileName = (url) => url.split("/").pop();

async function openMicrophone() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw microphoneError(error);
  }
}

function microphoneError(error) {
  if (error.name === "NotAllowedError")
    return new Error(
      "The browser does not let this page use the microphone: allow it beside the address, and try again.",
    );
  if (error.name === "NotFoundError") return new Error("There is no microphone: connect one, or choose a clip.");
  return error;
}
