"""The browser's engine in a real Chromium: a server for its modules, a page that imports them."""

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
    """Serves a folder, the modules below `/engine/` and `/glass/`, below `/cut/` half of a file."""

    def do_GET(self) -> None:
        if not self.path.startswith("/cut/"):
            return super().do_GET()
        data = (Path(self.directory) / self.path.removeprefix("/cut/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])

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
    (folder / "index.html").write_text("<!doctype html><title>engine</title>")
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
