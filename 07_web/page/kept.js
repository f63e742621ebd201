// Kept: the conversation, in the browser's own storage, for the next visit and for other tabs.
//
// A message is { role, content, at }: `at` is its place in the order of what was said, the same in
// every tab; `cut`: the reply was not finished when it was kept; `thought`, `votes`: see turns.js.

import { byId } from "./settings.js";
import { SPEAKERS } from "./turns.js";

// Its own in each folder: two models on one host, or two files on one disk, are two conversations.
const STORE = `tiny-llm-conversation${new URL(".", location.href).pathname.slice(0, -1)}`;
const REFUSED = "This browser keeps nothing for this page: the conversation lasts until you leave it.";

let refused = false;

export function keep(messages) {
  try {
    localStorage.setItem(STORE, JSON.stringify(messages));
  } catch { // a private window, a frame of another site, a full disk
    refused = true;
    if (messages.length) byId("unkept").textContent = REFUSED;
  }
}

export function kept() {
  try {
    const messages = JSON.parse(localStorage.getItem(STORE)) ?? [];
    const ours = messages.filter(({ role, content }) => Object.hasOwn(SPEAKERS, role) && typeof content === "string");
    return ours.map((message, n) => ({ at: n, ...message }));
  } catch {
    return []; // no storage, or something in it that this page did not write
  }
}

// A time, later than any in the list. Two tabs hardly ever find the same.
export function later(messages) {
  return Math.max(Date.now(), (messages.at(-1)?.at ?? 0) + 1) + Math.random() / 4;
}

// What this tab and another one have said, in its order. A reply that was cut here or there is
// taken as this tab has it.
export function together(ours, theirs) {
  const places = new Set(ours.map(({ at }) => at));
  const all = [...ours, ...theirs.filter(({ at }) => !places.has(at))];
  return all.sort((one, other) => one.at - other.at);
}

export const alike = (ours, theirs) => JSON.stringify(ours.map(essence)) === JSON.stringify(theirs.map(essence));
const essence = ({ at, content }) => [at, content];

export function whenAnotherTabKeeps(act) {
  addEventListener("storage", ({ key }) => {
    if (key === STORE || key === null) act();
  });
  // A page that the Back button brings back as it was has heard nothing meanwhile.
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted && !refused) act();
  });
}
