"""Look inside: what a person sees of their own model in each view, and does there."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from page_driver import (
    PHONE,
    button,
    choose,
    finished,
    found_by_axe,
    nameless,
    opened,
    say,
    written,
)
from playwright.sync_api import Page, expect

from shared.chat.session import fit_turns
from shared.model.packing import Packed, read_packed, unpack_model
from shared.text.transcript import Message

pytest_plugins = ("web_fixtures", "site_fixtures")

STAGES = Path(__file__).with_name("page") / "glass" / "stages.js"
WHITEBOARD = Path(__file__).parents[1] / "03_attention" / "attention.py"
VIEWS = ["Bytes", "Attention", "One head", "Layers", "What if"]
SCREEN = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def talk(browser, addresses) -> Iterator[Page]:
    """The one file after a question and its reply, looked into; each test begins at `begin`."""
    with opened(browser, addresses["file"], viewport=SCREEN) as page:
        choose(page, "temperature", "1")
        choose(page, "max_new_bytes", "30")
        choose(page, "seed", "1")
        say(page, "hello")
        finished(page)
        button(page, "Look inside").click()
        yield page


@pytest.fixture
def begin(talk):
    """Goes to a state of the panel by its address, as a link does."""

    def go(state: str) -> Page:
        talk.evaluate("state => { location.hash = state; }", state)
        name = re.match(r"view=(\w+)", state)[1]
        title = dict(zip(["bytes", "attention", "head", "lens", "whatif"], VIEWS, strict=True))
        expect(talk.get_by_role("tab", name=title[name])).to_have_attribute("aria-selected", "true")
        return talk

    return go


@pytest.fixture(scope="module")
def read(talk, site, tokenizer) -> tuple[list[int], torch.Tensor]:
    """The ids of that conversation, and PyTorch's shares (T, V) of what follows each."""
    ids = fit_turns([Message("user", "hello")], [], tokenizer, 128)
    ids += f" {written(talk)}".encode()
    packed: Packed = read_packed(next(site.glob("weights-*.tllm")))
    with torch.inference_mode():
        return ids, unpack_model(packed)(torch.tensor([ids]))[0].softmax(-1)


def told(page: Page):
    """The sentence of the view that is shown."""
    return page.locator(".view:not([hidden]) .told").first


# How far, in pixels, any arc ends from the middle of the chosen byte.
FARTHEST_ARC = """() => {
  const middle = (box) => box.left + box.width / 2;
  const chosen = middle(document.querySelector(".byte.chosen").getBoundingClientRect());
  const ends = [...document.querySelectorAll(".arcs path")].map((path) => {
    const { x, y } = path.getPointAtLength(path.getTotalLength());
    return new DOMPoint(x, y).matrixTransform(path.getScreenCTM()).x;
  });
  return Math.max(...ends.map((x) => Math.abs(x - chosen)));
}"""


def strip(page: Page):
    return page.get_by_role("slider", name="Byte of the conversation")


def test_each_byte_shows_what_it_was_chosen_from(begin, read):
    page, (ids, shares) = begin("view=bytes&byte=30"), read
    bits = -math.log2(shares[29, ids[30]])
    expect(told(page)).to_contain_text("Byte 30,")
    expect(told(page)).to_contain_text(f"{bits:.2f} bits of surprise")
    rows = page.locator(".choices tbody tr")
    expect(rows).to_have_count(10)
    for n, share in enumerate(shares[29].sort(descending=True).values[:10].tolist()):
        percent = f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
        expect(rows.nth(n).locator("td").first).to_have_text(percent)
    assert page.locator(".byte").count() == len(ids)


def test_what_the_settings_cut_away_is_marked(begin):
    page = begin("view=bytes&byte=31")
    for name, value, kept in (("top_k", "3", 3), ("top_k", "0", None), ("temperature", "0", 1)):
        choose(page, name, value)
        page.keyboard.press("Escape")
        begin("view=lens&byte=31")
        begin("view=bytes&byte=31")
        if kept is not None:
            expect(page.locator(".choices tbody tr:not(.cut)")).to_have_count(kept)
    choose(page, "temperature", "1")


