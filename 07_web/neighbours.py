"""Several models on one server: each has the whole application, at an address of its own.

    /                   the first
    /model/published/   another, by its name

The page asks for everything relative to where it stands. So chat, look inside and time machine are
those of the model whose page is open, and each model has its own conversation.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from completion_answers import name_of_run
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from shared.errors import UserError

BELOW = "model"


def places_of(checkpoints: Sequence[Path]) -> dict[str, str]:
    """Where each model stands, by its name: "" for the first, `/model/published` for another.

    Raises:
        UserError: two have one name.
    """
    names = [name_of_run(checkpoint) for checkpoint in checkpoints]
    below = [f"/{BELOW}/{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}" for name in names[1:]]
    if len(set(names)) < len(names) or len(set(below)) < len(below):
        raise UserError(f"two models are called alike: {', '.join(names)}; rename one's folder")
    return dict(zip(names, ["", *below], strict=True))


def told_to_the_page(places: dict[str, str], here: str) -> list[dict[str, Any]]:
    """Every model's name, and where its page is as seen from the page of `here`.

    An address is relative, for nobody here knows below which path a proxy shows the server.
    """
    up = "../" * places[here].count("/") or "./"
    return [
        {"name": name, "address": f"{up}{place[1:]}/" if place else up, "here": name == here}
        for name, place in places.items()
    ]


def together(apps: dict[str, Flask]) -> Flask:
    """The application of the first, with those of the others below it."""
    first, others = apps[""], {place: app for place, app in apps.items() if place}
    if others:
        first.wsgi_app = DispatcherMiddleware(first.wsgi_app, others)
    return first
