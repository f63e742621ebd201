"""The time machine and the memory meter, as a person uses them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import static_site
import torch
from engine_page import files_served
from finished_runs import SECRET, finished_run, keep_snapshots
from page_driver import button, choose, finished, opened, say
from playwright.sync_api import Locator, Page, expect
from trained_attention import attention_maps

from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.model.packing import read_packed, unpack_model
from shared.model.transformer import Transformer
from shared.text.transcript import Message
from shared.training.snapshots import list_snapshots

pytest_plugins = ("web_fixtures", "site_fixtures")

QUESTION = "hello"
PHONE = {"width": 360, "height": 740}
LONGEST = 120  # as in past.js


@pytest.fixture(scope="module")
def run(tmp_path_factory, model, random_model, tokenizer) -> Path:
    """Its snapshots are three models that speak, the last of them the run's own."""
    folder = tmp_path_factory.mktemp("past")
    run = finished_run(folder, model, tokenizer, SECRET.encode())
    younger = []
    for rows in (1, 2):  # each knows the bytes by others' vectors
        younger.append(Transformer(model.config).eval())
        weights = model.state_dict()
        turned = weights["embedding.weight"].roll(rows, dims=0)
        younger[-1].load_state_dict(weights | {"embedding.weight": turned})
    keep_snapshots(run, [*younger, model], tokenizer)
    return run


@pytest.fixture(scope="module")
def site_with_a_past(run) -> Path:
    static_site.make_site(run, run.parent / "site", run.parent / "data", snapshots=True)
    return run.parent / "site"


@pytest.fixture(scope="module")
def address(site_with_a_past) -> str:
    """The one file, with its past inside."""
    return (site_with_a_past / "chat.html").as_uri()


@pytest.fixture(scope="module")
def page(browser, address) -> Iterator[Page]:
    with opened(browser, address, viewport=PHONE) as page:
        ask(page)
        yield page


def ask(page: Page) -> None:
    choose(page, "temperature", "0")
    choose(page, "max_new_bytes", "20")
    say(page, QUESTION)
    finished(page)


def look(page: Page, tab: str) -> None:
    if not page.get_by_role("tab", name=tab).is_visible():
        button(page, "Look inside").click()
    page.get_by_role("tab", name=tab).click()


def step_slider(page: Page) -> Locator:
    return page.get_by_role("slider", name="Step of training")


def said_at(page: Page, step: int) -> Locator:
    number = page.get_by_role("rowheader", name=str(step), exact=True)
    return page.get_by_role("row").filter(has=number).locator(".said")


def snapshot(run: Path, step: int) -> Transformer:
    file = next(file for file in list_snapshots(run) if int(file.stem[5:]) == step)
    return unpack_model(read_packed(file))


def as_shown(text: str) -> str:
    controls = re.sub("[\x00-\x1f\x7f-\x9f]", "·", text.replace("\n", "⏎"))
    return controls or "(nothing: it ended its turn at once)"


def test_each_step_says_what_its_model_says(page, run, tokenizer):
    look(page, "Time machine")
    slider = step_slider(page)
    settings = SamplingSettings(temperature=0, max_new_bytes=LONGEST)
    expect(slider).to_have_attribute("aria-valuetext", re.compile("step 100 of 100 · 6,400 bytes"))
    seen = set()
    for step, key in ((1, "Home"), (10, "ArrowRight"), (100, "ArrowRight")):
        slider.press(key)
        expect(page).to_have_url(re.compile(rf"#.*step={step}\b"))
        pieces = stream_reply(snapshot(run, step), tokenizer, [Message("user", QUESTION)], settings)
        expected = as_shown("".join(piece.text for piece in pieces))
        expect(said_at(page, step)).to_have_text(expected)
        expect(page.locator(".then")).to_have_text(expected)
        seen.add(expected)
    assert len(seen) == 3


