// Worker: the model in a thread of its own, so that the page stays quick while it thinks.
//
// It is sent   { task: "load", weights, wasm }    each an address, or the bytes themselves
//              { task: "ask", number, messages, settings }
//              { task: "stop" }                   ends the reply that is being written
// and sends    { progress: [received, total] }    bytes of the weights
//              { ready: { parameters, context_bytes, simd } }
//              { number, text }, and at last { number, finish_reason, usage }
//              { number, trouble }                one sentence; without a number the load failed

import { download, forget } from "./download.js";
import { createArithmetic } from "./matvec.js";
import { buildModel, newCache } from "./model.js";
import { settingsOf } from "./sampling.js";
import { streamReply } from "./session.js";
import { buildTokenizer } from "./tokenizer.js";
import { Trouble } from "./trouble.js";

const BREATH = 20; // milliseconds between two looks at what the page wants
const FRAME = 16; // milliseconds between two pictures on most screens

let loaded = null;
let current = 0; // the number of the reply being written

async function load({ weights, wasm }) {
  const file = typeof weights === "string" ? await download(weights, progress) : new Uint8Array(weights);
  const kernels = typeof wasm === "string" ? await fetched(wasm) : wasm;
  try {
    const model = await buildModel(file, (room) => createArithmetic(room, kernels));
    loaded = { model, tokenizer: buildTokenizer(model.tokenizer), cache: newCache(model) };
    postMessage({ ready: { parameters: model.parameters, context_bytes: model.T, simd: model.simd } });
  } catch (error) {
    await forget();
    throw error;
  }
}

const progress = (received, total) => postMessage({ progress: [received, total] });

// null if there are none: without the kernels the model is only slow.
async function fetched(address) {
  const response = await fetch(address).catch(() => null);
  return response?.ok ? response.arrayBuffer() : null;
}

async function ask({ number, messages, settings }) {
  current = number;
  if (!loaded) throw new Trouble("The model is not loaded.");
  if (!messages.length) throw new Trouble("There is nothing to reply to.");
  const { model, tokenizer, cache } = loaded;
  const pause = pauses(() => current !== number);
  const send = frames((text) => postMessage({ number, text }));
  for await (const piece of streamReply(model, tokenizer, cache, messages, settingsOf(settings), pause)) {
    send(piece.text ?? "", Boolean(piece.finish_reason));
    if (piece.finish_reason) postMessage({ number, ...piece });
  }
}

// Collects text for a frame of the screen: 10,000 messages a second would leave the page no time.
function frames(post) {
  let [held, last] = ["", 0];
  return (text, atEnd) => {
    held += text;
    if (!held || (!atEnd && performance.now() - last < FRAME)) return;
    post(held);
    [held, last] = ["", performance.now()];
  };
}

// A function that lets messages in every 20 ms, and tells whether the reply is over.
function pauses(over) {
  let last = performance.now();
  return async () => {
    if (performance.now() - last > BREATH) {
      await nextTask();
      last = performance.now();
    }
    return over();
  };
}

// What waits is done first. A timer of 0 ms would wait for 4; this does not.
function nextTask() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = resolve;
    port2.postMessage(null);
  });
}

const tasks = { load, ask, stop: () => (current = 0) };

onmessage = async ({ data }) => {
  try {
    await tasks[data.task](data);
  } catch (error) {
    const trouble = error instanceof Trouble ? error.message : `The model stopped: ${error.message}`;
    postMessage({ number: data.number, trouble });
  }
};
