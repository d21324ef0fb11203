// A small line chart as SVG: grey for CLIP alone, the accent for the memory; its colours follow the page's.

import { count, el, svg, tenths } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [420, 230, 38, 34, 10, 12];
const HALF_DIGIT = 3.6; // of the label's letters: what is longer than the margin moves in

const span = (values) => [Math.min(...values), Math.max(...values)];
const short = (value) => (value >= 10000 ? `${count(Math.round(value / 1000))}k` : count(value));

// Four or five round numbers that cover the values.
function ticks(low, high) {
  const rough = Math.max(high - low, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const first = Math.floor(low / step) * step;
  const found = [];
  for (let value = first; value < high + step * 0.999; value += step) found.push(Number(value.toFixed(6)));
  return found;
}

// `series`: [{name, kind, points: [[x, y], …]}]; y in percent.
export function chart(title, series, { axis, logarithmic }) {
  const drawn = series.filter((one) => one.points.length > 1);
  const xs = drawn.flatMap((one) => one.points.map(([x]) => x));
  const scale = logarithmic ? Math.log : (value) => value;
  const [left, right] = span(xs).map(scale);
  const grid = ticks(...span(drawn.flatMap((one) => one.points.map(([, y]) => y))));
  const [low, high] = span(grid);
  const x = (value) => LEFT + ((scale(value) - left) / (right - left || 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  const at = [...new Set(xs)].sort((a, b) => a - b);
  // A label that would touch the one before it is left out.
  let last = -Infinity;
  const labelled = at.filter((value) => x(value) - last >= 30 && (last = x(value)));
  const told = drawn.map((one) => `${one.name} from ${tenths(one.points[0][1])} to ${tenths(one.points.at(-1)[1])}`).join("; ");
  return el("figure", { class: "chart" },
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, over ${axis}. ${told}.` },
      grid.map((value) => [svg("path", { class: "grid", d: `M${LEFT} ${y(value).toFixed(1)}H${WIDTH - RIGHT}` }),
        svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, String(value))]),
      labelled.map((value) => svg("text", { x: Math.min(x(value), WIDTH - HALF_DIGIT * short(value).length), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(value))),
      svg("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 3, "text-anchor": "middle" }, axis),
      drawn.map((one) => svg("path", {
        class: `line ${one.kind}`, d: one.points.map(([px, py], place) => `${place ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join(""),
      })),
      drawn.filter((one) => one.kind === "both").map((one) => one.points.map(([px, py]) => svg("circle", { class: "dot", cx: x(px).toFixed(1), cy: y(py).toFixed(1), r: 3 })))),
    el("figcaption", { class: "legend", "aria-hidden": "true" }, drawn.map((one) => el("span", { class: "entry" }, el("span", { class: `stroke ${one.kind}` }), one.name))));
}
