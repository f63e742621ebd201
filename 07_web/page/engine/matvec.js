// A matrix times a vector: by WebAssembly's SIMD where there is some, else in plain JavaScript.
//
// A matrix is { data, scales, rows, columns }: rows one after another in `data`, each of `columns`
// numbers; rows are a multiple of 4 and columns of 16, filled up with zeros. All of it, the
// vectors too, lies in one memory, which WebAssembly and JavaScript both see.

import { Trouble } from "./trouble.js";

const LARGEST = 127; // of an int8
const TILE = 64; // rows that stay in the processor's cache while several vectors meet them
const PAGE = 65_536; // bytes; WebAssembly's memory comes in these
const ALIGNMENT = 64;

export const ROWS = 4;
export const COLUMNS = 16;
export const upTo = (step, number) => Math.ceil(number / step) * step;

// One memory of that many bytes, and what multiplies in it.
// wasm: the bytes of matvec.wasm, or null for plain JavaScript.
export async function createArithmetic(bytes, wasm) {
  const simd = wasm && (await compile(wasm));
  const memory = reserve(bytes + ALIGNMENT, simd);
  const kernels = simd ? await simdKernels(simd, memory) : { float32: plainFloat32, int8: plainInt8 };
  return { ...arithmetic(kernels), simd: Boolean(simd), arena: new Arena(memory.buffer) };
}

function reserve(bytes, simd) {
  const pages = Math.ceil(bytes / PAGE);
  try {
    return simd ? new WebAssembly.Memory({ initial: pages, maximum: pages }) : { buffer: new ArrayBuffer(pages * PAGE) };
  } catch {
    throw new Trouble(`The model needs ${Math.ceil(bytes / 1e6)} MB of memory, more than this browser gives to a page.`);
  }
}

// null where a browser has no WebAssembly or no SIMD, or where the page's policy forbids it.
async function compile(wasm) {
  try {
    return await WebAssembly.compile(wasm);
  } catch {
    return null;
  }
}

// Hands out parts of a buffer, one behind the other; nothing is given back.
class Arena {
  constructor(buffer) {
    this.buffer = buffer;
    this.used = 0;
  }

  // `count` numbers of a typed array's kind, all zero.
  take(count, Kind = Float32Array) {
    const at = upTo(ALIGNMENT, this.used);
    this.used = at + count * Kind.BYTES_PER_ELEMENT;
    return new Kind(this.buffer, at, count);
  }
}

function arithmetic(kernels) {
  // out (rows,) = the first rows of a float32 matrix, as far as `columns`, times x (columns,).
  function times(out, matrix, x, rows, columns) {
    kernels.float32(out, 0, matrix, x, 0, rows, columns);
  }

  // Each of the first `count` inputs (columns,) times the matrix -> outputs (rows,). A tile of rows
  // meets all inputs before the next is fetched: for a block of positions memory is read once.
  // narrow: room for `count` vectors of int16 and their scales.
  function multiply(matrix, inputs, outputs, count, narrow) {
    const { rows, columns } = matrix;
    const whole = matrix.data instanceof Int8Array;
    for (let n = 0; whole && n < count; n++) narrow.scales[n] = narrowed(inputs[n], columns, narrow.vectors[n]);
    const tile = count > 1 ? TILE : rows;
    for (let first = 0; first < rows; first += tile) {
      const some = Math.min(tile, rows - first);
      for (let n = 0; n < count; n++) {
        if (whole) kernels.int8(outputs[n], first, matrix, narrow.vectors[n], narrow.scales[n], some);
        else kernels.float32(outputs[n], first, matrix, inputs[n], first, some, columns);
      }
    }
  }

  return { times, multiply };
}

// x as whole numbers in int16; returns what one of them is worth. They are as large as they may be
// so that a row's sum of products with int8 fits into an int32: exact until the very end.
function narrowed(x, columns, into) {
  let largest = 0;
  for (let i = 0; i < columns; i++) largest = Math.max(largest, Math.abs(x[i]));
  const most = Math.min(32_767, Math.floor((2 ** 31 - 1) / (LARGEST * columns)));
  const factor = largest > 0 ? most / largest : 0;
  for (let i = 0; i < columns; i++) into[i] = Math.round(x[i] * factor);
  return Math.fround(largest / most);
}

async function simdKernels(module, memory) {
  const { exports } = await WebAssembly.instantiate(module, { engine: { memory } });
  return {
    float32(out, outFrom, { data, columns: stride }, x, first, rows, columns) {
      const matrix = data.byteOffset + 4 * first * stride;
      exports.float32(out.byteOffset + 4 * outFrom, matrix, x.byteOffset, rows, columns, 4 * stride);
    },
    int8(out, first, { data, scales, columns }, x, scale, rows) {
      const to = out.byteOffset + 4 * first;
      const matrix = data.byteOffset + first * columns;
      exports.int8(to, matrix, x.byteOffset, rows, columns, columns, scales.byteOffset + 4 * first, scale);
    },
  };
}

function plainFloat32(out, outFrom, { data, columns: stride }, x, first, rows, columns) {
  for (let row = 0; row < rows; row++) {
    const at = (first + row) * stride;
    let sum = 0;
    for (let i = 0; i < columns; i++) sum += data[at + i] * x[i];
    out[outFrom + row] = sum;
  }
}

function plainInt8(out, first, { data, scales, columns }, x, scale, rows) {
  for (let row = first; row < first + rows; row++) {
    const at = row * columns;
    let sum = 0; // a whole number below 2^31, as in matvec.wat
    for (let i = 0; i < columns; i++) sum += data[at + i] * x[i];
    out[row] = Math.fround(sum) * Math.fround(scales[row] * scale);
  }
}
