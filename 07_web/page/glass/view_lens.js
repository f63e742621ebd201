// View: the logit lens. What each layer would have said, if the head had read the stream there.
// Source: nostalgebraist 2020, "interpreting GPT: the logit lens".

import { made, percent } from "./elements.js";
import { pictured, spoken } from "./strip.js";

export const lensView = {
  name: "lens",
  title: "Layers",
  sentence: "Each layer adds to the guess: this is what the model would say at the chosen byte, if it stopped after each layer.",
  open(root, inside) {
    const told = made("p", { className: "told", role: "status" });
    const table = made("table", { className: "lens" });
    root.append(told, made("div", { className: "wide" }, table));
    return async ({ looked, at }) => {
      if (at === 0) {
        told.textContent = "The text begins here: nothing stands before this id, so there was no guess.";
        return table.replaceChildren();
      }
      const { byte } = await inside.ask({ task: "byte", at, settings: inside.settings() });
      const said = looked.tokens[at];
      told.textContent = lensSentence(byte.lens, said, at);
      table.replaceChildren(lensHead(), made("tbody", {}, ...byte.lens.map((guesses, n) => lensRow(guesses, n, said.id))));
    };
  },
};

// From which layer on the byte is the first guess.
function lensSentence(rows, { id, text }, at) {
  const others = rows.findLastIndex(([first]) => first.id !== id);
  const name = `Byte ${at}, “${spoken(text)}”`;
  if (others === rows.length - 1) return `${name}: the model’s own first guess was another one.`;
  const from = others + 1 ? `after layer ${others + 1}` : "from the embedding on";
  return `${name}: the first guess ${from}, and in all that follow.`;
}

function lensHead() {
  const names = ["", "1st", "2nd", "3rd", "4th", "5th"];
  return made("thead", {}, made("tr", {}, ...names.map((name) => made("th", { scope: "col" }, name))));
}

function lensRow(guesses, n, id) {
  const name = n ? `layer ${n}` : "embedding";
  const cells = guesses.map((guess) => {
    const cell = made("td", { className: guess.id === id ? "now" : "" }, made("b", {}, pictured(guess.text)), " ", made("small", {}, percent(guess.share)));
    cell.style.setProperty("--strength", `${Math.round(100 * guess.share)}%`);
    return cell;
  });
  return made("tr", {}, made("th", { scope: "row" }, name), ...cells);
}
