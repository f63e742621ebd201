// The time machine: the same question put to the models that a run kept on its way. Which one stands
// in the address, as #step=378.

import { createPast } from "./past.js";
import { timeParts } from "./timeparts.js";

const SHOWN = 900; // milliseconds that each step is shown while all are played
const STRONG = 0.02; // a smaller weight draws no arc

export const timeView = {
  name: "time",
  title: "Time machine",
  sentence: "What this model said to the same question while it was still learning: from noise to sentences.",
  open(room, inside) {
    const past = createPast(inside.past, inside.another(), () => inside.parts().wasm, inside.drawAgain);
    const choose = (step) => inside.set({ step });
    const parts = timeParts({ choose, chooseHead: inside.set, play: () => (timer ? stop() : start()), again: () => past.again() });
    room.append(...parts.all);
    let [now, timer] = [null, 0];

    function start() {
      const last = now.told.snapshots.length - 1;
      const n = chosenOf(now);
      choose(now.told.snapshots[n === last ? 0 : n + 1].step);
      parts.playing(true);
      timer = setTimeout(playOn, SHOWN);
    }

    // A step that has not answered yet is waited for.
    function playOn() {
      const { snapshots } = now.told;
      const n = chosenOf(now);
      const answered = past.said(wishOf(now, inside)) !== null;
      if (now.trouble || (answered && n === snapshots.length - 1)) return stop();
      if (answered) choose(snapshots[n + 1].step);
      timer = setTimeout(playOn, answered ? SHOWN : SHOWN / 6);
    }

    function stop() {
      clearTimeout(timer);
      timer = 0;
      parts.playing(false);
    }

    async function draw(given) {
      now = { ...given, told: await past.list() };
      const wish = wishOf(now, inside);
      const known = past.know(wish);
      now.trouble = known.trouble;
      parts.show(now, chosenOf(now), known, (step) => past.said({ ...wish, step }));
      return lookAtThatStep(now, known);
    }
    draw.leave = () => {
      stop();
      past.close();
    };
    return draw;
  },
};

// Which of the snapshots: that of the address, or the last before it; without one the last of all.
function chosenOf({ told: { snapshots }, step }) {
  return Math.max(0, snapshots.findLastIndex((each) => step === null || each.step <= step));
}

// What is asked of a step. A reply that is being written is left out until it is there.
function wishOf(now, inside) {
  const { messages, reply, at, writing } = now;
  const { step } = now.told.snapshots[chosenOf(now)];
  return { step, messages, reply: writing ? "" : reply, at, settings: inside.settings() };
}

// How the chosen byte looked back at that step.
function lookAtThatStep({ at, layer, head, looked }, { attention }) {
  const count = attention && attention.length / (looked.layers * looked.heads);
  if (count !== at + 1) return null;
  const from = (layer * looked.heads + head) * count;
  const weights = Array.from(attention.subarray(from, from + count));
  const arcs = weights.flatMap((weight, n) => (weight > STRONG ? [[n, weight]] : []));
  return { kind: "look", strengths: weights, arcs };
}
