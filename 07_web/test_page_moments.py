"""The page in the moments that go wrong on other pages: odd text, lost servers, double clicks."""

import json

import pytest
from chat_request import Limits
from page_driver import FACTS, PHONE, button, choose, finished, fits, opened, say, talking, written
from playwright.sync_api import Page, expect
from served_models import Reciter, running, served, wait_until
from web_app import create_app
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from shared.chat.sampling import SamplingSettings

pytest_plugins = ("web_fixtures",)


def test_html_and_script_are_shown_as_text_whoever_writes_them(browser, tokenizer):
    evil = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">&lt;b>"
    with talking(browser, tokenizer, f" {evil}") as page:
        say(page, evil)
        assert finished(page) == evil
        assert page.locator(".turn.user").inner_text() == evil
        page.reload()
        assert finished(page) == evil
        assert page.locator("#log script, #log img, #log b").count() == 0
        assert page.title() == "Tiny LLM chat"


def test_emoji_and_chinese_stream_whole(browser, tokenizer):
    text = "你好，世界 👩‍👩‍👧 é 🎉 Привет, ça va? 🤖"
    with talking(browser, tokenizer, f" {text}", seconds_a_byte=0.002) as page:
        page.evaluate(
            """() => {
                window.seen = [];
                const look = () => window.seen.push(
                    document.querySelector(".turn.assistant")?.textContent ?? "");
                new MutationObserver(look).observe(document.getElementById("log"),
                    { childList: true, subtree: true, characterData: true });
            }"""
        )
        say(page, "嗨 👋")
        assert finished(page) == text
        assert page.locator(".turn.user").inner_text() == "嗨 👋"
        seen = page.evaluate("window.seen")
    assert len(set(seen)) > 10, "it came at once, not in pieces"
    assert all(text.startswith(part) for part in seen), seen


def test_a_very_long_word_does_not_widen_the_page(browser, tokenizer):
    with talking(browser, tokenizer, " " + "x" * 900, viewport=PHONE) as page:
        say(page, "y" * 2000)
        assert len(finished(page)) == 900
        assert fits(page)


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_leaves_the_text_and_offers_a_retry(browser, endless):
    limits = ["--limits.max_new_bytes", "900000"]
    with running(endless, *limits) as (process, address):
        with opened(browser, address, allowed="net::ERR") as page:
            choose(page, "temperature", "0")
            choose(page, "max_new_bytes", "900000")
            say(page, "hello")
            wait_until(lambda: len(written(page)) > 3)
            process.kill()
            process.wait()
            expect(page.locator("#notice")).to_contain_text("left in the middle")
            kept = written(page)
            assert len(kept) > 3
            button(page, "Retry").click()  # still nobody there
            expect(page.locator("#notice")).to_contain_text("cannot be reached")
            expect(page.locator(".turn.user")).to_have_text("hello")
            with running(endless, *limits, port=address.rpartition(":")[2]):
                choose(page, "max_new_bytes", "7")
                button(page, "Retry").click()
                finished(page)
                expect(page.locator("#notice")).to_have_text("")
                expect(page.locator(".turn.user")).to_have_count(1)
                assert written(page)[:4] == kept[:4]  # the same reply, from its beginning


def test_a_busy_server_is_told_kindly_and_retry_works(browser, tokenizer):
    limits = Limits(concurrent=1, queue_length=0)
    app = create_app(Reciter(" Here I am."), tokenizer, limits=limits)
    with served(app, limits) as address, opened(browser, address, allowed="503") as page:
        talkers = app.extensions["talkers"]
        talkers.close()
        say(page, "hello")
        expect(page.locator("#notice")).to_contain_text("busy with other chats")
        talkers._open = True
        button(page, "Retry").click()
        assert finished(page) == "Here I am."
        expect(page.locator("#notice")).to_have_text("")


def test_a_refused_message_comes_back_to_be_changed(browser, tokenizer):
    with talking(browser, tokenizer, " ok", allowed="422") as page:
        long = "z" * 16_001
        say(page, long)
        expect(page.locator("#notice")).to_contain_text("at most 16000 bytes")
        expect(page.locator(".turn")).to_have_count(0)
        assert page.get_by_label("Your message").input_value() == long
        say(page, "short")
        assert finished(page) == "ok"


def test_a_double_submit_sends_once(browser, tokenizer):
    with talking(browser, tokenizer, " slow reply", seconds_a_byte=0.05) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        page.get_by_label("Your message").fill("hello")
        page.evaluate(
            """() => { const form = document.getElementById("form");
                       form.requestSubmit(); form.requestSubmit(); }"""
        )
        page.keyboard.press("Enter")
        say(page, "too early")
        finished(page)
        assert sent == ["POST"]
        expect(page.locator(".turn.user")).to_have_text(["hello"])
        assert page.get_by_label("Your message").input_value() == "too early"