def test_the_bytes_are_walked_with_keys_a_tap_and_a_resting_mouse(begin):
    page = begin("view=bytes&byte=20")
    strip(page).focus()
    for key, at in (("ArrowRight", 21), ("ArrowLeft", 20), ("PageUp", 10), ("Home", 0)):
        page.keyboard.press(key)
        expect(strip(page)).to_have_attribute("aria-valuenow", str(at))
        assert f"byte={at}" in page.url
    expect(told(page)).to_contain_text("nobody chose it")
    page.locator(".byte").nth(12).click()
    expect(told(page)).to_contain_text("Byte 12,")
    expect(told(page)).to_contain_text("You wrote this byte")
    assert "byte=12" in page.url
    page.locator(".byte").nth(33).hover()
    expect(told(page)).to_contain_text("Byte 33,")
    assert "byte=12" in page.url
    page.get_by_role("heading", name="Look inside").hover()
    expect(told(page)).to_contain_text("Byte 12,")
    page.get_by_role("button", name="One byte on").click()
    expect(told(page)).to_contain_text("Byte 13,")


def test_another_choice_forks_the_reply_and_back_again(begin, read):
    page, (ids, _) = begin("view=bytes&byte=30"), read
    before = page.locator(".byte").all_inner_texts()
    said = written(page)
    other = page.locator(".choices tbody tr:not(.now) button").first
    letter = other.inner_text()
    other.click()
    back = button(page, "Back to the reply as it was")
    expect(back).to_be_visible()
    expect(page.locator(".byte.forked")).to_have_text(letter.replace("␣", " "))
    assert page.locator(".byte").count() > 31
    assert page.locator(".byte").all_inner_texts() != before
    assert written(page) == said, "the conversation itself stays"
    back.click()
    expect(back).to_be_hidden()
    expect(page.locator(".byte")).to_have_count(len(ids))
    assert page.locator(".byte").all_inner_texts() == before


CANVASES = """() => {
  const make = document.createElement;
  window.canvases = 0;
  document.createElement = function (name) {
    window.canvases += name === "canvas";
    return make.call(document, name);
  };
}"""


@pytest.mark.parametrize("view", ["head", "attention"])
def test_a_picture_of_another_byte_is_painted_without_one_new_canvas(begin, view):
    """Each would take longer than the painting: a reply that streams is drawn again and again."""
    page = begin(f"view={view}&byte=20&layer=1&head=1")
    expect(told(page)).to_contain_text("yte 20,")
    page.evaluate(CANVASES)
    begin(f"view={view}&byte=21&layer=1&head=1")
    expect(told(page)).to_contain_text("yte 21,")
    assert page.evaluate("delete document.createElement && canvases") == 0


