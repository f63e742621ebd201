"""Several models on one server: each answers for itself, and the pages lead to each other."""

from pathlib import Path
from urllib.parse import urljoin

import pytest
import serve
from finished_runs import keep_snapshots
from flask import Flask
from neighbours import places_of, together, told_to_the_page
from page_driver import FACTS, finished, opened, say
from playwright.sync_api import expect
from served_models import Reciter, served
from web_app import create_app

from shared.errors import UserError

pytest_plugins = ("web_fixtures",)
RUNS = [Path(f"/runs/{name}") for name in ("quick", "published", "old one")]


def two(tokenizer) -> dict[str, Flask]:
    """One that says "mine" at /, one that says "theirs" beside it."""
    places, apps = places_of(RUNS[:2]), {}
    for (name, place), text in zip(places.items(), (" mine", " theirs"), strict=True):
        facts = FACTS | {"models": told_to_the_page(places, name)}
        apps[place] = create_app(Reciter(text), tokenizer, facts=facts, name=name)
    return apps


def test_from_each_page_each_address_leads_to_the_place_of_its_model():
    places = places_of(RUNS)
    assert list(places.values()) == ["", "/model/published", "/model/old-one"]
    for root in ("http://a.org/", "https://b.org/llm/"):
        for here, place in places.items():
            page = urljoin(root, f"{place[1:]}/" if place else "")
            for other in told_to_the_page(places, here):
                wanted = urljoin(
                    root, f"{places[other['name']][1:]}/" if other["name"] != "quick" else ""
                )
                assert urljoin(page, other["address"]) == wanted
                assert other["here"] == (other["name"] == here)


def test_two_models_of_one_name_are_refused():
    for runs in ([Path("/a/quick"), Path("/b/quick")], [*RUNS, Path("/runs/old-one")]):
        with pytest.raises(UserError, match="two models are called alike"):
            places_of(runs)


def test_each_model_answers_at_its_own_addresses(tokenizer):
    client = together(two(tokenizer)).test_client()
    asked = {"messages": [{"role": "user", "content": "whose?"}]}
    for place, text, name in (("", "mine", "quick"), ("/model/published", "theirs", "published")):
        assert client.post(f"{place}/chat", json=asked).get_json()["reply"] == text
        assert client.get(f"{place}/v1/models").get_json()["data"][0]["id"] == name
        assert b"chat.js" in client.get(f"{place}/").data
    assert client.get("/model/other/").status_code == 404


def test_the_command_line_serves_both_each_with_its_own_past(
    checkpoint, tmp_path, random_model, tokenizer, monkeypatch
):
    beside, apps = tmp_path / "other", []
    beside.mkdir()
    for file in checkpoint.glob("*[snr]"):
        (beside / file.name).write_bytes(file.read_bytes())
    (beside / "checksums.json").unlink()
    keep_snapshots(beside, [random_model()] * 2, tokenizer)
    monkeypatch.setattr(serve, "build_server", lambda app, *_: apps.append(app) or (None, {}))
    monkeypatch.setattr(serve, "serve_until_told", lambda *_: None)
    serve.main(["--checkpoint", str(checkpoint), "--beside", str(beside), "--device", "cpu"])
    client = apps[0].test_client()
    assert client.get("/snapshots.json").status_code == 404
    past = client.get("/model/other/snapshots.json").get_json()["snapshots"]
    assert [one["step"] for one in past] == [1, 10]
    assert len(client.get("/healthz").get_json()["model"]["models"]) == 2


def test_the_page_leads_from_one_model_to_the_other_and_back(browser, tokenizer):
    with served(together(two(tokenizer))) as address, opened(browser, address) as page:
        expect(page.locator("#models")).to_have_text("quickpublished")
        expect(page.locator("#models [aria-current]")).to_have_text("quick")
        say(page, "whose?")
        assert finished(page) == "mine"
        page.get_by_role("link", name="published").click()
        page.wait_for_url(f"{address}/model/published/")
        expect(page.locator("#models [aria-current]")).to_have_text("published")
        expect(page.locator(".turn")).to_have_count(0)  # a conversation of its own
        say(page, "whose?")
        assert finished(page) == "theirs"
        page.get_by_role("link", name="quick").click()
        page.wait_for_url(f"{address}/")
        expect(page.locator(".turn.assistant")).to_have_text("mine")


def test_one_model_alone_has_no_links(browser, tokenizer):
    app = create_app(Reciter(" alone"), tokenizer, facts=FACTS)
    with served(app) as address, opened(browser, address) as page:
        expect(page.locator("#facts")).to_contain_text("812,345 parameters")
        expect(page.locator("#models")).to_be_hidden()
