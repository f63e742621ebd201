// Speed: how fast a reply comes, whoever writes it.

const bytesOfReply = (text) => new TextEncoder().encode(text).length;

// seen(conversation, milliseconds): call it whenever the conversation has changed. told() -> null
// before the first reply, else { first, rate }: milliseconds to the first piece, and bytes a second
// after it; rate is null while there was one piece alone.
export function createSpeed() {
  let [began, pieces, told] = [null, [], null];

  function seen({ reply, writing }, time) {
    const bytes = bytesOfReply(reply);
    if (writing && (began === null || bytes < (pieces.at(-1)?.bytes ?? 0))) [began, pieces] = [time, []];
    if (began === null) return;
    if (bytes > (pieces.at(-1)?.bytes ?? 0)) {
      pieces = [...pieces.slice(0, 1), { bytes, time }]; // the first and the newest are enough
      told = { first: pieces[0].time - began, rate: rateOf(pieces) };
    }
    if (!writing) began = null;
  }

  return { seen, told: () => told };
}

function rateOf([first, newest]) {
  const seconds = newest ? (newest.time - first.time) / 1000 : 0;
  return seconds > 0 ? (newest.bytes - first.bytes) / seconds : null;
}
