// Time parts: what the time machine shows: a slider over the steps, the curve, the replies.

import { foldedAway, made, percent, tableOf } from "./elements.js";
import { lossCurve } from "./losscurve.js";

const WAITS = "…"; // stands where nothing has been asked yet
const MOST_LOOKED_AT = 8;

// choose(step), chooseHead({ layer }) or ({ head }), play(), again(): what a person may press.
export function timeParts({ choose, chooseHead, play, again }) {
  const slider = made("input", { type: "range", min: 0, step: 1, className: "steps-slider", ariaLabel: "Step of training" });
  const playing = made("button", { type: "button", onclick: play }, "Play");
  const figures = made("p", { className: "figures" });
  const then = made("p", { className: "then" });
  const [picture, replies] = [made("div"), made("div", { className: "replies", tabIndex: 0 })];
  replies.setAttribute("role", "region");
  replies.setAttribute("aria-label", "What it said at each step");
  const status = made("p", { className: "quiet", role: "status" });
  const retry = made("button", { type: "button", onclick: again }, "Try again");
  const [layer, head] = ["layer", "head"].map((name) => chooser(name, chooseHead));
  const whose = made("p", { className: "quiet whose" }, "Above: where ", layer, " ", head, " looked from the chosen byte, at this step.");
  const drawn = { told: null, curve: null, table: null, now: null, known: null };
  const looked = foldedAway("Where it looked, in numbers", () => lookedTable(drawn));
  slider.addEventListener("input", () => choose(drawn.told.snapshots[slider.valueAsNumber].step));

  function adopt(told) {
    if (drawn.told === told) return;
    drawn.told = told;
    slider.max = told.snapshots.length - 1;
    drawn.curve = lossCurve(told, choose);
    picture.replaceChildren(drawn.curve.picture);
    drawn.table = repliesTable(told.snapshots, choose);
    replies.replaceChildren(drawn.table.table);
  }

  return {
    all: [made("div", { className: "row machine" }, playing, slider), figures, then, picture, status, whose, looked.details, replies],
    playing: (on) => (playing.textContent = on ? "Stop" : "Play"),
    // n: which of the snapshots; known: see past.js; saidAt: step -> what it said, or null.
    show(now, n, known, saidAt) {
      adopt(now.told);
      Object.assign(drawn, { now, known });
      const chosen = now.told.snapshots[n];
      slider.value = n;
      slider.setAttribute("aria-valuetext", toldOf(chosen, now.told));
      figures.textContent = toldOf(chosen, now.told);
      then.textContent = asShown(saidAt(chosen.step));
      drawn.curve.mark(chosen.step);
      drawn.table.show(n, saidAt);
      status.replaceChildren(...(known.trouble ? [`${known.trouble} `, retry] : []));
      adoptHeads(layer, now.looked.layers, now.layer);
      adoptHeads(head, now.looked.heads, now.head);
      looked.redraw();
    },
  };
}

function toldOf({ step, bytes, bits_per_byte: bits }, { snapshots }) {
  const many = (number) => number.toLocaleString("en");
  const parts = [`step ${many(step)} of ${many(snapshots.at(-1).step)}`];
  if (bytes !== null) parts.push(`${many(bytes)} bytes read`);
  if (bits !== null) parts.push(`${bits.toFixed(2)} bits a byte`);
  return parts.join(" · ");
}

function chooser(name, choose) {
  const select = made("select", { ariaLabel: name });
  select.addEventListener("change", () => choose({ [name]: Number(select.value) }));
  return select;
}

function adoptHeads(select, count, chosen) {
  if (select.options.length !== count) {
    const option = (n) => made("option", { value: n }, `${select.ariaLabel} ${n + 1}`);
    select.replaceChildren(...Array.from({ length: count }, (_, n) => option(n)));
  }
  select.value = chosen;
}

// A row for each step; its number is a button that goes there.
function repliesTable(snapshots, choose) {
  const rows = snapshots.map(({ step, bits_per_byte: bits }) => {
    const go = made("button", { type: "button", onclick: () => choose(step) }, step.toLocaleString("en"));
    const said = made("td", { className: "said" }, WAITS);
    const row = made("tr", {}, made("th", { scope: "row" }, go), made("td", {}, bits === null ? "–" : bits.toFixed(2)), said);
    return { row, said, step };
  });
  const heading = (text) => made("th", { scope: "col" }, text);
  const top = made("thead", {}, made("tr", {}, heading("step"), heading("bits a byte"), heading("what it said")));
  const caption = made("caption", {}, "What it said at each step");
  return {
    table: made("table", {}, caption, top, made("tbody", {}, ...rows.map(({ row }) => row))),
    show(n, saidAt) {
      for (const [index, { row, said, step }] of rows.entries()) {
        row.setAttribute("aria-current", String(index === n));
        const text = asShown(saidAt(step));
        if (said.textContent !== text) said.textContent = text;
      }
    },
  };
}

// A reply of noise on as few lines as it can be.
function asShown(text) {
  if (text === "") return "(nothing: it ended its turn at once)";
  return text?.replaceAll("\n", "⏎").replace(/\p{Cc}/gu, "·") ?? WAITS;
}

function lookedTable({ now: { looked, at, layer, head }, known: { attention } }) {
  const count = attention && attention.length / (looked.layers * looked.heads);
  if (count !== at + 1) return made("p", { className: "quiet" }, "Nothing has been read at this step yet.");
  const from = (layer * looked.heads + head) * count;
  const weights = Array.from(attention.subarray(from, from + count), (weight, n) => [n, weight]);
  const most = weights.sort((one, other) => other[1] - one[1]).slice(0, MOST_LOOKED_AT);
  const rows = most.map(([n, weight]) => [n, looked.tokens[n].text, percent(weight)]);
  return tableOf(`Bytes that layer ${layer + 1}, head ${head + 1} looked at most`, ["position", "byte", "weight"], rows);
}
