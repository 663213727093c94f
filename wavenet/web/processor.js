// An AudioWorkletProcessor that plays a model: libwavenet as WebAssembly, on the audio thread of a page. A plain module, for
// `audioWorklet.addModule`; wavenet.js is its counterpart in the page. It uses no shared memory, so that pages need no
// special headers.
//
// Messages to it: {load: {wasm, model, precision, seed, controls}} once (the bytes of wavenet.wasm and of a model file), then
// {set: {temperature, ...}} (see CONTROLS), {reset: {seed}}, {push: frames}, {end: true}, {playing}, {close: true}.
// Messages from it: {ready: {sampleRate, bands, hop, lookAhead, speakers, layers, receptiveField}}, {error: text}, and while it
// plays, about ten times a second, {position, level, speed, starved}: samples so far, RMS of the last tenth of a second
// relative to full scale, how many seconds of audio it generates in a second, and blocks for which features were missing.

const PAGES = 64; // of 64 KiB, to begin with: above what the stack and the constants need
const LARGEST_BLOCK = 4096; // samples; browsers ask for 128
const REPORTS_PER_SECOND = 10;
const OK = 0;
const STARVED = 5; // of enum wavenet_status in wavenet.h
const now = globalThis.performance ? () => performance.now() : () => Date.now(); // ms; on audio threads often only Date

// What {set: ...} understands: the value of each, NaN or [] for none.
const CONTROLS = {
  temperature: (w, stream, value) => w.wavenet_stream_set_temperature(stream, value),
  voicedTemperature: (w, stream, value) => w.wavenet_stream_set_voiced_temperature(stream, value),
  topK: (w, stream, value) => w.wavenet_stream_set_top_k(stream, value),
  topP: (w, stream, value) => w.wavenet_stream_set_top_p(stream, value),
  pitch: (w, stream, value) => w.wavenet_stream_set_pitch(stream, value),
  loudness: (w, stream, value) => w.wavenet_stream_set_loudness(stream, value),
  speakers: (w, stream, pointer, count) => w.wavenet_stream_set_speakers(stream, pointer, count),
  mute: (w, stream, pointer, count) => w.wavenet_stream_set_mute(stream, pointer, count),
};

// The functions of wavenet.h with JavaScript's values, one model and one stream. A failed call throws an Error with the
// library's message; after a trap (which is how the library fails in the middle of work) the instance is of no more use.
class Library {
  constructor(wasm) {
    this.memory = new WebAssembly.Memory({ initial: PAGES });
    this.w = new WebAssembly.Instance(new WebAssembly.Module(wasm), { env: { memory: this.memory } }).exports;
    this.w._initialize();
    this.model = this.stream = 0;
    this.out = this.w.malloc(4 * LARGEST_BLOCK);
  }

  // The text at a pointer; audio threads have no TextDecoder.
  text(pointer) {
    const bytes = new Uint8Array(this.memory.buffer, pointer);
    return decodeURIComponent(escape(String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)))));
  }

  // Why a call trapped.
  reason(trap) {
    return this.text(this.w.wavenet_last_error()) || String(trap);
  }

  check(call) {
    let status;
    try {
      status = call();
    } catch (trap) {
      throw new Error(this.reason(trap));
    }
    if (status !== OK) throw new Error(this.text(this.w.wavenet_last_error()));
  }

  // Calls work(pointer) with a copy of a typed array in the library's memory.
  withCopy(array, work) {
    const pointer = this.w.malloc(array.byteLength || 1);
    if (!pointer) throw new Error("out of memory");
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    new Uint8Array(this.memory.buffer).set(bytes, pointer);
    try {
      return work(pointer);
    } finally {
      this.w.free(pointer);
    }
  }

  open(model, precision, seed) {
    const { w } = this;
    this.withCopy(Uint8Array.from(`${precision}\0`, (c) => c.charCodeAt(0)), (name) =>
      this.withCopy(new Uint8Array(model), (bytes) =>
        this.withCopy(new Uint32Array(1), (handle) => {
          this.check(() => w.wavenet_model_open_bytes(bytes, model.byteLength, name, handle));
          this.model = new Uint32Array(this.memory.buffer, handle, 1)[0];
        }),
      ),
    );
    this.check(() => {
      this.stream = w.wavenet_stream_new(this.model, BigInt(seed), LARGEST_BLOCK);
      return this.stream ? OK : -1;
    });
  }
}

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
    if (set) for (const [name, value] of Object.entries(set)) this.set(name, value);
    if (reset) {
      library.check(() => w.wavenet_stream_reset(stream, BigInt(reset.seed)));
      library.check(() => w.wavenet_stream_prepare(stream, 1));
    }
    if (push) {
      const frames = push.length / w.wavenet_model_bands(library.model);
      library.withCopy(push, (pointer) => library.check(() => w.wavenet_stream_push(stream, pointer, frames, 0)));
    }
    if (end) library.check(() => w.wavenet_stream_end(stream));
  }

  load({ wasm, model, precision = "int8", seed = 0, controls = {} }) {
    if (this.library) throw new Error("this processor has a model already: create another node");
    const library = new Library(wasm);
    library.open(model, precision, seed);
    const { w } = library;
    const handle = library.model;
    const rate = w.wavenet_model_sample_rate(handle);
    if (rate !== sampleRate)
      throw new Error(`the model generates ${rate} Hz and the page plays ${sampleRate} Hz: give its AudioContext that sampleRate`);
    const speakers = Array.from({ length: w.wavenet_model_speakers(handle) }, (_, i) =>
      library.text(w.wavenet_model_speaker(handle, i)),
    );
    this.library = library;
    try {
      for (const [name, value] of Object.entries(controls)) this.set(name, value);
    } catch (error) {
      this.library = null; // it does not play
      throw error;
    }
    library.check(() => w.wavenet_stream_prepare(library.stream, 1));
    this.port.postMessage({
      ready: {
        sampleRate: rate,
        bands: w.wavenet_model_bands(handle),
        hop: w.wavenet_model_hop(handle),
        lookAhead: w.wavenet_model_look_ahead(handle),
        layers: w.wavenet_model_layers(handle),
        receptiveField: w.wavenet_model_receptive_field(handle),
        speakers,
      },
    });
  }

  set(name, value) {
    const { library } = this;
    const control = CONTROLS[name];
    if (!control) throw new Error(`${name}: there is no such control; there are ${Object.keys(CONTROLS).join(", ")}`);
    if (!Array.isArray(value)) return library.check(() => control(library.w, library.stream, value));
    const array = name === "mute" ? Int32Array.from(value) : Float32Array.from(value);
    return library.withCopy(array, (pointer) =>
      library.check(() => control(library.w, library.stream, pointer, array.length)),
    );
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
    report.position = Number(library.w.wavenet_stream_position(library.stream));
    report.level = Math.sqrt(this.squares / this.samples);
    report.speed = (1000 * this.samples) / sampleRate / this.busy; // Infinity: too fast for this clock
    report.starved = this.starved;
    this.port.postMessage(report);
    this.startReport();
  }
}

registerProcessor("wavenet", WavenetProcessor);
