// The arithmetic of stacks of dilated causal convolutions, without any drawing. Layers count from 0, the one above the
// input first; lags count samples back from the newest one. A stack is {kernel, cycles, perCycle, dilations}.

// Cycles of dilations 1, 2, 4, ...: design of section 2.1 of the WaveNet paper.
export function stackOf(cycles, perCycle, kernel = 2) {
  const dilations = Array.from({ length: cycles * perCycle }, (_, layer) => 2 ** (layer % perCycle));
  return { kernel, cycles, perCycle, dilations };
}

// The samples from the first to the last tap of one layer, both included: kernel 2 at dilation d spans d + 1.
export function span(kernel, dilation) {
  return (kernel - 1) * dilation + 1;
}

// Samples that one output depends on: 1 + (K - 1) x the sum of the dilations. muted: layers that contribute nothing, so
// that only the sample above their last tap passes.
export function receptiveField({ kernel, dilations }, muted = new Set()) {
  return 1 + (kernel - 1) * dilations.reduce((sum, dilation, layer) => sum + (muted.has(layer) ? 0 : dilation), 0);
}

// The same for as many layers of the same kernel without dilation.
export function plainReceptiveField({ kernel, dilations }) {
  return 1 + (kernel - 1) * dilations.length;
}

// One row for each layer: {layer, cycle, dilation, span, total}. total: samples that the layer's output depends on.
export function layerRows({ kernel, perCycle, dilations }) {
  let total = 1;
  return dilations.map((dilation, layer) => {
    total += (kernel - 1) * dilation;
    return { layer, cycle: Math.floor(layer / perCycle), dilation, span: span(kernel, dilation), total };
  });
}

// The lag of the oldest sample at every level of the cone to the newest output: level 0 is the input of layer 0, the last
// level the output.
export function coneEdges({ kernel, dilations }, muted = new Set()) {
  const edges = [0];
  for (let layer = dilations.length - 1; layer >= 0; --layer)
    edges.unshift(edges[0] + (muted.has(layer) ? 0 : (kernel - 1) * dilations[layer]));
  return edges;
}

// Which lags the newest output depends on at every level: levels of Uint8Array [lags], 1 for those that count. Lags are
// counted in units of `grain` samples, which keeps the largest stacks small; 1 is exact.
export function coneNodes(stack, muted = new Set(), grain = grainOf(stack)) {
  const edges = coneEdges(stack, muted);
  const { kernel, dilations } = stack;
  const levels = [Uint8Array.of(1)];
  for (let layer = dilations.length - 1; layer >= 0; --layer) {
    const above = levels[0];
    if (muted.has(layer)) {
      levels.unshift(above);
      continue;
    }
    const below = new Uint8Array(Math.floor(edges[layer] / grain) + 1);
    for (let tap = 0; tap < kernel; ++tap) {
      const shift = Math.round((tap * dilations[layer]) / grain);
      for (let lag = 0; lag < above.length && lag + shift < below.length; ++lag) below[lag + shift] |= above[lag];
    }
    levels.unshift(below);
  }
  return levels;
}

const MOST_NODES = 1 << 16; // of a level

export function grainOf(stack) {
  return Math.ceil(receptiveField(stack) / MOST_NODES);
}

// Layers of the same dilation, in all cycles: [{dilation, layers}].
export function scales({ dilations }) {
  const found = new Map();
  dilations.forEach((dilation, layer) => found.set(dilation, [...(found.get(dilation) ?? []), layer]));
  return [...found].map(([dilation, layers]) => ({ dilation, layers }));
}

const NUMBER = new Intl.NumberFormat("en");

export function samplesText(samples) {
  return `${NUMBER.format(samples)} ${samples === 1 ? "sample" : "samples"}`;
}

// Milliseconds with three significant digits, from 100 ms on without decimals beyond the first.
export function msText(samples, sampleRate) {
  const ms = (1000 * samples) / sampleRate;
  const digits = ms >= 10 ? 1 : ms >= 1 ? 2 : 3;
  return `${new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(ms)} ms`;
}
