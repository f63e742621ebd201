// Here: the model is in this browser. Loaded before chat.js, it answers what the page asks of a
// server, `chat` and `healthz`, in the server's own form: the page is one and the same.
//
// What static_site.py puts into the page: #site, JSON with what `healthz` answers and where the
// weights are; in the one-file page also #weights and #kernels, in base64, and #worker, its source.

const textOf = (id) => document.getElementById(id)?.textContent;
const site = JSON.parse(textOf("site"));
const worker = startWorker();
const told = new Map(); // the number of a reply -> what is done with its messages
const elsewhere = globalThis.fetch;
let replies = 0;
let troubled = null; // why there is no model, if there is none

function startWorker() {
  const source = textOf("worker");
  if (!source) return new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  return new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
}

// A line below the title: how much of the model is here, and what is wrong if it does not come.
function progressLine() {
  const line = document.createElement("p");
  const bar = document.createElement("progress");
  const words = document.createElement("span");
  line.setAttribute("role", "status");
  bar.setAttribute("aria-label", "The model is loading");
  line.append(bar, " ", words);
  document.querySelector("header").append(line);
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  return {
    show([received, total]) {
      if (total) Object.assign(bar, { max: total, value: received });
      words.textContent = `${megabytes(received)}${total ? ` of ${megabytes(total)}` : ""} MB`;
    },
    fail: (trouble) => line.replaceChildren(trouble),
    end: () => line.remove(),
  };
}

function load() {
  const line = progressLine();
  const inside = textOf("weights");
  const [weights, wasm] = inside ? [fromBase64(inside), fromBase64(textOf("kernels"))] : [site.weights, site.wasm];
  return new Promise((resolve) => {
    const fail = (trouble) => {
      troubled = trouble;
      line.fail(trouble);
      resolve();
    };
    worker.onerror = () => fail("This browser cannot run the model: it is too old, or forbids workers.");
    worker.onmessage = ({ data }) => {
      if (data.progress) line.show(data.progress);
      else if (data.number) told.get(data.number)?.(data);
      else if (data.trouble) fail(data.trouble);
      else {
        line.end();
        resolve();
      }
    };
    const address = (source) => (typeof source === "string" ? new URL(source, location.href).href : source);
    worker.postMessage({ task: "load", weights: address(weights), wasm: address(wasm) });
  });
}

const ready = load();

// A system message asks for the working, in the words that the drills have taught.
function withWorking(messages) {
  const turns = messages.filter(({ role }, n) => n > 0 || role !== "system");
  const system = turns.length < messages.length ? messages[0].content : "";
  const content = system.includes(site.show_working) ? system : `${system} ${site.show_working}`.trim();
  return [{ role: "system", content }, ...turns];
}

// A reply as server-sent events.
async function chat({ body, signal }) {
  await ready;
  signal.throwIfAborted();
  if (troubled) return Response.json({ error: { field: "model", message: troubled } }, { status: 500 });
  const { messages: said, think, ...settings } = JSON.parse(body);
  const messages = think ? withWorking(said) : said;
  const number = ++replies;
  const events = new ReadableStream({
    start(controller) {
      const line = new TextEncoder();
      const end = (close) => {
        if (told.delete(number)) close();
      };
      told.set(number, ({ trouble, number: _, ...event }) => {
        if (trouble) return end(() => controller.error(new Error(trouble)));
        controller.enqueue(line.encode(`data: ${JSON.stringify(event)}\n\n`));
        if (event.finish_reason) end(() => controller.close());
      });
      signal.addEventListener("abort", () => {
        worker.postMessage({ task: "stop" });
        end(() => controller.error(signal.reason));
      });
      worker.postMessage({ task: "ask", number, messages, settings: { ...site.defaults, ...settings } });
    },
  });
  return new Response(events, { headers: { "Content-Type": "text/event-stream" } });
}

globalThis.fetch = async (path, options) => {
  if (path === "chat") return chat(options);
  if (path === "healthz") return Response.json(site);
  return elsewhere(path, options);
};
