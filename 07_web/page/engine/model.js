// The model: ids in, a score for every possible next id out.
//
// shared/model/transformer.py once more, for one text at a time. Sizes: T positions, C channels,
// H query heads, K key/value heads, D channels a head, F feed-forward width, V vocabulary. A vector
// may be longer than its size: zeros fill it up to a multiple of 16. What a config can choose is
// chosen once, in buildModel; the arithmetic below holds no variant.
//
// Who wants to see inside gives `read` a hook (see there). What is a field of the model is changed
// in a copy of it, such as { ...model, divisor: 1 }: that costs nobody else a look.

import { gelu, relu2, swiGLU } from "./activations.js";
import { COLUMNS, ROWS, upTo } from "./matvec.js";
import { layerNorm, rmsNorm } from "./norms.js";
import { leaveUnturned, positionTable, rotate, ropeAngles } from "./positions.js";
import { addRow, openWeights, placeTensors, roomFor } from "./weights.js";

export const BLOCK = 8; // positions read at once: each weight is fetched once for all of them
const onlyThePast = (position) => position + 1; // the causal mask
const NORMS = { rms: rmsNorm, layer: layerNorm };
const ACTIVATIONS = { swiglu: swiGLU, gelu, relu2 };

// The model of a packed file. createArithmetic: see matvec.js; caches: conversations at a time;
// block: positions that `read` takes at once at most.
export async function buildModel(file, createArithmetic, caches = 1, block = BLOCK) {
  const opened = openWeights(file);
  const { config } = opened;
  const sizes = sizesOf(opened, block);
  const arithmetic = await createArithmetic(roomFor(opened) + roomToWork(sizes, config.n_layers, caches));
  const tensors = placeTensors(opened, arithmetic.arena);
  const normed = config.norm.queries_and_keys;
  return {
    file: new Uint8Array(arithmetic.arena.buffer, 0, file.length), // as placeTensors has put it there
    config,
    tokenizer: opened.tokenizer,
    parameters: opened.tensors.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size), 0),
    ...sizes,
    ...arithmetic,
    ...buffers(arithmetic.arena, sizes),
    embedding: tensors["embedding.weight"],
    positions: positionTable(config, tensors["position_embedding.weight"]),
    angles: config.positions === "rope" ? ropeAngles(sizes.T, sizes.D, config.rope) : null,
    turn: config.positions === "rope" ? rotate : leaveUnturned,
    layers: Array.from({ length: config.n_layers }, (_, n) => layerOf(tensors, n, normed)),
    finalNorm: normOf(tensors, "final_norm"),
    head: { weight: tensors[config.tied_head ? "embedding.weight" : "head.weight"] },
    norm: NORMS[config.norm.kind],
    activate: ACTIVATIONS[config.activation],
    window: config.window ?? sizes.T,
    seen: onlyThePast,
    divisor: Math.sqrt(sizes.D),
    // Query heads share key/value heads in runs: 0, 0, 1, 1 for H = 4, K = 2.
    shares: Array.from({ length: sizes.H }, (_, n) => Math.floor((n * sizes.K) / sizes.H)),
  };
}

function sizesOf({ config, tensors }, block) {
  const rows = (name) => tensors.find((each) => each.name === `blocks.0.${name}.weight`).shape[0];
  const [C, H] = [config.d_model, config.n_heads];
  const [D, V, T] = [C / H, config.vocab_size, config.context_length];
  return { C, H, D, K: rows("attention.key") / D, F: rows("feedforward.up"), V, T, block };
}

const normOf = (tensors, name) => ({ gain: tensors[`${name}.weight`].data, bias: tensors[`${name}.bias`]?.data });
const linearOf = (tensors, name) => ({ weight: tensors[`${name}.weight`], bias: tensors[`${name}.bias`]?.data });

function layerOf(tensors, index, normed) {
  const [prefix, layer] = [`blocks.${index}.`, { index }];
  for (const name of ["query", "key", "value", "output"]) layer[name] = linearOf(tensors, `${prefix}attention.${name}`);
  for (const name of ["gate", "up", "down"]) layer[name] = linearOf(tensors, `${prefix}feedforward.${name}`);
  for (const name of ["attention_norm", "feedforward_norm"]) layer[name] = normOf(tensors, prefix + name);
  layer.query_norm = normed ? normOf(tensors, `${prefix}attention.query_norm`) : null;
  layer.key_norm = normed ? normOf(tensors, `${prefix}attention.key_norm`) : null;
  return layer;
}