def test_its_attention_is_that_of_the_step(page, run, tokenizer):
    look(page, "Time machine")
    step_slider(page).press("Home")
    page.get_by_label("layer").select_option("1")
    page.get_by_label("head").select_option("2")
    page.get_by_role("slider", name="Byte of the conversation").press("End")
    page.get_by_text("Where it looked, in numbers").click()
    table = page.get_by_role("table", name=re.compile("layer 2, head 3"))
    reply = page.locator(".turn.assistant").last.inner_text()
    ids = tokenizer.encode(f"user: {QUESTION}\nassistant: {reply}").tolist()
    maps = attention_maps(snapshot(run, 1), torch.tensor([[tokenizer.end_of_text, *ids]]))
    weights = maps[1][2][-1]
    for row, n in enumerate(weights.argsort(descending=True)[:3].tolist(), start=1):
        cells = table.get_by_role("row").nth(row)
        share = 100 * weights[n].item()
        expect(cells).to_contain_text(f"{share:.0f} %" if share >= 9.95 else f"{share:.1f} %")
    page.get_by_text("Where it looked, in numbers").click()


def test_all_steps_are_played_one_after_another(page):
    look(page, "Time machine")
    step_slider(page).press("End")
    button(page, "Play").click()
    expect(button(page, "Play")).to_be_visible(timeout=60_000)
    expect(step_slider(page)).to_have_value("2")
    expect(page.locator(".said", has_text="…")).to_have_count(0)


def test_a_link_leads_to_a_step_and_a_phone_has_room_for_it(address, page):
    look(page, "Time machine")
    step_slider(page).press("Home")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.goto("about:blank")
    page.goto(f"{address}#view=time&step=10")
    expect(step_slider(page)).to_have_value("1")
    choose(page, "temperature", "0")
    choose(page, "max_new_bytes", "20")


def test_the_chat_goes_on_with_its_own_model(page, run, tokenizer):
    look(page, "Time machine")
    step_slider(page).press("Home")
    button(page, "Close").click()
    say(page, "and you?")
    told = finished(page, 2)
    turns = page.locator(".turn").all_inner_texts()
    talk = [Message("user", turns[0]), Message("assistant", turns[1]), Message("user", turns[2])]
    settings = SamplingSettings(temperature=0, max_new_bytes=20)
    pieces = stream_reply(snapshot(run, 100), tokenizer, talk, settings)
    assert told == "".join(piece.text for piece in pieces)


def test_the_meter_tells_what_fills_the_context_and_what_is_forgotten(page):
    look(page, "Memory")
    meter, panel = page.get_by_role("meter"), page.get_by_role("tabpanel")
    expect(meter).to_have_attribute("aria-valuemax", "128")
    filled = int(meter.get_attribute("aria-valuenow"))
    rows = panel.get_by_role("row").all_inner_texts()[1:]
    counted = [int(row.split("\t")[-1]) for row in rows]
    assert sum(counted[:-1]) == filled and sum(counted) == 128
    sizes = "2 layers × 2 heads × a key and a value of 8 numbers"
    expect(panel).to_contain_text(f"{filled} positions × {sizes}")
    expect(panel.locator("li").first).to_have_text(f"you: {QUESTION}")


@pytest.mark.slow
def test_a_step_that_does_not_come_is_told_and_can_be_tried_again(browser, site_with_a_past):
    host = files_served(site_with_a_past)
    with host as address, opened(browser, f"{address}/index.html", allowed="net::ERR") as page:
        ask(page)
        look(page, "Time machine")
        page.route("**/step-0000001.tllm*", lambda route: route.abort())
        step_slider(page).press("Home")
        expect(page.get_by_role("tabpanel")).to_contain_text("cannot be loaded")
        page.unroute("**/step-0000001.tllm*")
        button(page, "Try again").click()
        expect(said_at(page, 1)).not_to_have_text("…")


def test_a_model_without_a_past_has_no_time_machine(browser, addresses):
    with opened(browser, addresses["file"]) as page:
        ask(page)
        button(page, "Look inside").click()
        page.get_by_role("tab", name="Memory").click()
        expect(page.get_by_role("tabpanel")).to_contain_text("Nothing is forgotten yet")
        expect(page.get_by_role("tab", name="Time machine")).to_have_count(0)
