// Reading: a conversation read once more, so that every number on the way can be looked at.
//
// Only keys and values are kept, and each id's surprise. What a view wants of a position is computed
// anew when it asks: that one id is read again, before the keys and values of all others, which costs
// no more than writing a byte. So a long context takes no more memory than a chat does.

import { BLOCK, logits, read } from "../engine/model.js";
import { settingsOf } from "../engine/sampling.js";
import { RECENT, asRead } from "../engine/session.js";
import { Trouble } from "../engine/trouble.js";
import { withChanges } from "./changes.js";
import { choiceOf, lensOf, surpriseOf } from "./lens.js";
import { mapRecorder, oneHook, recorder } from "./recording.js";
import { tokenText } from "./tokens.js";

const [ALTERNATIVES, IN_LENS] = [10, 5];
const LARGEST_MAPS = 2 ** 22; // numbers: 16 MB

// model: built to read a whole context at once (block = T). cache: one that nobody else uses.
// Each method answers for what was looked at last. pause: resolves to true when nobody waits any
// more; the answer is then null, and what was read stays.
export function createReading(model, tokenizer, cache) {
  let [ids, surprise, changed, switches] = [[], [], { model, hook: null }, "[]"];
  const whole = () => Boolean(changed.model.whole);
  const told = ({ id, ...more }) => ({ id, text: tokenText(tokenizer, id), ...more });

  async function look({ messages, reply, changes = [] }, pause) {
    if (!messages.length) throw new Trouble("There is nothing to read yet.");
    const now = withChanges(model, changes);
    const laid = asRead(messages, reply, tokenizer, model.T);
    keepEqual(laid.ids, JSON.stringify(changes), now);
    if (!(await readOn(pause))) return null;
    return { ...laid, ...sums(laid.replyFrom), tokens: ids.map((id) => told({ id })), ...sizes() };
  }

  // Of what was read before, all up to the first difference stays.
  function keepEqual(wanted, named, now) {
    let same = 0;
    while (named === switches && same < cache.length && wanted[same] === ids[same]) same++;
    [ids, changed, switches] = [wanted, now, named];
    cache.length = whole() ? 0 : Math.max(0, same - 1); // the last anew: what it expects next was not kept
    surprise.length = cache.length + 1;
    surprise[0] = NaN; // nothing stands before it
  }

  async function readOn(pause, hook = null) {
    const block = whole() ? model.T : model.simd ? BLOCK : 1;
    while (cache.length < ids.length) {
      if (await pause()) return false;
      const start = cache.length;
      read(changed.model, ids.slice(start, start + block), cache, oneHook(changed.hook, hook));
      for (let n = 0; hook === null && start + n < cache.length; n++) {
        const next = ids[start + n + 1];
        if (next !== undefined) surprise[start + n + 1] = surpriseOf(logits(changed.model, changed.model.x[n]), next);
      }
    }
    return true;
  }

  // Bits of each id, and bits a byte of the reply and of all.
  function sums(replyFrom) {
    const bitsFrom = (first) => {
      const [bits, bytes] = [surprise.slice(first), ids.slice(first).map((id) => tokenizer.tokenBytes(id).length)];
      const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
      return sum(bits) / sum(bytes);
    };
    return { surprise: Float32Array.from(surprise), bits: bitsFrom(1), replyBits: bitsFrom(replyFrom) };
  }

  const sizes = () => ({ context: model.T, layers: model.layers.length, heads: model.H, kvHeads: model.K, headSize: model.D });

  // Reads the id at `at` once more, as it was read before; returns all that was seen on the way.
  function readAgain(at) {
    if (!(Number.isInteger(at) && at >= 0 && at < cache.length)) throw new Trouble(`Position ${at} has not been read.`);
    const [end, all] = [cache.length, recorder()];
    const seen = (position) => changed.model.seen(position, end);
    cache.length = at;
    const scores = read({ ...changed.model, seen }, [ids[at]], cache, oneHook(changed.hook, all.hook));
    cache.length = end;
    return { scores, seen: all.seen, count: seen(at) };
  }

  // The choice of the id at `at`, or of the one that is to come.
  function byte({ at, settings }) {
    if (at === 0) throw new Trouble("Nothing stands before the first id: it was not chosen.");
    const { scores, seen } = readAgain(at - 1);
    const recent = ids.slice(Math.max(0, at - RECENT), at);
    const { alternatives, chosen } = choiceOf(scores, settingsOf(settings ?? {}), recent, ids[at], ALTERNATIVES);
    const rows = [-1, ...model.layers.keys()];
    const lens = rows.map((layer) => lensOf(changed.model, seen("stream", layer), IN_LENS).map(told));
    return { alternatives: alternatives.map(told), chosen: chosen && told(chosen), lens };
  }

  function attention({ at }) {
    const { seen, count } = readAgain(at);
    const all = new Float32Array(model.layers.length * model.H * count);
    for (const layer of model.layers.keys()) {
      for (let head = 0; head < model.H; head++) {
        all.set(seen("weights", layer, head).subarray(0, count), (layer * model.H + head) * count);
      }
    }
    return all;
  }

  async function maps(_, pause) {
    if (!ids.length || cache.length < ids.length) throw new Trouble("There is nothing read yet.");
    const seen = (position) => changed.model.seen(position, ids.length);
    const { hook, ...answer } = mapRecorder(model.layers.length, model.H, ids.length, seen, LARGEST_MAPS);
    cache.length = 0;
    const finished = await readOn(pause, hook);
    cache.length = ids.length; // what was not read anew is still there
    return finished ? answer : null;
  }

  function head({ at, layer, head: n }) {
    withChanges(model, [{ off: "head", layer, head: n }]); // refuses what is not there
    const { seen, count } = readAgain(at);
    const { C, H, D, divisor, shares } = changed.model;
    const held = cache.layers[layer];
    const [keys, values] = [held.keys[shares[n]], held.values[shares[n]]];
    const vector = (data, size) => ({ shape: [size], data: data.slice(0, size) });
    const matrix = (numberAt) => ({ shape: [count, D], data: Float32Array.from({ length: count * D }, (_, i) => numberAt(Math.floor(i / D), i % D)) });
    const scores = seen("scores", layer, n);
    return {
      input: vector(seen("stream", layer - 1), C),
      normed: vector(seen("normed", layer), C),
      query: vector(seen("queries", layer).slice(n * D), D),
      turnedQuery: vector(seen("query", layer, n), D),
      keys: matrix((position, i) => keys.data[position * keys.columns + i]),
      values: matrix((position, i) => values.data[i * values.columns + position]),
      scores: vector(scores, count),
      scaled: vector(scores.map((score) => score / divisor), count),
      weights: vector(seen("weights", layer, n), count),
      mixed: vector(seen("mixed", layer, n), D),
      merged: vector(seen("merged", layer), H * D),
      output: vector(seen("attention", layer), C),
    };
  }

  return { look, byte, attention, maps, head };
}
