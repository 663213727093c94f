// libwavenet as WebAssembly: the functions of wavenet.h with JavaScript's values, for audio threads (processor.js) and
// workers (worker.js).

const PAGES = 64; // of 64 KiB, to begin with: above what the stack and the constants need
const LARGEST_BLOCK = 4096; // samples
const OK = 0;
export const STARVED = 5; // of enum wavenet_status in wavenet.h
const FULL = 6;

// What `set` understands: the value of each, NaN or [] for none.
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

// One model and one stream, which `replace` exchanges for another one. A failed call throws an Error with the library's
// message; after a trap (which is how the library fails in the middle of work) the instance is of no more use.
export class Library {
  // wasm: the bytes of wavenet.wasm, or a WebAssembly.Module.
  constructor(wasm) {
    const module = wasm instanceof WebAssembly.Module ? wasm : new WebAssembly.Module(wasm);
    this.memory = new WebAssembly.Memory({ initial: PAGES });
    this.w = new WebAssembly.Instance(module, { env: { memory: this.memory } }).exports;
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

  // model: the bytes of a model file. precision: "int8" or "f32".
  open(model, precision) {
    const { w } = this;
    this.withCopy(Uint8Array.from(`${precision}\0`, (c) => c.charCodeAt(0)), (name) =>
      this.withCopy(new Uint8Array(model), (bytes) =>
        this.withCopy(new Uint32Array(1), (handle) => {
          this.check(() => w.wavenet_model_open_bytes(bytes, model.byteLength, name, handle));
          this.model = new Uint32Array(this.memory.buffer, handle, 1)[0];
        }),
      ),
    );
  }

  // A new stream, instead of the one there was.
  start(seed) {
    this.check(() => {
      const stream = this.w.wavenet_stream_new(this.model, BigInt(seed), LARGEST_BLOCK);
      if (stream) this.replace(stream);
      return stream ? OK : -1;
    });
  }

  replace(stream) {
    this.w.wavenet_stream_free(this.stream);
    this.stream = stream;
  }

  // A stream that continues from the same sample: a pointer for `replace`.
  copy(stream) {
    const copied = this.w.wavenet_stream_copy(stream);
    if (!copied) throw new Error(this.text(this.w.wavenet_last_error()));
    return copied;
  }

  // What the model is.
  info() {
    const { w, model } = this;
    return {
      sampleRate: w.wavenet_model_sample_rate(model),
      bands: w.wavenet_model_bands(model),
      hop: w.wavenet_model_hop(model),
      lookAhead: w.wavenet_model_look_ahead(model),
      layers: w.wavenet_model_layers(model),
      receptiveField: w.wavenet_model_receptive_field(model),
      speakers: Array.from({ length: w.wavenet_model_speakers(model) }, (_, i) =>
        this.text(w.wavenet_model_speaker(model, i)),
      ),
    };
  }

  set(name, value) {
    const control = CONTROLS[name];
    if (!control) throw new Error(`${name}: there is no such control; there are ${Object.keys(CONTROLS).join(", ")}`);
    if (!Array.isArray(value)) return this.check(() => control(this.w, this.stream, value));
    const array = name === "mute" ? Int32Array.from(value) : Float32Array.from(value);
    return this.withCopy(array, (pointer) => this.check(() => control(this.w, this.stream, pointer, array.length)));
  }

  // Computes what must be known before the first sample.
  prepare() {
    this.check(() => this.w.wavenet_stream_prepare(this.stream, 1));
  }

  // Continues as if these samples had been generated.
  prime(samples) {
    this.withCopy(samples, (pointer) =>
      this.check(() => this.w.wavenet_stream_prime(this.stream, pointer, samples.length)),
    );
  }

  // Log-mel frames [frames][bands]. Returns how many there was room for.
  push(frames) {
    const { w, stream } = this;
    const count = frames.length / w.wavenet_model_bands(this.model);
    return this.withCopy(new Uint32Array(1), (taken) =>
      this.withCopy(frames, (pointer) => {
        let status;
        this.check(() => {
          status = w.wavenet_stream_push(stream, pointer, count, taken);
          return status === FULL ? OK : status;
        });
        return new Uint32Array(this.memory.buffer, taken, 1)[0];
      }),
    );
  }

  end() {
    this.check(() => this.w.wavenet_stream_end(this.stream));
  }

  get position() {
    return Number(this.w.wavenet_stream_position(this.stream));
  }

  // The next n samples; fewer at the end of the features, or where they are missing.
  read(n) {
    const { w, stream, out } = this;
    const before = this.position;
    this.check(() => {
      const status = w.wavenet_stream_process(stream, out, n);
      return status === STARVED ? OK : status;
    });
    return new Float32Array(this.memory.buffer, out, this.position - before).slice();
  }

  get gateChannels() {
    return this.w.wavenet_model_gate_channels(this.model);
  }

  // The layer whose gate `watchedGates` shows; null: none.
  watch(layer) {
    this.check(() => this.w.wavenet_stream_watch(this.stream, layer ?? -1));
  }

  // Of the newest sample: what tanh and the sigmoid of the watched layer are applied to, a and b [G], its gated activation
  // z [G], and the RMS of the z of every layer, strengths [layers].
  watchedGates(layer) {
    const { w, stream } = this;
    const channels = this.gateChannels;
    const layers = w.wavenet_model_layers(this.model);
    const values = new Float32Array((layers + 2) * channels);
    this.withCopy(values, (pointer) => {
      this.check(() => w.wavenet_stream_gates(stream, pointer));
      this.check(() => w.wavenet_stream_watched(stream, pointer + 4 * layers * channels));
      values.set(new Float32Array(this.memory.buffer, pointer, values.length));
    });
    const row = (index) => values.slice(index * channels, (index + 1) * channels);
    const rms = (z) => Math.sqrt(z.reduce((sum, value) => sum + value * value, 0) / channels);
    return {
      a: row(layers),
      b: row(layers + 1),
      z: row(layer),
      strengths: Float32Array.from({ length: layers }, (_, index) => rms(row(index))),
    };
  }
}
