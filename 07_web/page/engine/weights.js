// Weights: the file that shared/model/packing.py writes, checked and viewed in place.

import { COLUMNS, ROWS, upTo } from "./matvec.js";
import { Trouble } from "./trouble.js";

const MAGIC = "TLLM";
const VERSION = 1;
const FIRST = 16; // bytes before the header: magic, version, the header's size, checksum
const ARRAYS = { float32: Float32Array, float16: Uint16Array, int8: Int8Array };

// Checks a file, a Uint8Array, and reads its header.
export function openWeights(file) {
  if (file.length < FIRST || String.fromCharCode(...file.subarray(0, 4)) !== MAGIC) {
    throw new Trouble("This file holds no packed model.");
  }
  const numbers = new DataView(file.buffer, file.byteOffset, FIRST);
  const [version, size, checksum] = [4, 8, 12].map((at) => numbers.getUint32(at, true));
  if (version !== VERSION) {
    throw new Trouble(`The model's file has format ${version} and this page reads format ${VERSION}: pack it anew.`);
  }
  if (crc32(file.subarray(FIRST)) !== checksum) {
    throw new Trouble("The model's file is damaged or was cut short: load it anew.");
  }
  const header = JSON.parse(new TextDecoder().decode(file.subarray(FIRST, FIRST + size)));
  if (header.config.moe.n_experts > 1) {
    throw new Trouble("This model is a mixture of experts, which the page cannot run: chat with it through the server.");
  }
  return { ...header, file, start: FIRST + size };
}

// The memory that its tensors take, in bytes.
export function roomFor({ file, tensors }) {
  const wider = tensors.filter(({ dtype }) => dtype === "float16");
  return file.length + wider.reduce((sum, { shape }) => sum + 4 * numbersIn(shape) + 64, 64);
}

// Puts the file into the arena as it is; returns { name: tensor }, views of it. Only float16, which
// neither SIMD nor all browsers know, is written out as float32.
export function placeTensors({ file, start, tensors }, arena) {
  const placed = arena.take(file.length, Uint8Array);
  placed.set(file);
  const at = placed.byteOffset + start;
  return Object.fromEntries(tensors.map((entry) => [entry.name, viewed(entry, arena, at)]));
}

function viewed({ name, shape, dtype, offset, scales: scaleOffset }, arena, at) {
  const [rows, columns] = filledUp(shape);
  const stored = new ARRAYS[dtype](arena.buffer, at + offset, rows * columns);
  const scales = dtype === "int8" ? new Float32Array(arena.buffer, at + scaleOffset, rows) : null;
  const data = dtype === "float16" ? widened(stored, arena.take(stored.length)) : stored;
  const numbers = scales ?? data;
  for (let i = 0; i < numbers.length; i++) {
    if (!Number.isFinite(numbers[i])) throw new Trouble(`The model is broken: ${name} holds numbers that are not finite.`);
  }
  return { data, scales, rows, columns, shape };
}

// Rows and columns as stored: filled up with zeros, see packing.py.
function filledUp(shape) {
  const rows = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  return [shape.length > 1 ? upTo(ROWS, rows) : 1, upTo(COLUMNS, shape.at(-1))];
}

function numbersIn(shape) {
  const [rows, columns] = filledUp(shape);
  return rows * columns;
}

// One row of a matrix as it is: id's embedding, say. Adds it to `x`.
export function addRow(matrix, row, x) {
  const { data, scales, columns } = matrix;
  const scale = scales ? scales[row] : 1;
  for (let i = 0; i < columns; i++) x[i] += scale * data[row * columns + i];
}

// float16 as bits -> float32: a sign, 5 bits of exponent, 10 of fraction.
function widened(bits, into) {
  for (let i = 0; i < bits.length; i++) {
    const [exponent, fraction] = [(bits[i] >> 10) & 31, bits[i] & 1023];
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    into[i] = exponent === 31 ? NaN : bits[i] >> 15 ? -size : size;
  }
  return into;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

// The checksum of zlib, PNG and zip. The browser's own SHA-256 is there for https only.
function crc32(bytes) {
  let rest = -1;
  for (let i = 0; i < bytes.length; i++) rest = CRC_TABLE[(rest ^ bytes[i]) & 255] ^ (rest >>> 8);
  return ~rest >>> 0;
}
