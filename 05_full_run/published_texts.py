"""Checks that the three texts of the published weights are in their place, to the last byte.

python 05_full_run/published_texts.py
"""

import tomllib
from pathlib import Path

from shared.errors import UserError, one_line_errors
from shared.training.checkpoint_folder import sha256

HERE = Path(__file__).resolve().parent
TEXTS, PLACE = HERE / "published_texts.toml", HERE / "data" / "corpora"


def main() -> None:
    """Prints a line for each text, or what is missing."""
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))["text"]
    check(texts, PLACE)
    for text in texts:
        print(f"{text['file']:22} {text['about']} ({text['licence']})")


def check(texts: list[dict[str, str]], place: Path) -> None:
    """Compares each text with what the weights are made of.

    Raises:
        UserError: one is missing, or is another; all of them are named at once.
    """
    missing = [text["file"] for text in texts if not (place / text["file"]).is_file()]
    if missing:
        raise UserError(
            f"no {', '.join(missing)} in {place}: put them there "
            "(05_full_run/published_weights.md says what they are)"
        )
    others = [text["file"] for text in texts if sha256(place / text["file"]) != text["sha256"]]
    if others:
        raise UserError(
            f"{', '.join(others)} in {place}: not the text of 05_full_run/published_texts.toml, by "
            "its sha256. Put that one there; for a text of yours take a config of your own"
        )


if __name__ == "__main__":
    with one_line_errors():
        main()
