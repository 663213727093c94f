// What a stream generated since its start: the samples, and the settings that reproduce them.

const CHUNK = 65_536; // samples of memory at a time

export class Take {
  // settings: what there was at the start. most: samples that are kept, the last ones.
  constructor(settings, most) {
    this.settings = settings;
    this.most = most;
    this.events = []; // {position, set: {...}} and {position, seed}
    this.chunks = [];
    this.first = this.length = 0; // the samples that are kept are from `first` to `length`
  }

  add(block) {
    for (let done = 0; done < block.length; ) {
      const at = this.length % CHUNK;
      if (!at) this.chunks.push(new Float32Array(CHUNK));
      const piece = block.subarray(done, done + CHUNK - at);
      this.chunks.at(-1).set(piece, at);
      done += piece.length;
      this.length += piece.length;
    }
    while (this.length - this.first > this.most + CHUNK) {
      this.chunks.shift();
      this.first += CHUNK;
    }
  }

  // Samples from `from` to `to`, with zeros where there are none.
  read(from, to) {
    const samples = new Float32Array(Math.max(to - from, 0));
    for (let at = Math.max(from, this.first); at < Math.min(to, this.length); ) {
      const offset = (at - this.first) % CHUNK;
      const chunk = this.chunks[Math.floor((at - this.first) / CHUNK)];
      const piece = chunk.subarray(offset, offset + Math.min(to, this.length) - at);
      samples.set(piece, at - from);
      at += piece.length;
    }
    return samples;
  }

  // An event of the stream. Those at the same sample are one.
  record({ position, set, seed }) {
    const last = this.events.at(-1);
    if (set && last?.set && last.position === position) Object.assign(last.set, set);
    else this.events.push(set ? { position, set: { ...set } } : { position, seed });
  }

  // A take of its own that ends at `position`.
  until(position) {
    const take = new Take(this.settings, this.most);
    take.events = this.events
      .filter((event) => event.position <= position)
      .map((event) => (event.set ? { ...event, set: { ...event.set } } : event));
    take.first = this.first;
    take.length = Math.min(position, this.length);
    take.chunks = this.chunks.slice(0, Math.ceil((take.length - take.first) / CHUNK));
    if (take.length % CHUNK) take.chunks.push(take.chunks.pop().slice()); // it goes on there
    return take;
  }

  // The samples and settings up to `position`.
  cut(position) {
    const { events, first, length } = this.until(position);
    return { samples: this.read(first, length), settings: { ...this.settings, events, first, samples: length } };
  }
}
