// Fork: the reply written on from a byte that was chosen by hand. The conversation itself stays as it
// is; only what is looked at changes, until somebody goes back or says something new.

// said: () -> { messages, reply }. changes, settings: () -> those of now. redraw: called as text comes.
export function createFork(glass, said, changes, settings, redraw) {
  let fork = null; // { of, at, text, writing }

  const nameOf = ({ messages, reply }) => JSON.stringify([messages, reply]);

  async function write(mine, begun) {
    const { messages } = said();
    const asked = { messages, begun, settings: settings(), changes: changes() };
    try {
      await glass.goOn(asked, (piece) => {
        mine.text += piece;
        if (fork === mine) redraw();
      });
    } finally {
      mine.writing = false;
      if (fork === mine) redraw();
    }
  }

  function end() {
    if (fork?.writing) glass.stop();
    fork = null;
  }

  return {
    end,
    // begun: the reply's ids up to and with the one chosen; null goes back.
    to(begun, { replyFrom } = {}) {
      end();
      if (begun) {
        fork = { of: nameOf(said()), at: replyFrom + begun.length - 1, text: "", writing: true };
        write(fork, begun).catch(() => {});
      }
      redraw();
    },
    // What is to be looked at.
    over(whole) {
      if (fork && fork.of !== nameOf(whole)) end();
      return fork ? { ...whole, reply: fork.text, writing: fork.writing } : whole;
    },
    // The byte at which it leaves the reply; null where there is none.
    at: () => fork?.at ?? null,
  };
}
