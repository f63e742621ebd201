"""Many clients at once: how fast, how soon, how many refused. Only ever against this machine.

python 07_web/load_test.py                                    # 1, 2, 4 ... 64 clients, one table
python 07_web/load_test.py --clients 32 --requests 8
python 07_web/load_test.py --address http://127.0.0.1:8000    # a server that runs already
python 07_web/load_test.py --figure 07_web/figures/clients.png

Each client asks, reads its reply to the end and asks again, as often as --requests says, unless the
time is up. A client that gets a 503 waits as long as it was told to. Without --address a server
is started for the test, on a free port, and ended after it. Bytes per second of the server's own
processor time tell what its work costs, even where other programs want the processor too.
"""

import ipaddress
import json
import math
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from jsonargparse import ArgumentParser

from shared.errors import UserError, one_line_errors

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
QUESTIONS = ("hello", "What are you?", "how does attention work?", "thank you")
MOST = {"clients": 256, "requests": 10_000, "seconds": 600}


COUNTS = [1, 2, 4, 8, 16, 32, 64]
HEADER = """
clients       ok   503  failed  bytes/s  bytes per CPU second  first byte: median       p95
"""[1:-1]


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    status: int
    first_byte: float = 0.0
    """seconds since it was sent"""
    reply_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """What so many clients at once saw; times in seconds."""

    clients: int
    ok: int
    refused: int
    failed: int
    rate: float
    per_cpu_second: float
    median: float
    p95: float

    def line(self) -> str:
        """A line of the table."""
        cost = f"{self.per_cpu_second:22,.0f}" if self.per_cpu_second else f"{'-':>22}"
        counts = f"{self.clients:7}{self.ok:9}{self.refused:6}{self.failed:8}{self.rate:9,.0f}"
        return f"{counts}{cost}{1000 * self.median:16,.0f} ms{1000 * self.p95:7,.0f} ms"


def main(arguments: list[str]) -> None:
    """Parses the command line, runs the clients, prints a row for each number of them."""
    parser = ArgumentParser(description="Asks a server on this machine from many clients at once.")
    parser.add_argument("--clients", type=int, nargs="+", default=COUNTS, help="at the same time")
    parser.add_argument("--requests", type=int, default=4, help="that each client sends")
    parser.add_argument("--seconds", type=float, default=120.0, help="no request begins after this")
    parser.add_argument("--max_new_bytes", type=int, default=100, help="bytes a reply may have")
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="the model to serve")
    parser.add_argument("--address", default="", help="a running server on this machine")
    parser.add_argument("--figure", default="", help="a PNG file to draw")
    options = parser.parse_args(arguments)
    for name, value in (
        ("clients", max(options.clients)),
        ("clients", min(options.clients)),
        *((name, getattr(options, name)) for name in ("requests", "seconds")),
    ):
        if not 0 < value <= MOST[name]:
            raise UserError(f"{name} is {value}; expected more than 0, at most {MOST[name]}")
    server = own_server(options.checkpoint)
    if options.address:
        server = nullcontext((loopback(options.address), None))
    with server as (address, process):
        ask(address, 0, options.max_new_bytes)  # the first reply of all finds everything cold
        print(HEADER, flush=True)
        rows = []
        for clients in options.clients:
            rows.append(measured(address, clients, options, process))
            print(rows[-1].line(), flush=True)
    if options.figure:
        draw(rows, Path(options.figure))


