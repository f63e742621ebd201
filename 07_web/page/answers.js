// Answers: what comes back from the server, a reply in pieces or a refusal.

// Server-sent events: blocks of lines, an empty line between them. A network
// chunk may end anywhere, so the last, unfinished block waits for the next chunk.
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith("data: ")) yield JSON.parse(block.slice(6));
    }
  }
}

// What the server refused. A refused request (4xx) would be refused again, so there is no
// Retry for it: what was typed goes back to where it can be changed.
export class Refusal extends Error {
  constructor(status, words) {
    super(words);
    this.again = status >= 500;
  }
}

export async function refusal(response) {
  const { status } = response;
  if (status === 503) return new Refusal(status, "The model is busy with other chats. Please try again in a moment.");
  try {
    const { error } = await response.json();
    return new Refusal(status, `${error.field}: ${error.message}`);
  } catch {
    return new Refusal(status, `The server answered ${status}.`);
  }
}
