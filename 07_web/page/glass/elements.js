// Elements: pieces of a page, made by hand. Text goes in as text nodes alone.

// made("p", { className: "quiet" }, "text", another) -> the element. A name that is no property of
// elements, such as aria-label, becomes an attribute.
export function made(tag, properties = {}, ...inside) {
  return filled(document.createElement(tag), properties, inside);
}

// The same for a part of a drawing.
export function drawn(tag, properties = {}, ...inside) {
  const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) part.setAttribute(name, value);
  part.append(...inside);
  return part;
}

function filled(element, properties, inside) {
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

// rows: lists of texts; the first of each row names it.
export function tableOf(caption, headings, rows) {
  const cell = (tag, scope, text) => made(tag, scope ? { scope } : {}, String(text));
  const line = ([name, ...rest]) => made("tr", {}, cell("th", "row", name), ...rest.map((text) => cell("td", "", text)));
  const top = made("tr", {}, ...headings.map((text) => cell("th", "col", text)));
  return made("table", {}, made("caption", {}, caption), made("thead", {}, top), made("tbody", {}, ...rows.map(line)));
}

// Something folded away, which costs nothing until somebody unfolds it: build() makes what is inside.
// `redraw` builds it anew if it is open.
export function foldedAway(title, build) {
  const inside = made("div", { className: "unfolded", tabIndex: 0, role: "group", ariaLabel: title });
  const details = made("details", {}, made("summary", {}, title), inside);
  const redraw = () => inside.replaceChildren(...(details.open ? [build()] : []));
  details.addEventListener("toggle", redraw);
  return { details, redraw };
}

// A number for people: at most four digits that count, and a minus as long as a plus.
export function figure(number) {
  if (!Number.isFinite(number)) return number < 0 ? "−∞" : String(number);
  const size = Math.abs(number);
  const digits = size >= 1000 ? 0 : size >= 10 ? 1 : size >= 0.01 || size === 0 ? 2 : 4;
  return number.toFixed(digits).replace("-", "−");
}

export function percent(share) {
  if (share < 0.0005) return "< 0.1 %";
  return share >= 0.0995 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`;
}
