"""Makes a site whose model runs in the visitor's browser: for any static host, for nothing.

    python 07_web/static_site.py 05_full_run/runs/quick --out site
    python 07_web/static_site.py RUN --out site --dtype float32
    python 07_web/static_site.py RUN --out site --snapshots     # also in chat.html
    python 07_web/static_site.py RUN --out site --adapter RUN-sft/adapter.safetensors

`site/` goes to any host that serves files. `site/chat.html` alone is all of it once more: it
chats when it is double-clicked, without a network. What is published goes through the checks of
`publish.py`; the run's card lies beside the page, and the page links to it. The run's snapshots,
for the page's time machine, lie in the folder; in the one file only if asked for, as they make
it many times as large.
"""

import base64
import json
import shutil
import sys
import tempfile
import zlib
from argparse import ArgumentParser, BooleanOptionalAction
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chat_request import Limits
from given_snapshots import TOLD, told_to_the_page
from given_weights import refuse_what_no_browser_runs
from model_facts import facts_of, tokenizer_of
from one_file import bundled, in_one_file, inside_script, policy_tag
from publish import DATA, QUICK_RUN, console, publish

from shared.chat.sampling import SamplingSettings
from shared.errors import UserError, one_line_errors
from shared.files import atomic_folder, user_path
from shared.model.packing import Dtype, pack_weights
from shared.model.transformer import Transformer
from shared.model.weights import load_weights
from shared.text.drills import SHOW_WORKING
from shared.training.card import CARD_FILE
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.snapshots import FOLDER, list_snapshots

PAGE = Path(__file__).with_name("page")
ENGINE = PAGE / "engine"
DTYPES = ("int8", "float16", "float32")
KERNELS, ONE_FILE, START = "page/engine/matvec.wasm", "chat.html", "index.html"
CHOICE = "page/engine/choice.js"  # between server and browser: of the served page
EMBED = "embed.js"  # stands beside the page that it shows
SITE_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "img-src": "'self' data:",
}


def main(arguments: list[str]) -> None:
    """Parses the command line, makes the site, says what is in it."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default=str(QUICK_RUN), help="a finished run's folder")
    parser.add_argument("--out", required=True, help="the folder to make, or to make anew")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="int8", help="numbers of the site's weights"
    )
    parser.add_argument("--adapter", metavar="FILE", help="what LoRA has learned; it is merged in")
    parser.add_argument(
        "--snapshots", action=BooleanOptionalAction, help="put them into chat.html too; or nowhere"
    )
    options = parser.parse_args(arguments)
    run, out = user_path(options.run), user_path(options.out)
    if out.exists() and not (out / ONE_FILE).is_file():
        raise UserError(f"{out} exists and is no such site: name another folder")
    adapter = None if options.adapter is None else user_path(options.adapter)
    make_site(run, out, DATA, options.dtype, adapter, options.snapshots)
    for name, size in sizes(out).items():
        console.print(f"{name:24} {size:12,} bytes")
    console.print(f"open {out / ONE_FILE} in a browser, or put {out} onto any host of files")


def make_site(
    run: Path,
    out: Path,
    data_folder: Path,
    dtype: Dtype = "int8",
    adapter: Path | None = None,
    snapshots: bool | None = None,
) -> None:
    """Writes the folder, and the one file in it.

    Args:
        snapshots: True: also in the one file; None: only in the folder; False: in neither.
            With an adapter there are none: they are the past of another model.

    Raises:
        UserError: the run is not finished, or holds what may not be published; the adapter is
            missing or another model's; the model is a mixture of experts, or its tokenizer is
            one that the page does not know.
    """
    with tempfile.TemporaryDirectory() as checked, atomic_folder(out) as place:
        published = Path(checked) / "published"
        given = snapshots is not False and adapter is None and bool(list_snapshots(run))
        publish(run, published, data_folder, adapter, given)
        model, tokenizer = load_weights(published), tokenizer_of(published)
        refuse_what_no_browser_runs(model.config.moe.n_experts, tokenizer)
        facts = answers(model.count_parameters(), facts_of(model, find_checkpoint(run)))
        card, past = published / CARD_FILE, run if snapshots and given else None
        small = packed(place, model, tokenizer, "int8").read_bytes()
        (place / ONE_FILE).write_text(one_file(small, facts, card, past), encoding="utf-8")
        weights = packed(place, model, tokenizer, dtype)
        name = f"weights-{zlib.crc32(weights.read_bytes()):08x}.tllm"  # another model, another name
        weights.rename(place / name)
        copy_page(place, card)
        facts |= {"weights": name, "wasm": KERNELS}
        if given:
            shutil.copytree(published / FOLDER, place / FOLDER)
            (place / TOLD).write_text(json.dumps(told_to_the_page(run)), encoding="utf-8")
            facts |= {FOLDER: TOLD}
        (place / START).write_text(start_page(facts), encoding="utf-8")


def packed(place: Path, model: Transformer, tokenizer: dict[str, Any], dtype: Dtype) -> Path:
    """The weights as a file for browsers, under a name for now."""
    pack_weights(place / "packed", model, tokenizer, dtype)
    return place / "packed"


def copy_page(place: Path, card: Path) -> None:
    """Puts all that the page asks for beside it, and the card."""
    for name, file in site_files().items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(file.read_bytes())
    (place / CARD_FILE).write_bytes(card.read_bytes())


def answers(parameters: int, facts: dict[str, Any]) -> dict[str, Any]:
    """What the server's `healthz` would answer."""
    model = {"parameters": parameters, **facts}
    limits = Limits().of_one_request() | {"max_candidates": 1}  # a worker writes one at a time
    told = {"limits": limits, "defaults": asdict(SamplingSettings())}
    return {"status": "ok", "model": model, **told, "show_working": SHOW_WORKING}


