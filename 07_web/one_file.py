"""One file for a whole page: modules, styles and data inside, and a policy that allows no more.

Modules become one script: each once, what it imports before it, from whichever folder. So no two
may give one name to different things at their top level, and an import may not rename.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import UserError

IMPORT = re.compile(r'^import\s*(?:\{([^}]*)\}\s*from\s*)?"(\.\.?/[\w./]+)";\n', re.MULTILINE)
TOP_LEVEL = re.compile(r"^(?:async )?(?:function\*?|const|let|class) (\w+)", re.MULTILINE)
STYLE = re.compile(r'<link rel="stylesheet" href="page/([\w./]+)">')
SCRIPT = re.compile(r'<script src="page/([\w./]+)" type="module"></script>')


def bundled(*modules: Path) -> str:
    """The modules, and all that they import, as one script.

    Raises:
        UserError: two of them use one name, or an import cannot be resolved.
    """
    ordered: list[Path] = []
    for module in modules:
        _add(module.resolve(), ordered)
    texts = {path: IMPORT.sub("", path.read_text(encoding="utf-8")) for path in ordered}
    script = "\n".join(
        f"// {path.name}\n{re.sub(r'^export (?!default)', '', text, flags=re.MULTILINE)}"
        for path, text in texts.items()
    )
    names = TOP_LEVEL.findall(script)
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two modules have something named {', '.join(sorted(twice))}: rename one")
    if left := re.search(r"^(?:import|export)\b.*", script, re.MULTILINE):
        raise UserError(f"this line cannot go into one script: {left[0]}")
    return script


def _add(module: Path, ordered: list[Path]) -> None:
    """Puts what a module imports before it, each file once."""
    if module in ordered:
        return
    for names, other in IMPORT.findall(module.read_text(encoding="utf-8")):
        if " as " in names:
            raise UserError(f"{module.name} renames what it imports from {other}")
        _add((module.parent / other).resolve(), ordered)
    if module not in ordered:
        ordered.append(module)


def in_one_file(page: str, folder: Path, first: Sequence[Path], parts: dict[str, str]) -> str:
    """A page of `folder` with its styles and modules inside.

    Args:
        first: modules that run before the page's own.
        parts: id -> text of a script element that is data, not run.

    Raises:
        UserError: a part would end its own element.
    """
    styles = [(folder / name).read_text(encoding="utf-8") for name in STYLE.findall(page)]
    modules = [*first, *(folder / name for name in SCRIPT.findall(page))]
    style, script = "\n".join(styles), bundled(*modules)
    for text in (script, *parts.values()):
        if re.search(r"</script|<!--", text, re.IGNORECASE):
            raise UserError("a script holds the mark that ends it: spell it in two parts")
    policy = {
        "default-src": "'none'",
        "script-src": f"{digest(script)} 'wasm-unsafe-eval'",
        "style-src": digest(style),
        "img-src": "data:",
        "worker-src": "blob:",
    }
    data = "\n".join(f'<script type="text/plain" id="{id}">{t}</script>' for id, t in parts.items())
    head = f"<style>{style}</style>\n</head>"
    body = f'{data}\n<script type="module">{script}</script>\n</body>'
    page = SCRIPT.sub("", STYLE.sub("", page))
    page = page.replace("<head>", f"<head>\n{policy_tag(policy)}", 1)
    return page.replace("</head>", head, 1).replace("</body>", body, 1)


def inside_script(value: Any) -> str:
    """A value as JSON that cannot end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c")  # </script> in a name would end it


def digest(text: str) -> str:
    """The name under which a policy allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy_tag(policy: dict[str, str]) -> str:
    """The policy as the page itself can carry it."""
    rules = "; ".join(f"{name} {allowed}" for name, allowed in policy.items())
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}">'
