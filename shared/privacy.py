"""Privacy: what is published or uploaded shows no folder of its owner's.

Promoted by 02_tokenizer.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

PUBLIC_NAME = re.compile(r"hub:[^/\\]+/[^/\\]+")  # of a data set: this slash leads to no folder
# From where a path can begin to the last slash before a name. Folders may hold spaces, quotes
# and commas, so all in between goes: rather a word too many than a folder too few.
FOLDERS = re.compile(r"(^|[=:'\"] ?)[^=:'\"]*[\\/](?:.*[\\/])?(?=[^\\/\s'\"])", re.DOTALL)


def without_folders(value: Any) -> Any:
    """The value with each path in it cut to its last part.

    Paths stand in texts (`--data.path=/home/me/notes`, `cannot read /home/me/x`), in options
    that hold a list or mapping (`[{spec: "markdown:/home/me/notes"}]`), and inside lists,
    mappings and `Path`s; these keep their form. Numbers and None stay as they are.
    """
    if isinstance(value, dict):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    if not isinstance(value, str | Path):
        return value
    text = str(value)
    flag, equals, listed = text.partition("=") if text.startswith("--") else ("", "", text)
    if listed.startswith(("[", "{")):
        try:
            return flag + equals + json.dumps(without_folders(yaml.safe_load(listed)))
        except yaml.YAMLError:  # it only begins like one
            pass
    if PUBLIC_NAME.fullmatch(text):
        return text
    return FOLDERS.sub(r"\1", text.rstrip("\\/"))
