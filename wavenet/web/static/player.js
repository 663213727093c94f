// Two AudioWorkletProcessors of a page that plays what engine.js generates: a player of blocks, and a microphone. A plain
// module, for `audioWorklet.addModule`.
//
// "wavenet-player", with the processorOptions {capacity}, samples of its ring buffer. Messages to it: {connect: port} (from
// a source: see engine.js), {threshold}: samples that must be there before it plays, at first and after it ran dry. Through
// the connected port: {block, position, epoch}, and {end: true, epoch} after the last one. A block of a later epoch replaces
// what has not been played yet; one of an earlier epoch is ignored.
// Messages from it, to its node and to the connected port, about fifty times a second: {epoch, heard, buffered, waiting,
// ended}: the position of the next sample to play, how many are there, and whether it waits for more.

const REPORTS_PER_SECOND = 50;

class Player extends AudioWorkletProcessor {
  constructor({ processorOptions: { capacity } }) {
    super();
    this.ring = new Float32Array(capacity);
    this.source = null;
    this.threshold = 0;
    this.since = 0; // samples since the last report
    this.closed = false;
    this.report = { epoch: 0, heard: 0, buffered: 0, waiting: true, ended: false };
    this.begin(0, 0);
    this.port.onmessage = ({ data: { connect, threshold, close } }) => {
      if (threshold !== undefined) this.threshold = threshold;
      if (close) this.closed = true;
      if (!connect) return;
      this.source?.close();
      this.source = connect;
      connect.onmessage = ({ data }) => this.receive(data);
    };
  }

  begin(epoch, position) {
    this.epoch = epoch;
    this.heard = this.next = position; // of the next sample to play, and of the next one to come
    this.waiting = true;
    this.last = false; // no more blocks follow
  }

  receive({ block, position, epoch, end }) {
    if (epoch < this.epoch) return;
    if (epoch > this.epoch) this.begin(epoch, position ?? 0);
    if (end) this.last = true;
    if (!block) return;
    const { ring } = this;
    for (let i = 0; i < block.length; ++i) ring[(position + i) % ring.length] = block[i];
    this.next = position + block.length;
  }

  // Allocates nothing, apart from the messages of a report.
  process(inputs, outputs) {
    const out = outputs[0][0];
    const { ring } = this;
    const buffered = this.next - this.heard;
    if (buffered >= this.threshold || this.last) this.waiting = false;
    const count = this.waiting ? 0 : Math.min(buffered, out.length);
    for (let i = 0; i < count; ++i) out[i] = ring[(this.heard + i) % ring.length];
    for (let i = count; i < out.length; ++i) out[i] = 0;
    this.heard += count;
    if (count < out.length && !this.last) this.waiting = true;
    this.since += out.length;
    if (this.since >= sampleRate / REPORTS_PER_SECOND) this.sendReport();
    return !this.closed;
  }

  sendReport() {
    const { report } = this;
    report.epoch = this.epoch;
    report.heard = this.heard;
    report.buffered = this.next - this.heard;
    report.waiting = this.waiting;
    report.ended = this.last && this.heard === this.next;
    this.since = 0;
    this.port.postMessage(report);
    if (this.source) this.source.postMessage(report);
  }
}

// "wavenet-microphone" sends what it hears to its node: {samples}, the first channel.
class Microphone extends AudioWorkletProcessor {
  process(inputs) {
    const channel = inputs[0][0];
    if (channel) this.port.postMessage({ samples: channel });
    return true;
  }
}

registerProcessor("wavenet-player", Player);
registerProcessor("wavenet-microphone", Microphone);
