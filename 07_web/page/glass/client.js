// Client: the page's end of the glass. A second worker of the same script reads the conversation
// once more, whoever has answered it, so that looking inside never keeps a reply waiting.

const GONE = "This browser cannot look inside: it is too old, or forbids workers.";

// newWorker: () -> a Worker. parts: () -> { weights, wasm }, as for answering.js.
export function createGlass(newWorker, parts) {
  const waiting = new Map(); // number -> what is done with an answer
  const begin = { worker: null, loading: null, loaded: null, number: 0, given: parts };
  let onProgress = () => {};

  function start() {
    begin.worker = newWorker();
    begin.worker.onerror = () => fail(GONE);
    begin.worker.onmessage = ({ data }) => {
      if (data.progress) onProgress(...data.progress);
      else if (data.number) waiting.get(data.number)?.(data);
      else if (data.trouble) fail(data.trouble);
      else begin.loaded?.resolve(data.ready);
    };
  }

  function fail(trouble) {
    begin.worker?.terminate();
    begin.loaded?.reject(new Error(trouble));
    begin.worker = begin.loading = null;
    for (const act of [...waiting.values()]) act({ trouble });
  }

  // Another model, or the same anew: resolves to what it tells of itself.
  async function load(newParts) {
    begin.given = newParts;
    begin.loading = replaced(begin.loading);
    return begin.loading;
  }

  async function replaced(before) {
    await before?.catch(() => {});
    return new Promise((resolve, reject) => {
      begin.loaded = { resolve, reject };
      try {
        if (!begin.worker) start();
      } catch {
        return fail(GONE);
      }
      begin.worker.postMessage({ task: "load", ...begin.given() });
    });
  }

  const ready = () => (begin.loading ??= replaced(null));

  // Sends a task; act(answer) is true when that was the last of its answers.
  async function sent(message, act) {
    await ready();
    const number = ++begin.number;
    return new Promise((resolve, reject) => {
      waiting.set(number, (answer) => {
        if (answer.trouble) reject(new Error(answer.trouble));
        else if (!act(answer)) return;
        waiting.delete(number);
        resolve(answer);
      });
      begin.worker.postMessage({ ...message, number });
    });
  }

  return {
    load,
    ready,
    progress: (act) => (onProgress = act),
    ask: (message) => sent(message, () => true),
    // A reply that begins with the ids `begun`; onText(piece) as it is written.
    goOn: (message, onText) =>
      sent({ task: "go on", ...message }, (answer) => {
        if (answer.text) onText(answer.text);
        return Boolean(answer.finish_reason);
      }),
    stop: () => begin.worker?.postMessage({ task: "stop" }),
    // Gives the memory back; the next question starts anew.
    close: () => begin.worker && fail("It was closed."),
  };
}
