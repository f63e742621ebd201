"""Text and sampling in the browser against Python, on the same inputs."""

import json
import random
import unicodedata

import pytest
import torch
from engine_page import engine_page, run

from shared.chat.sampling import (
    SamplingSettings,
    keep_top_k,
    keep_top_p,
    next_token,
    penalize_repetition,
)
from shared.chat.session import GrowingReply, fit_turns, stream_reply
from shared.model.packing import pack_weights
from shared.text.bpe_training import train_bpe
from shared.text.pretokens import pretokens
from shared.text.tokenizer import ByteTokenizer
from shared.text.transcript import _UNSEEN, Message, render_prompt

pytest_plugins = ("web_fixtures",)

PARTS = ["user:", "system:", "assistant:", "aßistant:", "ＵＳＥＲ：", "u\u0301ser:", "\u2028", "\n"]
PARTS += [
    "\r\n",
    "\x85",
    "\x1e",
    " ",
    "\u200b",
    "é",
    "😀",
    "hello",
    "\ufeff",
    "\x0b",
    "ﬆ",
    ":",
    "-1 ,",
]


def is_told_apart(character: str) -> bool:
    """Whether all versions of Unicode agree on it; and it is none of 80,000 syllables and signs."""
    name = unicodedata.name(character, "")
    return unicodedata.category(character) not in ("Cn", "Co", "Cs") and not name.startswith(
        ("CJK", "HANGUL SYLLABLE", "EGYPTIAN", "TANGUT")
    )


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    with engine_page(browser, tmp_path_factory.mktemp("page")) as page:
        yield page


@pytest.fixture(scope="module")
def bpe():
    return train_bpe(["the cat's hat, 1234 cats in 12 hats\n\n  naïve café " * 20], 300)


def contents(count: int, longest: int = 8, seed: int = 0) -> list[str]:
    """Texts of what could be mistaken for something else."""
    chance = random.Random(seed)
    return ["".join(chance.choices(PARTS, k=chance.randint(0, longest))) for _ in range(count)]


def conversations(count: int) -> list[list[Message]]:
    chance = random.Random(1)
    talks = []
    for number in range(count):
        length = chance.randint(1, 6)
        texts = contents(length, longest=chance.choice([3, 30]), seed=number)
        roles = [("user", "assistant")[n % 2] for n in range(length)]
        if chance.random() < 0.4:
            roles[0] = "system"
        talks.append([Message(*turn) for turn in zip(roles, texts, strict=True)])
    return talks


def as_sent(talks: list[list[Message]]) -> list[list[dict[str, str]]]:
    return [[message._asdict() for message in talk] for talk in talks]


def described(tokenizer, tmp_path) -> dict:
    tokenizer.save(tmp_path / "tokenizer.json")
    return json.loads((tmp_path / "tokenizer.json").read_text())


def test_conversations_become_the_same_text(page):
    talks = conversations(200)
    found = run(
        page, {"transcript": "renderPrompt"}, "return given.map(renderPrompt);", as_sent(talks)
    )
    assert found == [render_prompt(talk) for talk in talks]


def test_every_character_that_could_pass_for_a_letter_is_folded_alike(page):
    known = [each for each in map(chr, range(0x20000)) if is_told_apart(each)]

    def plain(text):
        letters = unicodedata.normalize("NFKD", _UNSEEN.sub("", text)).casefold()
        return _UNSEEN.sub("", letters)

    mattering = {each: plain(each) for each in known}
    mattering = {each: now for each, now in mattering.items() if set(now) <= set("aeimnrstuy:")}
    body = """
    const letters = /^[aeimnrstuy:]*$/;
    const all = Array.from(given, (each) => [each, plainLetters(each)]);
    return Object.fromEntries(all.filter(([, now]) => letters.test(now)));"""
    found = run(page, {"transcript": "plainLetters"}, body, "".join(known))
    assert found == mattering and len(found) > 500


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_the_same_turns_fit_into_the_context(page, tmp_path, bpe, kind):
    tokenizer = bpe if kind == "bpe" else ByteTokenizer()
    talks, sizes, replies = conversations(60), [8, 33, 64, 250], [[], [104, 105], [65] * 40]
    cases = [(talk, sizes[n % 4], replies[n % 3]) for n, talk in enumerate(talks)]
    body = """
    const tokenizer = buildTokenizer(given.tokenizer);
    return given.cases.map(([talk, size, reply]) => fitTurns(talk, reply, tokenizer, size));"""
    given = {"tokenizer": described(tokenizer, tmp_path)}
    given["cases"] = [(as_sent([talk])[0], size, reply) for talk, size, reply in cases]
    found = run(page, {"session": "fitTurns", "tokenizer": "buildTokenizer"}, body, given)
    for (talk, size, reply), ids in zip(cases, found, strict=True):
        assert ids == fit_turns(talk, reply, tokenizer, size)


