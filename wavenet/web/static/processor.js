// An AudioWorkletProcessor that plays a model: libwavenet as WebAssembly, on the audio thread of a page. A plain module, for
// `audioWorklet.addModule`; wavenet.js is its counterpart in the page. It uses no shared memory, so that pages need no
// special headers.
//
// Messages to it: {load: {wasm, model, precision, seed, controls}} once (the bytes of wavenet.wasm and of a model file), then
// {set: {temperature, ...}} (see CONTROLS in library.js), {reset: {seed}}, {push: frames}, {end: true}, {playing},
// {close: true}.
// Messages from it: {ready: {sampleRate, bands, hop, lookAhead, speakers, layers, receptiveField}}, {error: text}, and while it
// plays, about ten times a second, {position, level, speed, starved}: samples so far, RMS of the last tenth of a second
// relative to full scale, how many seconds of audio it generates in a second, and blocks for which features were missing.

import { Library, STARVED } from "./library.js";

const REPORTS_PER_SECOND = 10;
const now = globalThis.performance ? () => performance.now() : () => Date.now(); // ms; on audio threads often only Date

class WavenetProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.library = null;
    this.playing = true;
    this.closed = false;
    this.block = null; // the library's output as an array of the length that the browser asks for
    this.report = { position: 0, level: 0, speed: 0, starved: 0 };
    this.startReport();
    this.port.onmessage = ({ data }) => {
      try {
        this.receive(data);
      } catch (error) {
        this.port.postMessage({ error: error.message });
      }
      this.block = null; // the memory may have grown, which moves it
    };
  }

  startReport() {
    this.samples = this.squares = this.busy = this.starved = 0;
  }

  receive({ load, set, reset, push, end, playing, close }) {
    if (load) this.load(load);
    if (playing !== undefined) this.playing = playing;
    if (close) this.closed = true;
    const { library } = this;
    if (!library) return;
    const { w, stream } = library;
    if (set) for (const [name, value] of Object.entries(set)) library.set(name, value);
    if (reset) {
      library.check(() => w.wavenet_stream_reset(stream, BigInt(reset.seed)));
      library.prepare();
    }
    if (push && library.push(push) < push.length / w.wavenet_model_bands(library.model))
      throw new Error(library.text(w.wavenet_last_error()));
    if (end) library.end();
  }

  load({ wasm, model, precision = "int8", seed = 0, controls = {} }) {
    if (this.library) throw new Error("this processor has a model already: create another node");
    const library = new Library(wasm);
    library.open(model, precision);
    const info = library.info();
    if (info.sampleRate !== sampleRate)
      throw new Error(
        `the model generates ${info.sampleRate} Hz and the page plays ${sampleRate} Hz: give its AudioContext that sampleRate`,
      );
    library.start(seed);
    for (const [name, value] of Object.entries(controls)) library.set(name, value);
    library.prepare();
    this.library = library;
    this.port.postMessage({ ready: info });
  }

  // Allocates nothing, apart from the message of a report.
  process(inputs, outputs) {
    const channels = outputs[0];
    const { library } = this;
    if (!library || !this.playing || this.closed) return !this.closed;
    const count = channels[0].length;
    if (this.block === null || this.block.length !== count)
      this.block = new Float32Array(library.memory.buffer, library.out, count);
    const started = now();
    try {
      if (library.w.wavenet_stream_process(library.stream, library.out, count) === STARVED) ++this.starved;
    } catch (trap) {
      this.closed = true;
      this.port.postMessage({ error: library.reason(trap) });
      return false;
    }
    this.busy += now() - started;
    for (let channel = 0; channel < channels.length; ++channel) channels[channel].set(this.block);
    for (let i = 0; i < count; ++i) this.squares += this.block[i] * this.block[i];
    this.samples += count;
    if (this.samples >= sampleRate / REPORTS_PER_SECOND) this.sendReport();
    return true;
  }

  sendReport() {
    const { report, library } = this;
    report.position = library.position;
    report.level = Math.sqrt(this.squares / this.samples);
    report.speed = (1000 * this.samples) / sampleRate / this.busy; // Infinity: too fast for this clock
    report.starved = this.starved;
    this.port.postMessage(report);
    this.startReport();
  }
}

registerProcessor("wavenet", WavenetProcessor);