def loopback(address: str) -> str:
    """The address, if it leads to this machine.

    Raises:
        UserError: it leads elsewhere or nowhere. Load on other people's servers does harm.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port  # raises where it is no port
        here = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here or parts.scheme != "http":
        raise UserError(
            f"{address} is no address on this machine; expected such as http://127.0.0.1:8000"
        )
    return address.rstrip("/")


@contextmanager
def own_server(checkpoint: str) -> Iterator[tuple[str, psutil.Process]]:
    """Runs `serve.py` on a free port; yields its address and process."""
    script = Path(__file__).with_name("serve.py")
    process = subprocess.Popen(
        [sys.executable, str(script), "--checkpoint", checkpoint, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = [word for word in process.stdout.readline().split() if word.startswith("http://")]
        if not found:
            raise UserError(process.stderr.read().strip().removeprefix("error: "))
        yield found[0], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def measured(address: str, clients: int, options: Any, process: psutil.Process | None) -> "Row":
    """What so many clients at once see."""
    before = processor_seconds(process)
    outcomes, seconds = run_clients(address, clients, options)
    used = processor_seconds(process) - before
    good = [outcome for outcome in outcomes if outcome.status == 200]
    sent = sum(outcome.reply_bytes for outcome in good)
    waits = sorted(outcome.first_byte for outcome in good) or [0.0]
    refused = sum(outcome.status == 503 for outcome in outcomes)
    return Row(
        clients,
        len(good),
        refused,
        len(outcomes) - len(good) - refused,
        sent / seconds,
        sent / used if used else 0.0,
        statistics.median(waits),
        waits[math.ceil(0.95 * len(waits)) - 1],
    )


def processor_seconds(process: psutil.Process | None) -> float:
    """That a process has used so far; 0 where it is somebody else's."""
    return sum(process.cpu_times()[:2]) if process else 0.0


def run_clients(address: str, clients: int, options: Any) -> tuple[list[Outcome], float]:
    """All outcomes, and the seconds from the first request to the end of the last reply."""
    outcomes: list[Outcome] = []
    start = time.monotonic()

    def client(first: int) -> None:
        for number in range(first, first + options.requests):
            if time.monotonic() - start > options.seconds:
                return
            outcome, wait = ask(address, number, options.max_new_bytes)
            outcomes.append(outcome)
            time.sleep(min(wait, max(0.0, start + options.seconds - time.monotonic())))

    starts = range(0, clients * options.requests, options.requests)
    threads = [threading.Thread(target=client, args=(first,)) for first in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes, time.monotonic() - start


def ask(address: str, number: int, max_new_bytes: int) -> tuple[Outcome, float]:
    """Sends one seeded request; returns what became of it and the seconds to wait after it."""
    asked = {
        "messages": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
        "seed": number,
        "max_new_bytes": max_new_bytes,
        "stream": True,
    }
    body = json.dumps(asked).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/chat", body, kind)
    start = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=180) as response:
            received = response.readline()
            first_byte = time.monotonic() - start
            received += response.read()
            usage = json.loads(received.rstrip().rsplit(b"data: ", 1)[1])["usage"]
    except urllib.error.HTTPError as error:
        return Outcome(error.code), float(error.headers.get("Retry-After", 0))
    except (OSError, ValueError, LookupError):  # no connection, or a reply without its end
        return Outcome(0), 0.0
    return Outcome(200, first_byte, usage["reply_bytes"]), 0.0


def draw(rows: list[Row], path: Path) -> None:
    """The table as two curves: what all get together, and how long one waits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (rate, wait) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    clients = [row.clients for row in rows]
    rate.plot(clients, [row.rate for row in rows], "o-", label="a second")
    if all(row.per_cpu_second for row in rows):
        costs = [row.per_cpu_second for row in rows]
        rate.plot(clients, costs, "o--", label="a processor second")
    rate.set(title="all replies together", ylabel="bytes", ylim=(0, None))
    rate.legend()
    wait.plot(clients, [1000 * row.median for row in rows], "o-", label="median")
    wait.plot(clients, [1000 * row.p95 for row in rows], "o--", label="95th percentile")
    wait.set(title="to the first byte", ylabel="ms", yscale="log")
    wait.legend()
    for axes in (rate, wait):
        axes.set_xscale("log", base=2)
        axes.set(xlabel="clients at once", xticks=clients, xticklabels=clients)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