@pytest.mark.slow
def test_bpe_cuts_and_merges_alike(page, tmp_path, bpe):
    every = [chr(code) for code in range(0x3080)] + list("😀𝔘")
    texts = [*contents(50), *(f"a{each} {each}{each}b" for each in every)]
    texts = [
        each for each in texts if all(unicodedata.category(c) not in ("Cn", "Cs") for c in each)
    ]
    body = """
    const { encode } = buildTokenizer(given[0]);
    return given[1].map((text) => [wordsOf(text), encode(text)]);"""
    names, given = {"tokenizer": "buildTokenizer, wordsOf"}, [described(bpe, tmp_path), texts]
    for text, (words, ids) in zip(texts, run(page, names, body, given), strict=True):
        assert words == [word.decode() for word in pretokens(text)]
        assert ids == bpe.encode(text).tolist()


def said(ids: list[int], most: int, tokenizer) -> list:
    """What is shown after each id, the rest, why it ended and after how many bytes."""
    reply, shown = GrowingReply(tokenizer, most), []
    for token in ids:
        if not reply.over:
            shown.append(reply.add(token))
    return [shown, reply.rest(), reply.finish_reason, reply.size]


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_replies_are_shown_and_stopped_alike(page, tmp_path, bpe, kind):
    tokenizer = bpe if kind == "bpe" else ByteTokenizer()
    chance = random.Random(2)
    wholes = ["\nuser", "\nuser: x", " \n", "\n\nsystem:", "a\n", "é\nassistant:x", "\ufeffhi", "€"]
    replies = [tokenizer.encode(text).tolist() for text in [*wholes, *contents(60, seed=3)]]
    replies += [
        chance.choices([0xE2, 0x82, 0xAC, 65, 0xF0, 0x9F, 30, 0xC3], k=9) for _ in range(60)
    ]
    cases = [(ids, (300, 5)[n % 2]) for n, ids in enumerate(replies)]
    body = """
    const tokenizer = buildTokenizer(given.tokenizer);
    return given.cases.map(([ids, most]) => {
      const reply = growingReply(tokenizer, most);
      const shown = [];
      for (const id of ids) if (!reply.over()) shown.push(reply.add(id));
      return [shown, reply.rest(), reply.reason(), reply.size()];
    });"""
    given = {"tokenizer": described(tokenizer, tmp_path), "cases": cases}
    found = run(page, {"session": "growingReply", "tokenizer": "buildTokenizer"}, body, given)
    assert found == [said(ids, most, tokenizer) for ids, most in cases]


SETTINGS = [
    {},
    {"temperature": 1.0, "top_p": 1.0},
    {"temperature": 2.0, "top_k": 5, "top_p": 1.0},
    {"temperature": 0.3, "top_k": 1},
    {"top_k": 40, "top_p": 0.5, "repetition_penalty": 1.3},
    {"top_p": 1e-6, "repetition_penalty": 0.5},
    {"top_k": 999, "top_p": 0.99},
    {"temperature": 0.0, "repetition_penalty": 10.0},
]


def test_shares_after_temperature_top_k_top_p_and_penalty_are_pythons(page):
    torch.manual_seed(0)
    cases, expected = [], []
    for number, chosen in enumerate(SETTINGS * 3):
        settings, logits = SamplingSettings(**chosen), 3 * torch.randn(256)
        recent = torch.randint(256, (40,)).tolist() if number % 2 else []
        cases.append((logits.tolist(), chosen, recent))
        lowered = penalize_repetition(logits, recent, settings.repetition_penalty)
        if settings.temperature:
            kept = keep_top_k(lowered / settings.temperature, settings.top_k)
            expected.append(keep_top_p(kept, settings.top_p).softmax(dim=-1))
        else:
            greedy = next_token(logits, settings, settings.generator(), recent)
            expected.append(torch.nn.functional.one_hot(torch.tensor(greedy), 256).float())
    body = """
    return given.map(([logits, chosen, recent]) => {
      const settings = settingsOf(chosen);
      const scores = Float32Array.from(logits);
      const lowered = penalizeRepetition(scores, recent, settings.repetition_penalty);
      if (settings.temperature) return Array.from(sharesOf(lowered, settings));
      const best = nextToken(scores, settings, Math.random, recent);
      return logits.map((_, id) => Number(id === best));
    });"""
    names = "settingsOf, penalizeRepetition, sharesOf, nextToken"
    for found, exact in zip(run(page, {"sampling": names}, body, cases), expected, strict=True):
        torch.testing.assert_close(torch.tensor(found).float(), exact, atol=1e-6, rtol=1e-5)
        assert [share > 0 for share in found] == (exact > 0).tolist()


