"""Published weights: one folder from finished stages, and the whole way from it to a chat."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import export
import publish_weights
import pytest
import serve
import static_site
from finished_runs import SECRET, finished_run, keep_snapshots
from given_snapshots import told_to_the_page

from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.training.checkpoint import load_model
from shared.training.loss_history import told_snapshots

CARD = """# Model card

| | |
| --- | --- |
| trained | {steps} steps, 64 tokens |
| command | `python {script}` |

## Data

| corpus | weight |
| --- | --- |
| primer | 1 |

## Samples

```text
cards of runs have samples of their own
```

## Limits

Tiny.
"""
PAGES = {
    "held_out.md": "# On documents never trained on\n\n"
    "`python 05_full_run/held_out.py tuned --out tuned` (cpu)\n\n| stories | 1.70 |\n",
    "ledger.md": "# Ledger\n\n`python 06_chat/exam.py tuned`\n\n"
    "## tuned, skill by skill\n\n| spelling | 98 |\n",
    "samples.md": "# Samples\n\n`python 06_chat/samples.py tuned --out tuned`: seed 0.\n\n"
    f"```text\nuser: hello\nassistant: Hello!\n```\n\n```text\n{SECRET}\n```\n",
}


@pytest.fixture
def stages(tmp_path, tiny_config, tokenizer) -> tuple[Path, Path]:
    """A first training with snapshots and a stage after it, both finished, with all pages."""
    folders = []
    for name, script in (("base", "05_full_run/full_run.py"), ("tuned", "06_chat/finetune.py")):
        model = Transformer(replace(tiny_config, context_length=128))
        run = finished_run(tmp_path / name, model, tokenizer, SECRET.encode() * 20)
        folders.append(run.rename(run.with_name(name)))
        (folders[-1] / "card.md").write_text(CARD.format(steps=len(folders), script=script))
    models = [Transformer(tiny_config) for _ in range(3)]
    keep_snapshots(folders[0], models, tokenizer)
    for name, text in PAGES.items():
        (folders[1] / name).write_text(text)
    return folders[0], folders[1]


@pytest.fixture
def published(stages, tmp_path) -> Path:
    base, tuned = stages
    publish_weights.publish_weights(base, tuned, tmp_path / "published", tuned.parent / "data")
    return tmp_path / "published"


def test_weights_are_the_last_stages_and_the_past_is_the_firsts(stages, published):
    base, tuned = stages
    last = tuned / "checkpoints" / "step-0000001"
    assert {file.name for file in published.iterdir()} == {
        *("model.safetensors", "model.json", "tokenizer.json", "card.md"),
        *("metrics.jsonl", "snapshots", "checksums.json"),
    }
    for file in ("model.safetensors", "tokenizer.json"):
        assert (published / file).read_bytes() == (last / file).read_bytes()
    told, known = told_snapshots(published), told_snapshots(base)
    assert [one["step"] for one in told] == [one["step"] for one in known] == [1, 10, 100]
    for one, other in zip(told, known, strict=True):
        assert one["bytes"] == other["bytes"]
        assert one["bits_per_byte"] == pytest.approx(other["bits_per_byte"], abs=0.05)
    curves = (dict(told_to_the_page(run)["curve"]) for run in (published, base))
    for mine, theirs in zip(*(curve.values() for curve in curves), strict=True):
        assert mine == pytest.approx(theirs, abs=0.05)


def test_the_card_tells_of_all_and_its_commands_ask_the_published_folder(published, tmp_path):
    card = (published / "card.md").read_text()
    headings = re.findall(r"^(#+ .*)", card, re.MULTILINE)
    assert headings == [
        *("# Model card", "## Texts", "## First training", "### Data", "## Then replies alone"),
        *("### Data", "## On documents never trained on", "## Ledger"),
        *("### published, skill by skill", "## Samples", "## Limits"),
    ]
    assert "`python 05_full_run/held_out.py 05_full_run/published` (cpu)" in card
    assert "`python 06_chat/exam.py 05_full_run/published`" in card
    assert "`python 06_chat/samples.py 05_full_run/published`: seed 0." in card
    assert "CC BY-SA" in card and "public domain" in card
    assert "1 steps" in card and "2 steps" in card
    assert "cards of runs" not in card and str(tmp_path) not in card
    assert "Hello!" in card and "treasure" not in card


def test_of_many_snapshots_a_few_are_published_the_first_and_the_last_among_them():
    found = [Path(f"step-{n}") for n in range(16)]
    assert publish_weights.spread(found, 6) == [found[n] for n in (0, 3, 6, 9, 12, 15)]
    assert publish_weights.spread(found[:3], 6) == found[:3]
    assert publish_weights.spread([], 6) == []


def test_what_is_not_ready_or_too_large_is_refused_and_nothing_is_made(
    stages, tmp_path, monkeypatch
):
    base, tuned = stages
    out, data = tmp_path / "published", tuned.parent / "data"
    (tuned / "ledger.md").rename(tuned / "aside")
    with pytest.raises(UserError, match=r"no ledger.md in .*: write it with 06_chat/exam.py"):
        publish_weights.publish_weights(base, tuned, out, data)
    (tuned / "aside").rename(tuned / "ledger.md")
    (base / "card.md").rename(base / "aside")
    with pytest.raises(UserError, match=r"no card.md in .*: let the run finish first"):
        publish_weights.publish_weights(base, tuned, out, data)
    monkeypatch.setattr(publish_weights, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match=r"bytes; at most 1,000 are published"):
        publish_weights.publish_weights(base, tuned, out, data)
    assert not out.exists()


def test_a_clone_without_any_text_chats_looks_back_exports_and_makes_a_site(
    published, stages, tmp_path, monkeypatch
):
    for run in stages:
        shutil.rmtree(run.parent)
    assert load_model(published)[0].config.context_length == 128
    apps = []
    monkeypatch.setattr(serve, "build_server", lambda app, *_: apps.append(app) or (None, {}))
    monkeypatch.setattr(serve, "serve_until_told", lambda *_: None)
    serve.main(["--checkpoint", str(published), "--device", "cpu"])
    client = apps[0].test_client()
    asked = {"messages": [{"role": "user", "content": "hello"}], "max_new_bytes": 5}
    assert client.post("/chat", json=asked).status_code == 200
    told = client.get("/healthz").get_json()["in_browser"]
    assert client.get(told["weights"]).status_code == 200
    assert len(client.get(told["snapshots"]).get_json()["snapshots"]) == 3
    static_site.main([str(published), "--out", str(tmp_path / "site"), "--snapshots"])
    assert "step-0000010" in (tmp_path / "site" / "snapshots.json").read_text()
    assert (tmp_path / "site" / "chat.html").stat().st_size > 100_000
    export.main([str(published), "--to", "transformers", "--out", str(tmp_path / "theirs")])
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["max_position_embeddings"] == 128