// Numbers that each buffer takes. Those of a block hold a vector for each of its positions.
function bufferSizes({ C, H, K, D, F, V, T }) {
  const up = (size) => upTo(2 * COLUMNS, size); // so that int16 in place of float32 fills its half
  const single = { query: up(D), gathered: up(D), scores: up(T), logits: up(V) };
  const looking = { queries: up(H * D), keys: up(K * D), values: up(K * D), mixed: up(C) };
  const thinking = { gates: up(F), inside: up(F), narrow: up(Math.max(C, F)) / 2 };
  return { single, block: { x: up(C), normed: up(C), added: up(C), ...looking, ...thinking } };
}

function buffers(arena, sizes) {
  const { single, block } = bufferSizes(sizes);
  const vectors = (size) => Array.from({ length: sizes.block }, () => arena.take(size));
  const all = {};
  for (const [name, size] of Object.entries(single)) all[name] = arena.take(size);
  for (const [name, size] of Object.entries(block)) all[name] = vectors(size);
  const narrow = all.narrow.map((each) => new Int16Array(each.buffer, each.byteOffset, 2 * each.length));
  return { ...all, narrow: { vectors: narrow, scales: new Float32Array(sizes.block) } };
}

// Keys and values of one conversation: for each layer and key/value head the keys (T, D), and the
// values turned on their side, (D, T): so both are met by a matrix times a vector.
export function newCache({ config, arena, ...sizes }) {
  const { keys, values } = headSizes(sizes);
  const matrix = ([rows, columns]) => ({ data: arena.take(rows * columns), rows, columns });
  const heads = (size) => Array.from({ length: sizes.K }, () => matrix(size));
  return { length: 0, layers: Array.from({ length: config.n_layers }, () => ({ keys: heads(keys), values: heads(values) })) };
}

function headSizes({ D, T }) {
  const [wide, context] = [upTo(COLUMNS, D), upTo(COLUMNS, T)];
  return { keys: [context, wide], values: [wide, context] };
}

// Bytes that buffers and caches take together.
function roomToWork(sizes, layers, caches) {
  const { single, block } = bufferSizes(sizes);
  const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
  const [rows, columns] = headSizes(sizes).keys;
  return 4 * (sum(single) + sizes.block * sum(block) + caches * 2 * layers * sizes.K * rows * columns);
}

// Reads up to `block` ids behind those in the cache; returns logits (V,) for what follows the last.
// hook(place, vector, position, layer, head) sees each vector on its way as soon as it is there,
// and may copy it, or change it. Places, and what they hold: see glass/recording.js.
export function read(model, ids, cache, hook = null) {
  const [start, count] = [cache.length, ids.length];
  if (start + count > model.T) throw new Error(`${start + count} positions; the model has ${model.T}`);
  ids.forEach((id, n) => embed(model, id, start + n, model.x[n]));
  tell(hook, "stream", model.x, count, start, -1);
  for (const layer of model.layers) {
    lookBack(model, layer, count, start, cache.layers[layer.index], hook);
    think(model, layer, count, start, hook);
    tell(hook, "stream", model.x, count, start, layer.index);
  }
  cache.length += count;
  return logits(model, model.x[count - 1]);
}

function tell(hook, place, vectors, count, start, layer) {
  for (let n = 0; hook && n < count; n++) hook(place, vectors[n], start + n, layer);
}

function embed({ embedding, positions }, id, position, x) {
  x.fill(0);
  addRow(embedding, id, x);
  if (positions) addRow(positions, position, x);
}

// x (C,) -> logits (V,), a copy: the next call uses the buffer again.
export function logits(model, x) {
  const { head, V, config, normed, norm, C } = model;
  norm(x, 0, C, model.finalNorm, config.norm.eps, normed[0], 0);
  model.multiply(head.weight, normed, [model.logits], 1, model.narrow);
  const scores = model.logits.slice(0, V);
  const cap = config.logit_cap;
  return cap === null ? scores : scores.map((score) => cap * Math.tanh(score / cap));
}

