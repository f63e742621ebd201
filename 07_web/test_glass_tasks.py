"""The worker's tasks for who looks inside: reading again, going on from a fork, being overtaken."""

import pytest
from engine_page import engine_page
from seen_by_pytorch import seen_by_pytorch
from test_engine_worker import START

from shared.chat.sampling import SamplingSettings
from shared.chat.session import GrowingReply, fit_turns, stream_reply
from shared.model.packing import pack_weights
from shared.text.transcript import Message, render_prompt

pytest_plugins = ("web_fixtures", "site_fixtures")

HELLO = [{"role": "user", "content": "hello"}]
GREEDY = {"temperature": 0, "max_new_bytes": 30}
ASK = """
() => {
  let last = 100;
  window.glass = (task, more = {}) => {
    const number = ++last;
    worker.postMessage({ task, number, ...more });
    return until((each) => each.number === number && !each.text);
  };
  window.said = (wanted) =>
    sent.map(({ number, text }) => (number === wanted && text ? text : "")).join("");
  window.list = (array) => Array.from(array);
}
"""


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("tasks")
    pack_weights(folder / "m.tllm", model, {"kind": "bytes", "end_of_text": 30})
    with engine_page(browser, folder) as page:
        page.evaluate(START)
        page.evaluate(ASK)
        ready = page.evaluate("glass('load', { weights: '/m.tllm', wasm: '/engine/matvec.wasm' })")
        assert ready["ready"]["context_bytes"] == 128
        yield page


def look(page, messages=HELLO, reply="", changes=()):
    """What the worker says to a look, surprises as a list."""
    given = {"messages": messages, "reply": reply, "changes": list(changes)}
    body = """async (given) => {
      const answer = await glass("look", given);
      return { ...answer.looked, surprise: list(answer.looked.surprise) };
    }"""
    return page.evaluate(body, given)


def ids_of(looked):
    return [token["id"] for token in looked["tokens"]]


def same(one, other):
    return all(abs(a - b) < 1e-5 for a, b in zip(one[1:], other[1:], strict=True))


def test_a_growing_reply_reads_as_if_it_were_read_at_once(page):
    replies = ["", "well", "well, é", "well, no", "we"]
    grown = [look(page, reply=reply) for reply in replies]
    for reply, looked in zip(replies, grown, strict=True):
        look(page, [{"role": "user", "content": "another one altogether"}])
        fresh = look(page, reply=reply)
        assert ids_of(fresh) == ids_of(looked) and same(fresh["surprise"], looked["surprise"])
    texts = "".join(token["text"] for token in grown[2]["tokens"])
    assert texts == r"⟨end⟩user: hello⏎assistant: well, \xc3\xa9"
    assert grown[2]["tokens"][grown[2]["replyFrom"]]["text"] == " "
    sizes = ("context", "layers", "heads", "kvHeads", "headSize", "dropped")
    assert [grown[0][name] for name in sizes] == [128, 2, 4, 2, 8, 0]
    assert grown[0]["replyFrom"] == len(grown[0]["tokens"])


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be very kind. " * 3}]])
def test_what_is_read_is_what_the_model_had_before_it_where_turns_are_dropped(
    page, tokenizer, system
):
    turns = [(role, f"turn {n}, {role}") for n in range(4) for role in ("user", "assistant")]
    talk = [*system, *({"role": role, "content": text} for role, text in turns), *HELLO]
    messages = [Message(**each) for each in talk]
    for length in (0, 20, 40, 70, 200):
        reply = ("abcdefghij" * 20)[:length]
        expected = fit_turns(messages, [], tokenizer, 128)
        for n, id in enumerate(f" {reply}".encode() if reply else b""):
            expected.append(id)
            if len(expected) > 128:
                expected = fit_turns(messages, list(f" {reply}".encode()[: n + 1]), tokenizer, 128)
        looked = look(page, talk, reply)
        assert ids_of(looked) == expected
        all_of_it = 1 + len(render_prompt(messages).encode()) + (length + 1 if length else 0)
        assert looked["dropped"] == all_of_it - len(expected)


GO_ON = """async (given) => {
  const end = await glass("go on", given);
  return [said(end.number), end.usage.reply_bytes];
}"""


def test_a_reply_goes_on_from_a_fork_also_in_the_middle_of_a_character(page, model, tokenizer):
    pieces = stream_reply(model, tokenizer, [Message("user", "hello")], SamplingSettings(**GREEDY))
    whole = "".join(piece.text for piece in pieces)
    given = {"messages": HELLO, "settings": GREEDY}
    assert page.evaluate(GO_ON, given) == [whole, 30]
    forked, size = page.evaluate(GO_ON, given | {"begun": list(" é!".encode())})
    assert forked.startswith("é!") and size == 30 and forked != whole
    half, size = page.evaluate(GO_ON, given | {"begun": list(" é".encode())[:-1]})
    assert len(half) > 1 and size == 30


