import { Refusal, readEvents, refusal } from "./answers.js";
import { conversationChanged } from "./conversation.js";
import { showFacts } from "./facts.js";
import { alike, keep, kept, later, together, whenAnotherTabKeeps } from "./kept.js";
import { byId, limits, settings } from "./settings.js";
import { addTurn, log, show, stayingAtEnd } from "./turns.js";

const message = byId("message");
const notice = byId("notice");
const REST_BYTES = 500; // of a request: what it holds beside its turns, and more

let messages = [];
let running = null; // the AbortController of the reply being written
let writing = null; // that reply so far: what is kept of it, and where it stands
let othersSpoke = false; // in another tab, while a reply was written in this one

function redraw() {
  for (const turn of log.querySelectorAll(".turn")) turn.remove();
  byId("empty").hidden = false;
  for (const turn of messages) addTurn(turn);
  conversationChanged(saidNow);
}

// For who looks inside: all up to the last question, and the reply to it so far.
function saidNow() {
  const last = messages.at(-1);
  const reply = writing ? { ...writing.said, content: writing.turn.textContent } : last?.role === "assistant" ? last : null;
  const asked = messages.slice(0, messages.findLastIndex(({ role }) => role === "user") + 1);
  return { messages: asked.length ? toSend(asked) : [], reply: reply?.content ?? "", thought: reply?.thought, writing: Boolean(writing) };
}

function recall() {
  messages = kept();
  redraw();
  if (messages.at(-1)?.role === "user" || messages.at(-1)?.cut) offerRetry("The reply was not finished.");
}

// One conversation in two tabs: who is not writing shows what the other one has said.
function follow() {
  const theirs = kept();
  if (alike(messages, theirs)) return;
  if (!theirs.length) clear();
  else if (running) othersSpoke = true;
  else {
    messages = theirs;
    redraw();
    notice.textContent = "This conversation went on in another tab.";
  }
}

// A hidden tab may be closed, or frozen, without another word.
function keepUnfinished() {
  if (!document.hidden || !writing?.turn.textContent) return;
  const { said, turn } = writing;
  const ours = [...messages, { ...said, content: turn.textContent, cut: true }];
  keep(othersSpoke ? together(ours, kept()) : ours);
}

const bytesIn = (text) => new TextEncoder().encode(text).length;

// The newest turns, as many as the server takes; the model's memory holds far fewer.
function toSend(said = messages) {
  const system = byId("system").value.trim();
  const first = system ? [{ role: "system", content: system }] : [];
  const sent = [];
  let room = limits.max_body_bytes - REST_BYTES - bytesIn(JSON.stringify(first));
  const turns = said.map(({ role, content }) => ({ role, content })); // the rest is the page's own
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
    conversationChanged(saidNow);
    if (event.finish_reason) ending = event;
  }
  return ending;
}

async function reply() {
  notice.textContent = "";
  const conversation = messages; // "clear" puts another list in its place
  const question = messages.at(-1);
  const said = { role: "assistant", content: "", at: question.at + 0.5 };
  const turn = addTurn(said);
  writing = { said, turn };
  const chosen = settings();
  if (chosen.think) said.thought = true;
  turn.classList.add("writing");
  running = new AbortController();
  setWriting(true);
  conversationChanged(saidNow);
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
  running = writing = null;
  setWriting(false);
  if (conversation !== messages) return; // it was cleared meanwhile
  if (problem) said.cut = true;
  if (said.content) messages.push(said);
  if (othersSpoke) {
    messages = together(messages, kept());
    redraw();
  }
  othersSpoke = false;
  if (problem) fail(problem, said.content, question);
  keep(messages);
  conversationChanged(saidNow);
}

function fail(error, written, question) {
  if (error instanceof Refusal && !error.again) {
    takeBack(question);
    notice.textContent = error.message;
  } else if (error instanceof TypeError) { // what fetch throws when nobody answers any more
    offerRetry(written ? "The server left in the middle of the reply." : "The server cannot be reached.");
  } else {
    offerRetry(error.message);
  }
}

function takeBack(question) {
  messages = messages.filter((each) => each !== question);
  redraw();
  message.value ||= question.content; // unless something new was typed meanwhile
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
  if (messages.at(-1)?.cut) messages.pop();
  redraw();
  message.focus(); // the Retry button goes
  if (messages.at(-1)?.role === "user") reply();
}

function send(event) {
  event.preventDefault();
  const content = message.value.trim();
  if (!content || running) return; // a second Enter while a reply is written does nothing
  message.value = "";
  messages.push({ role: "user", content, at: later(messages) });
  keep(messages);
  addTurn(messages.at(-1));
  reply();
}

function forget() {
  keep([]);
  clear();
}

function clear() {
  running?.abort();
  messages = [];
  redraw();
  notice.textContent = "";
  message.focus();
}

byId("form").addEventListener("submit", send);
byId("stop").addEventListener("click", () => running?.abort());
byId("clear").addEventListener("click", forget);
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
document.addEventListener("visibilitychange", keepUnfinished);
whenAnotherTabKeeps(follow);
recall();
showFacts();
if (window === window.top) message.focus(); // in a frame it would take the focus from the page around it
