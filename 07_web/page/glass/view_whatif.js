// View: what if a part were missing? Switches for every part of the model; what they do to the reply
// and to the bits a byte stands side by side with the model as it is.

import { wordOf } from "./address.js";
import { figure, made } from "./elements.js";
import { createRewriting } from "./rewriting.js";

// The rows of 04_training/what_breaks.py that can be had without training anew.
const PRESETS = [
  ["mask", "No mask", "each byte sees the bytes after it, which it never did in training"],
  ["mask by one", "Mask off by one", "each byte sees the very byte it has to guess"],
  ["scale", "No √D", "scores are not divided: the softmax takes nearly all from one byte"],
  ["positions", "No positions", "nothing says what stands where: the text is a bag of bytes"],
  ["norms", "No norms", "each branch reads vectors as long as they happen to be"],
  ["head norms", "No QK-norm", "queries and keys keep the lengths they happen to have"],
  ["residual", "No residual", "each branch overwrites what it has read"],
  ["sharing", "Heads shared 0,1,0,1", "all shapes are right, and heads meet the keys of others"],
  ["pairs", "RoPE pairs neighbours", "turned, but not in the pairs it was trained with"],
];

export const whatIfView = {
  name: "whatif",
  title: "What if",
  sentence: "Switch a part of the model off, and see at once what it was good for.",
  open(root, inside) {
    const toggles = [];
    const presets = made("div", { className: "presets", role: "group", ariaLabel: "Known mistakes" });
    const parts = made("div", { className: "wide" });
    const why = made("p", { className: "quiet" });
    const undo = made("button", { type: "button" }, "Undo the last");
    const memory = { now: null, plain: null };
    const switched = (change) => inside.set(({ changes }) => ({ changes: toggled(changes, change) }));
    undo.onclick = () => inside.set(({ changes }) => ({ changes: changes.slice(0, -1) }));
    const table = comparison();
    const rewriting = createRewriting(inside, table.say);
    const how = made("p", { className: "quiet" }, "Both replies are written anew, with the likeliest byte each time: no dice. The bits are those of the conversation above.");
    root.append(table.element, how, presets, why, parts, undo);
    return async (now) => {
      memory.now = now;
      if (!toggles.length) toggles.push(...presetsOf(presets, now.looked, switched), ...switchesOf(parts, now.looked, switched));
      markSwitches(toggles, now.changes);
      undo.disabled = !now.changes.length;
      why.textContent = PRESETS.filter(([off]) => now.changes.some((each) => each.off === off)).map(([, name, words]) => `${name}: ${words}.`).join(" ");
      await measure(memory, inside);
      table.bits(memory.plain.looked, now.looked, now.changes.length > 0);
      rewriting.write(now.changes, now.writing);
    };
  },
};

// Switched on if it was off, and the other way round.
function toggled(changes, change) {
  const left = changes.filter((each) => wordOf(each) !== wordOf(change));
  return left.length < changes.length ? left : [...changes, change];
}

// What the model as it is makes of the same text. Asked for only if it is not the one just read.
async function measure(memory, inside) {
  const { looked, changes } = memory.now;
  const name = looked.tokens.map(({ id }) => id).join();
  if (!changes.length) memory.plain = { name, looked };
  if (memory.plain?.name === name) return;
  const { messages, reply } = inside.said();
  const asked = { task: "look", messages, reply };
  memory.plain = { name, looked: (await inside.ask({ ...asked, changes: [] })).looked };
  await inside.ask({ ...asked, changes }); // the worker answers for what was looked at last
}

function presetsOf(place, { kvHeads, heads }, switched) {
  const known = PRESETS.filter(([off]) => off !== "sharing" || kvHeads < heads);
  const buttons = known.map(([off, name]) => switchOf({ off }, name, "", switched));
  place.append(...buttons.map(({ button }) => button));
  return buttons;
}

// A table: a row for each layer, a switch for each of its parts.
function switchesOf(place, { layers, heads }, switched) {
  const all = [];
  const cell = (change, text, name) => {
    all.push(switchOf(change, text, name, switched));
    return made("td", {}, all.at(-1).button);
  };
  const names = ["", ...Array.from({ length: heads }, (_, n) => `head ${n + 1}`), "attention", "feed-forward", "all of it"];
  const rows = Array.from({ length: layers }, (_, layer) => {
    const of = `layer ${layer + 1}`;
    const each = Array.from({ length: heads }, (_, head) => cell({ off: "head", layer, head }, "on", `Head ${head + 1} of ${of}`));
    const branches = [["attention", "Attention"], ["feedforward", "Feed-forward"], ["layer", "All"]];
    const more = branches.map(([off, name]) => cell({ off, layer }, "on", `${name} of ${of}`));
    return made("tr", {}, made("th", { scope: "row" }, of), ...each, ...more);
  });
  const top = made("tr", {}, ...names.map((name) => made("th", { scope: "col" }, name)));
  place.append(made("table", { className: "switches" }, made("thead", {}, top), made("tbody", {}, ...rows)));
  return all;
}

function switchOf(change, text, name, switched) {
  const button = made("button", { type: "button", className: "switch", ariaPressed: "false", onclick: () => switched(change) }, text);
  if (name) button.ariaLabel = `${name} off`;
  return { button, text, word: wordOf(change) };
}

function markSwitches(toggles, changes) {
  const words = new Set(changes.map(wordOf));
  for (const { button, text, word } of toggles) {
    button.ariaPressed = String(words.has(word));
    if (text === "on") button.textContent = words.has(word) ? "off" : "on";
  }
}

// Two columns: the model as it is, and as it was changed.
function comparison() {
  const replies = { before: made("blockquote", { className: "turn assistant" }), after: made("blockquote", { className: "turn assistant" }) };
  const bits = { before: made("p", { className: "bits" }), after: made("p", { className: "bits" }) };
  const column = (name, title) => made("section", { ariaLabel: title }, made("h3", {}, title), replies[name], bits[name]);
  const show = (place, { replyBits, bits: all }) => {
    place.textContent = `${Number.isNaN(replyBits) ? "" : `this reply: ${figure(replyBits)} bits a byte; `}all of the text: ${figure(all)}`;
  };
  return {
    element: made("div", { className: "compared" }, column("before", "As it is"), column("after", "Changed")),
    say: (name, text, growing) => Object.assign(replies[name], { textContent: text, ariaBusy: String(growing) }),
    bits(plain, changed, any) {
      show(bits.before, plain);
      if (any) show(bits.after, changed);
      else bits.after.textContent = "Nothing is switched off yet: choose a mistake below, or a part.";
    },
  };
}
