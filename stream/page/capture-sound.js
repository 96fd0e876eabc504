// Runs beside the sound: samples at 16 kHz into pieces of 200 ms, 16 bits each.

const PIECE = 3200;

class Pieces extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Int16Array(PIECE);
    this.filled = 0;
  }

  process(inputs) {
    for (const value of inputs[0][0] ?? []) {
      this.samples[this.filled] = Math.max(-1, Math.min(1, value)) * 32767;
      this.filled += 1;
      if (this.filled === PIECE) {
        this.port.postMessage(this.samples, [this.samples.buffer]);
        this.samples = new Int16Array(PIECE);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("pieces", Pieces);
