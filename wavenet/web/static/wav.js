// WAV files: 16-bit samples, with texts about them in an INFO chunk.

// information: texts by their four-letter INFO identifiers, such as {INAM: title, ISFT: software, ICMT: comment}.
export function wavFile(samples, sampleRate, information = {}) {
  const entries = Object.entries(information).map(([id, text]) => [id, new TextEncoder().encode(`${text}\0`)]);
  const even = (bytes) => bytes + (bytes % 2);
  const list = 4 + entries.reduce((sum, [, text]) => sum + 8 + even(text.length), 0);
  const file = new DataView(new ArrayBuffer(44 + 2 * samples.length + 8 + list));
  let at = 0;
  const put = (id) => {
    for (const letter of id) file.setUint8(at++, letter.charCodeAt(0));
  };
  const put32 = (value) => {
    file.setUint32(at, value, true);
    at += 4;
  };
  const put16 = (value) => {
    file.setUint16(at, value, true);
    at += 2;
  };
  put("RIFF");
  put32(file.byteLength - 8);
  put("WAVEfmt ");
  [put32(16), put16(1), put16(1), put32(sampleRate), put32(2 * sampleRate), put16(2), put16(16)]; // PCM, one channel
  put("LIST"); // before the samples: some readers stop there
  put32(list);
  put("INFO");
  for (const [id, text] of entries) {
    put(id);
    put32(text.length);
    new Uint8Array(file.buffer, at).set(text);
    at += even(text.length);
  }
  put("data");
  put32(2 * samples.length);
  for (const sample of samples) {
    file.setInt16(at, Math.max(-32768, Math.min(32767, Math.round(32768 * sample))), true);
    at += 2;
  }
  return file.buffer;
}
