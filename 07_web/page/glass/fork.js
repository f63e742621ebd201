// Fork: the reply written on from a byte that was chosen by hand. The conversation itself stays as it
// is; only what is looked at changes, until somebody goes back or says something new.

// said: () -> { messages, reply }. how: () -> { settings, changes } of now. redraw: called as text comes.
export function createFork(glass, said, how, redraw) {
  let fork = null; // { of, at, ids, writing, leave }

  const nameOf = ({ messages, reply }) => JSON.stringify([messages, reply]);

  async function write(mine, begun) {
    try {
      const asked = { messages: said().messages, begun, ...how() };
      await glass.goOn(asked, (_, ids) => {
        mine.ids = ids;
        if (fork === mine) redraw();
      }, mine.leave.signal);
    } finally {
      mine.writing = false;
      if (fork === mine) redraw();
    }
  }

  function leave() {
    fork?.leave.abort();
    fork = null;
  }

  return {
    leave,
    // begun: the reply's ids up to and with the one chosen, which stands at `at`; null goes back.
    to(begun, at) {
      leave();
      if (begun) {
        fork = { of: nameOf(said()), at, ids: null, writing: true, leave: new AbortController() };
        write(fork, begun).catch(() => {}); // what was written until then stays
      }
      redraw();
    },
    // What is to be looked at: ids, since half a character may have been chosen.
    over(whole) {
      if (fork && fork.of !== nameOf(whole)) leave();
      return fork?.ids ? { ...whole, reply: fork.ids, writing: fork.writing } : whole;
    },
    // The byte at which it leaves the reply; null where there is none.
    at: () => (fork?.ids ? fork.at : null),
  };
}
