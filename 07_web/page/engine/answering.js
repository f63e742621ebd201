// Answering: a model in a worker of this page, which answers what the page asks of a server, `chat`,
// in the server's own form. Who uses it says where its parts are and what `healthz` tells.

const TOO_OLD = "This browser cannot run the model: it is too old, or forbids workers.";
const SLOW = "This browser has no fast arithmetic (WebAssembly with SIMD): replies come slowly.";

// newWorker: () -> a Worker. parts: () -> { weights, wasm }, addresses or the bytes themselves.
export function createAnswering(newWorker, parts, { defaults, show_working }) {
  const told = new Map(); // the number of a reply -> what is done with its messages
  let [worker, loading, replies] = [null, null, 0];

  // What is wrong, in one sentence, or null once the model is there. After a failure the next call
  // tries anew.
  async function load() {
    loading ??= loaded();
    const trouble = await loading;
    if (trouble) loading = null;
    return trouble;
  }

  function loaded() {
    const line = progressLine();
    return new Promise((resolve) => {
      const fail = (trouble) => {
        worker?.terminate();
        loading = null;
        line.say(trouble);
        for (const act of told.values()) act({ trouble }); // it may end in the middle of a reply
        resolve(trouble);
      };
      try {
        worker = newWorker();
      } catch {
        return fail(TOO_OLD);
      }
      worker.onerror = () => fail(TOO_OLD);
      worker.onmessage = ({ data }) => {
        if (data.progress) line.show(data.progress);
        else if (data.number) told.get(data.number)?.(data);
        else if (data.trouble) fail(data.trouble);
        else {
          if (data.ready.simd) line.end();
          else line.say(SLOW);
          resolve(null);
        }
      };
      worker.postMessage({ task: "load", ...parts() });
    });
  }

  // A reply as server-sent events.
  async function chat({ body, signal }) {
    const trouble = await unlessAborted(load(), signal);
    if (trouble) throw new Error(trouble);
    const { messages: said, think, ...settings } = JSON.parse(body);
    const messages = think ? withWorking(said, show_working) : said;
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
        worker.postMessage({ task: "ask", number, messages, settings: { ...defaults, ...settings } });
      },
    });
    return new Response(events, { headers: { "Content-Type": "text/event-stream" } });
  }

  return { load, chat };
}

// Whoever presses Stop does not wait for a download.
export function unlessAborted(promise, signal) {
  signal.throwIfAborted();
  const aborted = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  return Promise.race([promise, aborted]);
}

// The messages of a conversation as they were sent: what looks inside reads what the model has read.
export const dressedWith = (showWorking) => ({ messages, thought }) => (thought ? withWorking(messages, showWorking) : messages);

// A system message asks for the working, in the words that the drills have taught.
function withWorking(messages, showWorking) {
  const turns = messages.filter(({ role }, n) => n > 0 || role !== "system");
  const system = turns.length < messages.length ? messages[0].content : "";
  const content = system.includes(showWorking) ? system : `${system} ${showWorking}`.trim();
  return [{ role: "system", content }, ...turns];
}

// A line below the title: how much of the model is here, and what is wrong if it does not come.
function progressLine() {
  document.getElementById("model")?.remove();
  const line = document.createElement("p");
  const bar = document.createElement("progress");
  const words = document.createElement("span");
  line.id = "model";
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
    say: (sentence) => line.replaceChildren(sentence),
    end: () => line.remove(),
  };
}
