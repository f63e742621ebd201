// Layout: the panel's own elements: tabs, the sentence above each view, the transcript, a room for
// each view. Beside the conversation where there is room, and over it on a phone.

import { conversation } from "../conversation.js";
import { byId } from "../settings.js";
import { made } from "./elements.js";
import { createStrip } from "./strip.js";

const NARROW = matchMedia("(max-width: 62rem)"); // as in glass.css
const BEHIND = "body > header, body > main, body > footer";

// set, rest, toggle, close: of panel.js.
export function layOut(views, { set, rest, toggle, close }) {
  const rooms = new Map(views.map((view) => [view, made("div", { className: "view", hidden: true })]));
  const strip = createStrip((byte) => set({ byte }), rest);
  const parts = {
    button: made("button", { type: "button", id: "glass-open", ariaExpanded: "false", onclick: toggle }, "Look inside"),
    tabs: tabsOf(views, (view) => set({ view: view.name })),
    sentence: made("p", { className: "sentence" }),
    empty: made("p", { className: "quiet" }, "Nothing has been said yet. Ask the model something, then look at its reply."),
    status: made("p", { className: "quiet", role: "status" }),
    changed: made("p", { className: "changed", hidden: true }),
    reading: made("div", { className: "reading" }, strip.box, steps(strip.box)),
    room: made("div", { role: "tabpanel", className: "views", tabIndex: -1, "aria-label": "View" }, ...rooms.values()),
  };
  const section = panelOf(parts, close);
  byId("clear").before(parts.button);
  NARROW.addEventListener("change", () => hideBehind(!section.hidden));
  section.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || conversation().writing) return; // then it stops the reply
    event.stopPropagation();
    close();
  });

  return {
    strip,
    room: (view) => rooms.get(view),
    progress: (received, total) => {
      const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
      parts.status.textContent = `Loading the model: ${megabytes(received)}${total ? ` of ${megabytes(total)}` : ""} MB`;
    },
    trouble: (words) => (parts.status.textContent = words),
    show(open) {
      section.hidden = !open;
      document.body.classList.toggle("glassed", open);
      parts.button.ariaExpanded = String(open);
      hideBehind(open);
      (open ? parts.tabs.chosen() : parts.button).focus();
    },
    // Which view is shown; what there is to look at: "nothing", "not yet" or "all".
    view(view, { changes }, there) {
      parts.tabs.mark(view);
      parts.sentence.textContent = view.sentence;
      parts.room.setAttribute("aria-label", view.title);
      parts.empty.hidden = there !== "nothing";
      parts.reading.hidden = there !== "all";
      for (const [each, room] of rooms) room.hidden = each !== view || there !== "all";
      if (there === "not yet") parts.status.textContent ||= "The model is being opened.";
      tellChanges(parts.changed, changes, () => set({ changes: [] }));
    },
  };
}

function panelOf({ tabs, sentence, changed, status, empty, reading, room }, close) {
  const leave = made("button", { type: "button", className: "leave", ariaLabel: "Close", onclick: close }, "×");
  const top = made("div", { className: "top" }, made("h2", {}, "Look inside"), leave);
  const section = made("section", { id: "glass", hidden: true }, top, tabs.row, sentence, changed, status, empty, reading, room);
  section.setAttribute("aria-label", "Look inside");
  document.body.append(section);
  return section;
}

// On a phone the panel lies over the conversation, which nobody should reach behind it.
function hideBehind(open) {
  for (const part of document.querySelectorAll(BEHIND)) part.inert = open && NARROW.matches;
}

function tabsOf(views, choose) {
  const tabs = views.map((view) => made("button", { type: "button", role: "tab", onclick: () => choose(view) }, view.title));
  const row = made("div", { role: "tablist", className: "tabs", ariaLabel: "What to look at" }, ...tabs);
  let chosen = 0;
  row.addEventListener("keydown", ({ key }) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (!step) return;
    chosen = (chosen + step + tabs.length) % tabs.length;
    tabs[chosen].focus();
    choose(views[chosen]);
  });
  return {
    row,
    chosen: () => tabs[chosen],
    mark(view) {
      chosen = views.indexOf(view);
      for (const [n, tab] of tabs.entries()) {
        tab.setAttribute("aria-selected", String(n === chosen));
        tab.tabIndex = n === chosen ? 0 : -1;
      }
    },
  };
}

// For fingers: a letter is a small thing to hit.
function steps(box) {
  const step = (key, sign, name) => {
    const press = () => box.dispatchEvent(new KeyboardEvent("keydown", { key }));
    return made("button", { type: "button", ariaLabel: name, onclick: press }, sign);
  };
  return made("div", { className: "steps" }, step("ArrowLeft", "‹", "One byte back"), step("ArrowRight", "›", "One byte on"));
}

function changeInWords({ off, layer, head }) {
  if (layer === undefined) return off;
  const part = off === "head" ? `head ${head + 1}` : off === "layer" ? "all" : off;
  return `${part} of layer ${layer + 1}`;
}

function tellChanges(line, changes, undo) {
  line.hidden = !changes.length;
  const words = changes.map(changeInWords).join(", ");
  if (line.dataset.words === words) return; // a new button would lose the focus
  line.dataset.words = words;
  line.replaceChildren(`Switched off: ${words}. `, made("button", { type: "button", onclick: undo }, "Undo all"));
}
