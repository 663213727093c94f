// A module worker that generates the audio of one model, some time ahead of what is heard: the source WorkerSource of
// engine.js, where its messages are described.

import { Library } from "./library.js";

const BLOCKS_PER_SECOND = 40; // blocks at whose beginnings controls act
const SNAPSHOTS = 16; // copies of the stream between what is heard and what is generated, to branch at
const WATCHES_PER_SECOND = 15;
const ANALYSED = 4096; // samples at a time
const WARM_UP = 2; // seconds, at most, until a block is generated
const FAST = 1.3; // x real time
const now = () => performance.now() / 1000; // s

class Voice {
  constructor() {
    this.epoch = this.heard = this.position = this.ahead = 0;
    this.finished = true; // there is nothing to generate
    this.controls = {};
    this.snapshots = []; // {position, stream, given, controls}, oldest first
    this.branches = new Map(); // of the same, by their names
    this.watched = null;
    this.watchedAt = 0;
    this.scheduled = false;
    this.loop = new MessageChannel();
    this.loop.port1.onmessage = () => {
      this.scheduled = false;
      this.guarded(() => {
        try {
          this.step();
        } catch (error) {
          this.finished = true; // once is enough
          throw error;
        }
      });
    };
  }

  // Reports what `work` throws.
  guarded(work) {
    try {
      work();
    } catch (error) {
      postMessage({ error: error.message, controls: this.controls });
    }
  }

  // Generates the next block after the messages that have arrived meanwhile.
  schedule(delay = 0) {
    if (this.scheduled) return;
    this.scheduled = true;
    if (delay > 0.001) setTimeout(() => this.loop.port2.postMessage(0), 1000 * delay);
    else this.loop.port2.postMessage(0);
  }

  load({ wasm, model, precision, throttle }) {
    const library = (this.library = new Library(wasm));
    library.open(model, precision);
    this.info = library.info();
    this.throttle = throttle;
    this.block = Math.ceil(this.info.sampleRate / BLOCKS_PER_SECOND);
    if (this.info.bands) this.openAnalysis();
    this.warmUp();
    postMessage({ loaded: { ...this.info, gateChannels: library.gateChannels } });
  }

  // Browsers translate WebAssembly quickly at first, and what runs often again, to faster code.
  warmUp() {
    const { library, info, block } = this;
    const begun = now();
    library.start(0);
    this.frames = [];
    this.given = 0;
    if (info.bands) {
      this.analyse(new Float32Array(info.sampleRate)); // a second of silence
      this.endAnalysis();
      this.feed();
    }
    for (let spent = Infinity; spent > block / info.sampleRate / FAST && now() - begun < WARM_UP; ) {
      const started = now();
      library.read(block);
      spent = now() - started;
    }
  }

  // The port of player.js.
  connect(port) {
    this.port = port;
    port.onmessage = ({ data }) => {
      if (data.epoch !== this.epoch) return;
      this.heard = data.heard;
      this.schedule();
    };
  }

  openAnalysis() {
    const { w, model } = this.library;
    this.analysis = w.wavenet_analysis_new(model, ANALYSED);
    this.frame = w.malloc(4 * this.info.bands * w.wavenet_analysis_room(this.analysis));
    this.written = w.malloc(4);
  }

  start({ epoch, seed, clip, microphone }) {
    const { library } = this;
    library.start(seed);
    for (const [name, value] of Object.entries(this.controls)) library.set(name, value ?? NaN);
    this.clear(epoch, 0);
    for (const branch of this.branches.values()) library.w.wavenet_stream_free(branch.stream);
    this.branches.clear();
    this.frames = [];
    this.given = 0; // frames that the stream has been given
    this.complete = !this.info.bands; // no frames follow those
    this.live = Boolean(microphone);
    this.finished = Boolean(this.info.bands && !clip && !microphone);
    if (clip?.use === "prime") library.prime(clip.samples);
    if (clip?.use === "features") {
      this.analyse(clip.samples);
      this.endAnalysis();
      this.feed();
    }
    library.prepare();
    library.watch(this.watched);
    postMessage({ started: { epoch, controls: { ...this.controls } } });
    this.schedule();
  }

  // Forgets what was generated and not heard.
  clear(epoch, position) {
    this.epoch = epoch;
    this.heard = this.position = position;
    for (const { stream } of this.snapshots.splice(0)) this.library.w.wavenet_stream_free(stream);
  }

  // Adds the frames of these samples.
  analyse(samples) {
    const { library, analysis, frame, written } = this;
    for (let first = 0; first < samples.length; first += ANALYSED)
      library.withCopy(samples.subarray(first, first + ANALYSED), (pointer) => {
        const count = Math.min(ANALYSED, samples.length - first);
        library.check(() => library.w.wavenet_analysis_process(analysis, pointer, count, frame, written));
        this.keepFrames();
      });
  }

