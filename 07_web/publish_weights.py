"""Makes the folder of published weights from finished stages: what `make weights` does last.

    python 07_web/publish_weights.py --base RUN --tuned RUN-sft --out 05_full_run/published

Weights and tokenizer are those of the last stage, snapshots those of the first. All of it goes
through the checks of `publish.py`. The card is put together from pages that other commands wrote
into the last stage's folder (`held_out.md`, `ledger.md`, `samples.md`) and from both runs' cards.
"""

import re
import shutil
import sys
import tomllib
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

from publish import DATA, FULL_RUN, console, publish

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.model.weights import CONFIG_FILE, WEIGHTS_FILE
from shared.training.card import CARD_FILE, LIMITS
from shared.training.checkpoint import RUN_FILE, TOKENIZER_FILE
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.run_log import CURVES_FILE, METRICS_FILE
from shared.training.snapshots import FOLDER, list_snapshots

PUBLISHED, TEXTS = FULL_RUN / "published", FULL_RUN / "published_texts.toml"
MOST_BYTES = 16_000_000  # of the weights: what a clone should have to carry
SNAPSHOTS = 6  # of those that the run has kept: each is a quarter of the weights
PAGES = {
    "held_out.md": "05_full_run/held_out.py",
    "ledger.md": "06_chat/exam.py",
    "samples.md": "06_chat/samples.py",
}
INTRO = (
    "Trained from scratch by this repository's own commands: `make weights` gives them one after "
    "another, and 05_full_run/published_weights.md tells what is needed. Each figure stands below "
    "the command that measured it."
)
COMMAND = re.compile(r"^`python .*", re.MULTILINE)


def main(arguments: list[str]) -> None:
    """Parses the command line and makes the folder anew."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--base", required=True, metavar="RUN", help="the first training's folder")
    parser.add_argument("--tuned", required=True, metavar="RUN", help="the last stage's folder")
    parser.add_argument("--out", default=str(PUBLISHED), help="made anew if it is there")
    options = parser.parse_args(arguments)
    base, tuned, out = map(user_path, (options.base, options.tuned, options.out))
    for name in publish_weights(base, tuned, out, DATA):
        console.print(f"{name:32} {(out / name).stat().st_size:12,} bytes")


def publish_weights(base: Path, tuned: Path, out: Path, data_folder: Path) -> list[str]:
    """Makes `out` from both runs; returns the names of its files.

    Raises:
        UserError: a page is missing, the weights are too large, or `publish` refuses.
    """
    checkpoint = find_checkpoint(tuned)
    size = (checkpoint / WEIGHTS_FILE).stat().st_size
    if size > MOST_BYTES:
        raise UserError(
            f"{checkpoint / WEIGHTS_FILE} has {size:,} bytes; at most {MOST_BYTES:,} are "
            "published: train a smaller model"
        )
    with TemporaryDirectory() as folder:
        run = Path(folder) / out.name
        run.mkdir()
        for file in (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE, RUN_FILE):
            shutil.copyfile(checkpoint / file, run / file)
        for file in (CURVES_FILE, METRICS_FILE):
            if (base / file).is_file():
                shutil.copyfile(base / file, run / file)
        (run / FOLDER).mkdir()
        for snapshot in spread(list_snapshots(base), SNAPSHOTS):
            shutil.copyfile(snapshot, run / FOLDER / snapshot.name)
        (run / CARD_FILE).write_text(card(base, tuned), encoding="utf-8")
        return publish(run, out, data_folder, with_snapshots=True)


def spread(snapshots: list[Path], most: int) -> list[Path]:
    """So many of them, the first and the last among them, evenly in between."""
    last = len(snapshots) - 1
    kept = {round(n * last / (most - 1)) for n in range(most)} if snapshots else ()
    return [snapshots[n] for n in sorted(kept)]


def card(base: Path, tuned: Path) -> str:
    """The whole card: texts and licences, both stages, figures, samples, limits."""
    parts = ["# Model card", INTRO, "## Texts", texts_table()]
    parts += ["## First training", stage_of(base), "## Then replies alone", stage_of(tuned)]
    parts += [measured(tuned, name, script) for name, script in PAGES.items()]
    return "\n\n".join([*parts, "## Limits", LIMITS]) + "\n"


def texts_table() -> str:
    """File, what it is, licence and hash of each text; none of the text."""
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))["text"]
    head = ["| file | what | licence | sha256 |", "|---|---|---|---|"]
    rows = [
        f"| {text['file']} | {text['about']} | {text['licence']} | `{text['sha256'][:16]}` |"
        for text in texts
    ]
    own = "| drills, primer | made by, and part of, this repository | MIT | |"
    return "\n".join([*head, *rows, own])


def stage_of(run: Path) -> str:
    """A run's own card, one level down, without what the whole card tells of the last stage."""
    facts, *sections = re.split(r"^(?=## )", page(run / CARD_FILE), flags=re.MULTILINE)
    kept = [part for part in sections if not part.startswith(("## Samples", "## Limits"))]
    _title, _, facts = facts.partition("\n")
    return "\n\n".join([facts.strip(), *("#" + part.strip() for part in kept)])


def measured(tuned: Path, name: str, script: str) -> str:
    """A page about the last stage, one level down, with commands that ask the published folder.

    Raises:
        UserError: it is not there.
    """
    if not (tuned / name).is_file():
        raise UserError(f"no {name} in {tuned}: write it with {script}")
    run = tuned.resolve().name
    asked = f"{FULL_RUN.name}/{PUBLISHED.name}"
    text = COMMAND.sub(
        lambda found: re.sub(r" --out [^\s`]+", "", found[0]).replace(f" {run}", f" {asked}"),
        page(tuned / name),
    )
    return re.sub(r"^(?=#+ )", "#", text, flags=re.MULTILINE).replace(run, PUBLISHED.name).strip()


def page(file: Path) -> str:
    """A page's text.

    Raises:
        UserError: it is not there.
    """
    if not file.is_file():
        raise UserError(f"no {file.name} in {file.parent}: let the run finish first (--resume)")
    return file.read_text(encoding="utf-8")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
