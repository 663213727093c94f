// Plays a model in a page:
//
//     import { createContext, createVoice } from "./wavenet.js";
//     const model = await (await fetch("speech.safetensors")).arrayBuffer();
//     const context = createContext(model);                  // an AudioContext at the model's sample rate
//     const voice = await createVoice(context, model, { precision: "int8", seed: 0 });
//     voice.node.connect(context.destination);
//     await context.resume();                                // browsers wait for a click
//     voice.set({ temperature: 0.9 });
//     voice.onreport = ({ level, speed }) => ...;
//
// The files beside this one, processor.js and wavenet.wasm, may come from any server, with the usual headers.

// The configuration in the bytes of a model file (safetensors: the size of a header, and the header as JSON).
export function readConfig(model) {
  const size = Number(new DataView(model).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(model, 8, size)));
  return JSON.parse(header.__metadata__["wavenet.config"]);
}

// An AudioContext at the model's sample rate.
export function createContext(model) {
  return new AudioContext({ sampleRate: readConfig(model).sample_rate, latencyHint: "playback" });
}

// A voice in an AudioContext or OfflineAudioContext at the model's sample rate. Rejects with the library's message.
// model: the bytes of a model file. controls: from the first sample on, as of `set`. wasm: those of wavenet.wasm, by default the file beside this one.
export async function createVoice(context, model, { precision = "int8", seed = 0, controls = {}, wasm } = {}) {
  await context.audioWorklet.addModule(new URL("processor.js", import.meta.url));
  const bytes = wasm ?? (await download(new URL("wavenet.wasm", import.meta.url)));
  const node = new AudioWorkletNode(context, "wavenet", { numberOfInputs: 0, outputChannelCount: [1] });
  const voice = new Voice(node);
  const ready = new Promise((resolve, reject) => {
    voice.onready = resolve;
    voice.onerror = (message) => reject(new Error(message));
  });
  node.port.postMessage({ load: { wasm: bytes, model, precision, seed, controls } });
  voice.info = await ready; // {sampleRate, bands, hop, lookAhead, speakers, layers, receptiveField}
  voice.onerror = (message) => console.error(message);
  return voice;
}

async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

class Voice {
  constructor(node) {
    this.node = node; // an AudioNode, to be connected
    this.onready = this.onreport = this.onerror = () => {};
    node.port.onmessage = ({ data }) => {
      if (data.ready) this.onready(data.ready);
      else if (data.error) this.onerror(data.error);
      else this.onreport(data); // {position, level, speed, starved}
    };
  }

  // temperature, voicedTemperature, topK, topP, pitch, loudness, speakers (shares), mute (layers): any of them
  set(controls) {
    this.node.port.postMessage({ set: controls });
  }
  // Starts again from the first sample; the controls stay.
  reset(seed) {
    this.node.port.postMessage({ reset: { seed } });
  }
  // Log-mel frames [frames][info.bands] for a vocoder, and that none follow.
  push(frames) {
    this.node.port.postMessage({ push: frames });
  }
  end() {
    this.node.port.postMessage({ end: true });
  }
  pause(paused = true) {
    this.node.port.postMessage({ playing: !paused });
  }
  close() {
    this.node.port.postMessage({ close: true });
    this.node.disconnect();
  }
}