def test_a_reload_keeps_the_conversation_and_clear_forgets_it(browser, tokenizer):
    with talking(browser, tokenizer, " yes") as page:
        say(page, "one")
        finished(page)
        page.reload()
        bodies = posted(page)
        say(page, "two")
        finished(page, 2)
        sent = [message["content"] for message in bodies[0]["messages"]]
        assert sent == ["one", "yes", "two"]
        button(page, "Clear").click()
        page.reload()
        expect(page.locator(".turn")).to_have_count(0)
        say(page, "three")
        finished(page)
        sent = [body["messages"] for body in bodies if "messages" in body]
        assert sent[-1] == [{"role": "user", "content": "three"}]


@pytest.mark.slow
def test_strange_things_in_storage_do_not_stop_the_page(browser, tokenizer):
    with talking(browser, tokenizer, " fine") as page:
        for kept in ("{", "5", '{"a": 1}', "[null]", '[{"role": "root", "content": 1}]', '["x"]'):
            page.evaluate("kept => localStorage.setItem('tiny-llm-conversation', kept)", kept)
            page.reload()
            expect(page.locator(".turn")).to_have_count(0)
            say(page, "hello")
            assert finished(page) == "fine", kept


def posted(page: Page) -> list[dict]:
    """The bodies of the page's requests from now on."""
    bodies: list[dict] = []
    page.on("request", lambda request: bodies.append(json.loads(request.post_data or "{}")))
    return bodies


@pytest.mark.parametrize(
    ("content", "limits", "sent"),
    [
        (" ", Limits(), 99),  # a reply of nothing but a space is not refused either
        ("x", Limits(max_messages=4), 3),
        ("é" * 900, Limits(max_body_bytes=10_000), 11),  # 1837 bytes a reply, in JSON
        ("x" * 300, Limits(max_message_bytes=299), 1),
    ],
)
def test_a_long_conversation_never_outgrows_the_servers_limits(
    content, limits, sent, browser, tokenizer
):
    app = create_app(Reciter(" still here"), tokenizer, facts=FACTS, limits=limits)
    with served(app, limits) as address, opened(browser, address) as page:
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}] * 80
        page.evaluate("t => localStorage.setItem('tiny-llm-conversation', t)", json.dumps(turns))
        page.reload()
        expect(page.locator("#facts")).to_contain_text("812,345 parameters")
        choose(page, "system", "Be kind.")
        bodies = posted(page)
        say(page, "hello")
        assert finished(page, 81) == "still here"
        assert bodies[0]["messages"][0] == {"role": "system", "content": "Be kind."}
        assert len(bodies[0]["messages"]) - 1 == sent


def test_what_the_server_tells_is_shown_and_only_changed_settings_are_sent(browser, tokenizer):
    defaults = SamplingSettings(temperature=2.5, top_p=0.87, top_k=7, seed=5)
    limits = Limits(max_new_bytes=200)
    facts = FACTS | {"answered_by": ["decode", "block", "rms_norm", "attend", "softmax"]}
    app = create_app(Reciter(" ok"), tokenizer, facts=facts, limits=limits, defaults=defaults)
    with served(app, limits) as address, opened(browser, address) as page:
        expect(page.locator("#facts")).to_contain_text("812,345 parameters")
        own = "Answered by your own decode, block, rms_norm, attend and 1 more."
        expect(page.get_by_text(own, exact=True)).to_be_visible()
        shown = "[...document.querySelectorAll('output, .settings input')].map((e) => e.value)"
        assert page.evaluate(shown) == [
            *("2.5", "2.5", "0.87", "0.85", "7", "200", "5", ""),
            *("on", "1", "on"),
        ]
        assert page.locator("#max_new_bytes").get_attribute("max") == "200"
        bodies = posted(page)
        say(page, "hello")
        finished(page)
        assert bodies[0].keys() == {"messages", "stream"}
        choose(page, "top_k", "0")
        choose(page, "seed", "")
        say(page, "hello")
        finished(page, 2)
        assert bodies[1].keys() == {"messages", "stream", "top_k", "seed"}
        assert bodies[1]["top_k"] == 0 and bodies[1]["seed"] is None


def test_a_reload_in_the_middle_of_a_reply_offers_it_again(browser, tokenizer):
    with talking(browser, tokenizer, " " + "slow " * 20, seconds_a_byte=0.02) as page:
        say(page, "hello")
        expect(page.locator(".turn.assistant")).to_contain_text("slow")
        page.reload()
        expect(page.locator("#notice")).to_contain_text("was not finished")
        expect(page.locator(".turn.user")).to_have_text(["hello"])
        button(page, "Retry").click()
        expect(page.locator(".turn.assistant")).to_contain_text("slow")


def test_the_page_works_under_a_path_of_a_larger_site(browser, tokenizer):
    app = create_app(Reciter(" here"), tokenizer, facts=FACTS)
    app.wsgi_app = DispatcherMiddleware(NotFound(), {"/llm": app.wsgi_app})
    with served(app) as address, opened(browser, f"{address}/llm/") as page:
        expect(page.locator("#facts")).to_contain_text("812,345 parameters")
        say(page, "hello")
        assert finished(page) == "here"
