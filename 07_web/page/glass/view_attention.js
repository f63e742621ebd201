// View: which bytes each head looks back to. All heads as small maps; one of them over the transcript.

import { foldedAway, made, percent, tableOf } from "./elements.js";
import { paintMap } from "./pictures.js";
import { spoken } from "./strip.js";

const ARCS = 24; // the heaviest; more are a tangle
const KEY = "A row for each byte that looks, a column for each that is looked at; the frame is the chosen byte. The empty half is the future.";
const FAINT = 0.02; // weights below are no arc

export const attentionView = {
  name: "attention",
  title: "Attention",
  sentence: "Before it writes, each byte looks back: each head decides for itself how much to take from which earlier byte.",
  open(root, inside) {
    const grid = made("div", { className: "heads", role: "group", ariaLabel: "Layers and heads" });
    const told = made("p", { className: "told", role: "status" });
    const large = { map: made("canvas"), row: made("span"), box: made("div", { className: "map", ariaHidden: "true" }) };
    large.box.append(large.map, large.row);
    large.box.onclick = ({ offsetY }) => inside.set({ byte: Math.floor((offsetY / large.map.clientHeight) * memory.now.looked.tokens.length) });
    const memory = { now: null, weights: null, maps: null, of: null, buttons: [] };
    const numbers = foldedAway("Numbers", () => weightTable(memory));
    root.append(told, made("div", { className: "maps" }, grid, made("div", {}, large.box, made("p", { className: "quiet" }, KEY))), numbers.details);
    return async (now) => {
      memory.now = now;
      const { attention } = await inside.ask({ task: "attention", at: now.at });
      memory.weights = ofOneHead(attention, now);
      if (!now.writing && memory.of !== now.looked) await drawMaps(memory, grid, inside);
      markHead(memory, large);
      told.textContent = sentenceOf(memory);
      numbers.redraw();
      return shadingOf(memory);
    };
  },
};

function ofOneHead(attention, { layer, head, looked }) {
  const seen = attention.length / (looked.layers * looked.heads);
  const from = (layer * looked.heads + head) * seen;
  return attention.subarray(from, from + seen);
}

async function drawMaps(memory, grid, inside) {
  const { looked } = memory.now;
  memory.maps = await inside.ask({ task: "maps" });
  memory.of = looked;
  const count = looked.layers * looked.heads;
  if (memory.buttons.length !== count) makeButtons(memory, grid, inside);
  for (const [n, button] of memory.buttons.entries()) paintMap(button.querySelector("canvas"), mapOf(memory.maps, n), memory.maps.size);
}

const mapOf = ({ maps, size }, n) => maps.subarray(n * size * size, (n + 1) * size * size);

function makeButtons(memory, grid, inside) {
  const { layers, heads } = memory.now.looked;
  memory.buttons = Array.from({ length: layers * heads }, (_, n) => {
    const [layer, head] = [Math.floor(n / heads), n % heads];
    const choose = () => inside.set({ layer, head });
    return made("button", { type: "button", ariaLabel: `Layer ${layer + 1}, head ${head + 1}`, onclick: choose }, made("canvas"));
  });
  grid.style.setProperty("--heads", heads);
  const name = (text) => made("span", { className: "quiet", ariaHidden: "true" }, text);
  const top = [name(""), ...Array.from({ length: heads }, (_, n) => name(`head ${n + 1}`))];
  const rows = Array.from({ length: layers }, (_, n) => [name(`layer ${n + 1}`), ...memory.buttons.slice(n * heads, (n + 1) * heads)]);
  grid.replaceChildren(...top, ...rows.flat());
  grid.onkeydown = (event) => walk(event, memory.buttons, heads);
}

// Arrow keys go from map to map.
function walk(event, buttons, heads) {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads, ArrowDown: heads }[event.key];
  const next = buttons[buttons.indexOf(document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
}

function markHead({ now, buttons, maps }, large) {
  const chosen = now.layer * now.looked.heads + now.head;
  for (const [n, button] of buttons.entries()) {
    button.ariaPressed = String(n === chosen);
    button.tabIndex = n === chosen ? 0 : -1;
  }
  if (!maps) return;
  paintMap(large.map, mapOf(maps, chosen), maps.size);
  const { length } = now.looked.tokens;
  large.row.style.top = `${(100 * now.at) / length}%`;
  large.row.style.height = `${100 / length}%`;
}

function sentenceOf({ now, weights }) {
  const { looked, at, layer, head } = now;
  const most = Array.from(weights.keys()).sort((one, other) => weights[other] - weights[one]).slice(0, 3);
  const name = (n) => `“${spoken(looked.tokens[n].text)}” at ${n === at ? "itself" : n} (${percent(weights[n])})`;
  return `Layer ${layer + 1}, head ${head + 1}: byte ${at}, “${spoken(looked.tokens[at].text)}”, looks most at ${most.map(name).join(", ")}.`.replaceAll("at itself", "itself");
}

function shadingOf({ now, weights }) {
  const heaviest = Array.from(weights.entries()).filter(([n, weight]) => n !== now.at && weight > FAINT);
  const arcs = heaviest.sort(([, one], [, other]) => other - one).slice(0, ARCS);
  return { kind: "look", strengths: Array.from(weights, (weight) => Math.sqrt(weight)), arcs };
}

function weightTable({ now, weights }) {
  const rows = Array.from(weights, (weight, n) => [n, spoken(now.looked.tokens[n].text), weight.toFixed(4)]);
  return tableOf(`Where byte ${now.at} looks: the weights sum to 1`, ["position", "byte", "weight"], rows);
}
