// Tokenizer: text to ids and back, bytes or our own BPE. As shared/text/tokenizer.py and bpe.py.

import { Trouble } from "./trouble.js";

// GPT-2's cut into words (shared/text/pretokens.py). White space is spelled out: what \s means
// differs a little between Python and JavaScript.
const SPACE = "\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const WORDS = new RegExp(
  `'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);

// The tokenizer that the packed file describes.
export function buildTokenizer(description) {
  if (description.kind === "bytes") return byteTokenizer(description.end_of_text);
  if (description.kind === "bpe") return bpeTokenizer(description);
  throw new Trouble(`The page knows bytes and BPE, not this model's tokenizer (${description.kind}): use the server.`);
}

export const wordsOf = (text) => text.match(WORDS) ?? [];
const toBytes = (text) => new TextEncoder().encode(text);

function byteTokenizer(endOfText) {
  return {
    endOfText,
    encode: (text) => Array.from(toBytes(text)),
    tokenBytes: (id) => Uint8Array.of(id),
  };
}

function bpeTokenizer({ vocabulary, merges }) {
  const tokens = vocabulary.map(fromHex);
  const ids = new Map(vocabulary.map((hex, id) => [hex, id]));
  const byteIds = Array.from({ length: 256 }, (_, byte) => ids.get(hexOf(byte)));
  const ranks = new Map(); // "left right" -> [rank, the id that the pair becomes]
  for (const [rank, [left, right]] of merges.entries()) {
    ranks.set(`${left} ${right}`, [rank, ids.get(vocabulary[left] + vocabulary[right])]);
  }
  const mergeWord = (word) => merged(Array.from(toBytes(word), (byte) => byteIds[byte]), ranks);
  return {
    endOfText: vocabulary.length,
    encode: (text) => wordsOf(text).flatMap(mergeWord),
    tokenBytes: (id) => tokens[id] ?? new Uint8Array(), // a special token has none
  };
}

// The ids of a word; of the merges that fit, the one learned first goes first, from left to right. Only
// the neighbours of what was merged are looked up anew: a word may be a whole message.
function merged(ids, ranks) {
  const none = [ranks.size]; // later than any
  const pairAt = (at) => ranks.get(`${ids[at]} ${ids[at + 1]}`) ?? none;
  const waiting = ids.map((_, at) => pairAt(at)[0]);
  for (;;) {
    const at = indexOfLeast(waiting);
    if (at < 0 || waiting[at] === ranks.size) return ids;
    ids.splice(at, 2, pairAt(at)[1]);
    waiting.splice(at, 1);
    waiting[at] = pairAt(at)[0];
    if (at > 0) waiting[at - 1] = pairAt(at - 1)[0];
  }
}

function indexOfLeast(numbers) {
  let least = numbers.length - 1;
  for (let n = least; n >= 0; n--) if (numbers[n] <= numbers[least]) least = n; // of equal ones the first
  return least;
}

const hexOf = (byte) => byte.toString(16).padStart(2, "0");
const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

// Characters from ids that come one at a time: never half a character. `flush` gives up on a broken
// tail and shows U+FFFD.
export function incrementalDecoder(tokenizer) {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    feed: (id) => decoder.decode(tokenizer.tokenBytes(id), { stream: true }),
    flush: () => decoder.decode(),
  };
}
