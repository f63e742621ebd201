// What a person may choose, and what the server says about it.

export const byId = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_p", "top_k", "max_new_bytes", "seed"];
const changed = new Set(); // by the person; of all others the server decides

// Until the server has told its own.
export let limits = { max_messages: 50, max_message_bytes: 16_000, max_body_bytes: 256_000 };

// The settings that somebody changed.
export function settings() {
  const chosen = {};
  for (const name of changed) {
    const value = byId(name).value;
    if (value !== "") chosen[name] = Number(value);
    else if (name === "seed") chosen.seed = null; // a new one each time, also if the server has one
  }
  if (byId("think").checked) chosen.think = true;
  if (byId("candidates").value > 1) chosen.candidates = Number(byId("candidates").value);
  return chosen;
}

// All of them, as the page shows them.
export function shownSettings() {
  const shown = NUMBERS.map((name) => [name, byId(name).value]).filter(([, value]) => value !== "");
  return Object.fromEntries(shown.map(([name, value]) => [name, Number(value)]));
}

// Takes over what the server allows, and shows what it does where nobody says otherwise.
export function adopt(server) {
  limits = server.limits;
  byId("max_new_bytes").max = limits.max_new_bytes;
  byId("candidates").max = limits.max_candidates;
  byId("candidates").labels[0].hidden = limits.max_candidates < 2;
  byId("think").labels[0].hidden = false;
  for (const name of NUMBERS.filter((each) => !changed.has(each))) {
    const input = byId(name);
    const value = server.defaults[name] ?? "";
    const output = input.labels[0].querySelector("output");
    if (output) input.max = Math.max(input.max, value); // a slider would stop short of it
    input.value = value;
    if (output) output.value = value;
  }
}

for (const name of NUMBERS) byId(name).addEventListener("input", () => changed.add(name));
for (const output of document.querySelectorAll("output")) {
  const input = byId(output.htmlFor.value);
  input.addEventListener("input", () => (output.value = input.value));
}
