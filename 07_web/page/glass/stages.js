// Stages: one head at one position, from the stream to what it adds to it. Each with its line of
// 03_attention/attention.py; a test holds that the line stands there.
//
//   parts   what is shown: names of what the worker answers to `head` -> [in words, letters of its shape]
//   rows    "bars": a number for each byte; "matrix": a row for each byte; without: a vector
//   line    of attention.py

export const STAGES = [
  {
    name: "Input",
    words: "What layer {layer} is given: the stream of the chosen byte, the embedding and all that was added to it.",
    parts: { input: ["the input", "(C,)"] },
    line: 'x = weights["embedding.weight"][ids]  # (B, T, C)',
  },
  {
    name: "Normed",
    words: "A copy of it, brought to one length and scaled by the learned gain.",
    parts: { normed: ["the normed copy", "(C,)"] },
    line: 'normed = rms_norm(x, weights["attention_norm.weight"])',
  },
  {
    name: "Query",
    words: "What am I looking for? A matrix makes D numbers of the C.",
    parts: { query: ["the query", "(D,)"] },
    line: 'queries = split_heads(x @ weights["query"].T, n_heads)  # (B, H, T, D)',
  },
  {
    name: "Query, turned",
    words: "Turned by its position, so that the score will know how far a key is; with QK-norm, normed before that.",
    parts: { turnedQuery: ["the turned query", "(D,)"] },
    line: "queries, keys = rotate(queries), rotate(keys)",
  },
  {
    name: "Keys",
    words: "What does each byte offer? Turned too: a row for each byte that may be looked at.",
    parts: { keys: ["the keys", "(T, D)"] },
    rows: "matrix",
    line: 'keys = split_heads(x @ weights["key"].T, kv_heads)  # (B, K, T, D)',
  },
  {
    name: "Values",
    words: "What would each byte hand over? A row for each.",
    parts: { values: ["the values", "(T, D)"] },
    rows: "matrix",
    line: 'values = split_heads(x @ weights["value"].T, kv_heads)  # (B, K, T, D)',
  },
  {
    name: "Scores, divided by √D",
    words: "The query meets each key: multiplied number by number and summed, then divided by √D = {root}.",
    parts: { scores: ["the scores", "(T,)"], scaled: ["divided by √D", "(T,)"] },
    rows: "bars",
    line: "return queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])",
  },
  {
    name: "Mask",
    words: "Bytes after the chosen one are hidden. Nothing is lost here: of {tokens} bytes read, the {seen} up to it are left.",
    parts: {},
    line: "return scores.masked_fill(future, -math.inf)",
  },
  {
    name: "Weights",
    words: "Softmax makes of the scores shares that are positive and sum to {sum}.",
    parts: { weights: ["the weights", "(T,)"] },
    rows: "bars",
    line: "return exponents / exponents.sum(dim=-1, keepdim=True)",
  },
  {
    name: "Mixed",
    words: "The values, each times its weight, summed: this is what the head brings back.",
    parts: { mixed: ["mixed", "(D,)"] },
    line: "return weights @ values, weights",
  },
  {
    name: "Merged and output",
    words: "All heads side by side, then one more matrix: what attention has to say at this byte.",
    parts: { merged: ["all heads", "(H D,)"], output: ["the output", "(C,)"] },
    line: 'return merge_heads(mixed) @ weights["output"].T, maps',
  },
  {
    name: "Added",
    words: "It is added to the stream. Nothing is overwritten: later layers read the sum.",
    parts: { sum: ["the sum", "(C,)"] },
    line: 'x = x + multi_head(normed, part(weights, "attention."), n_heads)[0]',
  },
];
