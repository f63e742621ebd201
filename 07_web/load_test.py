"""Many clients at once: how many replies, how soon, how fast. Only ever against this machine.

python 07_web/load_test.py --clients 32 --requests 64
python 07_web/load_test.py --address http://127.0.0.1:8000    # a server that runs already

Each client asks, reads its reply to the end and asks again, until all requests together are
used up or the time is. A client that gets a 503 waits as long as it was told to. Without
--address a server is started for the test, on a free port, and ended after it.
"""

import ipaddress
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from jsonargparse import ArgumentParser

from shared.errors import UserError, one_line_errors

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
QUESTIONS = ("hello", "What are you?", "how does attention work?", "thank you")
MOST = {"clients": 256, "requests": 10_000, "seconds": 600}


@dataclass(frozen=True)
class Outcome:
    """What became of one request; times in seconds since it was sent."""

    status: int
    first_byte: float = 0.0
    end: float = 0.0
    queue: float = 0.0
    reply_bytes: int = 0


def main(arguments: list[str]) -> None:
    """Parses the command line, runs the clients, prints one table."""
    parser = ArgumentParser(description="Asks a server on this machine from many clients at once.")
    parser.add_argument("--clients", type=int, default=32, help="threads that ask at the same time")
    parser.add_argument("--requests", type=int, default=64, help="requests of all clients together")
    parser.add_argument("--seconds", type=float, default=120.0, help="no request begins after this")
    parser.add_argument("--max_new_bytes", type=int, default=100, help="bytes a reply may have")
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="the model to serve")
    parser.add_argument("--address", default="", help="a running server on this machine")
    options = parser.parse_args(arguments)
    for name, most in MOST.items():
        value = getattr(options, name)
        if not 0 < value <= most:
            raise UserError(f"{name} is {value}; expected more than 0, at most {most}")
    if options.address:
        outcomes, seconds = run_clients(loopback(options.address), options)
    else:
        with own_server(options.checkpoint) as address:
            outcomes, seconds = run_clients(address, options)
    print("\n".join(table(outcomes, seconds)))


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
def own_server(checkpoint: str) -> Iterator[str]:
    """Runs `serve.py` on a free port and yields its address."""
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
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def run_clients(address: str, options: object) -> tuple[list[Outcome], float]:
    """All outcomes, and the seconds from the first request to the end of the last reply."""
    outcomes: list[Outcome] = []
    numbers = count()
    lock = threading.Lock()
    start = time.monotonic()

    def client() -> None:
        while time.monotonic() - start < options.seconds:
            with lock:
                number = next(numbers)
            if number >= options.requests:
                return
            outcome, wait = ask(address, number, options.max_new_bytes)
            with lock:
                outcomes.append(outcome)
            time.sleep(min(wait, max(0.0, start + options.seconds - time.monotonic())))

    threads = [threading.Thread(target=client) for _ in range(options.clients)]
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
    end = time.monotonic() - start
    return Outcome(200, first_byte, end, usage["queue_seconds"], usage["reply_bytes"]), 0.0


def table(outcomes: list[Outcome], seconds: float) -> list[str]:
    """One row a fact."""
    good = [outcome for outcome in outcomes if outcome.status == 200]
    refused = sum(outcome.status == 503 for outcome in outcomes)
    rows: list[tuple[str, str]] = [
        ("requests", str(len(outcomes))),
        ("ok", str(len(good))),
        ("503, told to come back", str(refused)),
        ("other failures", str(len(outcomes) - len(good) - refused)),
    ]
    for name, label in (
        ("first_byte", "to the first byte"),
        ("end", "to the end"),
        ("queue", "in the queue"),
    ):
        values = sorted(getattr(outcome, name) for outcome in good) or [0.0]
        rows.append((f"{label}, median s", f"{statistics.median(values):.3f}"))
        rows.append((f"{label}, p95 s", f"{values[int(0.95 * (len(values) - 1))]:.3f}"))
    sent = sum(outcome.reply_bytes for outcome in good)
    rows += [("all of it, s", f"{seconds:.1f}"), ("bytes/s in all", f"{sent / seconds:.0f}")]
    return ["-" * 36, *(f"{label:26}{value:>10}" for label, value in rows), "-" * 36]


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
