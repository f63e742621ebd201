// Facts: what the server tells of the model, above the conversation.

import { adopt, byId } from "./settings.js";

// A learner's own functions: a short line, all of them where the pointer rests.
function showAnswering(names) {
  const more = names.length > 4 ? ` and ${names.length - 4} more` : "";
  const line = byId("answered_by");
  line.textContent = `Answered by your own ${names.slice(0, 4).join(", ")}${more}.`;
  line.title = names.join(", ");
}

// Of several models on one server each has a page of its own: links lead from one to the other.
function showModels(models) {
  const links = models.map(({ name, address, here }) => {
    const link = document.createElement("a");
    link.href = address;
    link.textContent = name;
    if (here) link.setAttribute("aria-current", "page");
    return link;
  });
  byId("models").replaceChildren(...links);
  byId("models").hidden = !links.length;
}

export async function showFacts() {
  try {
    const { model, ...server } = await (await fetch("healthz")).json();
    adopt(server);
    const parts = [`${model.parameters.toLocaleString("en")} parameters`, `sees ${model.context_bytes} bytes`];
    for (const [corpus, bits] of Object.entries(model.bits_per_byte ?? {})) {
      parts.push(`${bits.toFixed(2)} bits per byte on ${corpus}`);
    }
    byId("facts").textContent = parts.join(" · ");
    if (model.answered_by?.length) showAnswering(model.answered_by);
    showModels(model.models ?? []);
  } catch {
    // the page works without its facts
  }
}
