// Conversation: what has been said so far, for whoever wants to look inside.

let saidSoFar = () => ({ messages: [], reply: "", writing: false });
const lookers = new Set();

// now: () -> { messages, reply, writing }: messages up to the last one of the user's, the reply to
// it so far, and whether that is still being written. It is called only if somebody looks.
export function conversationChanged(now) {
  saidSoFar = now;
  for (const look of lookers) look();
}

export const conversation = () => saidSoFar();

export function whenConversationChanges(look) {
  lookers.add(look);
}
