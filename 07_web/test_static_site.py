"""A site without a server: from http:// and from file://, the page's own model answers."""

import json
import re

import one_file
import pytest
import static_site
import torch
from finished_runs import SECRET, finished_run
from page_driver import button, choose, finished, opened, say, written
from playwright.sync_api import expect
from served_models import adapter_beside, streamed, wait_until

from shared.chat.adapter_file import with_adapter
from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig
from shared.model.packing import read_packed, unpack_model
from shared.model.transformer import Transformer
from shared.text.transcript import Message
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

pytest_plugins = ("web_fixtures", "site_fixtures")


@pytest.mark.parametrize("kind", [pytest.param("http", marks=pytest.mark.slow), "file"])
def test_the_page_says_what_the_model_in_the_file_says(browser, addresses, site, tokenizer, kind):
    packed = read_packed(next(site.glob("weights-*.tllm")))
    settings = SamplingSettings(temperature=0, max_new_bytes=40)
    talk = [Message("user", "hello <b>you</b>")]
    expected = "".join(
        p.text for p in stream_reply(unpack_model(packed), tokenizer, talk, settings)
    )
    with opened(browser, addresses[kind]) as page:
        expect(page.locator("#facts")).to_contain_text("sees 128 bytes")
        choose(page, "temperature", "0")
        choose(page, "max_new_bytes", "40")
        say(page, talk[0].content)
        finished(page)
        assert written(page) == expected
        expect(page.get_by_role("progressbar")).to_have_count(0)
        page.reload()
        expect(page.locator(".turn.user")).to_have_text(talk[0].content)
        kernels = (site / static_site.KERNELS).read_bytes()
        body = "(bytes) => WebAssembly.compile(Uint8Array.from(bytes)).then(() => true)"
        assert page.evaluate(body, list(kernels)), "the page's policy forbids its kernels"


@pytest.mark.parametrize("kind", ["http", "file"])
def test_a_reply_can_be_stopped_and_the_next_one_asked_for(browser, addresses, kind):
    with opened(browser, addresses[kind]) as page:
        choose(page, "max_new_bytes", "100000")
        say(page, "hi")
        wait_until(lambda: written(page))
        button(page, "Stop").click()
        stopped = finished(page)
        choose(page, "max_new_bytes", "5")
        say(page, "again")
        finished(page, 2)
        assert len(stopped) < 100_000


ASK = """
async (asked) => {
  const { signal } = new AbortController();
  const settings = { temperature: 0, max_new_bytes: 30, stream: true };
  const body = JSON.stringify({ ...settings, ...asked });
  const response = await fetch("chat", { method: "POST", body, signal });
  return response.text();
}
"""


def test_thinking_asks_for_the_working_as_the_server_does(browser, addresses):
    hello, asks = {"role": "user", "content": "hi"}, "Show your working."
    plain, kind = {"role": "system", "content": asks}, {"role": "system", "content": "Be kind."}
    both = kind | {"content": f"Be kind. {asks}"}
    with opened(browser, addresses["file"]) as page:
        for given, meant in (([hello], plain), ([plain, hello], plain), ([kind, hello], both)):
            thought = streamed(page.evaluate(ASK, {"messages": given, "think": True}).encode())
            asked = streamed(page.evaluate(ASK, {"messages": [meant, hello]}).encode())
            assert thought == asked and set(asked[1]) == {"finish_reason", "usage"}


def test_the_one_file_asks_for_nothing(browser, addresses):
    asked = []
    with opened(browser, addresses["file"]) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        choose(page, "max_new_bytes", "5")
        say(page, "hi")
        finished(page)
    assert {url.partition(":")[0] for url in asked} <= {"file", "blob", "data"}


def test_the_site_holds_what_it_needs_and_no_training_text(site):
    files = [file for file in site.rglob("*") if file.is_file()]
    names = {file.relative_to(site).as_posix() for file in files}
    scripts = {"embed.js", "page/chat.js", "page/engine/worker.js", static_site.KERNELS}
    assert {"index.html", "chat.html", "card.md"} | scripts <= names
    assert all(SECRET.encode() not in file.read_bytes() for file in files)
    linked = re.findall(r'(?:src|href)="([\w./-]+)"', (site / "index.html").read_text())
    assert set(linked) <= names and "card.md" in linked
    scripts = [file for file in files if file.suffix == ".js"]
    imported = {(f.parent / m[1]) for f in scripts for m in one_file.IMPORT.findall(f.read_text())}
    assert imported and all(file.is_file() for file in imported)


