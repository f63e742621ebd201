// Tokens: how an id looks where each stands by itself.

const END = "⟨end⟩"; // the id between documents

// A byte that is no character alone is \xNN, and so is a control character; a newline is ⏎.
export function tokenText(tokenizer, id) {
  if (id === tokenizer.endOfText) return END;
  const bytes = tokenizer.tokenBytes(id);
  const hex = (byte) => `\\x${byte.toString(16).padStart(2, "0")}`;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return Array.from(text, (each) => (each === "\n" ? "⏎" : /\p{Cc}/u.test(each) ? hex(each.charCodeAt(0)) : each)).join("");
  } catch {
    return Array.from(bytes, hex).join("");
  }
}
