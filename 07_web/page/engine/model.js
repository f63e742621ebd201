// The model: ids in, a score for every possible next id out.
//
// shared/model/transformer.py once more, for one text at a time. Sizes: T positions, C channels,
// H query heads, K key/value heads, D channels a head, F feed-forward width, V vocabulary. A vector
// may be longer than its size: zeros fill it up to a multiple of 16. What a config can choose is
// chosen once, in buildModel; the arithmetic below holds no variant.

import { gelu, relu2, swiGLU } from "./activations.js";
import { COLUMNS, ROWS, upTo } from "./matvec.js";
import { layerNorm, rmsNorm } from "./norms.js";
import { positionTable, rotate, ropeAngles } from "./positions.js";
import { addRow, openWeights, placeTensors, roomFor } from "./weights.js";

export const BLOCK = 8; // positions read at once: each weight is fetched once for all of them
const NORMS = { rms: rmsNorm, layer: layerNorm };
const ACTIVATIONS = { swiglu: swiGLU, gelu, relu2 };

// The model of a packed file. createArithmetic: see matvec.js; caches: conversations at a time.
export async function buildModel(file, createArithmetic, caches = 1) {
  const opened = openWeights(file);
  const { config } = opened;
  const sizes = sizesOf(opened);
  const arithmetic = await createArithmetic(roomFor(opened) + roomToWork(sizes, config.n_layers, caches));
  const tensors = placeTensors(opened, arithmetic.arena);
  const normed = config.norm.queries_and_keys;
  return {
    config,
    tokenizer: opened.tokenizer,
    parameters: opened.tensors.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size), 0),
    ...sizes,
    ...arithmetic,
    ...buffers(arithmetic.arena, sizes),
    embedding: tensors["embedding.weight"],
    positions: positionTable(config, tensors["position_embedding.weight"]),
    angles: config.positions === "rope" ? ropeAngles(sizes.T, sizes.D, config.rope) : null,
    layers: Array.from({ length: config.n_layers }, (_, n) => layerOf(tensors, `blocks.${n}.`, normed)),
    finalNorm: normOf(tensors, "final_norm"),
    head: { weight: tensors[config.tied_head ? "embedding.weight" : "head.weight"] },
    norm: NORMS[config.norm.kind],
    activate: ACTIVATIONS[config.activation],
    window: config.window ?? sizes.T,
  };
}

function sizesOf({ config, tensors }) {
  const rows = (name) => tensors.find((each) => each.name === `blocks.0.${name}.weight`).shape[0];
  const [C, H] = [config.d_model, config.n_heads];
  const D = C / H;
  return { C, H, D, K: rows("attention.key") / D, F: rows("feedforward.up"), V: config.vocab_size, T: config.context_length };
}

const normOf = (tensors, name) => ({ gain: tensors[`${name}.weight`].data, bias: tensors[`${name}.bias`]?.data });
const linearOf = (tensors, name) => ({ weight: tensors[`${name}.weight`], bias: tensors[`${name}.bias`]?.data });

function layerOf(tensors, prefix, normed) {
  const layer = {};
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
  const all = {};
  for (const [name, size] of Object.entries(single)) all[name] = arena.take(size);
  for (const [name, size] of Object.entries(block)) all[name] = vectors(arena, size, Float32Array);
  const narrow = all.narrow.map((each) => new Int16Array(each.buffer, each.byteOffset, 2 * each.length));
  return { ...all, narrow: { vectors: narrow, scales: new Float32Array(BLOCK) } };
}

const vectors = (arena, size, Kind) => Array.from({ length: BLOCK }, () => arena.take(size, Kind));

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
  return 4 * (sum(single) + BLOCK * sum(block) + caches * 2 * layers * sizes.K * rows * columns);
}

// Reads up to BLOCK ids behind those in the cache; returns logits (V,) for what follows the last.
export function read(model, ids, cache) {
  const [start, count] = [cache.length, ids.length];
  if (start + count > model.T) throw new Error(`${start + count} positions; the model has ${model.T}`);
  ids.forEach((id, n) => embed(model, id, start + n, model.x[n]));
  model.layers.forEach((layer, index) => {
    lookBack(model, layer, count, start, cache.layers[index]);
    think(model, layer, count);
  });
  cache.length += count;
  return logits(model, model.x[count - 1]);
}

function embed({ embedding, positions }, id, position, x) {
  x.fill(0);
  addRow(embedding, id, x);
  if (positions) addRow(positions, position, x);
}

// x (C,) -> logits (V,), a copy: the next call uses the buffer again.
function logits(model, x) {
  const { head, V, config, normed, norm, C } = model;
  norm(x, 0, C, model.finalNorm, config.norm.eps, normed[0], 0);
  model.multiply(head.weight, normed, [model.logits], 1, model.narrow);
  const scores = model.logits.slice(0, V);
  const cap = config.logit_cap;
  return cap === null ? scores : scores.map((score) => cap * Math.tanh(score / cap));
}

// Attention: each of `count` positions gathers what it needs from those up to its own.
function lookBack(model, layer, count, start, held) {
  const { x, normed, queries, keys, values, mixed, added } = model;
  normAll(model, layer.attention_norm, count);
  linear(model, layer.query, normed, queries, count); // (count, C) -> (count, H D)
  linear(model, layer.key, normed, keys, count); // -> (count, K D)
  linear(model, layer.value, normed, values, count); // -> (count, K D)
  for (let n = 0; n < count; n++) keep(model, layer, keys[n], values[n], start + n, held);
  for (let n = 0; n < count; n++) attend(model, layer, queries[n], start + n, held, mixed[n]);
  linear(model, layer.output, mixed, added, count); // (count, H D) -> (count, C)
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

// One position's queries (H D,) over all that is held -> mixed (H D,). Query heads share key/value
// heads in runs: 0, 0, 1, 1 for H = 4, K = 2.
function attend(model, layer, queries, position, held, mixed) {
  const { H, K, D, query, scores, gathered, times } = model;
  const seen = position + 1;
  const first = Math.max(0, seen - model.window);
  for (let n = 0; n < H; n++) {
    const shared = Math.floor((n * K) / H);
    turnedHead(model, queries, n, layer.query_norm, position, query, 0);
    times(scores, held.keys[shared], query, upTo(ROWS, seen), upTo(COLUMNS, D)); // (seen, D) x (D,) -> (seen,)
    softmax(scores, first, seen, Math.sqrt(D));
    times(gathered, held.values[shared], scores, upTo(ROWS, D), upTo(COLUMNS, seen)); // (D, seen) x (seen,) -> (D,)
    for (let i = 0; i < D; i++) mixed[n * D + i] = gathered[i];
  }
}

// One head of a position, (D,), normed and turned, written into `to` from `at` on.
function turnedHead({ D, norm, angles, config }, heads, head, gains, position, to, at) {
  const from = head * D;
  if (gains) norm(heads, from, D, gains, config.norm.eps, heads, from);
  if (angles) rotate(heads, from, D, angles, position, to, at);
  else for (let i = 0; i < D; i++) to[at + i] = heads[from + i];
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
function think(model, layer, count) {
  const { x, normed, gates, inside, added } = model;
  normAll(model, layer.feedforward_norm, count);
  linear(model, layer.up, normed, inside, count); // (count, C) -> (count, F)
  if (layer.gate.weight) linear(model, layer.gate, normed, gates, count); // -> (count, F)
  for (let n = 0; n < count; n++) model.activate(inside[n], gates[n]);
  linear(model, layer.down, inside, added, count); // (count, F) -> (count, C)
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
