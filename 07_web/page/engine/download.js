// Download: the packed weights, told in bytes as they come, and kept for the next visit.

import { Trouble } from "./trouble.js";

const STORE = "tiny-llm-weights";
const BROKE_OFF = "The download of the model broke off: reload the page to try again.";

// The bytes behind an address. onProgress(received, total): total is 0 where the server does not say.
export async function download(address, onProgress) {
  const store = await openStore();
  const kept = await store?.match(address);
  if (kept) return readAll(kept, onProgress);
  const response = await asked(address);
  const copy = store && response.clone();
  const received = await readAll(response, onProgress);
  if (store) await keepOnly(store, address, copy);
  return received;
}

// What was kept turned out to be no model: the next visit asks for it again.
export async function forget() {
  await globalThis.caches?.delete(STORE).catch(() => {});
}

// null where a browser keeps nothing: in private windows, on file://, over plain http.
async function openStore() {
  try {
    return await caches.open(STORE);
  } catch {
    return null;
  }
}

// The newest of a folder alone: a model that was trained on has another address. Another site of
// the same host keeps its own.
async function keepOnly(store, address, response) {
  const folder = (each) => new URL(".", new URL(each, location.href)).href;
  try {
    for (const old of await store.keys()) if (folder(old.url) === folder(address)) await store.delete(old);
    await store.put(address, response);
  } catch {
    // no room for it: it is downloaded again next time
  }
}

async function asked(address) {
  const response = await fetch(address).catch(() => null);
  if (!response) throw new Trouble("The model cannot be downloaded: nobody answers. Reload the page to try again.");
  if (!response.ok) throw new Trouble(`The model cannot be downloaded: the server answered ${response.status}.`);
  return response;
}

async function readAll(response, onProgress) {
  const packed = response.headers.has("Content-Encoding"); // its length is that of what was sent
  const total = packed ? 0 : Number(response.headers.get("Content-Length") ?? 0);
  const [chunks, reader] = [[], response.body.getReader()];
  let received = 0;
  for (;;) {
    const { value, done, broken } = await reader.read().catch(() => ({ broken: true }));
    if (broken) throw new Trouble(BROKE_OFF);
    if (done) break;
    chunks.push(value);
    received += value.length;
    onProgress(received, total);
  }
  if (received < total) throw new Trouble(BROKE_OFF);
  return joined(chunks, received);
}

function joined(chunks, size) {
  const all = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}
