"""The browser's engine in a real Chromium: a server for its modules, a page that imports them."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

PAGE = Path(__file__).resolve().parents[1] / "page"
ENGINE = PAGE / "engine"


class _Files(SimpleHTTPRequestHandler):
    """Serves a folder, the modules below `/engine/` and `/glass/`, and files as odd hosts do.

    Half of one below `/cut/`, half of one whose size nobody tells below `/cut-chunks/`, and below
    `/packed/` one that grew when the host compressed it.
    """

    def do_GET(self) -> None:
        _, kind, file = f"{self.path}/".split("/", 2)
        if kind not in ("cut", "cut-chunks", "packed"):
            return super().do_GET()
        data = (Path(self.directory) / file.rstrip("/")).read_bytes()
        half = data[: len(data) // 2]
        if kind == "cut":
            self.answer(half, {"Content-Length": str(len(data))})
        elif kind == "cut-chunks":
            self.answer(b"%x\r\n%b\r\n" % (len(half), half), {"Transfer-Encoding": "chunked"})
        else:
            packed = gzip.compress(data, compresslevel=0)
            size = {"Content-Length": str(len(packed))}
            self.answer(packed, size | {"Content-Encoding": "gzip"})

    def answer(self, body: bytes, headers: dict[str, str]) -> None:
        """Sends the body as it is, and closes the connection."""
        self.protocol_version, self.close_connection = "HTTP/1.1", True
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def translate_path(self, path: str) -> str:
        if path.startswith(("/engine/", "/glass/")):
            return str(PAGE / path[1:].partition("?")[0])
        return super().translate_path(path)

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """The address at which `folder` and the engine are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def engine_page(browser: Browser, folder: Path) -> Iterator[Page]:
    """An empty page of that server, on which `run` can be called."""
    (folder / "index.html").write_text("<!doctype html><title>engine</title>", encoding="utf-8")
    with files_served(folder) as address:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        try:
            yield page
        finally:
            page.close()


def run(page: Page, modules: dict[str, str], body: str, given: Any = None) -> Any:
    """What the JavaScript `body` returns, in which `given` is what was given.

    Args:
        modules: module -> the names imported from it, such as {"model": "read, newCache"}.
    """
    imports = "".join(
        f'const {{ {names} }} = await import("/engine/{module}.js");\n'
        for module, names in modules.items()
    )
    return page.evaluate(f"async (given) => {{ {imports}{body} }}", given)
