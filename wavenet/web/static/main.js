// The page: reads models.json, creates the one Engine, and lets each module build its own section.

import { Engine } from "./engine.js";
import { mountExplain } from "./explain.js";
import { mountPlay } from "./play.js";
import { mountRuns } from "./runs.js";

// What a browser needs; a page that is opened from another machine by http has no AudioWorklet, whatever the browser.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

function missing() {
  if (!globalThis.isSecureContext)
    return "Browsers play generated audio only from secure addresses: open this page by https, or on this machine as http://localhost.";
  if (!globalThis.WebAssembly) return "This browser has no WebAssembly, in which the models run: use a current one.";
  if (!WebAssembly.validate(Uint8Array.from(SIMD)))
    return "This browser's WebAssembly has no SIMD instructions, with which the models run: use a current one.";
  if (!globalThis.AudioWorkletNode)
    return "This browser has no AudioWorklet, which plays the audio: use a current one.";
  return null;
}

async function readManifest() {
  let response;
  try {
    response = await fetch("models.json", { cache: "no-cache" });
  } catch {
    throw new Error(
      "models.json could not be loaded: serve this folder (python -m http.server) instead of opening the file.",
    );
  }
  if (!response.ok)
    throw new Error(`models.json, the list of models, could not be loaded: ${response.status} ${response.statusText}.`);
  return response.json();
}

// Shows a section and the link to it.
function reveal(id) {
  for (const element of document.querySelectorAll(`#${id}, nav a[href="#${id}"]`)) element.hidden = false;
  return document.getElementById(id);
}

async function start() {
  document.getElementById("unloaded").remove();
  const play = document.getElementById("play");
  const reason = missing();
  if (reason) throw new Error(reason);
  const manifest = await readManifest();
  if (manifest.runs) mountRuns(reveal("runs"), manifest);
  if (!manifest.models?.length)
    throw new Error(
      manifest.runs
        ? "This folder has no models that can be played yet: load the page again when there are some."
        : "models.json names no models: build the page again with wavenet page MODEL.",
    );
  const engine = new Engine(manifest);
  globalThis.engine = engine; // for the browser's console
  mountPlay(play, engine, manifest);
  mountExplain(reveal("explain"), engine);
}

start().catch((error) => {
  const notice = document.createElement("p");
  notice.className = "notice error";
  notice.setAttribute("role", "alert");
  notice.textContent = error.message;
  document.querySelector("main").prepend(notice);
});
