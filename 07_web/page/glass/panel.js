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
//               while other views are shown: draw changes them and keeps focus and unfolded parts
//   draw(now)   called, and awaited, whenever something has changed; never twice at the same time.
//               now: { looked, at, layer, head, changes, fork, writing }
//               looked: the answer of the worker's `look`; at: the chosen byte, always one of its tokens
//               May return a shading for the strip above: { kind: "surprise" | "look", strengths:
//               a number 0 to 1 for each byte, arcs: [[n, weight], ...] }. Otherwise: the surprise
//   inside      { ask(message), goOn(message, onText), stop()   the worker, see client.js
//                 load(parts), parts()     another model in its place; the page's own again
//                 set({ byte?, layer?, head?, changes?, view? })   something else is chosen
//                 settings(), said()       as the page has them: { temperature, ... }; { messages, reply }
//                 forkTo(ids)              the reply is written on from these ids; forkTo(null): back
//                 redraw() }               draw is wanted again
//   Each element a view makes may use the classes of glass.css; `made`, `tableOf` and `foldedAway` of
//   elements.js make tables and folded parts. A picture has such a table behind it.

import { conversation, whenConversationChanges } from "../conversation.js";
import { shownSettings } from "../settings.js";
import { addressOf, stateOfAddress } from "./address.js";
import { attentionView } from "./attention.js";
import { bytesView } from "./bytes.js";
import { createGlass } from "./client.js";
import { createFork } from "./fork.js";
import { headView } from "./head.js";
import { layOut } from "./layout.js";
import { lensView } from "./lens.js";
import { whatIfView } from "./whatif.js";

const VIEWS = [bytesView, attentionView, headView, lensView, whatIfView];
const AGAIN = 120; // milliseconds between two pictures while a reply is written
const MOST_BITS = 8; // a byte that surprised so much, or more, has the full colour

// The page's model can be opened: shows the button. newWorker, parts: see client.js; dressed(messages,
// thought) -> the messages as they were sent, if more than the conversation was.
export function openable(newWorker, parts, dressed = (messages) => messages) {
  const glass = createGlass(newWorker, parts);
  const now = { state: stateOfAddress(""), open: false, busy: false, again: false, drawing: new Map(), looked: null, read: "" };
  const layout = layOut(VIEWS, { set, toggle, close });
  const said = () => {
    const { messages, ...rest } = conversation();
    return { ...rest, messages: dressed(messages, rest.thought) };
  };
  const fork = createFork(glass, said, () => now.state.changes, shownSettings, refresh);
  const inside = {
    ...glass, set, parts, said, settings: shownSettings, redraw: refresh,
    forkTo: (ids) => fork.to(ids, now.looked),
  };
  glass.progress(layout.progress);
  whenConversationChanges(refresh);
  addEventListener("hashchange", fromAddress);
  fromAddress();

  function fromAddress() {
    const { view, ...rest } = stateOfAddress(location.hash);
    const known = VIEWS.some(({ name }) => name === view);
    now.state = { ...rest, view: known ? view : now.state.view };
    if (known && !now.open) show();
    else refresh();
  }

  function set(part) {
    Object.assign(now.state, part);
    keepAddress(now.state);
    refresh();
  }

  function keepAddress(state) {
    history.replaceState(history.state, "", addressOf(state, location.hash));
  }

  function toggle() {
    if (now.open) return close();
    now.state.view ??= VIEWS[0].name;
    keepAddress(now.state);
    show();
  }

  function show() {
    now.open = true;
    layout.show(true);
    refresh();
  }

  function close() {
    now.open = false;
    keepAddress({ ...now.state, view: null });
    layout.show(false);
    fork.end();
    glass.close();
    now.looked = null;
    now.read = "";
  }

  // One picture at a time: what changes meanwhile is in the next one.
  async function refresh() {
    if (!now.open) return;
    now.again = true;
    if (now.busy) return;
    now.busy = true;
    while (now.again && now.open) {
      now.again = false;
      await picture().then(() => layout.trouble(""), (error) => now.open && layout.trouble(error.message));
      if (now.again && conversation().writing) await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
    now.busy = false;
  }

  async function picture() {
    const view = VIEWS.find(({ name }) => name === now.state.view) ?? VIEWS[0];
    const { messages, reply, writing } = fork.over(said());
    layout.view(view, now.state, messages.length > 0);
    if (!messages.length) return;
    await read(messages, reply);
    const { looked, state } = now;
    const at = Math.min(state.byte ?? Infinity, looked.tokens.length - 1);
    const within = (n, size) => Math.min(n ?? 0, size - 1);
    const chosen = { layer: within(state.layer, looked.layers), head: within(state.head, looked.heads) };
    const given = { looked, at, ...chosen, changes: state.changes, fork: fork.at(), writing };
    if (!now.drawing.has(view)) now.drawing.set(view, view.open(layout.room(view), inside));
    let shading = null;
    try {
      shading = await now.drawing.get(view)(given);
    } finally {
      layout.strip.show(looked, at, { ...surprises(looked), forkAt: fork.at(), ...shading });
    }
  }

  async function read(messages, reply) {
    const asked = { task: "look", messages, reply, changes: now.state.changes };
    const same = JSON.stringify(asked);
    if (same === now.read) return;
    now.looked = (await glass.ask(asked)).looked;
    now.read = same;
  }

}

const surprises = ({ surprise }) => ({
  kind: "surprise",
  strengths: Array.from(surprise, (bits) => Math.min(1, bits / MOST_BITS)),
});