// Attention: each of `count` positions gathers what it needs from those up to its own.
function lookBack(model, layer, count, start, held, hook) {
  const { x, normed, queries, keys, values, mixed, added } = model;
  normAll(model, layer.attention_norm, count);
  tell(hook, "normed", normed, count, start, layer.index);
  linear(model, layer.query, normed, queries, count); // (count, C) -> (count, H D)
  tell(hook, "queries", queries, count, start, layer.index);
  linear(model, layer.key, normed, keys, count); // -> (count, K D)
  linear(model, layer.value, normed, values, count); // -> (count, K D)
  for (let n = 0; n < count; n++) keep(model, layer, keys[n], values[n], start + n, held);
  for (let n = 0; n < count; n++) attend(model, layer, queries[n], start + n, start + count, held, mixed[n], hook);
  tell(hook, "merged", mixed, count, start, layer.index);
  linear(model, layer.output, mixed, added, count); // (count, H D) -> (count, C)
  tell(hook, "attention", added, count, start, layer.index);
  for (let n = 0; n < count; n++) add(x[n], added[n]);
}

// Puts the keys and values of one position, (K D,) each, into the cache.
function keep(model, layer, keys, values, position, held) {
  const { K, D } = model;
  for (let head = 0; head < K; head++) {
    const { data, columns } = held.keys[head];
    turnedHead(model, keys, head, layer.key_norm, position, data, position * columns);
    const sideways = held.values[head];
    for (let i = 0; i < D; i++) sideways.data[i * sideways.columns + position] = values[head * D + i];
  }
}

// One position's queries (H D,) over all that it sees of the first `end` -> mixed (H D,).
function attend(model, layer, queries, position, end, held, mixed, hook) {
  const { H, D, query, scores, gathered, times } = model;
  const seen = model.seen(position, end);
  const first = Math.max(0, position + 1 - model.window);
  for (let n = 0; n < H; n++) {
    const shared = model.shares[n];
    turnedHead(model, queries, n, layer.query_norm, position, query, 0);
    hook?.("query", query, position, layer.index, n);
    times(scores, held.keys[shared], query, upTo(ROWS, seen), upTo(COLUMNS, D)); // (seen, D) x (D,) -> (seen,)
    hook?.("scores", scores, position, layer.index, n);
    softmax(scores, first, seen, model.divisor);
    hook?.("weights", scores, position, layer.index, n);
    times(gathered, held.values[shared], scores, upTo(ROWS, D), upTo(COLUMNS, seen)); // (D, seen) x (seen,) -> (D,)
    hook?.("mixed", gathered, position, layer.index, n);
    for (let i = 0; i < D; i++) mixed[n * D + i] = gathered[i];
  }
}

// One head of a position, (D,), normed and turned, written into `to` from `at` on.
function turnedHead({ D, norm, turn, angles, config }, heads, head, gains, position, to, at) {
  const from = head * D;
  if (gains) norm(heads, from, D, gains, config.norm.eps, heads, from);
  turn(heads, from, D, angles, position, to, at);
}

// Scores from `first` to `end` become shares that sum to 1; all others, hidden ones too, become 0.
function softmax(scores, first, end, divisor) {
  let largest = -Infinity;
  for (let i = first; i < end; i++) largest = Math.max(largest, scores[i]);
  let sum = 0;
  for (let i = first; i < end; i++) sum += scores[i] = Math.exp((scores[i] - largest) / divisor);
  for (let i = first; i < end; i++) scores[i] /= sum;
  scores.fill(0, 0, first);
  scores.fill(0, end, upTo(COLUMNS, end));
}

// The feed-forward: each position thinks for itself.
function think(model, layer, count, start, hook) {
  const { x, normed, gates, inside, added } = model;
  normAll(model, layer.feedforward_norm, count);
  linear(model, layer.up, normed, inside, count); // (count, C) -> (count, F)
  if (layer.gate.weight) linear(model, layer.gate, normed, gates, count); // -> (count, F)
  for (let n = 0; n < count; n++) model.activate(inside[n], gates[n]);
  linear(model, layer.down, inside, added, count); // (count, F) -> (count, C)
  tell(hook, "feedforward", added, count, start, layer.index);
  for (let n = 0; n < count; n++) add(x[n], added[n]);
}

function normAll({ x, normed, norm, C, config }, gains, count) {
  for (let n = 0; n < count; n++) norm(x[n], 0, C, gains, config.norm.eps, normed[n], 0);
}

function linear(model, { weight, bias }, inputs, outputs, count) {
  model.multiply(weight, inputs, outputs, count, model.narrow);
  for (let n = 0; bias && n < count; n++) add(outputs[n], bias);
}

function add(x, more) {
  const size = Math.min(x.length, more.length); // beyond it both are filling
  for (let i = 0; i < size; i++) x[i] += more[i];
}
