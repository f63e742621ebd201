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

// The ids of a word; of the merges that fit, the one learned first goes first, from left to right.
function merged(ids, ranks) {
  for (;;) {
    const found = ids.slice(1).map((right, left) => ranks.get(`${ids[left]} ${right}`) ?? [Infinity]);
    const first = found.reduce((least, [rank]) => Math.min(least, rank), Infinity);
    if (first === Infinity) return ids;
    const at = found.findIndex(([rank]) => rank === first);
    ids = [...ids.slice(0, at), found[at][1], ...ids.slice(at + 2)];
  }
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
