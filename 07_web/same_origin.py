"""Which web pages may chat with this server: its own, and those it was told of.

A browser says in the `Origin` header which page a request comes from. Without this check any
page that you happen to visit could use the model on your machine. Programs such as curl send
no `Origin`; they are not browsers and are let through.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from chat_request import BadRequest
from flask import Flask, Response, request

from shared.errors import UserError

SHARED_PATHS = ("/chat", "/healthz", "/v1/models", "/v1/chat/completions")
CORS_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST",
    # Programs send a key, and headers about themselves; `*` does not stand for Authorization.
    "Access-Control-Allow-Headers": "*, Authorization, Content-Type",
    "Access-Control-Expose-Headers": "Retry-After",
    "Access-Control-Max-Age": "600",
}


def guard_origins(app: Flask, allowed: Sequence[str]) -> None:
    """Refuses requests of other sites' pages with 403, but for the origins in `allowed`.

    Those may use the `SHARED_PATHS`: they get the CORS headers that browsers ask for,
    https://fetch.spec.whatwg.org/#http-cors-protocol.

    Raises:
        UserError: an entry of `allowed` is not scheme://host or scheme://host:port.
    """
    origins = {checked_origin(origin) for origin in allowed}

    @app.before_request
    def refuse_strangers() -> None:
        origin = request.headers.get("Origin")
        if origin is None or request.method in ("GET", "HEAD", "OPTIONS") or origin in origins:
            return
        if host_of(origin) != request.host.lower():
            told = "start the server with --allow-origin (or, behind a proxy, --behind-proxy)"
            raise BadRequest(403, "Origin", f"other sites may not chat here: {told}")

    @app.after_request
    def tell_the_browser(response: Response) -> Response:
        if origins and request.path in SHARED_PATHS:
            response.vary.add("Origin")  # a cache must not give one site's answer to another
            if request.headers.get("Origin") in origins:
                response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
                response.headers.update(CORS_HEADERS)
        return response


def checked_origin(origin: str) -> str:
    """The origin as browsers write it: lower case, no slash at the end."""
    plain = origin.lower().removesuffix("/")
    scheme, _, host = plain.partition("://")
    if scheme not in ("http", "https") or not host or host_of(plain) != host:
        raise UserError(f"origin is {origin!r}; expected one such as https://example.org")
    return plain


def host_of(origin: str) -> str | None:
    """Host and port of an origin; None where there is none, as in the origin `null`."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:  # half an IPv6 address
        return None
