// Memory: how full the model's context is, with what, what it costs, and what it has had to forget.

import { conversation, whenConversationChanges } from "../conversation.js";
import { drawn, made, tableOf } from "./elements.js";
import { createSpeed } from "./speed.js";

const TURN_LINE = /^(system|user|assistant):/;
const WHOSE = { end: "the first mark", rest: "rest of a turn", system: "system message", user: "you", assistant: "model" };
const BEGINNING = "⟨end⟩"; // as tokens.js shows it
const FLOAT32 = 4; // bytes
const SHOWN_OF_A_TURN = 60; // characters
const [LONG, HIGH, BELOW] = [600, 34, 22]; // of the bar, and of the words below it

export const memoryView = {
  name: "memory",
  title: "Memory",
  sentence: "All that the model knows of this conversation is what fits into its context. When that is full, the oldest turns go.",
  open(room) {
    const speed = createSpeed();
    whenConversationChanges(() => speed.seen(conversation(), performance.now()));
    const bar = drawn("svg", { viewBox: `0 0 ${LONG} ${HIGH + BELOW}`, class: "meter", "aria-hidden": "true" });
    const meter = made("div", { role: "meter", ariaLabel: "Context that is filled" }, bar);
    const [filled, cache, pace, forgotten, numbers] = ["p", "p", "p", "div", "div"].map((tag) => made(tag));
    room.append(meter, meterLegend(), filled, cache, pace, forgotten, numbers);
    return ({ looked }) => {
      const turns = turnsOf(looked);
      drawMeter(meter, bar, turns, looked);
      filled.textContent = toldFilled(looked);
      cache.textContent = toldCache(looked);
      pace.textContent = toldPace(speed.told());
      forgotten.replaceChildren(...toldForgotten(turns, looked));
      numbers.replaceChildren(tableOfTurns(turns, looked));
      return null;
    };
  },
};

// The turns in the context, { whose, size } each. A line that begins a turn says whose it is; what
// stands before the first such line is the rest of a turn whose beginning is forgotten.
function turnsOf({ tokens, replyFrom }) {
  const turns = [];
  let whose = tokens[0].text === BEGINNING ? "end" : "rest";
  for (const { from, size, text } of linesOf(tokens)) {
    whose = TURN_LINE.exec(text)?.[1] ?? whose;
    for (let n = from; n < from + size; n++) {
      const owner = n < replyFrom ? whose : "assistant";
      if (turns.at(-1)?.whose !== owner) turns.push({ whose: owner, size: 0 });
      turns.at(-1).size += 1;
    }
  }
  return turns;
}

function linesOf(tokens) {
  const lines = [{ from: 0, size: 0, text: "" }];
  for (const [n, { text }] of tokens.entries()) {
    lines.at(-1).size += 1;
    lines.at(-1).text += text;
    if (text === BEGINNING || text.endsWith("⏎")) lines.push({ from: n + 1, size: 0, text: "" });
  }
  return lines;
}

function drawMeter(meter, bar, turns, { tokens, context }) {
  const x = (n) => (LONG * n) / context;
  let at = 0;
  const parts = turns.map(({ whose, size }) => {
    const part = drawn("rect", { class: `part ${whose}`, x: x(at), y: 0, width: x(size), height: HIGH });
    at += size;
    return part;
  });
  const room = context - Math.floor(context / 4);
  const mark = drawn("line", { class: "room", x1: x(room), x2: x(room), y1: 0, y2: HIGH + 4 });
  const words = drawn("text", { x: x(room), y: HIGH + 15, "text-anchor": "middle" }, `${room}: a question must end here`);
  bar.replaceChildren(drawn("rect", { class: "free", x: 0, y: 0, width: LONG, height: HIGH }), ...parts, mark, words);
  const values = { "aria-valuemin": 0, "aria-valuemax": context, "aria-valuenow": tokens.length };
  for (const [name, value] of Object.entries(values)) meter.setAttribute(name, value);
}

function meterLegend() {
  const swatch = (whose) => [drawn("svg", { viewBox: "0 0 10 10", class: "meter swatch", "aria-hidden": "true" }, drawn("rect", { class: `part ${whose}`, width: 10, height: 10 })), ` ${WHOSE[whose]}  `];
  return made("p", { className: "quiet" }, ...["user", "assistant", "system"].flatMap(swatch));
}

function tableOfTurns(turns, { context, tokens }) {
  const rows = turns.map(({ whose, size }) => [WHOSE[whose], size]);
  return tableOf("What the context holds", ["whose", "positions"], [...rows, ["free", context - tokens.length]]);
}

const inWords = (number) => Math.round(number).toLocaleString("en");

const toldFilled = ({ tokens, context }) =>
  `${inWords(tokens.length)} of ${inWords(context)} positions are filled; ${inWords(context - tokens.length)} are left for this reply.`;

// A key and a value, headSize numbers each, for every position, layer and key/value head.
function toldCache({ tokens, context, layers, kvHeads, headSize }) {
  const each = layers * kvHeads * 2 * headSize;
  const size = (positions) => `${((positions * each * FLOAT32) / 1000).toLocaleString("en", { maximumFractionDigits: 0 })} kB`;
  const sum = `${inWords(tokens.length)} positions × ${layers} layers × ${kvHeads} heads × a key and a value of ${headSize} numbers`;
  return `The cache keeps what has been read: ${sum}, ${size(tokens.length)} of at most ${size(context)}.`;
}

function toldPace(told) {
  if (!told) return "Ask something: how fast the reply comes will stand here.";
  const rate = told.rate === null ? "all of it at once" : `then ${inWords(told.rate)} bytes a second`;
  return `The last reply: first bytes after ${inWords(told.first)} ms, ${rate}.`;
}

function toldForgotten(turns, { dropped }) {
  if (!dropped) return [made("p", {}, "Nothing is forgotten yet.")];
  const { messages } = conversation();
  const said = messages.filter(({ role }) => role !== "system");
  const kept = turns.filter(({ whose }) => whose === "user" || whose === "assistant").length - 1; // the last is the reply
  const gone = said.slice(0, Math.max(0, said.length - kept));
  const line = ({ role, content }) => made("li", {}, `${WHOSE[role]}: `, made("s", {}, content.length > SHOWN_OF_A_TURN ? `${content.slice(0, SHOWN_OF_A_TURN)}…` : content));
  const told = made("p", {}, `Forgotten: ${inWords(dropped)} positions${gone.length ? ", with these turns" : ", the beginning of the oldest turn"}.`);
  return gone.length ? [told, made("ol", { className: "gone" }, ...gone.map(line))] : [told];
}
