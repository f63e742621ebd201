// Panel: "Look inside", beside the conversation. It owns what is chosen (view, byte, layer, head,
// changes), keeps that in the address, and draws one view at a time; a closed panel costs nothing.
//
// A view is one object in VIEWS, each in a file of its own:
//
//   { name, title, sentence, open(root, inside) -> draw }
//
//   name        what the address calls it: #view=attention
//   title       its tab;  sentence: the one sentence that stands above it
//   open        called once, when the view is first shown: puts its elements into root. They stay
//               while other views are shown: draw changes them, and focus and unfolded parts live on
//   draw(now)   called, and awaited, whenever something has changed; never twice at the same time.
//               now: { looked, messages, reply, at, layer, head, step, changes, forkAt, writing }
//               looked: the worker's answer to `look` at messages and reply; at: the chosen byte,
//               always one of its tokens; step: of training, null for the last
//               May return a shading for the transcript above: { kind: "surprise" | "look", strengths:
//               a number 0 to 1 for each byte, arcs: [[n, weight], ...] }. Otherwise: the surprise
//               draw.leave(), if there is one: another view is shown, or the panel is closed
//   inside      { ask(message), goOn(message, onText, signal)   the worker, see client.js and tasks.js
//                 load(parts), parts()   another model in its place (then call redraw); the page's own
//                 another(), past()      one more worker, with its own model; what snapshots.json says
//                 set({ view?, byte?, layer?, head?, step?, changes? })   something else is chosen; or
//                                        set((state) => ...): two clicks may come before one picture
//                 settings(), said()     as the page has them: { temperature, ... }; { messages, reply }
//                 forkTo(ids, at)        the reply is written on from these ids; forkTo(null): back
//                 drawAgain(), redraw() }   draw is wanted again; with all read anew
//
// elements.js makes tables and folded parts: a picture has such a table behind it.

import { conversation, whenConversationChanges } from "../conversation.js";
import { shownSettings } from "../settings.js";
import { addressOf, stateOfAddress } from "./address.js";
import { Stopped, createGlass } from "./client.js";
import { createFork } from "./fork.js";
import { layOut } from "./layout.js";
import { attentionView } from "./view_attention.js";
import { bytesView } from "./view_bytes.js";
import { headView } from "./view_head.js";
import { lensView } from "./view_lens.js";
import { memoryView } from "./view_memory.js";
import { timeView } from "./view_time.js";
import { whatIfView } from "./view_whatif.js";

const VIEWS = [bytesView, attentionView, headView, lensView, whatIfView, timeView, memoryView];
const AGAIN = 120; // milliseconds between two pictures while a reply is written
const MOST_BITS = 8; // a byte that surprised so much, or more, has the full colour

// The page's model can be opened: shows the button. newWorker, parts: see client.js. dressed: a
// conversation -> its messages as they were sent, where more was sent than the page shows. past: ()
// -> Promise of what snapshots.json says; null where the run has kept none.
export function openable(newWorker, parts, dressed = ({ messages }) => messages, past = null) {
  const views = VIEWS.filter((view) => past || view !== timeView);
  const now = { state: stateOfAddress(""), open: false, busy: false, again: false, looked: null, read: "", asked: null, resting: null, shown: null };
  const draws = new Map(); // view -> its draw, once it was shown
  const glass = createGlass(newWorker, parts);
  const layout = layOut(views, { set, rest, close, toggle: () => (now.open ? close() : open()) });
  const said = () => ({ ...conversation(), messages: dressed(conversation()) });
  const how = () => ({ settings: shownSettings(), changes: now.state.changes });
  const fork = createFork(glass, said, how, refresh);
  const inside = {
    ...glass, set, parts, said, settings: shownSettings, forkTo: fork.to, past,
    another: () => createGlass(newWorker, parts), drawAgain: refresh,
    redraw() {
      now.read = "";
      refresh();
    },
  };
  glass.progress(layout.progress);
  whenConversationChanges(refresh);
  addEventListener("hashchange", fromAddress);
  fromAddress();

  function fromAddress() {
    const { view, ...rest } = stateOfAddress(location.hash);
    const known = views.some(({ name }) => name === view);
    now.state = { ...rest, view: known ? view : now.state.view };
    if (known && !now.open) open();
    else refresh();
  }

  function set(part) {
    Object.assign(now.state, typeof part === "function" ? part(now.state) : part);
    keepAddress(now.state);
    refresh();
  }

  function rest(byte) {
    if (byte === now.resting) return;
    now.resting = byte;
    refresh();
  }

  function keepAddress(state) {
    history.replaceState(history.state, "", addressOf(state, location.hash));
  }

  function open() {
    now.state.view ??= views[0].name;
    keepAddress(now.state);
    now.open = true;
    layout.show(true);
    refresh();
  }

  function close() {
    now.open = false;
    keepAddress({ ...now.state, view: null });
    layout.show(false);
    fork.leave();
    leaveView(null);
    glass.close();
    Object.assign(now, { looked: null, read: "", resting: null });
  }

  function leaveView(next) {
    if (now.shown !== next) draws.get(now.shown)?.leave?.();
    now.shown = next;
  }

  // One picture at a time: what changes meanwhile is in the next one.
  async function refresh() {
    now.again = true;
    if (now.busy || !now.open) return;
    now.busy = true;
    while (now.again && now.open) {
      now.again = false;
      await picture().then(() => layout.trouble(""), (error) => error instanceof Stopped || layout.trouble(error.message));
      if (now.again && fork.over(said()).writing) await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
    now.busy = false;
  }

  async function picture() {
    const view = views.find(({ name }) => name === now.state.view);
    const { messages, reply, writing } = fork.over(said());
    leaveView(view);
    follow(JSON.stringify(messages));
    layout.view(view, now.state, !messages.length ? "nothing" : now.looked ? "all" : "not yet");
    if (!messages.length) return;
    await read({ task: "look", messages, reply, changes: now.state.changes });
    const given = { ...chosenIn(now), messages, reply, changes: now.state.changes, forkAt: fork.at(), writing };
    layout.view(view, now.state, "all");
    if (!draws.has(view)) draws.set(view, view.open(layout.room(view), inside));
    let shading = null;
    try {
      shading = await draws.get(view)(given);
    } finally {
      layout.strip.show(given.looked, given.at, { ...surprises(given.looked), ...shading, forkAt: fork.at() });
    }
  }

  // Where something new is said, no byte of the old text is meant any more.
  function follow(asked) {
    if (now.asked && now.asked !== asked) {
      now.resting = null;
      set({ byte: null });
    }
    now.asked = asked === "[]" ? null : asked;
  }

  async function read(asked) {
    const name = JSON.stringify(asked);
    if (name === now.read) return;
    now.read = "";
    now.looked = (await glass.ask(asked)).looked;
    now.read = name;
  }
}

// What is chosen, within what there is: an address may say more.
function chosenIn({ looked, state, resting }) {
  const within = (n, size, otherwise) => Math.min(n ?? otherwise, size - 1);
  const { tokens, layers, heads } = looked;
  const at = within(resting ?? state.byte, tokens.length, Infinity);
  return { looked, at, layer: within(state.layer, layers, 0), head: within(state.head, heads, 0), step: state.step };
}

const surprises = ({ surprise }) => ({
  kind: "surprise",
  strengths: Array.from(surprise, (bits) => Math.min(1, bits / MOST_BITS)),
});