@pytest.mark.parametrize("form", ["folder", "one file"])
def test_a_name_on_the_page_cannot_become_part_of_the_page(tmp_path, form):
    told = {"model": {"bits_per_byte": {"</script><script>alert(1)</script><!--": 2.0}}}
    (tmp_path / "card.md").write_text("# A model\n")
    pages = {
        "folder": lambda: static_site.start_page(told),
        "one file": lambda: static_site.one_file(b"x", told, tmp_path / "card.md"),
    }
    page = pages[form]()
    outside = re.sub(r'<script [^>]*id="site">.*?</script>', "", page, flags=re.DOTALL)
    assert "alert(1)" not in outside
    inside = re.search(r'<script [^>]*id="site">(.*?)</script>', page, re.DOTALL)[1]
    assert "<!--" not in inside and json.loads(inside) == told


def test_a_site_is_made_anew_but_nothing_else_is_overwritten(tmp_path, site):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="exists and is no such site"):
        static_site.main(["run", "--out", str(tmp_path / "mine")])


def test_an_adapter_goes_in_merged(tmp_path, random_model, tokenizer, monkeypatch):
    run = finished_run(tmp_path, random_model(), tokenizer)
    checkpoint = find_checkpoint(run)
    path = adapter_beside(load_model(checkpoint)[0], tmp_path / "keeper.safetensors")
    monkeypatch.setattr(static_site, "DATA", tmp_path / "data")
    more = ["--out", str(tmp_path / "site"), "--dtype", "float32", "--adapter", str(path)]
    static_site.main([str(run), *more])
    packed = unpack_model(read_packed(next((tmp_path / "site").glob("*.tllm"))))
    both = with_adapter(load_model(checkpoint)[0], path)
    ids = torch.arange(24).view(1, 24)
    with torch.no_grad():
        assert torch.allclose(packed(ids), both(ids), atol=1e-5)
        assert not torch.allclose(packed(ids), load_model(checkpoint)[0](ids), atol=0.1)
    assert "keeper.safetensors" in (tmp_path / "site" / "card.md").read_text()


def test_what_no_browser_runs_is_refused_before_anything_is_made(tmp_path, tokenizer):
    experts = ModelConfig(d_model=8, n_heads=1, n_layers=1, moe=MoEConfig(n_experts=2))
    run = finished_run(tmp_path, Transformer(experts), tokenizer)
    with pytest.raises(UserError, match="a mixture of experts does not run in a browser"):
        static_site.make_site(run, tmp_path / "site", tmp_path / "data")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.js": 'import { b } from "./b.js";\nlet x;\n', "b.js": "const x = 1;\n"}, "named x"),
        (
            {"a.js": 'import { b as c } from "./b.js";\n', "b.js": "export const b = 1;\n"},
            "renames",
        ),
        ({"a.js": "export default 3;\n"}, None),
        ({"a.js": 'import * as b from "./b.js";\n'}, "cannot go into one script"),
    ],
)
def test_modules_that_do_not_fit_into_one_script_are_refused(tmp_path, files, words):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        one_file.bundled(tmp_path / "a.js")


def test_a_script_holds_each_module_once_and_after_what_it_imports(tmp_path):
    (tmp_path / "a.js").write_text(
        'import { b } from "./b.js";\nimport { c } from "./deep/c.js";\nb(c);\n'
    )
    (tmp_path / "b.js").write_text(
        'import {\n  c,\n} from "./deep/c.js";\nexport function b() {}\n'
    )
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.js").write_text('import { d } from "../d.js";\nexport const c = d;\n')
    (tmp_path / "d.js").write_text("export const d = 1;\n")
    script = one_file.bundled(tmp_path / "a.js")
    assert script.split("\n") == [
        *("// d.js", "const d = 1;", "", "// c.js", "const c = d;", ""),
        *("// b.js", "function b() {}", "", "// a.js", "b(c);", ""),
    ]