def test_a_reply_of_the_changed_model_is_pytorchs(page, model, tokenizer):
    """Without a mask all is read again for each byte: what was read before sees the new one."""
    prompt = fit_turns([Message("user", "hello")], [], tokenizer, 128)
    for changes in ([{"off": "mask"}], [{"off": "positions"}, {"off": "layer", "layer": 0}]):
        reply = GrowingReply(tokenizer, 6)
        text = ""
        while not reply.over:
            logits = seen_by_pytorch(model, [*prompt, *reply.ids], changes)["logits", -1]
            text += reply.add(int(logits[-1].argmax()))
        given = {"messages": HELLO, "settings": GREEDY | {"max_new_bytes": 6}}
        assert page.evaluate(GO_ON, given | {"changes": changes}) == [text + reply.rest(), 6]


def test_a_newer_look_overtakes_and_stop_stops(page):
    long = {"messages": HELLO, "reply": "x" * 100, "changes": []}
    body = """async (given) => {
      const newer = { ...given, reply: "y" };
      const asked = [["look", given], ["maps"], ["byte", { at: 3 }]];
      asked.push(["look", newer], ["byte", { at: 3 }]);
      const answers = await Promise.all(asked.map((each) => glass(...each)));
      return answers.map((each) => Object.keys(each).find((key) => key !== "number"));
    }"""
    *earlier, newer, byte = page.evaluate(body, long)
    assert (newer, byte) == ("looked", "byte")
    own = ("looked", "size", "byte")  # of what was done before the newer one came
    assert all(each in ("stopped", its) for each, its in zip(earlier, own, strict=True))
    assert sorted(earlier, key="stopped".__eq__) == earlier, "what follows one that ended ended too"
    body = """async (given) => {
      const looking = glass("look", given);
      worker.postMessage({ task: "stop" });
      return Object.keys(await looking);
    }"""
    answer = page.evaluate(body, long)
    assert answer in (["number", "stopped"], ["number", "looked"])  # a quick machine was done
    assert len(look(page, reply="x" * 40)["tokens"]) == 64


def test_a_reply_is_written_while_views_ask(page):
    body = """async (given) => {
      const settings = { temperature: 0, max_new_bytes: 60 };
      const writing = glass("go on", { ...given, settings });
      const looked = await glass("look", { ...given, reply: "well" });
      const { attention } = await glass("attention", { at: 5 });
      const end = await writing;
      return [said(end.number), looked.looked.tokens.length, attention.length];
    }"""
    text, tokens, weights = page.evaluate(body, {"messages": HELLO})
    given = {"messages": HELLO, "settings": GREEDY | {"max_new_bytes": 60}}
    assert [text, 60] == page.evaluate(GO_ON, given)
    assert (tokens, weights) == (28, 2 * 4 * 6)


def test_the_choice_says_what_the_settings_cut(page):
    look(page, reply="well")
    three = "{ at: 10, settings: { temperature: 1, top_k: 3, top_p: 1 } }"
    choice = page.evaluate(f"glass('byte', {three})")
    kept = [each["kept"] for each in choice["byte"]["alternatives"]]
    assert kept == [True] * 3 + [False] * 7
    drawn = [each["drawn"] for each in choice["byte"]["alternatives"]]
    assert abs(sum(drawn) - 1) < 1e-9 and choice["byte"]["chosen"]["id"] == ord("l")
    cold = page.evaluate("glass('byte', { at: 10, settings: { temperature: 0 } })")
    assert [each["drawn"] for each in cold["byte"]["alternatives"]] == [1] + [0] * 9
    coming = page.evaluate("glass('byte', { at: 28 })")["byte"]
    assert coming["chosen"] is None and len(coming["lens"]) == 3


@pytest.mark.parametrize(
    ("task", "more", "words"),
    [
        ("byte", {"at": 0}, "Nothing stands before the first id: it was not chosen."),
        ("attention", {"at": 500}, "Position 500 has not been read."),
        ("head", {"at": 3, "layer": 2, "head": 0}, "The model has no layer 2."),
        ("head", {"at": 3, "layer": 1, "head": 4}, "The model has no head 4."),
        ("look", {"messages": HELLO, "changes": [{"off": "light"}]}, 'There is no switch "light".'),
        ("look", {"messages": [], "reply": ""}, "There is nothing to read yet."),
        ("go on", {"messages": [], "settings": {}}, "There is nothing to reply to."),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_sentence(page, task, more, words):
    look(page)
    assert page.evaluate("([task, more]) => glass(task, more)", [task, more])["trouble"] == words


def test_another_model_forgets_what_was_read(page):
    look(page, reply="well")
    page.evaluate("glass('load', { weights: '/m.tllm', wasm: null })")
    asked = page.evaluate("glass('attention', { at: 3 })")
    assert asked["trouble"] == "Position 3 has not been read."
    assert look(page, reply="well")["context"] == 128
