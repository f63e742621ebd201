// Recording: a hook for model.js's `read` that keeps what it sees.
//
// The places where a hook is called, in their order. Vectors may be longer than their size, filled up
// with zeros, and are buffers that the next position uses again: who keeps one copies it.
//
//   place         shape    what it is
//   stream        (C,)     the residual stream: layer -1 is the embedding, then behind each layer
//   normed        (C,)     its normed copy, which attention reads
//   queries       (H D,)   of all heads, as they come out of their matrix
//   query         (D,)     of one head, normed if the model does that, and turned
//   scores        (seen,)  the query times each key that it sees, not yet divided
//   weights       (seen,)  after the softmax: they sum to 1
//   mixed         (D,)     the values, weighted and summed
//   merged        (H D,)   all heads side by side
//   attention     (C,)     what attention adds to the stream
//   feedforward   (C,)     what the feed-forward adds to the stream

// Keeps a copy of all that it sees. Meant for one position: a longer text would fill the memory.
export function recorder() {
  const kept = new Map();
  const name = (place, layer, head = "") => `${place} ${layer} ${head}`;
  return {
    hook: (place, vector, position, layer, head) => kept.set(name(place, layer, head), vector.slice()),
    seen: (place, layer, head) => kept.get(name(place, layer, head)),
  };
}

// One hook of several, in their order; null if there are none.
export function oneHook(...hooks) {
  const given = hooks.filter(Boolean);
  if (given.length < 2) return given[0] ?? null;
  return (...seen) => given.forEach((hook) => hook(...seen));
}

// Attention maps of n positions, (layers, heads, size, size): a row for each position that looks.
// Beyond `most` numbers each cell is the largest weight of a square of positions.
// seen: position -> how many positions it looks at.
export function mapRecorder(layers, heads, n, seen, most) {
  const size = Math.min(n, Math.floor(Math.sqrt(most / (layers * heads))));
  const maps = new Float32Array(layers * heads * size * size);
  const cell = (position) => Math.floor((position * size) / n);
  const hook = (place, weights, position, layer, head) => {
    if (place !== "weights") return;
    const row = ((layer * heads + head) * size + cell(position)) * size;
    for (let i = 0; i < seen(position); i++) maps[row + cell(i)] = Math.max(maps[row + cell(i)], weights[i]);
  };
  return { hook, size, maps };
}
