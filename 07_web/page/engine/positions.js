// Positions: how the model knows what stands where. As shared/model/positions.py.

const INIT_STD = 0.02; // the size of what sines and cosines are added to

// Cosines and sines of every position's angles, (T, D/2) each. For a context `factor` times longer
// than the trained one, interpolation slows all pairs by it; ntk leaves the first as it is, slows
// the last by the factor, and the others in between.
export function ropeAngles(positions, headWidth, { base, scaling, factor }) {
  const pairs = headWidth / 2;
  const wider = scaling === "ntk" && headWidth > 2 ? base * factor ** (headWidth / (headWidth - 2)) : base;
  const slower = scaling === "interpolation" ? factor : 1;
  const [cos, sin] = [new Float32Array(positions * pairs), new Float32Array(positions * pairs)];
  for (let at = 0; at < cos.length; at++) {
    const [position, pair] = [Math.floor(at / pairs), at % pairs];
    const angle = (position * wider ** ((-2 * pair) / headWidth)) / slower;
    cos[at] = Math.cos(angle);
    sin[at] = Math.sin(angle);
  }
  return { cos, sin, pairs };
}

// Turns one head, D numbers of x from `from` on, by the angles of its position: channel i is paired
// with channel i + D/2. Writes into `out` from `at` on.
export function rotate(x, from, size, { cos, sin, pairs }, position, out, at) {
  for (let i = 0; i < pairs; i++) {
    const first = x[from + i];
    const second = x[from + pairs + i];
    const angle = position * pairs + i;
    out[at + i] = first * cos[angle] - second * sin[angle];
    out[at + pairs + i] = second * cos[angle] + first * sin[angle];
  }
}

// What stands in the place of `rotate` where positions come in another way.
export function leaveUnturned(x, from, size, angles, position, out, at) {
  for (let i = 0; i < size; i++) out[at + i] = x[from + i];
}

// What is added to the embeddings, a row (C,) for each position: learned, sines and cosines, or null.
export function positionTable(config, learned) {
  if (config.positions === "learned") return learned;
  return config.positions === "sinusoidal" ? sinusoids(config) : null;
}

function sinusoids({ context_length: rows, d_model: columns }) {
  const width = columns + (columns % 2);
  const { cos, sin, pairs } = ropeAngles(rows, width, { base: 10_000, scaling: "none", factor: 1 });
  const data = new Float32Array(rows * columns);
  for (let at = 0; at < data.length; at++) {
    const [position, i] = [Math.floor(at / columns), at % columns];
    const from = i < pairs ? cos[position * pairs + i] : sin[position * pairs + i - pairs];
    data[at] = from * INIT_STD * Math.SQRT2;
  }
  return { data, scales: null, columns };
}