def test_ids_are_drawn_as_often_as_their_shares_say(page):
    body = """
    const counts = [0, 0, 0, 0];
    const random = generator(7);
    for (let n = 0; n < 20000; n++) counts[draw([0, 0.25, 0.7, 0.05], random())]++;
    const again = (seed) => Array.from({ length: 3 }, generator(seed));
    const fresh = [again(null), again(null)];
    return [counts, again(3), again(3), again(4), again(3 + 2 ** 40), fresh];"""
    counts, first, same, other, large, fresh = run(page, {"sampling": "draw, generator"}, body)
    assert counts[0] == 0
    assert [n / 20_000 for n in counts[1:]] == pytest.approx([0.25, 0.7, 0.05], abs=0.01)
    assert first == same and len({*map(tuple, (first, other, large, *fresh))}) == 5


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"temperature": -1}, "temperature is -1; expected 0 to 10."),
        ({"top_p": 0}, "top_p is 0; expected 0.000001 to 1."),
        ({"max_new_bytes": 0}, "max_new_bytes is 0; expected 1 to 1000000."),
        ({"top_k": 2.5}, "top_k is 2.5; expected a whole number."),
        ({"seed": -5}, "seed is -5; expected 0 to 9007199254740991."),
    ],
)
def test_a_setting_out_of_range_is_refused(page, chosen, words):
    body = "try { settingsOf(given); } catch (error) { return error.message; }"
    assert run(page, {"sampling": "settingsOf"}, body, chosen) == words


def test_greedy_replies_are_pythons_byte_for_byte_also_where_turns_are_dropped(
    browser, tmp_path, random_model, tokenizer
):
    """200 bytes from a context of 128: the conversation is read anew three times on the way."""
    model = random_model(context_length=128, d_model=64, n_heads=4, d_ff=96)
    with torch.no_grad():
        model.head.weight[tokenizer.end_of_text] = 0  # never the likeliest
        model.head.weight *= 3
    pack_weights(tmp_path / "m.tllm", model, described(tokenizer, tmp_path))
    talk = [Message("user", "hello"), Message("assistant", "well"), Message("user", "é?")]
    settings = SamplingSettings(temperature=0, max_new_bytes=200, repetition_penalty=1.1)
    *_, last = pieces = list(stream_reply(model, tokenizer, talk, settings))
    body = """
    const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
    const wasm = await bytes("/engine/matvec.wasm");
    const model = await buildModel(await bytes("/m.tllm"), (room) => createArithmetic(room, wasm));
    const [tokenizer, cache] = [buildTokenizer(model.tokenizer), newCache(model)];
    const settings = settingsOf(given.settings);
    const never = async () => false;
    const pieces = [];
    const reply = streamReply(model, tokenizer, cache, given.talk, settings, never);
    for await (const piece of reply) pieces.push(piece);
    return pieces;"""
    modules = {
        "matvec": "createArithmetic",
        "model": "buildModel, newCache",
        "session": "streamReply",
        "sampling": "settingsOf",
        "tokenizer": "buildTokenizer",
    }
    chosen = {"temperature": 0, "max_new_bytes": 200, "repetition_penalty": 1.1}
    with engine_page(browser, tmp_path) as page:
        found = run(page, modules, body, {"talk": as_sent([talk])[0], "settings": chosen})
    assert "".join(each.get("text", "") for each in found) == "".join(p.text for p in pieces)
    ending = {"prompt_bytes": last.prompt_bytes, "reply_bytes": last.reply_bytes}
    assert found[-1] == {"finish_reason": last.finish_reason, "usage": ending}
    assert last.reply_bytes == 200
