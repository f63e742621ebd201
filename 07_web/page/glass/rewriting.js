// Rewriting: the reply once more by the model as it is, and by the model with something switched off.
// Both always take the likeliest byte: else it would be the dice that differ.

const LONGEST = 100; // bytes of each
const SETTINGS = { temperature: 0, max_new_bytes: LONGEST };

// inside: see panel.js. say("before" | "after", text, growing): shows a reply.
export function createRewriting(inside, say) {
  const known = new Map(); // of this conversation: changes -> the whole reply
  let [of, wanted, running] = ["", null, null];

  // After this the two replies come by themselves; a newer wish ends the older.
  function write(changes, writing) {
    const name = JSON.stringify(inside.said().messages);
    const wish = JSON.stringify(changes);
    if (writing || (name === of && wish === wanted)) return;
    if (name !== of) known.clear();
    [of, wanted] = [name, wish];
    running?.abort();
    running = new AbortController();
    both(changes, running.signal).catch((error) => {
      if (running.signal.aborted) return;
      wanted = null; // the next picture tries anew
      say("after", error.message, false);
    });
  }

  async function both(changes, signal) {
    await one("before", [], signal);
    if (changes.length) await one("after", changes, signal);
    else say("after", "", false);
  }

  async function one(place, changes, signal) {
    const key = JSON.stringify(changes);
    let text = known.get(key) ?? "";
    say(place, text, !known.has(key));
    if (known.has(key)) return;
    const asked = { messages: inside.said().messages, begun: [], settings: SETTINGS, changes };
    await inside.goOn(asked, (piece) => {
      text += piece;
      if (!signal.aborted) say(place, text, true);
    }, signal);
    if (signal.aborted) return;
    known.set(key, text || "(It says nothing.)");
    say(place, known.get(key), false);
  }

  return { write };
}
