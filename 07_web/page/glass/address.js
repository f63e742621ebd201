// Address: what is looked at stands behind the # of the page's address, so that it can be sent.
//
//   #view=attention&byte=12&layer=4&head=3&off=mask,layer.2,head.1.4
//   #view=time&step=378
//
// Layers and heads count from 1, as in the notes; bytes are positions and count from 0.

const NUMBERS_IN_ADDRESS = { byte: 0, layer: 1, head: 1, step: 0 };
const OFF = /^([a-z ]{1,20})(?:\.([1-9]\d{0,3}))?(?:\.([1-9]\d{0,3}))?$/;

// { view, byte, layer, head, changes } with null, and [], for what the address does not say.
export function stateOfAddress(hash) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { view: said.get("view"), changes: changesOf(said.get("off") ?? "") };
  for (const [name, first] of Object.entries(NUMBERS_IN_ADDRESS)) {
    const number = /^\d{1,6}$/.test(said.get(name) ?? "") ? Number(said.get(name)) - first : -1;
    state[name] = number < 0 ? null : number;
  }
  return state;
}

// The address with this state in it; what others keep there, such as colours, stays.
export function addressOf(state, hash) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const put = (name, value) => (value === null || value === "" ? said.delete(name) : said.set(name, value));
  put("view", state.view);
  for (const [name, first] of Object.entries(NUMBERS_IN_ADDRESS)) put(name, state[name] === null ? null : state[name] + first);
  put("off", state.changes.map(wordOf).join(","));
  return `#${said.toString().replaceAll("%2C", ",")}`;
}

// What is switched off, as the worker is told: "layer.2" -> { off: "layer", layer: 1 }.
export function changesOf(text) {
  const found = text.split(",").map((word) => OFF.exec(word)).filter(Boolean);
  return found.map(([, off, layer, head]) => ({
    off,
    ...(layer && { layer: layer - 1 }),
    ...(head && { head: head - 1 }),
  }));
}

export function wordOf({ off, layer, head }) {
  const numbers = [layer, head].filter((n) => n !== undefined).map((n) => n + 1);
  return [off, ...numbers].join(".");
}