def test_attention_is_drawn_over_the_transcript_and_told_in_numbers(begin):
    page = begin("view=attention&byte=25&layer=2&head=3")
    maps = page.locator(".heads button")
    expect(maps).to_have_count(8)
    expect(page.get_by_role("button", name="Layer 2, head 3")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(told(page)).to_contain_text("Layer 2, head 3: byte 25,")
    weights = numbers(page, "Numbers")
    assert len(weights) == 26 and sum(weights) == pytest.approx(1, abs=0.002)
    heavy = sum(weight > 0.02 for weight in weights[:-1])
    expect(page.locator(".arcs path")).to_have_count(min(24, heavy))
    assert page.evaluate(FARTHEST_ARC) < 2
    page.get_by_role("button", name="Layer 2, head 3").focus()
    page.keyboard.press("ArrowUp")
    expect(told(page)).to_contain_text("Layer 1, head 3:")
    assert "layer=1&head=3" in page.url
    expect(page.get_by_role("button", name="Layer 1, head 3")).to_be_focused()


def numbers(page: Page, name: str) -> list[float]:
    """The last column of a table that is folded away."""
    folded = page.locator(".view:not([hidden]) details", has_text=name).last
    if folded.get_attribute("open") is None:
        folded.locator("summary").click()
    expect(folded.locator("table")).to_be_visible()
    texts = folded.locator("tbody tr td:last-child").all_inner_texts()
    return [float(text.replace("−", "-")) for text in texts]


def test_one_head_shows_every_stage_with_its_numbers(begin):
    page = begin("view=head&byte=25&layer=2&head=3")
    expect(told(page)).to_contain_text("layer 2, head 3: D = 8, √D = 2.83")
    stages = page.locator(".stages > li")
    for n in range(stages.count()):
        if n not in (4, 5):
            stages.nth(n).locator("summary").first.click()
    weights = numbers(page, "Numbers: the weights")
    assert len(weights) == 26 and sum(weights) == pytest.approx(1, abs=0.02)
    scores, scaled = numbers(page, "Numbers: the scores"), numbers(page, "Numbers: divided by")
    assert scaled == pytest.approx([score / math.sqrt(8) for score in scores], abs=0.06)
    parts = [numbers(page, f"Numbers: the {part}") for part in ("input", "output", "sum")]
    assert [a + b for a, b in zip(*parts[:2], strict=True)] == pytest.approx(parts[2], abs=0.06)
    page.locator(".picks select").last.select_option("1")
    expect(told(page)).to_contain_text("layer 2, head 1")
    assert "head=1" in page.url


def test_the_lines_beside_the_stages_stand_in_attention_py():
    lines = re.findall(r"""line: (?:"(.*)"|'(.*)'),$""", STAGES.read_text(), re.MULTILINE)
    code = [line.strip() for line in WHITEBOARD.read_text().splitlines()]
    assert len(lines) == STAGES.read_text().count("name: ")
    for one, other in lines:
        assert (one or other) in code


def test_the_last_layers_guesses_are_the_models_own(begin, read):
    page, (_, shares) = begin("view=lens&byte=30"), read
    rows = page.locator(".lens tbody tr")
    expect(rows).to_have_count(3)
    for n, share in enumerate(shares[29].sort(descending=True).values[:5].tolist()):
        percent = f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
        expect(rows.nth(2).locator("td small").nth(n)).to_have_text(percent)


def test_what_is_switched_off_changes_reply_and_bits_until_it_is_undone(begin, read):
    page, (ids, shares) = begin("view=whatif"), read
    mean = -shares[range(len(ids) - 1), ids[1:]].log2().mean().item()
    before, after = page.locator(".bits").first, page.locator(".bits").last
    expect(before).to_contain_text(f"all of the text: {mean:.2f}")
    expect(after).to_contain_text("Nothing is switched off yet")
    page.get_by_role("button", name="Head 3 of layer 2 off").click()
    button(page, "No positions").click()
    assert "off=head.2.3,positions" in page.url
    expect(page.locator(".changed")).to_contain_text("Switched off: head 3 of layer 2, positions.")
    expect(before).to_contain_text(f"all of the text: {mean:.2f}")
    reply = re.match(r"this reply: [\d.]+", before.inner_text())[0]
    expect(after).to_have_text(re.compile(rf"^(?!{reply} )this reply: [\d.]+ bits"))
    replies = page.locator(".compared blockquote")
    expect(replies.first).not_to_be_empty()
    expect(replies.last).not_to_be_empty()
    expect(replies.last).to_have_attribute("aria-busy", "false")
    assert replies.last.inner_text() != replies.first.inner_text()
    button(page, "Undo the last").click()
    expect(page.locator(".changed")).to_contain_text("Switched off: head 3 of layer 2.")
    begin("view=attention&byte=25&layer=2&head=3&off=head.2.3")
    expect(page.locator(".changed")).to_be_visible()
    button(page, "Undo all").click()
    begin("view=whatif")
    expect(after).to_contain_text("Nothing is switched off yet")
    assert "off=" not in page.url


def test_of_two_quick_clicks_none_is_lost(begin):
    page = begin("view=whatif&off=scale")
    expect(button(page, "No √D")).to_have_attribute("aria-pressed", "true")
    page.evaluate(
        """() => ["No √D", "No norms", "No positions"].forEach((name) =>
            [...document.querySelectorAll(".switch")]
                .find((each) => each.textContent === name).click())"""
    )
    expect(page.locator(".changed")).to_contain_text("Switched off: norms, positions.")
    button(page, "Undo all").click()


def test_a_switch_that_the_model_does_not_have_is_one_sentence(begin):
    page = begin("view=whatif&off=layer.9")
    expect(page.locator("#glass [role=status]").first).to_have_text("The model has no layer 8.")
    button(page, "Undo all").click()
    expect(page.locator(".changed")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.slow)])
def test_every_view_fits_a_phone_and_names_its_controls(begin, scheme):
    page = begin("view=bytes&byte=35&layer=2&off=head.2.3")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(PHONE)
    try:
        for title in VIEWS:
            page.get_by_role("tab", name=title).click()
            expect(page.get_by_role("tabpanel", name=title)).to_be_visible()
            expect(page.locator(".sentence")).not_to_be_empty()
            page.evaluate(
                "document.querySelectorAll('.view:not([hidden]) details')"
                ".forEach((each) => (each.open = true))"
            )
            assert page.evaluate(
                "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)"
                "(document.getElementById('glass'))"
            )
            assert nameless(page) == []
            assert found_by_axe(page) == [], title
        assert page.evaluate("document.querySelector('main').inert")
    finally:
        page.set_viewport_size(SCREEN)
    assert not page.evaluate("document.querySelector('main').inert")
    assert found_by_axe(page) == []
    button(page, "Undo all").click()
