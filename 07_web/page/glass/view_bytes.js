// View: what each byte of the reply was chosen from, and the reply written on from another one.

import { figure, made, percent } from "./elements.js";
import { pictured, spoken } from "./strip.js";

const ASKED_BY_YOU = "You wrote this byte; here is what the model expected in its place.";

export const bytesView = {
  name: "bytes",
  title: "Bytes",
  sentence: "The model writes one byte at a time: the stronger the colour, the more this byte surprised it.",
  open(root, inside) {
    const parts = {
      chosen: made("p", { className: "told", role: "status" }),
      fork: made("p", { className: "told", hidden: true }),
      table: made("table", { className: "choices" }),
      key: made("p", { className: "quiet" }),
      whole: made("p", { className: "quiet" }),
    };
    const back = made("button", { type: "button", onclick: () => inside.forkTo(null) }, "Back to the reply as it was");
    parts.fork.append("Written on from the byte that you chose. ", back);
    root.append(scale(), parts.chosen, parts.fork, parts.key, parts.table, parts.whole);
    return (now) => drawBytes(now, parts, inside);
  },
};

async function drawBytes({ looked, at, forkAt }, { chosen, fork, key, table, whole }, inside) {
  const { tokens, replyFrom, replyBits } = looked;
  fork.hidden = forkAt === null;
  whole.textContent = Number.isNaN(replyBits) ? "" : `The whole reply: ${figure(replyBits)} bits a byte. Guessing blindly would be 8.`;
  if (at === 0) {
    chosen.textContent = "The text begins here: nothing stands before this id, so nobody chose it.";
    key.textContent = "";
    table.replaceChildren();
    return;
  }
  const settings = inside.settings();
  const { byte } = await inside.ask({ task: "byte", at, settings });
  key.replaceChildren(...keyOf(settings));
  const inReply = at >= replyFrom;
  const { share, rank } = byte.chosen;
  const bits = figure(looked.surprise[at]);
  const words = `Byte ${at}, ${quoted(tokens[at].text)}: a share of ${percent(share)}, ${bits} bits of surprise, number ${rank} of its list.`;
  chosen.textContent = inReply ? words : `${words} ${ASKED_BY_YOU}`;
  const choose = (id) => {
    inside.set({ byte: at });
    inside.forkTo([...tokens.slice(replyFrom, at).map((token) => token.id), id], at);
  };
  const rows = byte.alternatives.map((each, n) => choiceRow(each, { n, settings, now: tokens[at].id, choose: inReply && choose }));
  table.replaceChildren(headOf(), made("tbody", {}, ...rows));
}

const quoted = (text) => `“${spoken(text)}”`;

function headOf() {
  const cells = ["instead", "share", "", "drawn"].map((text) => made("th", { scope: "col" }, text));
  return made("thead", {}, made("tr", {}, ...cells));
}

// One of the ten. choose: what a click does; none where a person wrote the byte.
function choiceRow({ id, text, share, drawn, kept }, { n, settings, now, choose }) {
  const name = { type: "button", className: "letter", disabled: !choose || id === now };
  const button = made("button", { ...name, ariaLabel: `Write ${spoken(text)} instead`, onclick: () => choose(id) }, pictured(text));
  const cells = [made("th", { scope: "row" }, button), made("td", {}, percent(share)), made("td", { className: "bars" }, ...bars(share, drawn))];
  cells.push(made("td", {}, kept ? percent(drawn) : cutBy(n, settings)));
  return made("tr", { className: `${kept ? "" : "cut"} ${id === now ? "now" : ""}`.trim() }, ...cells);
}

function bars(...sizes) {
  return sizes.filter(Boolean).map((size, n) => {
    const bar = made("span", { className: n ? "bar drawn" : "bar" });
    bar.style.width = `${100 * size}%`;
    return bar;
  });
}

// Which setting leaves out the nth of the list: they are asked in this order.
function cutBy(n, { temperature, top_k: k }) {
  if (temperature < 0.001) return "cut: only the first is taken";
  return k && n >= k ? "cut by top k" : "cut by top p";
}

function keyOf({ temperature, top_k: k, top_p: p }) {
  const spot = (name) => made("span", { className: `spot ${name}`, ariaHidden: "true" });
  const cuts = `temperature ${temperature}, ${k ? `top k ${k}, ` : ""}top p ${p}`;
  return [spot("share"), " its share ", spot("drawn"), ` how often it is drawn at ${cuts}`];
}

function scale() {
  return made("p", { className: "scale quiet" }, "0 bits ", made("span", { ariaHidden: "true" }), " 8 bits and more");
}
