// Worker: the model in a thread of its own, so that the page stays quick while it thinks.
//
// It is sent   { task: "load", weights, wasm }    each an address, or the bytes themselves
//              { task: "ask", number, messages, settings }
//              { task: "stop" }                   ends the reply that is being written
//              and what glass/tasks.js knows, for who wants to look inside
// and sends    { progress: [received, total] }    bytes of the weights
//              { ready: { parameters, context_bytes, simd } }
//              { number, text }, and at last { number, finish_reason, usage }; for "go on" with
//              the text the reply's ids so far
//              { number, trouble }                one sentence; without a number the load failed

import { withChanges } from "../glass/changes.js";
import { createReading } from "../glass/reading.js";
import { createGlassTasks } from "../glass/tasks.js";
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

async function load({ number, weights, wasm }) {
  const file = typeof weights === "string" ? await download(weights, progress) : new Uint8Array(weights);
  const kernels = typeof wasm === "string" ? await fetched(wasm) : wasm;
  try {
    const model = await buildModel(file, (room) => createArithmetic(room, kernels));
    loaded = { model, tokenizer: buildTokenizer(model.tokenizer), cache: newCache(model), kernels };
    glass.end();
    postMessage({ number, ready: { parameters: model.parameters, context_bytes: model.T, simd: model.simd } });
  } catch (error) {
    if (typeof weights === "string") await forget();
    throw error;
  }
}

const progress = (received, total) => postMessage({ progress: [received, total] });

// null if there are none: without the kernels the model is only slow.
async function fetched(address) {
  const response = await fetch(address).catch(() => null);
  return response?.ok ? response.arrayBuffer() : null;
}

async function ask(asked) {
  current = asked.number;
  if (!loaded) throw new Trouble("The model is not loaded.");
  await reply(loaded, asked);
}

// A reply that begins with the ids `begun`, of the model with `changes`: see glass/changes.js.
async function goOn({ changes = [], ...asked }) {
  current = asked.number;
  const roomy = await withRoom();
  await reply({ ...roomy, ...withChanges(roomy.model, changes) }, asked);
}

async function reply({ model, tokenizer, cache, hook }, { number, messages, settings, begun }) {
  if (!messages.length) throw new Trouble("There is nothing to reply to.");
  const pause = pauses(() => current !== number);
  let ids = null; // whoever goes on may have begun with half a character, which no text can hold
  const send = frames((text) => postMessage(ids ? { number, text, ids } : { number, text }));
  for await (const piece of streamReply(model, tokenizer, cache, messages, settingsOf(settings), pause, begun, hook)) {
    if (begun && piece.ids) ids = piece.ids.slice();
    send(piece.text ?? "", Boolean(piece.finish_reason));
    if (piece.finish_reason) postMessage({ number, ...piece });
  }
}

// What is loaded, once it has room to read a second conversation, and a whole context at once: for
// who looks inside. Others pay nothing for it.
function withRoom() {
  const now = loaded;
  if (!now) throw new Trouble("The model is not loaded.");
  now.roomy ??= (async () => {
    const { model: { file, T }, tokenizer, kernels } = now;
    const model = await buildModel(file, (room) => createArithmetic(room, kernels), 2, T);
    const [cache, another] = [newCache(model), newCache(model)];
    return Object.assign(now, { model, cache, reading: createReading(model, tokenizer, another) });
  })();
  return now.roomy;
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

function stop({ number }) {
  if (number === undefined || number === current) current = 0;
  glass.end(number);
}

const glass = createGlassTasks(withRoom, pauses, nextTask, postMessage);
const tasks = { load, ask, stop, "go on": goOn, ...glass.tasks };

onmessage = async ({ data }) => {
  try {
    await tasks[data.task](data);
  } catch (error) {
    const trouble = error instanceof Trouble ? error.message : `The model stopped: ${error.message}`;
    postMessage({ number: data.number, trouble });
  }
};
