// Activations: what stands between the two halves of a feed-forward. As shared/model/feedforward.py,
// on `inside` (F,), which they change.

// silu(gate) * up; `gates` is (F,)
export function swiGLU(inside, gates) {
  for (let i = 0; i < inside.length; i++) inside[i] *= gates[i] / (1 + Math.exp(-gates[i]));
}

// GELU in the tanh form of GPT-2.
export function gelu(inside) {
  const slope = Math.sqrt(2 / Math.PI);
  for (let i = 0; i < inside.length; i++) {
    const x = inside[i];
    inside[i] = 0.5 * x * (1 + Math.tanh(slope * (x + 0.044715 * x ** 3)));
  }
}

// max(x, 0)^2
export function relu2(inside) {
  for (let i = 0; i < inside.length; i++) inside[i] = Math.max(inside[i], 0) ** 2;
}
