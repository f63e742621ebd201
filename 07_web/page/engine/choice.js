// Choice: the served page's model may answer in this browser, if the server gives its weights.
// Loaded before chat.js: what the page asks of the server goes to one or the other.

import { openable } from "../glass/panel.js";
import { createAnswering, dressedWith, unlessAborted } from "./answering.js";

const box = document.getElementById("here");
const candidates = document.getElementById("candidates");
const server = globalThis.fetch;
let answering = null;

// told: what `healthz` answered.
function offer({ in_browser: given, defaults }) {
  if (!given) return;
  const address = (name) => new URL(name, location.href).href;
  const parts = () => ({ weights: address(given.weights), wasm: address(given.wasm) });
  const newWorker = () => new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  answering = createAnswering(newWorker, parts, { defaults, show_working: given.show_working });
  document.getElementById("download").textContent = `(${(given.bytes / 1e6).toFixed(1)} MB, once)`;
  box.labels[0].hidden = false;
  const past = async () => (await server(given.snapshots)).json();
  openable(newWorker, parts, dressedWith(given.show_working), given.snapshots ? past : null);
}

// Whether the model is here. If it does not come, the server goes on answering, and the page says so.
async function came() {
  const trouble = await answering.load();
  if (!trouble) return true;
  choose(false);
  document.getElementById("model").textContent = `${trouble} The server answers instead.`;
  return false;
}

// A worker writes one reply at a time: there is nothing to choose from.
function choose(here) {
  box.checked = here;
  candidates.disabled = here;
  if (here) candidates.value = 1;
}

box.addEventListener("change", () => {
  choose(box.checked);
  if (box.checked) came();
});

globalThis.fetch = async (path, options) => {
  if (path === "chat" && box.checked && (await unlessAborted(came(), options.signal))) return answering.chat(options);
  const response = await server(path, options);
  if (path === "healthz" && response.ok) offer(await response.clone().json());
  return response;
};
