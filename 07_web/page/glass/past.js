// Past: the models that a run kept on its way, asked one after another in a worker of their own. The
// model that chats, and the one that all other views look into, stay as they are.

import { Stopped } from "./client.js";

const LONGEST_ANSWER = 120; // bytes of a reply: enough to tell noise from sentences
const SEED = 1; // the same dice at every step: what differs is the model
const INSIDE = "data:;base64,"; // an address that holds the file itself

// told: () -> Promise of what snapshots.json says. glass: a worker of one's own, see client.js.
// kernels: () -> wasm for it. onNews: called when more is known.
export function createPast(told, glass, kernels, onNews) {
  const now = { told: null, loaded: null, wanted: null, working: false, trouble: "", done: "" };
  const replies = new Map(); // the question, settings and step -> what was said
  const looks = { key: "", attention: null };

  // What is known about a wish { step, messages, reply, at, settings }; what is not yet is asked for.
  // said: null until it is there; attention: (layers, heads, at + 1), or null.
  function know(wish) {
    now.wanted = wish;
    if (now.done !== wholeKey(wish)) work();
    const attention = looks.key === lookKey(wish) ? looks.attention : null;
    return { said: replies.get(replyKey(wish)) ?? null, attention, trouble: now.trouble };
  }

  // The newest wish alone counts: who drags a slider passes over most steps.
  async function work() {
    if (now.working) return;
    now.working = true;
    now.trouble = "";
    try {
      while (now.wanted && now.done !== wholeKey(now.wanted)) await answer(now.wanted);
    } catch (error) {
      now.done = now.wanted ? wholeKey(now.wanted) : ""; // nobody, once it was closed
      now.trouble = error instanceof Stopped ? "" : error.message;
      now.loaded = null;
    }
    now.working = false;
    onNews();
  }

  async function answer(wish) {
    if (now.loaded !== wish.step) await load(wish.step);
    if (now.wanted?.step !== wish.step) return;
    if (!replies.has(replyKey(wish))) await say(wish);
    if (looks.key !== lookKey(wish)) await look(wish);
    now.done = wholeKey(wish);
    onNews();
  }

  async function load(step) {
    const bytes = await bytesOf(now.told.snapshots.find((each) => each.step === step));
    now.loaded = null;
    await glass.load(() => ({ weights: bytes, wasm: kernels() }));
    now.loaded = step;
  }

  async function say(wish) {
    const settings = { ...wish.settings, seed: wish.settings.seed ?? SEED, max_new_bytes: LONGEST_ANSWER };
    let text = "";
    await glass.goOn({ messages: wish.messages, begun: [], settings, changes: [] }, (piece) => (text += piece));
    replies.set(replyKey(wish), text);
    onNews();
  }

  async function look(wish) {
    const { looked } = await glass.ask({ task: "look", messages: wish.messages, reply: wish.reply, changes: [] });
    const at = Math.min(wish.at, looked.tokens.length - 1);
    const { attention } = await glass.ask({ task: "attention", at });
    Object.assign(looks, { key: lookKey(wish), attention });
  }

  return {
    know,
    again() {
      now.done = "";
      know(now.wanted);
    },
    list: async () => (now.told ??= await told()),
    said: (wish) => replies.get(replyKey(wish)) ?? null,
    close() {
      Object.assign(now, { wanted: null, loaded: null, done: "" });
      glass.close();
    },
  };
}

const replyKey = ({ step, messages, settings }) => JSON.stringify([step, messages, settings]);
const lookKey = ({ step, messages, reply, at }) => JSON.stringify([step, messages, reply, at]);
const wholeKey = (wish) => replyKey(wish) + lookKey(wish);

async function bytesOf({ weights }) {
  if (weights.startsWith(INSIDE)) {
    return Uint8Array.from(atob(weights.slice(INSIDE.length)), (character) => character.charCodeAt(0)).buffer;
  }
  const response = await fetch(weights).catch(() => null);
  if (!response?.ok) throw new Error("This step's model cannot be loaded: the server does not give it.");
  return response.arrayBuffer();
}
