// View: one head at one byte, every number on the way. A list of stages; each is a picture that
// opens to its words, its line of code and its numbers.

import { figure, foldedAway, made, tableOf } from "./elements.js";
import { paintStripes } from "./pictures.js";
import { STAGES } from "./stages.js";
import { spoken } from "./strip.js";

export const headView = {
  name: "head",
  title: "One head",
  sentence: "The formula of attention on real numbers: open a stage to see what goes in, what comes out, and its line of code.",
  open(root, inside) {
    const [layers, heads] = [made("select", {}), made("select", {})];
    layers.onchange = () => inside.set({ layer: layers.selectedIndex });
    heads.onchange = () => inside.set({ head: heads.selectedIndex });
    const labels = [made("label", {}, "Layer ", layers), made("label", {}, "Head ", heads)];
    const told = made("p", { className: "told", role: "status" });
    const stages = STAGES.map(stageOf);
    root.append(made("div", { className: "picks" }, ...labels), told, legend(), made("ol", { className: "stages" }, ...stages.map(({ item }) => item)));
    return async (now) => {
      const { looked, at, layer, head } = now;
      fillUp(layers, looked.layers, layer);
      fillUp(heads, looked.heads, head);
      const answer = await inside.ask({ task: "head", at, layer, head });
      told.textContent = `Byte ${at}, “${spoken(looked.tokens[at].text)}”, in layer ${layer + 1}, head ${head + 1}: D = ${looked.headSize}, √D = ${figure(Math.sqrt(looked.headSize))}.`;
      const all = { ...answer.head, sum: sumOf(answer.head) };
      for (const stage of stages) stage.draw(all, now);
      return shadingOfHead(all);
    };
  },
};

function fillUp(select, count, chosen) {
  if (select.length !== count) select.replaceChildren(...Array.from({ length: count }, (_, n) => made("option", {}, String(n + 1))));
  select.selectedIndex = chosen;
}

const sumOf = ({ input, output }) => ({ shape: input.shape, data: input.data.map((each, n) => each + output.data[n]) });

const shadingOfHead = ({ weights }) => ({ kind: "look", strengths: Array.from(weights.data, (weight) => Math.sqrt(weight)), arcs: [] });

function legend() {
  const spot = (name, words) => [made("span", { className: `spot ${name}`, ariaHidden: "true" }), words];
  return made("p", { className: "quiet" }, ...spot("below", " below zero "), ...spot("above", " above zero; the stronger, the larger"));
}

// One stage: { item, draw(all, now) }.
function stageOf({ name, words, parts, rows, line }) {
  const given = { all: null, now: null };
  const pictures = Object.keys(parts).map((part) => made("canvas", { className: `stripes ${rows ?? ""}`, ariaHidden: "true" }));
  const shapes = made("span", { className: "quiet shape" });
  const sentence = made("p", {});
  const tables = Object.entries(parts).map(([part, [title]]) => foldedAway(`Numbers: ${title}`, () => numbersOf(part, title, rows, given)));
  const code = made("pre", {}, made("code", {}, line));
  const large = foldedStage(made("summary", {}, made("b", {}, name), " ", shapes, ...pictures), [sentence, code, ...tables.map(({ details }) => details)]);
  return {
    item: made("li", {}, large),
    draw(all, now) {
      Object.assign(given, { all, now });
      sentence.textContent = filledIn(words, all, now);
      shapes.textContent = Object.entries(parts).map(([part, [, letters]]) => `${letters} = (${all[part].shape.join(", ")}${all[part].shape.length < 2 ? "," : ""})`).join(" → ");
      for (const [n, part] of Object.keys(parts).entries()) paintPart(pictures[n], all[part]);
      for (const { redraw } of tables) redraw();
    },
  };
}

const foldedStage = (summary, inside) => made("details", {}, summary, ...inside);

function paintPart(canvas, { shape, data }) {
  const [rows, columns] = shape.length > 1 ? shape : [1, shape[0]];
  paintStripes(canvas, data, rows, columns);
}

function filledIn(words, { weights }, { layer, looked }) {
  const sum = weights.data.reduce((total, each) => total + each, 0);
  const facts = { layer: layer + 1, root: figure(Math.sqrt(looked.headSize)), tokens: looked.tokens.length, seen: weights.data.length, sum: sum.toFixed(4) };
  return words.replace(/\{(\w+)\}/g, (_, name) => facts[name]);
}

function numbersOf(part, title, rows, { all, now }) {
  const { shape, data } = all[part];
  const { tokens } = now.looked;
  const columns = shape.length > 1 ? shape[1] : 1;
  if (!rows) return tableOf(title, ["channel", "number"], Array.from(data, (each, n) => [n, figure(each)]));
  const lines = Array.from({ length: shape[0] }, (_, n) => [`${n} ${spoken(tokens[n].text)}`, ...Array.from(data.subarray(n * columns, (n + 1) * columns), figure)]);
  const names = columns > 1 ? Array.from({ length: columns }, (_, n) => n) : ["number"];
  return tableOf(title, ["byte", ...names], lines);
}
