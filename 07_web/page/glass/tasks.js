// Tasks: what the worker does for a page that looks inside. One after another, since all share what
// was read; a reply may be written meanwhile.
//
// It is sent   { task: "look", number, messages, reply, changes }   reads, for all tasks that follow;
//                                                  the reply as text, or as ids
//              { task: "byte", number, at, settings }
//              { task: "attention", number, at }
//              { task: "maps", number }
//              { task: "head", number, at, layer, head }
//              { task: "go on", number, messages, begun, settings, changes }   as "ask", see worker.js
//              { task: "stop", number }             that one; without a number all that is under way
// and sends    { number, looked | byte | attention | maps | head }, see reading.js
//              { number, stopped: true }            somebody said stop, or a newer look came first
//              { number, trouble }                  one sentence

// open: () -> Promise of { reading }. pauses, nextTask: see worker.js. post: sends a message to the page.
export function createGlassTasks(open, pauses, nextTask, post) {
  let [era, looking, queue] = [0, 0, Promise.resolve()]; // an answer is of no use in a later era

  function inTurn(work) {
    return (message) => {
      const mine = era;
      const over = () => era !== mine;
      const turn = queue.then(async () => {
        await nextTask(); // a newer look may wait already
        const { reading } = over() ? {} : await open();
        const answer = over() ? null : await work(reading, message, pauses(over));
        post({ number: message.number, ...(answer ?? { stopped: true }) });
      });
      queue = turn.catch(() => {}); // whoever asked is told of it
      return turn;
    };
  }

  // What comes under a name, but for nothing at all.
  const under = (name, given) => given && { [name]: given };
  const read = inTurn(async (reading, message, pause) => under("looked", await reading.look(message, pause)));

  const tasks = {
    look(message) {
      [era, looking] = [era + 1, message.number];
      return read(message);
    },
    byte: inTurn((reading, message) => ({ byte: reading.byte(message) })),
    attention: inTurn((reading, message) => ({ attention: reading.attention(message) })),
    maps: inTurn((reading, message, pause) => reading.maps(message, pause)),
    head: inTurn((reading, message) => ({ head: reading.head(message) })),
  };

  // number: none ends all that is under way.
  function end(number) {
    if (number === undefined || number === looking) era += 1;
  }

  return { tasks, end };
}
