// Magnitudes of the discrete Fourier transform of windowed audio: a radix-2 FFT (Cooley and Tukey 1965), in place.

export class Spectrum {
  // size: samples of a window, a power of 2
  constructor(size) {
    this.size = size;
    this.re = new Float32Array(size);
    this.im = new Float32Array(size);
    this.window = Float32Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size)); // Hann
    this.cos = Float32Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sin = Float32Array.from({ length: size / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
    const bits = Math.log2(size);
    this.order = Uint16Array.from({ length: size }, (_, i) => {
      let reversed = 0;
      for (let bit = 0; bit < bits; ++bit) reversed |= ((i >> bit) & 1) << (bits - 1 - bit);
      return reversed;
    });
    this.decibels = new Float32Array(size / 2); // relative to a sine of full scale
  }

  // Decibels [size / 2] of samples [size]; the array is used again by the next call.
  of(samples) {
    const { size, re, im, window, order, cos, sin, decibels } = this;
    for (let i = 0; i < size; ++i) {
      re[i] = samples[order[i]] * window[order[i]];
      im[i] = 0;
    }
    for (let half = 1; half < size; half *= 2) {
      const stride = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half)
        for (let i = 0; i < half; ++i) {
          const [a, b] = [start + i, start + i + half];
          const [c, s] = [cos[i * stride], sin[i * stride]];
          const x = re[b] * c - im[b] * s;
          const y = re[b] * s + im[b] * c;
          re[b] = re[a] - x;
          im[b] = im[a] - y;
          re[a] += x;
          im[a] += y;
        }
    }
    const scale = 4 / size; // a sine of full scale has size / 2 in its bin, the Hann window halves it
    for (let bin = 0; bin < size / 2; ++bin)
      decibels[bin] = 10 * Math.log10((re[bin] * re[bin] + im[bin] * im[bin]) * scale * scale + 1e-12);
    return decibels;
  }
}
