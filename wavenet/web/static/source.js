// Where the audio of engine.js comes from.
//
// A source generates the audio: WorkerSource (below) in this browser, SocketSource (socket.js) on a server. A source has
//   canWatch                                  whether it understands {watch}
//   await load(model, {precision, throttle})  opens a model {name, file, bytes}; returns {config, info, sha256}; may reject
//   send(message, transfer)                   see below
//   onmessage(message)                        assigned by the engine: see below
//   close()
// It understands these messages:
//   {connect: port}     of player.js: where blocks are sent, and from which it hears what was played, see there
//   {start: {epoch, seed, clip, microphone}}  the first sample, with the controls of before; clip {use, samples}: "prime",
//                       audio that it continues, or "features", audio that a vocoder resynthesises; or with a microphone
//   {set: controls}     from the next block on
//   {ahead: samples}    how many samples it generates beyond what was played
//   {branch: {id, position}}, {returnTo: {epoch, id, seed}}   keep the state near a sample, and go on from there; with other
//                       random numbers if a seed is given. The controls stay. A start forgets branches
//   {watch: layer}      or null
//   {samples}           of the microphone; null: it was closed
// and sends {started: {epoch, controls}}, {block, position, epoch, seconds}, {event: {position, set} or {position, seed},
// epoch}, {branched: {id, position}}, {watched} and {error: text, controls: those in force}. `epoch` counts starts and
// returns: what belongs to an earlier one is ignored.

import { readConfig } from "./wavenet.js";

// Generates in this browser, with worker.js.
export class WorkerSource {
  canWatch = true;

  async load(model, { precision, throttle }) {
    const bytes = model.file ? await download(model.file) : model.bytes; // in an entry of the manifest it is their number
    const { config, sha256 } = await readModel(bytes, model.name);
    const wasm = await WebAssembly.compile(await download(new URL("wavenet.wasm", import.meta.url)));
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    const info = await new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data: { loaded, error } }) => {
        if (loaded) resolve(loaded);
        else reject(new Error(error.replace(/^model file/, model.name)));
      };
      this.worker.onerror = () => reject(new Error("worker.js cannot be loaded"));
      this.send({ load: { wasm, model: bytes, precision, throttle } });
    });
    this.worker.onmessage = ({ data }) => this.onmessage(data);
    return { config, info, sha256 };
  }

  send(message, transfer = []) {
    this.worker.postMessage(message, transfer);
  }
  close() {
    this.worker?.terminate();
  }
}

export async function download(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

// The configuration in a model file, and the SHA-256 of its bytes in hexadecimal, null where the page may not compute it
// (browsers allow that on https and on this machine). Rejects for other files, in one line that names them.
async function readModel(bytes, name) {
  let config;
  try {
    config = readConfig(bytes);
  } catch {
    throw new Error(`${name}: is not a model file of this toolkit`);
  }
  if (!globalThis.crypto?.subtle) return { config, sha256: null };
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { config, sha256: Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") };
}
