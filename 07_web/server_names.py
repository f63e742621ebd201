"""Under which names this server may be asked: without this check a page could take it over.

A page of evil.example may let its own name lead to 127.0.0.1, for names lead where their owner
wants (DNS rebinding). To the browser your server is then a part of that page's site, which may
ask it anything and read the answers. The `Host` header tells under which name a browser came.
"""

import ipaddress
import re
from collections.abc import Sequence

from chat_request import BadRequest
from flask import Flask, request

from shared.errors import UserError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
HOST = re.compile(r"(\[[\da-f:.]+\]|[\w.-]+)(?::\d*)?", re.IGNORECASE)  # a name, maybe a port


def guard_names(app: Flask, bound_to: str, allowed: Sequence[str], behind_proxy: bool) -> None:
    """Refuses requests at every address with 403 if they came under a name that is not ours.

    Ours are the names of the loopback, the one it is bound to, and those in `allowed`. If other
    machines can reach it, so is every plain IP address: what is not looked up cannot be led
    astray. Behind a proxy, and with none in `allowed`, any name is: the proxy knows its own.

    Raises:
        UserError: an entry of `allowed` is no plain name or address.
    """
    names = {checked_name(name) for name in allowed} | {*LOOPBACK, bracketed(bound_to)}
    is_open = bracketed(bound_to) not in LOOPBACK and not bound_to.startswith("127.")

    @app.before_request
    def refuse_other_names() -> None:
        given = request.headers.get("Host")
        if given is None or (behind_proxy and not allowed):  # no browser leaves Host out
            return
        match = HOST.fullmatch(given)
        name = match[1].lower() if match else ""
        if name not in names and not (is_open and is_address(name)):
            told = "if it is one of this server's names, start it with --allowed-host NAME"
            raise BadRequest(403, "Host", f"{given[:100]!r} is not served here: {told}")


def checked_name(name: str) -> str:
    """The name as browsers write it: lower case, an IPv6 address in brackets."""
    plain = bracketed(name)
    match = HOST.fullmatch(plain)
    if match is None or match[1] != plain:
        raise UserError(f"allowed host is {name!r}; expected a name without port: example.org")
    return plain


def bracketed(host: str) -> str:
    """The host in lower case; an IPv6 address in the brackets that addresses of pages need."""
    host = host.lower()
    return f"[{host}]" if ":" in host and is_address(host) else host


def is_address(host: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
