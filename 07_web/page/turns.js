// How a turn looks. All text goes into the page as text nodes, never as HTML:
// whatever a person or the model writes is shown, not run.

import { byId } from "./settings.js";

export const log = byId("log");
export const SPEAKERS = { user: "You", assistant: "Model" };
const EQUALS = " = "; // stands between the working and the answer, as in shared/text/exercise.py

export function addTurn(message) {
  byId("empty").hidden = true;
  const turn = document.createElement("article");
  turn.className = `turn ${message.role}`;
  turn.setAttribute("aria-label", SPEAKERS[message.role]);
  show(turn, message);
  log.append(turn);
  log.scrollTop = log.scrollHeight;
  return turn;
}

// A whole turn. `thought`: it was asked for its working, which is folded away, and the answer
// stands open. `votes`: how many of the replies that it was chosen from say so.
export function show(turn, { content, thought, votes }) {
  const at = thought ? content.lastIndexOf(EQUALS) : -1;
  const answer = at > 0 ? content.slice(at + EQUALS.length).trim() : "";
  if (answer) turn.replaceChildren(folded(content.slice(0, at)), answer);
  else turn.textContent = content;
  if (votes) turn.append(element("small", "votes", votes));
}

// Changes the log; whoever reads its end goes on reading its end.
export function stayingAtEnd(change) {
  const reading = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  change();
  if (reading) log.scrollTop = log.scrollHeight;
}

function folded(working) {
  const details = element("details", "working", "");
  details.append(element("summary", "", "Working"), working);
  return details;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
