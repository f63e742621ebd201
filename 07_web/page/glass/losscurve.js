// Loss curve: how far a run had come at each step, both axes as in 05's curves, but steps in powers
// of ten: most is learned at first.

import { drawn } from "./elements.js";

const [WIDTH, HEIGHT] = [560, 190];
const [LEFT, RIGHT, TOP, BOTTOM] = [34, 548, 10, 150];
const NOTHING = 8; // bits a byte of who knows nothing

// told: what snapshots.json says. onChoose(step): a dot was pressed.
export function lossCurve({ snapshots, curve }, onChoose) {
  const last = Math.max(snapshots.at(-1).step, curve.at(-1)?.[0] ?? 1);
  const top = Math.max(NOTHING, ...curve.map(([, bits]) => bits)) + 0.4;
  const x = (step) => LEFT + ((RIGHT - LEFT) * Math.log(step)) / Math.log(Math.max(2, last));
  const y = (bits) => BOTTOM - ((BOTTOM - TOP) * bits) / top;
  const points = curve.map(([step, bits]) => `${x(step).toFixed(1)},${y(bits).toFixed(1)}`).join(" ");
  const known = snapshots.filter((each) => each.bits_per_byte !== null);
  const dots = new Map(known.map((each) => [each.step, dot(x(each.step), y(each.bits_per_byte), () => onChoose(each.step))]));
  const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "losscurve", role: "img", "aria-label": "Loss over the steps of training; the table below holds its numbers" });
  picture.append(...grid(x, y, last), drawn("polyline", { class: "trace", points }), ...dots.values());
  return {
    picture,
    mark(step) {
      for (const [each, circle] of dots) circle.classList.toggle("chosen", each === step);
      const circle = dots.get(step);
      circle?.parentNode.append(circle); // above its neighbours
    },
  };
}

function dot(cx, cy, choose) {
  const circle = drawn("circle", { class: "dot", cx: cx.toFixed(1), cy: cy.toFixed(1), r: 5 });
  circle.addEventListener("click", choose);
  return circle;
}

function grid(x, y, last) {
  const text = (words, at, to, anchor) => drawn("text", { x: at, y: to, "text-anchor": anchor }, words);
  const levels = [0, 2, 4, 6, 8];
  const lines = levels.map((bits) => drawn("line", { class: bits === NOTHING ? "nothing" : "axis", x1: LEFT, x2: RIGHT, y1: y(bits), y2: y(bits) }));
  const tens = Array.from({ length: Math.floor(Math.log10(last) + 1e-9) + 1 }, (_, power) => 10 ** power);
  return [
    ...lines,
    ...levels.map((bits) => text(bits, LEFT - 8, y(bits) + 4, "end")),
    ...tens.map((step) => text(step.toLocaleString("en"), x(step), BOTTOM + 16, "middle")),
    text("steps of training", RIGHT, HEIGHT - 8, "end"),
    text("8 bits a byte: knows nothing", RIGHT, y(NOTHING) + 14, "end"),
  ];
}
