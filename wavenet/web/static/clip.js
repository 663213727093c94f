// Clips as settings keep them.

const FULL_SCALE = 32_768;
const PIECE = 32_768; // bytes that become characters in one call

// Samples rounded to 16 bits, as settings keep them.
export function rounded(samples) {
  return samples.map((sample) => Math.max(-FULL_SCALE, Math.min(FULL_SCALE - 1, Math.round(sample * FULL_SCALE))) / FULL_SCALE);
}

// Such samples as base64 of 16-bit integers, little-endian.
export function toBase64(samples) {
  const view = new DataView(new ArrayBuffer(2 * samples.length));
  samples.forEach((sample, i) => view.setInt16(2 * i, sample * FULL_SCALE, true));
  const bytes = new Uint8Array(view.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += PIECE) text += String.fromCharCode(...bytes.subarray(i, i + PIECE));
  return btoa(text);
}

// The samples of a clip, also of one that is being recorded.
export function joined({ samples, parts, length }) {
  if (samples) return samples;
  const all = new Float32Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
