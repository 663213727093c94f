// Plays a model in a page, live: what index.html uses, and a page of your own may use, too. A source (source.js) generates
// the audio.
//
//     const engine = new Engine(await (await fetch("models.json")).json());
//     await engine.load(engine.manifest.models[0]);          // or {name, bytes}: the bytes of a model file
//     button.onclick = () => engine.play();
//     engine.addEventListener("report", ({ detail }) => ...);
//
// Its events and what they carry (`detail`):
//   model    a model was loaded: `model`, `config`, `info`
//   state    {playing, loading, waiting, ahead}: waiting while it generates ahead because the machine is too slow
//   report   {position, level, speed, ahead}, ten times a second
//   audio    {block}, when it is heard
//   watched  {layer, a, b, z, strengths}: see `watch`
//   error    {message}: one line. `load` also rejects

import { joined, rounded, toBase64 } from "./clip.js";
import { WorkerSource, download } from "./source.js";
import { Take } from "./take.js";

const AHEAD = 0.1; // seconds that are generated ahead; controls are heard after that
const FAST = 1.15; // x real time from which that is enough
const SLOW = 1.05; // and below which more must be
const SLOW_AHEAD = [2, 8]; // seconds, then; at least and at most
const STRETCH = 10; // seconds of playback without a pause, then
const CAPACITY = 10; // seconds of the player's buffer
const MEASURED = 0.5; // seconds of audio over which the speed is measured
const LONGEST = 30 * 60; // seconds: of a take, and of what the microphone hears

export class Engine extends EventTarget {
  #source = null;
  #context = null;
  #player = null;
  #options;
  #loads = 0; // a later one replaces an earlier one
  #epoch = 0;
  #seed = 0;
  #clip = null; // {use, name, samples}
  #microphone = null;
  #take = null;
  #coming = []; // {block, position} that were not heard yet
  #branches = new Map(); // {position, take} by their ids
  #waitingFor = new Map(); // {resolve, reject} of branches to come, by their ids
  #speeds = []; // [samples, seconds] of the last blocks
  #slow = false;
  #reported = 0;
  #heard = { waiting: true, buffered: 0, ended: false }; // player.js's last report

  // manifest: models.json. throttle: x real time that it generates at most, for tests.
  constructor(manifest, { throttle } = {}) {
    super();
    this.manifest = manifest;
    this.#options = { throttle };
    this.model = this.config = this.info = null;
    this.controls = {}; // those that were set; others are the model's
    this.playing = this.loading = false;
    this.position = this.level = 0;
    this.speed = null; // seconds generated per second of work, once that is known
  }

