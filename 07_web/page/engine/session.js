// Session: from messages to a reply, piece by piece. As shared/chat/session.py and generation.py.

import { BLOCK, read } from "./model.js";
import { generator, nextToken } from "./sampling.js";
import { incrementalDecoder } from "./tokenizer.js";
import { REPLY_CUE, STOPS, render, renderPrompt } from "./transcript.js";

const LONG_TOKEN = 8; // characters; over a whole text tokens have about four
export const RECENT = 64; // ids that the repetition penalty looks back on

// Yields { text, ids } as characters become whole, all of the reply's ids until then, at last { finish_reason, usage }.
// pause: awaited now and then, so that a word from outside is heard; resolves to true to end the reply.
// begun: ids with which the reply begins, whatever the model would say. hook: see model.js.
export async function* streamReply(model, tokenizer, cache, messages, settings, pause, begun = [], hook = null) {
  const prompt = fitTurns(messages, [], tokenizer, model.T);
  const reply = growingReply(tokenizer, settings.max_new_bytes);
  const random = generator(settings.seed);
  const block = model.whole ? model.T : model.simd ? BLOCK : 1; // plain JavaScript would not hear a "stop" in time
  let ids = [...prompt, ...begun];
  const begins = begun.map(reply.add).join("");
  if (begins) yield { text: begins, ids: reply.ids };
  cache.length = 0;
  while (!reply.over() && !(await pause())) {
    if (ids.length > model.T) { // the oldest turns go, and the rest is read again
      ids = fitTurns(messages, reply.ids, tokenizer, model.T);
      cache.length = 0;
    }
    if (model.whole) cache.length = 0; // positions see later ones: a new id changes them all
    const logits = read(model, ids.slice(cache.length, cache.length + block), cache, hook);
    if (cache.length < ids.length) continue;
    const id = nextToken(logits, settings, random, ids.slice(-RECENT));
    ids.push(id);
    const text = reply.add(id);
    if (text) yield { text, ids: reply.ids };
  }
  const text = reply.rest();
  if (text) yield { text, ids: reply.ids };
  const promptBytes = prompt.reduce((sum, id) => sum + tokenizer.tokenBytes(id).length, 0);
  yield { finish_reason: reply.reason(), usage: { prompt_bytes: promptBytes, reply_bytes: reply.size() } };
}

// Ids of prompt and reply so far, with a quarter of the context left to write in. Drops the oldest
// turns, up to a user's; a first system message always leads, with at most half of the room.
export function fitTurns(messages, reply, tokenizer, contextLength) {
  const room = contextLength - Math.floor(contextLength / 4);
  const system = messages.slice(0, 1).filter(({ role }) => role === "system");
  for (const [n, { role, content }] of system.entries()) system[n] = { role, content: content.slice(0, LONG_TOKEN * room) };
  const lines = system.map((each) => render([each]).slice(0, -1));
  const taken = lines.reduce((sum, line) => sum + count(line, tokenizer), reply.length);
  const turns = recentTurns(messages.slice(system.length), taken, room, tokenizer);
  const prompt = tokenizer.encode(renderPrompt([...system, ...turns]));
  const ids = [tokenizer.endOfText, ...prompt, ...reply];
  if (!system.length || ids.length <= room) return ids.slice(-room);
  const lead = [tokenizer.endOfText, ...tokenizer.encode(render(system))];
  const rest = ids.slice(lead.length);
  const half = Math.max(1, Math.floor(room / 2));
  if (lead.length > half) lead.splice(half - 1, lead.length - half); // keeps its newline: a turn begins on a line
  return [...lead, ...rest.slice(Math.max(0, lead.length + rest.length - room))];
}

// The ids that the model has before it once it has written `reply`, after dropping turns as streamReply
// does on the way; where in them the reply begins; and how many ids are dropped.
export function asRead(messages, reply, tokenizer, contextLength) {
  const asText = (text) => (text ? tokenizer.encode(` ${text}`) : []); // the space is the transcript's
  const said = typeof reply === "string" ? asText(reply) : reply;
  let [ids, taken] = [fitTurns(messages, [], tokenizer, contextLength), 0];
  while (ids.length + said.length - taken > contextLength) {
    taken += contextLength - ids.length + 1;
    ids = fitTurns(messages, said.slice(0, taken), tokenizer, contextLength);
  }
  ids = [...ids, ...said.slice(taken)];
  let kept = 0; // a reply longer than the room has lost its beginning
  while (kept < said.length && kept < ids.length - 1 && ids.at(-1 - kept) === said.at(-1 - kept)) kept++;
  const all = 1 + tokenizer.encode(renderPrompt(messages)).length + said.length;
  return { ids, replyFrom: ids.length - kept, dropped: all - ids.length };
}

// The last turns that fit beside `taken` ids, from a user's on; the very last in any case.
function recentTurns(turns, taken, room, tokenizer) {
  taken += count(REPLY_CUE, tokenizer);
  const seen = [];
  let kept = 0;
  for (const { role, content } of [...turns].reverse()) {
    seen.push({ role, content: endOf(content, room, tokenizer) });
    taken += count(render(seen.slice(-1)).slice(0, -1), tokenizer);
    if (kept && taken > room) break;
    if (!kept || role === "user" || seen.length === turns.length) kept = seen.length;
  }
  return seen.slice(0, kept).reverse();
}

// Ids of a turn and the newline before it; the first has the end-of-text id there.
const count = (line, tokenizer) => tokenizer.encode(`\n${line}`).length;

// The end of a text, if that is too long for the room already; else all of it.
function endOf(text, room, tokenizer) {
  let size = LONG_TOKEN * room;
  while (size < text.length && tokenizer.encode(text.slice(-size)).length < 2 * room) size *= 2;
  return text.slice(-size);
}

// A reply that ids are added to: what of it can be shown, and whether it is over.
export function growingReply(tokenizer, maxNewBytes) {
  const [decoder, shown] = [incrementalDecoder(tokenizer), visible()];
  const ids = [];
  let [size, ended] = [0, false];
  return {
    ids,
    size: () => size,
    reason: () => (ended ? "stop" : "length"),
    over: () => ended || size >= maxNewBytes,
    add(id) {
      if (id === tokenizer.endOfText) {
        ended = true;
        return "";
      }
      ids.push(id);
      size += tokenizer.tokenBytes(id).length;
      const text = shown.add(decoder.feed(id));
      ended ||= shown.stopped();
      return text;
    },
    rest: () => shown.add(decoder.flush()) + shown.rest(),
  };
}

// Holds text back while it might be the beginning of the next turn's mark.
function visible() {
  let [held, started, stopped] = ["", false, false];
  return {
    stopped: () => stopped,
    add(text) {
      if (stopped) return "";
      held += text;
      if (!started) held = held.replace(/^ +/, ""); // the space after "assistant:" is not the reply's
      started ||= held !== "";
      const ends = STOPS.map((stop) => held.indexOf(stop)).filter((at) => at >= 0);
      stopped = ends.length > 0;
      const end = stopped ? Math.min(...ends) : held.length - heldBack(held);
      const now = held.slice(0, end);
      held = stopped ? "" : held.slice(end);
      return now;
    },
    rest: () => held.replace(/\n$/, ""), // the turn's own newline is not the reply's
  };
}

// How many characters at its end may be the beginning of a stop.
function heldBack(text) {
  const lengths = STOPS.flatMap((stop) => Array.from(stop.slice(1), (_, n) => (text.endsWith(stop.slice(0, n + 1)) ? n + 1 : 0)));
  return Math.max(0, ...lengths);
}
