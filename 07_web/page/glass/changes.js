// Changes: the model with something switched off, for a question such as "what if there were no mask?"
//
// A part of a vector is switched off by a hook of `read`, on its way. What is a field of the model is
// another in a copy of it: weights, buffers and cache stay the same, and whoever reads with the
// model itself pays nothing.

import { leaveUnturned, rotate } from "../engine/positions.js";
import { Trouble } from "../engine/trouble.js";
import { oneHook } from "./recording.js";

const LONGER = 100; // times, as in 04_training/what_breaks.py
const AS_IT_IS = {}; // stands in the place of a norm's gain

const zero = (place, layer, head) => (at, vector, position, inLayer, ofHead) => {
  if (at === place && inLayer === layer && ofHead === head) vector.fill(0);
};

// off -> the hook. { off: "head", layer, head }, { off: "layer" | "attention" | "feedforward", layer }
const HOOKS = {
  head: ({ layer, head }) => zero("mixed", layer, head),
  attention: ({ layer }) => zero("attention", layer),
  feedforward: ({ layer }) => zero("feedforward", layer),
  layer: ({ layer }) => oneHook(zero("attention", layer), zero("feedforward", layer)),
  residual: (_, { x, added }) => (place, vector) => {
    if (place === "attention" || place === "feedforward") x[added.indexOf(vector)].fill(0); // it is added to that
  },
  "query size": () => (place, vector) => {
    for (let i = 0; place === "query" && i < vector.length; i++) vector[i] *= LONGER;
  },
};

// off -> fields of the model. `whole`: a position sees later ones, so all must be read at once.
// { off: "norm", layer, of: "attention" | "feedforward" }; without a layer the one before the head.
const FIELDS = {
  mask: () => ({ seen: (position, end) => end, whole: true }),
  "mask by one": () => ({ seen: (position, end) => Math.min(position + 2, end), whole: true }),
  positions: () => ({ positions: null, turn: leaveUnturned }),
  pairs: ({ turn }) => ({ turn: turn === rotate ? rotateNeighbours : turn }),
  scale: () => ({ divisor: 1 }),
  sharing: ({ shares, K }) => ({ shares: shares.map((_, head) => head % K) }), // 0, 1, 0, 1
  "head norms": ({ layers }) => ({ layers: layers.map((layer) => ({ ...layer, query_norm: null, key_norm: null })) }),
  norm: (model, change) => withoutNorms(model, ({ index }) => (index === change.layer ? [`${change.of}_norm`] : []), change.layer ?? true),
  norms: (model) => withoutNorms(model, () => ["attention_norm", "feedforward_norm"], true),
};

// The model with these changes, and the hook that its `read` needs, null if none.
export function withChanges(model, changes) {
  let [changed, hook] = [model, null];
  for (const change of changes) {
    checkPlace(model, change);
    if (Object.hasOwn(HOOKS, change.off)) hook = oneHook(hook, HOOKS[change.off](change, model));
    else changed = { ...changed, ...FIELDS[change.off](changed, change) };
  }
  return { model: changed, hook };
}

function checkPlace({ H, layers }, { off, layer, head, of }) {
  if (!Object.hasOwn(HOOKS, off) && !Object.hasOwn(FIELDS, off)) throw new Trouble(`There is no switch "${off}".`);
  const needed = ["head", "layer", "attention", "feedforward"].includes(off);
  const within = (number, end) => Number.isInteger(number) && number >= 0 && number < end;
  if ((needed || layer !== undefined) && !within(layer, layers.length)) throw new Trouble(`The model has no layer ${layer}.`);
  if (off === "norm" && layer !== undefined && !["attention", "feedforward"].includes(of)) throw new Trouble(`No norm stands before "${of}".`);
  if (off === "head" && !within(head, H)) throw new Trouble(`The model has no head ${head}.`);
}

// namesOf: layer -> which of its norms are off.
function withoutNorms(model, namesOf, final) {
  const off = (layer) => ({ ...layer, ...Object.fromEntries(namesOf(layer).map((name) => [name, AS_IT_IS])) });
  const norm = (x, from, size, gains, eps, out, at) => {
    if (gains !== AS_IT_IS) return model.norm(x, from, size, gains, eps, out, at);
    for (let i = 0; i < size; i++) out[at + i] = x[from + i];
  };
  return { norm, layers: model.layers.map(off), finalNorm: final === true ? AS_IT_IS : model.finalNorm };
}

// RoPE that pairs channel 2i with 2i + 1. Only the order of the channels differs from pairing
// halves, and queries and keys have the same: nothing breaks but weights trained the other way.
function rotateNeighbours(x, from, size, { cos, sin, pairs }, position, out, at) {
  for (let i = 0; i < pairs; i++) {
    const [first, second, angle] = [x[from + 2 * i], x[from + 2 * i + 1], position * pairs + i];
    out[at + 2 * i] = first * cos[angle] - second * sin[angle];
    out[at + 2 * i + 1] = second * cos[angle] + first * sin[angle];
  }
}
