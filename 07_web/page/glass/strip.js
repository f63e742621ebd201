// Strip: the transcript as the model read it, byte by byte. One byte is chosen: with arrow keys,
// by a tap, or by drawing a finger along; a mouse that rests on another one shows that meanwhile.
// A view says how each byte is shaded, and what arcs to draw.

import { drawn, made } from "./elements.js";

const FARTHEST_UP = 34; // pixels that an arc may rise
const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

// onChoose(n): the byte n was chosen by a person. onRest(n): the mouse rests on it; null: no more.
export function createStrip(onChoose, onRest) {
  const arcs = drawn("svg", { class: "arcs", "aria-hidden": "true" });
  const words = made("div", { className: "bytes" });
  const box = made("div", { className: "strip", tabIndex: 0, role: "slider", "aria-label": "Byte of the conversation" });
  box.append(words, arcs);
  const shown = { tokens: [], cells: [], at: -1, shading: null };
  const choose = (n) => shown.cells.length && onChoose(Math.min(shown.cells.length - 1, Math.max(0, n)));

  box.addEventListener("keydown", (event) => {
    const lines = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const to = lines ? nextLine(shown, lines) : shown.at + STEPS[event.key];
    if (Number.isNaN(to)) return;
    event.preventDefault();
    choose(to);
  });
  const pointed = ({ clientX, clientY }, act) => {
    const cell = document.elementFromPoint(clientX, clientY)?.closest(".byte");
    if (cell && words.contains(cell)) act(Number(cell.dataset.n));
  };
  words.addEventListener("pointerdown", (event) => pointed(event, choose));
  words.addEventListener("pointermove", (event) => pointed(event, event.buttons ? choose : onRest));
  words.addEventListener("pointerleave", () => onRest(null));
  new ResizeObserver(() => drawArcs(shown, arcs, box)).observe(words);

  return {
    box,
    // looked: the answer of `look`. shading: see show in panel.js.
    show(looked, at, shading) {
      setCells(shown, words, looked);
      shade(shown, shading);
      mark(shown, box, looked, at);
      Object.assign(shown, { shading });
      drawArcs(shown, arcs, box);
    },
  };
}

// Makes what is new and leaves the rest: a growing reply costs its new bytes alone.
function setCells(shown, words, { tokens, replyFrom }) {
  const { cells } = shown;
  let same = 0;
  while (same < Math.min(cells.length, tokens.length) && tokens[same].id === shown.tokens[same].id) same += 1;
  for (const cell of cells.splice(same)) {
    if (cell.nextSibling?.nodeName === "BR") cell.nextSibling.remove();
    cell.remove();
  }
  for (let n = same; n < tokens.length; n++) {
    const cell = made("span", { className: "byte" }, tokens[n].text);
    cell.dataset.n = n;
    cells.push(cell);
    words.append(cell, ...(tokens[n].text.endsWith("⏎") ? [made("br")] : []));
  }
  for (const [n, cell] of cells.entries()) cell.classList.toggle("reply", n >= replyFrom);
  shown.tokens = tokens;
}

// strengths: 0 to 1 for each byte, or NaN for none.
function shade({ cells }, { kind, strengths, forkAt }) {
  for (const [n, cell] of cells.entries()) {
    const strength = strengths[n];
    cell.style.setProperty("--strength", strength > 0.004 ? `${Math.round(100 * strength)}%` : "0%");
    cell.dataset.kind = kind;
    cell.classList.toggle("forked", n === forkAt);
  }
}

function mark(shown, box, { tokens, surprise }, at) {
  shown.cells[shown.at]?.classList.remove("chosen");
  shown.at = at;
  const cell = shown.cells[at];
  if (!cell) return;
  cell.classList.add("chosen");
  const bits = Number.isNaN(surprise[at]) ? "given" : `${surprise[at].toFixed(1)} bits`;
  const range = { "aria-valuemin": 0, "aria-valuemax": tokens.length - 1, "aria-valuenow": at };
  const words = { "aria-valuetext": `${at}: ${spoken(tokens[at].text)}, ${bits}` };
  for (const [name, value] of Object.entries({ ...range, ...words })) box.setAttribute(name, value);
  const [top, bottom] = [cell.offsetTop - FARTHEST_UP, cell.offsetTop + cell.offsetHeight + 4];
  if (top < box.scrollTop) box.scrollTop = top;
  else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
}

// A byte as a screen reader, or a sentence, may name it.
export function spoken(text) {
  if (text === " ") return "space";
  return text === "⏎" ? "new line" : text;
}

// The same where it stands alone in a box: a space can be seen.
export const pictured = (text) => text.replaceAll(" ", "␣");

// Where the cursor comes to, one line of the screen up or down.
function nextLine({ cells, at }, direction) {
  const from = cells[at];
  if (!from) return NaN;
  const tops = [...new Set(cells.map((cell) => cell.offsetTop))];
  const top = tops[tops.indexOf(from.offsetTop) + direction];
  const near = cells.map((cell, n) => [cell.offsetTop === top ? Math.abs(cell.offsetLeft - from.offsetLeft) : Infinity, n]);
  const [distance, n] = near.reduce((best, each) => (each[0] < best[0] ? each : best), [Infinity, NaN]);
  return distance < Infinity ? n : NaN;
}

// shading.arcs: [n, weight] for each byte that the chosen one looks back to.
function drawArcs({ cells, at, shading }, svg, box) {
  const to = cells[at];
  const words = box.firstChild;
  const height = words.offsetTop + words.offsetHeight;
  svg.setAttribute("viewBox", `0 0 ${box.clientWidth} ${height}`); // one unit is one pixel, as in offsetLeft
  svg.style.height = `${height}px`;
  const lines = (to && shading?.arcs) || [];
  svg.replaceChildren(...lines.filter(([n]) => cells[n] && n !== at).map(([n, weight]) => arc(cells[n], to, weight)));
}

function arc(from, to, weight) {
  const [x1, y1] = [from.offsetLeft + from.offsetWidth / 2, from.offsetTop + 3];
  const [x2, y2] = [to.offsetLeft + to.offsetWidth / 2, to.offsetTop + 3];
  const up = Math.min(FARTHEST_UP, 8 + Math.abs(x2 - x1) / 6);
  const path = `M ${x1} ${y1} C ${x1} ${y1 - up}, ${x2} ${y2 - up}, ${x2} ${y2}`;
  return drawn("path", { d: path, "stroke-width": 1 + 3 * weight, "stroke-opacity": 0.25 + 0.75 * weight });
}
