// Draws the cone of a stack: samples are columns, layers are rows, the newest output is at the top right, and lines are the
// connections through which it depends on the input at the bottom.

import { coneEdges, msText } from "./receptive_field.js";

const CLOSEST = 4; // pixels between lines that are drawn; where there are more, these stand for them
const DOTS = 7; // pixels between samples from which on each has a dot
const GRID = 9; // and those outside of the cone, too

// Positions of a drawing of `layers` rows: y of level 0 (input of layer 0) to level `layers` (output).
export function levelHeights(layers, top, bottom) {
  return Array.from({ length: layers + 1 }, (_, level) => bottom - ((bottom - top) * level) / layers);
}

// The outline of the cone from level `from` to level `to` as the current path.
export function conePath(context, axis, edges, heights, from, to) {
  context.beginPath();
  context.moveTo(axis.node(0), heights[from]);
  context.lineTo(axis.node(0), heights[to]);
  for (let level = to; level >= from; --level) context.lineTo(axis.node(edges[level]), heights[level]);
  context.closePath();
}

// nodes, grain: as of coneNodes. ink: the colour of connections; colours: of the page.
export function drawCone(context, { axis, heights, stack, muted, nodes, grain, ink, colours }) {
  const layers = stack.dilations.length;
  const edges = coneEdges(stack, muted);
  if (axis.column >= GRID) drawGrid(context, axis, heights, colours.line);
  conePath(context, axis, edges, heights, 0, layers);
  context.globalAlpha = 0.07;
  context.fillStyle = ink;
  context.fill();
  context.globalAlpha = 1;
  for (let layer = 0; layer < layers; ++layer) drawConnections(context, layer);
  for (let level = 0; level <= layers; ++level) drawDots(context, level);

  function visible(level) {
    const found = [];
    const here = nodes[level];
    let last = Infinity;
    for (let unit = 0; unit < here.length; ++unit) {
      if (!here[unit]) continue;
      const lag = unit * grain;
      if (lag > axis.shown) break;
      const x = axis.node(lag);
      if (last - x < CLOSEST) continue;
      found.push(lag);
      last = x;
    }
    return found;
  }

  function drawConnections(context, layer) {
    const from = visible(layer + 1);
    const spacing = from.length > 1 ? (axis.node(from[0]) - axis.node(from.at(-1))) / (from.length - 1) : Infinity;
    context.strokeStyle = ink;
    context.globalAlpha = spacing > 24 ? 0.85 : spacing > 9 ? 0.6 : 0.34;
    context.lineWidth = spacing > 24 ? 1.4 : 1;
    context.beginPath();
    for (const lag of from)
      for (let tap = 0; tap < stack.kernel; ++tap) {
        if (tap && muted.has(layer)) break;
        context.moveTo(axis.node(lag), heights[layer + 1]);
        context.lineTo(axis.node(lag + tap * stack.dilations[layer]), heights[layer]);
      }
    context.stroke();
    context.globalAlpha = 1;
  }

  function drawDots(context, level) {
    const here = visible(level);
    const row = heights[0] - heights[1];
    context.fillStyle = ink;
    here.forEach((lag, i) => {
      const x = axis.node(lag);
      const gap = Math.min(
        i ? axis.node(here[i - 1]) - x : Infinity,
        i + 1 < here.length ? x - axis.node(here[i + 1]) : Infinity,
      );
      if (gap < DOTS && level < layers) return;
      context.beginPath();
      context.arc(x, heights[level], Math.min(level === layers ? 5 : 3.5, gap / 4, Math.max(1.5, row / 5)), 0, 7);
      context.fill();
    });
  }
}

function drawGrid(context, axis, heights, colour) {
  context.fillStyle = colour;
  for (let lag = 0; lag < axis.shown && axis.node(lag) - axis.node(lag + 1) >= GRID; ++lag)
    for (const y of heights) {
      context.beginPath();
      context.arc(axis.node(lag), y, 2.5, 0, 7);
      context.fill();
    }
}

// The cone of as many layers without dilation, over the other.
export function drawPlainCone(context, { axis, heights, stack, colours }) {
  const edges = coneEdges({ kernel: stack.kernel, dilations: stack.dilations.map(() => 1) });
  conePath(context, axis, edges, heights, 0, edges.length - 1);
  context.fillStyle = context.strokeStyle = colours.second;
  context.globalAlpha = 0.3;
  context.fill();
  context.globalAlpha = 1;
  context.lineWidth = 1.5;
  context.stroke();
}

// Which part of the input the output sees, below it: full where it depends on every sample.
export function drawSeen(context, { axis, nodes, grain, y, ink, colours }) {
  const seen = nodes[0];
  context.fillStyle = colours.line;
  context.fillRect(axis.left, y, axis.width, 5);
  context.fillStyle = ink;
  let x = Math.round(axis.right); // whole pixels: others would show seams
  while (x > axis.left) {
    const first = axis.lagAt(x - 0.25);
    const next = Math.max(axis.left, Math.min(x - 1, Math.round(axis.at(first + 1))));
    const last = Math.max(first, axis.lagAt(next + 0.25));
    let count = 0;
    for (let unit = Math.floor(first / grain); unit <= Math.floor(last / grain); ++unit) count += seen[unit] ?? 0;
    context.globalAlpha = count / (Math.floor(last / grain) - Math.floor(first / grain) + 1);
    const gap = x - next >= 5 ? 1 : 0;
    context.fillRect(next + gap, y, x - next - gap, 5);
    x = next;
  }
  context.globalAlpha = 1;
}

// Ticks in milliseconds and in samples, below the audio.
export function drawRuler(context, { axis, y, sampleRate, colours }) {
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  context.fillStyle = colours.faint;
  context.strokeStyle = colours.line;
  context.lineWidth = 1;
  const marks = axis.logarithmic ? powers(axis.shown) : steps(axis.shown, axis.width);
  let free = Infinity;
  for (const lag of marks) {
    const x = axis.at(lag);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x, y + 5);
    context.stroke();
    const lines = lag ? [lag.toLocaleString("en"), msText(lag, sampleRate)] : ["now", ""];
    const wide = Math.max(...lines.map((line) => context.measureText(line).width));
    const centre = Math.max(axis.left + wide / 2, Math.min(axis.right + 6 - wide / 2, x));
    if (centre + wide / 2 > free) continue;
    context.textAlign = "center";
    lines.forEach((line, row) => context.fillText(line, centre, y + 7 + 13 * row));
    free = centre - wide / 2 - 10;
  }
}

function powers(shown) {
  const found = [0];
  for (let lag = 1; lag <= shown; lag *= 2) found.push(lag);
  return found;
}

function steps(shown, width) {
  const wanted = shown / Math.max(2, width / 90);
  const step = Math.max(1, 2 ** Math.round(Math.log2(wanted))); // powers of two, as dilations
  return Array.from({ length: Math.floor(shown / step) + 1 }, (_, i) => i * step);
}