def site_files() -> dict[str, Path]:
    """All that the page asks for, but for the page itself, by its place in the site."""
    parts = (file for file in sorted(PAGE.rglob("*")) if file.suffix in (".js", ".css", ".wasm"))
    named = {file.relative_to(PAGE.parent).as_posix(): file for file in parts}
    return {EMBED: named.pop(f"page/{EMBED}")} | {n: f for n, f in named.items() if n != CHOICE}


def sizes(site: Path) -> dict[str, int]:
    """Bytes of each thing in the site; a folder's are those of all that is in it."""
    files = {part: (part.rglob("*") if part.is_dir() else [part]) for part in site.iterdir()}
    sums = {part.name: sum(f.stat().st_size for f in inside) for part, inside in files.items()}
    return dict(sorted(sums.items()))


def page_text(head: str, card: str) -> str:
    """The server's page with more in its head, no choice, and a link to the card at its end."""
    page = (PAGE / "chat.html").read_text(encoding="utf-8")
    page = page.replace(f'  <script src="{CHOICE}" type="module"></script>\n', "")
    link = f'<p class="honest"><a {card}>What this model was trained on</a></p>\n  </footer>'
    return page.replace("<head>", f"<head>\n{head}", 1).replace("</footer>", link, 1)


def start_page(facts: dict[str, Any]) -> str:
    """`index.html`: the server's page, with the model's module before the page's own."""
    data = f'<script type="application/json" id="site">{inside_script(facts)}</script>'
    here = '<script src="page/engine/here.js" type="module"></script>'
    head = f"{policy_tag(SITE_POLICY)}\n{data}\n{here}"
    return page_text(head, f'target="_blank" href="{CARD_FILE}"')


def one_file(
    weights: bytes, facts: dict[str, Any], card: Path, with_snapshots: Path | None = None
) -> str:
    """`chat.html`: styles, scripts, worker and weights inside, and a run's snapshots if given."""
    past = {}
    if with_snapshots:
        facts = facts | {FOLDER: TOLD}
        past = {FOLDER: inside_script(told_to_the_page(with_snapshots, inside=True))}
    parts = {
        "site": inside_script(facts),
        "weights": base64.b64encode(weights).decode(),
        "kernels": base64.b64encode((PAGE.parent / KERNELS).read_bytes()).decode(),
        "worker": '"use strict";\n' + bundled(ENGINE / "worker.js"),
        **past,
    }
    inside = base64.b64encode(card.read_bytes()).decode()
    page = page_text("", f'download="{CARD_FILE}" href="data:text/markdown;base64,{inside}"')
    return in_one_file(page, PAGE, [ENGINE / "here.js"], parts)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
