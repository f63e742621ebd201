// Here: a site without a server. Loaded before chat.js, it answers `chat` and `healthz` in the
// server's place: the page is one and the same.
//
// What static_site.py puts into the page: #site, JSON with what `healthz` answers and where the
// weights are; in the one-file page also #weights and #kernels, in base64, #worker, its
// source, and perhaps #snapshots, as snapshots.json has them.

import { openable } from "../glass/panel.js";
import { createAnswering, dressedWith } from "./answering.js";
import "./colours.js";

const textOf = (id) => document.getElementById(id)?.textContent;
const site = JSON.parse(textOf("site"));
const elsewhere = globalThis.fetch;

function startWorker() {
  const source = textOf("worker");
  if (!source) return new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  return new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
}

function parts() {
  const inside = textOf("weights");
  if (inside) return { weights: fromBase64(inside), wasm: fromBase64(textOf("kernels")) };
  const address = (name) => new URL(name, location.href).href;
  return { weights: address(site.weights), wasm: address(site.wasm) };
}

async function past() {
  const inside = textOf("snapshots");
  return inside ? JSON.parse(inside) : (await elsewhere(site.snapshots)).json();
}

const answering = createAnswering(startWorker, parts, site);
answering.load();
openable(startWorker, parts, dressedWith(site.show_working), site.snapshots ? past : null);

globalThis.fetch = async (path, options) => {
  if (path === "chat") return answering.chat(options);
  if (path === "healthz") return Response.json(site);
  return elsewhere(path, options);
};
