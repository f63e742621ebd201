// Lens: what a vector of the residual stream would say, if the head read it at once.
// Source: nostalgebraist 2020, "interpreting GPT: the logit lens".

import { logits } from "../engine/model.js";
import { COLDEST, penalizeRepetition, sharesOf } from "../engine/sampling.js";

const UNCUT = { temperature: 1, top_k: 0, top_p: 1 };

// The `count` likeliest ids, { id, share } each, for the stream x (C,); equal shares in the ids' order.
export const lensOf = (model, x, count) => likeliest(sharesOf(logits(model, x), UNCUT), count);

export function likeliest(shares, count) {
  const ids = Array.from(shares.keys()).sort((one, other) => shares[other] - shares[one] || one - other);
  return ids.slice(0, count).map((id) => ({ id, share: shares[id] }));
}

// A choice from logits (V,): the likeliest ids before anything is cut, and the one that was `chosen`.
// Each { id, share, drawn }: `drawn` is what is left of it under these settings, 0 if it was cut.
export function choiceOf(scores, settings, recent, chosen, count) {
  const shares = sharesOf(scores, UNCUT);
  const drawn = drawnShares(penalizeRepetition(scores, recent, settings.repetition_penalty), settings);
  const told = ({ id, share }) => ({ id, share, drawn: drawn[id], kept: drawn[id] > 0 });
  const rank = shares.reduce((before, share) => before + (share > shares[chosen]), 1);
  return {
    alternatives: likeliest(shares, count).map(told),
    chosen: chosen === undefined ? null : { ...told({ id: chosen, share: shares[chosen] }), rank },
  };
}

function drawnShares(scores, settings) {
  if (settings.temperature >= COLDEST) return sharesOf(scores, settings);
  const [first] = likeliest(scores, 1);
  return scores.map((_, id) => (id === first.id ? 1 : 0));
}

// Surprise in bits: how unlikely an id was, from the logits (V,) before it.
export function surpriseOf(scores, id) {
  let largest = -Infinity;
  for (const score of scores) largest = Math.max(largest, score);
  let sum = 0;
  for (const score of scores) sum += Math.exp(score - largest);
  return (Math.log(sum) + largest - scores[id]) / Math.LN2;
}
