// Download: the packed weights, told in bytes as they come, and kept for the next visit.

import { Trouble } from "./trouble.js";

const STORE = "tiny-llm-weights";

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

// The newest alone: a model that was trained on has another address.
async function keepOnly(store, address, response) {
  try {
    for (const old of await store.keys()) await store.delete(old);
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
  const total = Number(response.headers.get("Content-Length") ?? 0);
  const [chunks, reader] = [[], response.body.getReader()];
  let received = 0;
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ done: true, broken: true }));
    if (done) break;
    chunks.push(value);
    received += value.length;
    onProgress(received, total);
  }
  if (received < total) throw new Trouble("The download of the model broke off: reload the page to try again.");
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
