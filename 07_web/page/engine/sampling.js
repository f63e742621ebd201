// Sampling: from logits to the next id. As shared/chat/sampling.py, whose defaults these are.

import { Trouble } from "./trouble.js";

export const COLDEST = 1e-3; // a logit divided by less may overflow; the likeliest is drawn anyway

export const DEFAULTS = {
  temperature: 0.7,
  top_k: 0,
  top_p: 0.95,
  repetition_penalty: 1,
  max_new_bytes: 300,
  seed: null,
};
const LIMITS = {
  temperature: [0, 10],
  top_k: [0, Infinity],
  top_p: [1e-6, 1],
  repetition_penalty: [0.1, 10],
  max_new_bytes: [1, 1_000_000],
  seed: [0, Number.MAX_SAFE_INTEGER], // beyond it JavaScript knows even numbers only
};
const WHOLE = ["top_k", "max_new_bytes", "seed"];

// The defaults with what was chosen; a value out of range, or half a number, is refused.
export function settingsOf(chosen) {
  const settings = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) if (name in chosen) settings[name] = chosen[name];
  for (const [name, [low, high]] of Object.entries(LIMITS)) {
    const value = settings[name];
    if (name === "seed" && value === null) continue; // a new one each time
    if (!(low <= value && value <= high)) throw new Trouble(`${name} is ${value}; expected ${low} to ${high}.`);
    if (WHOLE.includes(name) && !Number.isInteger(value)) throw new Trouble(`${name} is ${value}; expected a whole number.`);
  }
  return settings;
}

// Draws one id from logits (V,); `recent` ids are those the penalty looks at. random: () -> [0, 1).
export function nextToken(logits, settings, random, recent = []) {
  const penalized = penalizeRepetition(logits, recent, settings.repetition_penalty);
  if (settings.temperature < COLDEST) return indexOfLargest(penalized);
  return draw(sharesOf(penalized, settings), random());
}

// The share of each id (V,), of which those that top-k and top-p leave out are 0.
export function sharesOf(logits, { temperature, top_k, top_p }) {
  const divided = new Float64Array(logits.length);
  for (let id = 0; id < divided.length; id++) divided[id] = logits[id] / temperature;
  return sharedOut(keepTopP(keepTopK(divided, top_k), top_p));
}

function sharedOut(logits) {
  const largest = logits[indexOfLargest(logits)];
  const shares = new Float64Array(logits.length);
  let sum = 0;
  for (let id = 0; id < shares.length; id++) sum += shares[id] = Math.exp(logits[id] - largest);
  if (!Number.isFinite(sum)) throw new Trouble("The model's scores are not numbers: its weights are broken.");
  for (let id = 0; id < shares.length; id++) shares[id] /= sum;
  return shares;
}

// The id at which the shares of all before it, and its own, have passed `chance`, 0 to below 1.
export function draw(shares, chance) {
  let left = chance;
  let last = 0;
  for (let id = 0; id < shares.length; id++) {
    if (shares[id] === 0) continue;
    last = id; // if rounding lets `left` outlive them all
    left -= shares[id];
    if (left < 0) break;
  }
  return last;
}

export function keepTopK(logits, k) {
  return 0 < k && k < logits.length ? keepLargest(logits, k) : logits;
}

// The id that crosses p is kept, so at least one always remains. Ids below half of (1 - p) / V sum to
// less than p leaves over, whatever they are: only the others, a dozen of 256, have to be sorted.
export function keepTopP(logits, p) {
  if (p >= 1) return logits;
  const shares = sharedOut(logits);
  const least = (1 - p) / (2 * shares.length);
  const likely = [];
  for (let id = 0; id < shares.length; id++) if (shares[id] > least) likely.push(id);
  likely.sort((one, other) => logits[other] - logits[one]);
  const kept = new Float64Array(logits.length).fill(-Infinity);
  let sum = 0;
  for (let n = 0; n < likely.length && sum < p; n++) {
    kept[likely[n]] = logits[likely[n]];
    sum += shares[likely[n]];
  }
  return kept;
}

// All but the `count` largest at minus infinity; of equal ones the first are kept.
function keepLargest(logits, count) {
  const least = Float64Array.from(logits).sort()[logits.length - count];
  let equals = count - logits.filter((logit) => logit > least).length;
  return logits.map((logit) => (logit > least || (logit === least && equals-- > 0) ? logit : -Infinity));
}

// Recent ids are pushed down: divided if positive, else multiplied.
export function penalizeRepetition(logits, recent, penalty) {
  if (penalty === 1 || !recent.length) return logits;
  const lowered = logits.slice();
  for (const id of new Set(recent)) lowered[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
  return lowered;
}

function indexOfLargest(numbers) {
  let best = 0;
  for (let i = 1; i < numbers.length; i++) if (numbers[i] > numbers[best]) best = i;
  return best;
}

// Random numbers from 0 to below 1: the same seed, the same numbers, on every device. They are not
// PyTorch's, so a seed's reply differs from the server's. Source: Doty-Humphrey, PractRand, "sfc32".
export function generator(seed) {
  const words = new Uint32Array(3);
  if (seed === null) crypto.getRandomValues(words);
  else words.set([seed % 2 ** 32, Math.floor(seed / 2 ** 32), 0]);
  let [a, b, c] = words;
  let counter = 1;
  function next() {
    const sum = (a + b + counter++) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  }
  for (let warm = 0; warm < 15; warm++) next(); // until every bit of the seed has met the others
  return next;
}
