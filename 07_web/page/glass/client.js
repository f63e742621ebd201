// Client: the page's end of the glass. A second worker of the same script reads the conversation
// once more, whoever has answered it, so that looking inside never keeps a reply waiting.

const GONE = "This browser cannot look inside: it is too old, or forbids workers.";

// Nobody waits for this answer any more.
export class Stopped extends Error {}

// newWorker: () -> a Worker. parts: () -> { weights, wasm }, as for answering.js.
export function createGlass(newWorker, parts) {
  const waiting = new Map(); // number -> what is done with its answers
  let [worker, loading, number] = [null, null, 0];
  let onProgress = () => {};

  function start() {
    worker = newWorker();
    worker.onerror = () => end(new Error(GONE));
    worker.onmessage = ({ data }) => {
      if (data.progress) onProgress(...data.progress);
      else if (data.number) waiting.get(data.number)?.(data);
    };
  }

  // Ends the worker; the next question starts another.
  function end(error) {
    worker?.terminate();
    worker = loading = null;
    const left = [...waiting.values()];
    waiting.clear();
    for (const act of left) act({ error });
  }

  // act(answer) is true when that was the last one. signal: ends it sooner.
  function sent(message, act, signal) {
    const mine = ++number;
    signal?.addEventListener("abort", () => worker?.postMessage({ task: "stop", number: mine }));
    return new Promise((resolve, reject) => {
      waiting.set(mine, (answer) => {
        const error = answer.error ?? (answer.stopped ? new Stopped() : answer.trouble && new Error(answer.trouble));
        if (error) reject(error);
        else if (!act(answer)) return;
        waiting.delete(mine);
        resolve(answer);
      });
      worker.postMessage({ ...message, number: mine });
    });
  }

  // Another model in the place of this one, or the same anew: resolves to what it tells of itself.
  function load(newParts = parts) {
    try {
      if (!worker) start();
    } catch {
      return Promise.reject(new Error(GONE));
    }
    const mine = sent({ task: "load", ...newParts() }, () => true).then(({ ready }) => ready);
    mine.catch(() => loading === mine && (loading = null)); // so that the next question tries anew
    return (loading = mine);
  }

  const ready = () => loading ?? load();

  return {
    load,
    ask: (message) => ready().then(() => sent(message, () => true)),
    // A reply that begins with the ids `begun`; onText(piece, all ids until then) as it is written.
    async goOn(message, onText, signal) {
      await ready();
      signal?.throwIfAborted();
      const act = ({ text, ids, finish_reason }) => {
        if (text) onText(text, ids);
        return Boolean(finish_reason);
      };
      return sent({ task: "go on", ...message }, act, signal);
    },
    progress: (act) => (onProgress = act),
    close: () => end(new Stopped()),
  };
}
