// Norms: a vector is brought to one size. As shared/model/norms.py; `from` and `at` say where in
// `x` the `size` numbers begin and where in `out` they go.

// x / sqrt(mean(x^2) + eps) * gain
export function rmsNorm(x, from, size, { gain }, eps, out, at) {
  let squares = 0;
  for (let i = 0; i < size; i++) squares += x[from + i] * x[from + i];
  const factor = 1 / Math.sqrt(squares / size + eps);
  for (let i = 0; i < size; i++) out[at + i] = x[from + i] * factor * gain[i];
}

// (x - mean) / sqrt(variance + eps) * gain + bias
export function layerNorm(x, from, size, { gain, bias }, eps, out, at) {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += x[from + i];
  const mean = sum / size;
  let squares = 0;
  for (let i = 0; i < size; i++) squares += (x[from + i] - mean) ** 2;
  const factor = 1 / Math.sqrt(squares / size + eps);
  for (let i = 0; i < size; i++) out[at + i] = (x[from + i] - mean) * factor * gain[i] + (bias ? bias[i] : 0);
}