  // Adds those of the end of the clip.
  endAnalysis() {
    const { library, analysis, frame, written } = this;
    library.check(() => library.w.wavenet_analysis_end(analysis, frame, written));
    this.keepFrames();
    this.complete = true;
  }

  keepFrames() {
    const { bands } = this.info;
    const { buffer } = this.library.memory;
    const count = new Uint32Array(buffer, this.written, 1)[0];
    for (let i = 0; i < count; ++i) this.frames.push(new Float32Array(buffer, this.frame + 4 * bands * i, bands).slice());
  }

  // Gives the stream the frames that it has room for.
  feed() {
    for (; this.given < this.frames.length && this.library.push(this.frames[this.given]); ++this.given)
      if (this.live) this.frames[this.given] = null;
    if (this.complete && this.given === this.frames.length && this.frames.length) this.library.end();
  }

  set(controls) {
    for (const [name, value] of Object.entries(controls)) {
      this.library.set(name, value ?? NaN);
      this.controls[name] = value;
      postMessage({ event: { position: this.position, set: { [name]: value } }, epoch: this.epoch });
    }
  }

  setAhead(samples) {
    this.ahead = samples;
    this.schedule();
  }

  // Generates a block, if it is time for it.
  step() {
    if (this.finished || this.position - this.heard >= this.ahead) return;
    const started = now();
    this.feed();
    this.keepSnapshot();
    const block = this.library.read(this.block);
    if (!block.length && !this.complete) return; // until the microphone is heard again
    if (!block.length) {
      this.finished = true;
      this.port.postMessage({ end: true, epoch: this.epoch });
      return;
    }
    if (this.watched !== null) this.sendWatched();
    const least = this.throttle ? block.length / this.info.sampleRate / this.throttle : 0;
    const seconds = Math.max(now() - started, least);
    const message = { block, position: this.position, epoch: this.epoch, seconds };
    this.position += block.length;
    this.port.postMessage(message);
    postMessage(message, [block.buffer]);
    this.schedule(started + least - now());
  }

  // Keeps a copy of the stream at this sample, and the newest one before what is heard.
  keepSnapshot() {
    const { snapshots, position, library } = this;
    while (snapshots.length > 1 && snapshots[1].position <= this.heard)
      library.w.wavenet_stream_free(snapshots.shift().stream);
    if (snapshots.length && position - snapshots.at(-1).position < this.ahead / SNAPSHOTS) return;
    snapshots.push({ position, ...this.state(library.stream) });
  }

  state(stream) {
    return { stream: this.library.copy(stream), given: this.given, controls: { ...this.controls } };
  }

  branch({ id, position }) {
    const { snapshots, library } = this;
    const nearest = snapshots.findLast((snapshot) => snapshot.position <= position) ?? snapshots[0];
    const kept = nearest ? { ...nearest, stream: library.copy(nearest.stream) } : { position: 0, ...this.state(library.stream) };
    this.branches.set(id, kept);
    postMessage({ branched: { id, position: kept.position } });
  }

  // The controls are those of now, whatever they were.
  returnTo({ epoch, id, seed }) {
    const { library } = this;
    const { position, stream, given, controls } = this.branches.get(id);
    library.replace(library.copy(stream));
    library.watch(this.watched);
    this.clear(epoch, position);
    this.given = given;
    this.finished = false;
    if (seed !== undefined) {
      library.check(() => library.w.wavenet_stream_seed(library.stream, BigInt(seed)));
      postMessage({ event: { position, seed }, epoch });
    }
    const changed = Object.entries(this.controls).filter(([name, value]) => String(value) !== String(controls[name]));
    this.set(Object.fromEntries(changed));
    this.schedule();
  }

  watch(layer) {
    this.watched = layer;
    this.library.watch(layer);
  }

  sendWatched() {
    if (now() - this.watchedAt < 1 / WATCHES_PER_SECOND) return;
    this.watchedAt = now();
    postMessage({ watched: { layer: this.watched, ...this.library.watchedGates(this.watched) } });
  }

  // Samples of the microphone; null: it was closed.
  hear(samples) {
    if (!this.live || this.complete) return;
    if (samples) this.analyse(samples);
    else this.endAnalysis();
    this.schedule();
  }
}

const voice = new Voice();
onmessage = ({ data: { load, connect, start, set, ahead, branch, returnTo, watch, samples } }) =>
  voice.guarded(() => {
    if (load) voice.load(load);
    if (connect) voice.connect(connect);
    if (start) voice.start(start);
    if (set) voice.set(set);
    if (ahead !== undefined) voice.setAhead(ahead);
    if (branch) voice.branch(branch);
    if (returnTo) voice.returnTo(returnTo);
    if (watch !== undefined) voice.watch(watch);
    if (samples !== undefined) voice.hear(samples);
  });
