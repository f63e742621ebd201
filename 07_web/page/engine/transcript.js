// Transcript: how a conversation becomes plain text. As shared/text/transcript.py: one line a turn,
// and a line inside a turn that looks like the start of another one gets one more leading space.

const ROLES = ["system", "user", "assistant"];
export const REPLY_CUE = "assistant:";
export const STOPS = ROLES.map((role) => `\n${role}:`);

const UNSEEN = /[\p{M}\p{C}\p{Z}]+/gu; // marks, controls, spaces of every kind
const TURN = new RegExp(`^(${ROLES.join("|")}):`);
// The ends of lines as Python's splitlines knows them, each with its line.
const LINES = /[^\n\v\f\r\x1c-\x1e\x85\u2028\u2029]*(?:\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029])|[^]+$/g;

// Messages, { role, content } each, as text; each turn ends with a newline.
export function render(messages) {
  return messages.map(({ role, content }) => `${role}: ${escaped(content)}\n`).join("");
}

// The same as text that the assistant is to continue.
export function renderPrompt(messages) {
  return render(messages) + REPLY_CUE;
}

function escaped(content) {
  const [first, ...rest] = content.replaceAll("\x1e", "").match(LINES) ?? [""];
  return first + rest.map((line) => (looksLikeATurn(line) ? ` ${line}` : line)).join("");
}

export function looksLikeATurn(line) {
  return TURN.test(plainLetters(line));
}

// What a tokenizer that normalises could make of a text: without accents, width and case.
export function plainLetters(text) {
  const letters = text.replace(UNSEEN, "").normalize("NFKD");
  // Python's casefold does these two besides.
  return letters.toLowerCase().replaceAll("ß", "ss").replaceAll("\u0345", "ι").replace(UNSEEN, "");
}