  get waiting() {
    return this.playing && this.#slow && this.#heard.waiting && !this.#heard.ended;
  }
  get ahead() {
    return this.info ? this.#heard.buffered / this.info.sampleRate : 0;
  }
  get seed() {
    return this.#seed;
  }
  get canWatch() {
    return Boolean(this.#source?.canWatch);
  }

  // Opens a model: an entry of the manifest, or {name, bytes}. The one before plays on until then. A vocoder begins with the
  // clip of its entry, if there is one. controls: to begin with. Returns false if another `load` took its place meanwhile.
  async load(model, { precision = "int8", controls = {} } = {}) {
    const load = ++this.#loads;
    this.#change({ loading: true });
    let source;
    try {
      source = model.source === "server" ? new (await import("./socket.js")).SocketSource(this.manifest) : new WorkerSource();
      const { config, info, sha256 } = await source.load(model, { precision, ...this.#options });
      const given = info.bands && model.clip ? await download(model.clip) : null;
      const clip = given && { use: "features", name: model.clip, samples: rounded(await this.decode(given, info.sampleRate)) };
      if (!(await this.#openContext(info.sampleRate, () => load === this.#loads))) {
        source.close();
        return false;
      }
      this.#source?.close();
      this.closeMicrophone();
      this.#source = source;
      this.model = { ...model, sha256: sha256 ?? model.sha256 ?? null, precision };
      Object.assign(this, { config, info: described(config, info), controls: {}, speed: null });
      this.#clip = clip;
      this.#slow = false;
      this.#speeds = [];
      source.onmessage = (message) => this.#receive(message);
      const { port1, port2 } = new MessageChannel();
      source.send({ connect: port1 }, [port1]);
      this.#player.port.postMessage({ connect: port2 }, [port2]);
      if (this.info.needsClip && !this.#clip) this.pause();
      this.set(controls);
      this.#start();
      this.#lookAhead();
    } catch (error) {
      source?.close();
      this.#fail(error);
      throw error;
    } finally {
      if (load === this.#loads) this.#change({ loading: false });
    }
    this.#emit("model", { model: this.model, config: this.config, info: this.info });
    return true;
  }

  // The samples of an audio file (its bytes, which are used up) at the model's rate, one channel: Float32Array.
  async decode(bytes, sampleRate = this.info.sampleRate) {
    const audio = await new OfflineAudioContext(1, 1, sampleRate).decodeAudioData(bytes);
    const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i));
    return channels[0].map((_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
  }

  async play() {
    this.#loaded();
    if (this.info.needsClip && !this.#clip)
      return this.#fail(new Error("this model resynthesises a recording: give it one, or open the microphone"));
    if (this.#heard.ended) this.#start();
    this.#change({ playing: true });
    await this.#context.resume();
  }

  pause() {
    this.#change({ playing: false });
    this.#context?.suspend();
  }

  // Starts again from the first sample. Controls, clip and, unless another one is given, the seed stay.
  async restart({ seed = this.#seed } = {}) {
    this.#loaded();
    this.#seed = seed;
    this.#start();
  }

  // temperature, voicedTemperature, topK, topP, pitch, loudness, speakers [shares], mute [layers]; null: free.
  set(controls) {
    this.#loaded();
    Object.assign(this.controls, controls);
    this.#source.send({ set: controls });
  }

  // Starts again as the continuation of this past, at the model's rate; null: of silence.
  async prime(samples, name = "clip") {
    this.#loaded();
    if (this.info.needsClip) return this.#fail(new Error("this model continues no recording: it resynthesises one"));
    this.#clip = samples && { use: "prime", name, samples: rounded(samples) };
    this.#start();
  }

  // Starts again with the features of this clip, at the model's rate.
  async resynthesise(samples, name = "clip") {
    this.#loaded();
    if (!this.info.needsClip) return this.#fail(new Error("this model resynthesises no recording: it continues one"));
    this.closeMicrophone();
    this.#clip = { use: "features", name, samples: rounded(samples) };
    this.#start();
  }

  // Starts again with the features of what the microphone hears.
  async openMicrophone() {
    this.#loaded();
    if (!this.info.needsClip) return this.#fail(new Error("this model has no use for a microphone: it resynthesises nothing"));
    let stream;
    try {
      const source = this.#source;
      const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      stream = await navigator.mediaDevices.getUserMedia({ audio });
      if (source !== this.#source) throw new Error("another model was loaded meanwhile");
      this.closeMicrophone();
      const input = this.#context.createMediaStreamSource(stream);
      const node = new AudioWorkletNode(this.#context, "wavenet-microphone", { numberOfOutputs: 0 });
      this.#clip = { use: "features", name: "microphone", parts: [], length: 0 };
      this.#microphone = { stream, input, node };
      node.port.onmessage = ({ data }) => this.#hear(data.samples);
      input.connect(node);
      this.#start();
    } catch (error) {
      stream?.getTracks().forEach((track) => track.stop());
      this.#fail(new Error(`the microphone cannot be opened: ${error.message}`));
    }
  }

  // What was heard until then is resynthesised to its end.
  closeMicrophone() {
    if (!this.#microphone) return;
    const { stream, input, node } = this.#microphone;
    this.#microphone = null;
    input.disconnect();
    node.port.onmessage = null;
    stream.getTracks().forEach((track) => track.stop());
    this.#clip = { use: "features", name: "microphone", samples: joined(this.#clip) };
    this.#source.send({ samples: null });
  }

  #hear(given) {
    if (!this.#microphone) return;
    const samples = rounded(given);
    this.#clip.parts.push(samples);
    this.#clip.length += samples.length;
    this.#source.send({ samples });
    if (this.#clip.length > LONGEST * this.info.sampleRate) this.closeMicrophone();
  }

  // Keeps the state near the sample that is heard now. Returns its id, until the next start.
  branch() {
    this.#loaded();
    if (this.#microphone) throw new Error("there are no branches while the microphone is open");
    const id = crypto.getRandomValues(new Uint32Array(1))[0].toString(36);
    const branched = new Promise((resolve, reject) => this.#waitingFor.set(id, { resolve, reject }));
    this.#source.send({ branch: { id, position: this.position } });
    return branched;
  }

  // Goes back there: with the same random numbers, or with those of another seed. The controls stay as they are now.
  async returnTo(id, { seed } = {}) {
    const branch = this.#branches.get(id);
    if (!branch) throw new Error("this branch belongs to an earlier start");
    this.#forget(branch.position);
    this.#take = branch.take.until(branch.position);
    this.#source.send({ returnTo: { epoch: this.#epoch, id, seed } });
  }

  // "watched" events, about 15 times a second: of the newest sample what tanh and the sigmoid of a layer are applied to,
  // a and b [G], its gated activation z [G], and the RMS of z of every layer, strengths [layers]. null: none.
  watch(layer) {
    if (this.canWatch) this.#source.send({ watch: layer });
  }

  // The last n samples that were heard.
  recent(n) {
    return this.#take ? this.#take.read(this.position - n, this.position) : new Float32Array(n);
  }

  // What was heard since the start, 30 minutes at most, and the settings that reproduce it. After a return it goes on from
  // the branch.
  get take() {
    if (!this.#take) return null;
    const { samples, settings } = this.#take.cut(this.position);
    const clip = this.#clip && { use: this.#clip.use, name: this.#clip.name, pcm: toBase64(joined(this.#clip)) };
    return { samples, settings: { ...settings, clip } };
  }

  // The command that generates the take again from its settings, saved as `file`.
  command(file) {
    const quoted = (name) => (/^[\w.+-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`);
    const audio = file.replace(/\.json$/, ".wav");
    return `wavenet generate ${quoted(`${this.model.name}.safetensors`)} -o ${quoted(audio)} --settings ${quoted(file)}`;
  }

  #loaded() {
    if (!this.#source) throw new Error("no model is loaded");
  }

  // An AudioContext at the model's rate, with the player. Returns whether it is `current` still, and does nothing if not.
  async #openContext(sampleRate, current) {
    if (this.#context?.sampleRate === sampleRate) return current();
    let context;
    try {
      context = new AudioContext({ sampleRate, latencyHint: "balanced" });
    } catch {
      throw new Error(`this browser does not play audio at ${sampleRate} Hz, the model's sample rate`);
    }
    await context.audioWorklet.addModule(new URL("player.js", import.meta.url));
    if (!current()) {
      context.close();
      return false;
    }
    const processorOptions = { capacity: CAPACITY * sampleRate };
    this.#player = new AudioWorkletNode(context, "wavenet-player", {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions,
    });
    this.#player.port.onmessage = ({ data }) => this.#played(data);
    this.#player.connect(context.destination);
    this.#context?.close();
    this.#context = context;
    if (this.playing) await context.resume();
    else await context.suspend();
    return current();
  }

  #start() {
    this.#forget(0);
    const { name, sha256, precision } = this.model;
    const settings = { version: 1, model: name, sha256, precision, seed: this.#seed };
    this.#take = new Take(settings, LONGEST * this.info.sampleRate);
    this.#branches.clear();
    for (const { reject } of this.#waitingFor.values()) reject(new Error("it started again before the moment was kept"));
    this.#waitingFor.clear();
    const microphone = Boolean(this.#microphone);
    this.#source.send({ start: { epoch: this.#epoch, seed: this.#seed, clip: microphone ? null : this.#clip, microphone } });
  }

  // Begins another epoch at a sample.
  #forget(position) {
    ++this.#epoch;
    this.position = position;
    this.#coming = [];
    this.#heard = { waiting: true, buffered: 0, ended: false };
  }

  #receive({ started, block, position, epoch, seconds, event, branched, watched, error, controls }) {
    if (error) {
      if (controls) this.controls = { ...controls };
      this.#fail(new Error(error));
    }
    if (started?.epoch === this.#epoch) this.#take.settings.controls = started.controls;
    if (event && epoch === this.#epoch) this.#take.record(event);
    if (branched) this.#keepBranch(branched);
    if (watched) this.#emit("watched", watched);
    if (block) this.#measure(block.length, seconds);
    if (!block || epoch !== this.#epoch) return;
    this.#take.add(block);
    this.#coming.push({ block, position });
  }

  #keepBranch({ id, position }) {
    if (!this.#waitingFor.has(id)) return; // of an earlier start
    this.#branches.set(id, { position, take: this.#take.until(position) });
    this.#waitingFor.get(id).resolve(id);
    this.#waitingFor.delete(id);
  }

  #measure(samples, seconds) {
    this.#speeds.push([samples, seconds]);
    const total = (index) => this.#speeds.reduce((sum, pair) => sum + pair[index], 0);
    const rate = this.info.sampleRate;
    while (total(0) - this.#speeds[0][0] > MEASURED * rate) this.#speeds.shift();
    this.speed = total(0) / rate / total(1);
    const slow = this.speed < (this.#slow ? FAST : SLOW);
    if (slow === this.#slow) return;
    this.#slow = slow;
    this.#lookAhead();
    this.#emitState();
  }

  // How much is generated ahead, and how much must be there before it plays.
  #lookAhead() {
    const rate = this.info.sampleRate;
    const [least, most] = SLOW_AHEAD;
    const seconds = this.#slow ? Math.min(Math.max(STRETCH * (1 - this.speed), least), most) : AHEAD;
    this.#source.send({ ahead: Math.round(seconds * rate) });
    this.#player.port.postMessage({ threshold: Math.round((this.#slow ? seconds : AHEAD / 2) * rate) });
  }

  // A report of player.js.
  #played(report) {
    if (report.epoch !== this.#epoch) return;
    const { waiting } = this;
    this.#heard = report;
    this.position = report.heard;
    while (this.#coming.length && this.#coming[0].position + this.#coming[0].block.length <= report.heard)
      this.#emit("audio", { block: this.#coming.shift().block });
    if (report.ended && this.playing) this.pause();
    else if (waiting !== this.waiting) this.#emitState();
    if (++this.#reported % 5) return;
    const last = this.recent(Math.round(this.info.sampleRate / 10));
    this.level = Math.sqrt(last.reduce((sum, sample) => sum + sample * sample, 0) / last.length);
    const { position, level, speed, ahead } = this;
    this.#emit("report", { position, level, speed, ahead });
  }

  #change(state) {
    Object.assign(this, state);
    this.#emitState();
  }
  #emitState() {
    const { playing, loading, waiting, ahead } = this;
    this.#emit("state", { playing, loading, waiting, ahead });
  }
  #fail(error) {
    this.#emit("error", { message: error.message });
  }
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// What a model is, of its configuration and what the library says of it.
function described(config, info) {
  const kernel = config.kernel_size ?? 2;
  const layers = config.cycles * config.layers_per_cycle;
  return {
    ...info,
    dilations: Array.from({ length: layers }, (_, layer) => 2 ** (layer % config.layers_per_cycle)),
    kernelSize: kernel,
    needsClip: info.bands > 0,
    twoTiers: Boolean(config.frame_model),
  };
}
