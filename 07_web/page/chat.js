import { adopt, byId, limits, settings } from "./settings.js";
import { SPEAKERS, addTurn, log, show, stayingAtEnd } from "./turns.js";

const message = byId("message");
const notice = byId("notice");
const STORE = "tiny-llm-conversation";
const REST_BYTES = 500; // of a request: what it holds beside its turns, and more

let messages = [];
let running = null; // the AbortController of the reply being written

function keep() {
  try {
    localStorage.setItem(STORE, JSON.stringify(messages));
  } catch {
    // private windows may refuse storage; the conversation then lasts until reload
  }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE)) ?? [];
    messages = kept.filter(({ role, content }) => Object.hasOwn(SPEAKERS, role) && typeof content === "string");
  } catch {
    messages = []; // no storage, or something in it that this page did not write
  }
  for (const turn of messages) addTurn(turn);
  if (messages.at(-1)?.role === "user") offerRetry("The reply was not finished.");
}

const bytesIn = (text) => new TextEncoder().encode(text).length;

// The newest turns, as many as the server takes; the model's memory holds far fewer.
function toSend() {
  const system = byId("system").value.trim();
  const first = system ? [{ role: "system", content: system }] : [];
  const sent = [];
  let room = limits.max_body_bytes - REST_BYTES - bytesIn(JSON.stringify(first));
  const turns = messages.map(({ role, content }) => ({ role, content })); // the rest is the page's own
  for (const turn of turns.slice(-Math.max(1, limits.max_messages - first.length)).reverse()) {
    room -= bytesIn(JSON.stringify(turn)) + 1;
    const fits = room >= 0 && bytesIn(turn.content) <= limits.max_message_bytes;
    if (!fits && sent.length) break; // the last turn goes out in any case: the server says what is wrong
    sent.unshift(turn);
  }
  return [...first, ...sent];
}

function setWriting(writing) {
  const [shown, hidden] = writing ? [byId("stop"), byId("send")] : [byId("send"), byId("stop")];
  const focused = document.activeElement === hidden; // a button that is hidden loses the focus
  hidden.hidden = true;
  shown.hidden = false;
  if (focused) shown.focus();
  log.setAttribute("aria-busy", writing); // screen readers wait for the whole reply
}

// Server-sent events: blocks of lines, an empty line between them. A network
// chunk may end anywhere, so the last, unfinished block waits for the next chunk.
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data: ")) yield JSON.parse(block.slice(6));
    }
  }
}

// What the server refused. A refused request (4xx) would be refused again, so there is no
// Retry for it: what was typed goes back to where it can be changed.
class Refusal extends Error {
  constructor(status, words) {
    super(words);
    this.again = status >= 500;
  }
}

async function refusal(response) {
  const { status } = response;
  if (status === 503) return new Refusal(status, "The model is busy with other chats. Please try again in a moment.");
  try {
    const { error } = await response.json();
    return new Refusal(status, `${error.field}: ${error.message}`);
  } catch {
    return new Refusal(status, `The server answered ${status}.`);
  }
}

// Returns how the reply ended and what it took; null if the server did not close it properly.
async function stream(turn, chosen, signal) {
  const response = await fetch("chat", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ messages: toSend(), stream: true, ...chosen }),
    signal,
  });
  if (!response.ok) throw await refusal(response);
  let ending = null;
  for await (const event of readEvents(response.body)) {
    if (event.text) stayingAtEnd(() => (turn.textContent += event.text));
    if (event.finish_reason) ending = event;
  }
  return ending;
}

async function reply() {
  notice.textContent = "";
  const conversation = messages; // "clear" puts another list in its place
  const said = { role: "assistant", content: "" };
  const turn = addTurn(said);
  const chosen = settings();
  if (chosen.think) said.thought = true;
  turn.classList.add("writing");
  running = new AbortController();
  setWriting(true);
  let problem = null;
  try {
    const ending = await stream(turn, chosen, running.signal);
    if (!ending) throw new TypeError();
    const { candidates, agreed } = ending.usage;
    if (candidates) said.votes = `${agreed} of ${candidates} say so`;
    if (!turn.textContent) throw new Error("The model had nothing to say.");
  } catch (error) {
    problem = error.name === "AbortError" ? null : error;
  }
  turn.classList.remove("writing");
  said.content = turn.textContent;
  stayingAtEnd(() => show(turn, said));
  if (!said.content) turn.remove();
  else if (conversation === messages) messages.push(said);
  running = null;
  setWriting(false);
  if (problem && conversation === messages) fail(problem, said.content);
  keep();
}

function fail(error, written) {
  if (error instanceof Refusal && !error.again) {
    takeBack();
    notice.textContent = error.message;
  } else if (error instanceof TypeError) { // what fetch throws when nobody answers any more
    offerRetry(written ? "The server left in the middle of the reply." : "The server cannot be reached.");
  } else {
    offerRetry(error.message);
  }
}

function takeBack() {
  const { content } = messages.pop();
  [...log.querySelectorAll(".turn.user")].at(-1).remove();
  message.value ||= content; // unless something new was typed meanwhile
  message.focus();
}

function offerRetry(words) {
  notice.textContent = `${words} `;
  const retry = document.createElement("button");
  retry.type = "button";
  retry.textContent = "Retry";
  retry.addEventListener("click", again);
  notice.append(retry);
}

function again() {
  if (running) return;
  if (messages.at(-1)?.role === "assistant") {
    messages.pop();
    log.lastElementChild.remove();
  }
  message.focus(); // the Retry button goes
  if (messages.length) reply();
}

function send(event) {
  event.preventDefault();
  const content = message.value.trim();
  if (!content || running) return; // a second Enter while a reply is written does nothing
  message.value = "";
  messages.push({ role: "user", content });
  keep();
  addTurn(messages.at(-1));
  reply();
}

function clear() {
  running?.abort();
  messages = [];
  keep();
  for (const turn of log.querySelectorAll(".turn")) turn.remove();
  byId("empty").hidden = false;
  notice.textContent = "";
  message.focus();
}

// A learner's own functions: a short line, all of them where the pointer rests.
function showAnswering(names) {
  const more = names.length > 4 ? ` and ${names.length - 4} more` : "";
  const line = byId("answered_by");
  line.textContent = `Answered by your own ${names.slice(0, 4).join(", ")}${more}.`;
  line.title = names.join(", ");
}

async function showFacts() {
  try {
    const { model, ...server } = await (await fetch("healthz")).json();
    adopt(server);
    const parts = [`${model.parameters.toLocaleString("en")} parameters`, `sees ${model.context_bytes} bytes`];
    for (const [corpus, bits] of Object.entries(model.bits_per_byte ?? {})) {
      parts.push(`${bits.toFixed(2)} bits per byte on ${corpus}`);
    }
    byId("facts").textContent = parts.join(" · ");
    if (model.answered_by?.length) showAnswering(model.answered_by);
  } catch {
    // the page works without its facts
  }
}

byId("form").addEventListener("submit", send);
byId("stop").addEventListener("click", () => running?.abort());
byId("clear").addEventListener("click", clear);
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
recall();
showFacts();
