"""Trains a finished model further: on replies alone, on pairs, or on a program's yes or no.

python 06_chat/finetune.py --stage sft --from 05_full_run/runs/quick
python 06_chat/finetune.py --stage sft --from RUN --data messages:chats.jsonl --lora 8
python 06_chat/finetune.py --stage sft --from RUN --data drills=0.9 --data messages:chats.jsonl=0.1
python 06_chat/finetune.py --stage dpo --from RUN-sft
python 06_chat/finetune.py --stage practice --from RUN-sft --skill adding --resume
"""

import json
import math
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from finetune_config import STAGES, StageOptions, config_of
from finetune_questions import PAIRS_FILE
from finetune_stages import LORA_LAYERS, add_lora, prepare

from shared.chat.adapter_file import save_adapter
from shared.device import device_label, dtype_name
from shared.errors import UserError, one_line_errors
from shared.files import atomic_file, make_folder, user_path
from shared.text.drills import SKILLS
from shared.text.token_file import data_folder
from shared.training.checkpoint_folder import find_checkpoint, list_checkpoints
from shared.training.run import Run
from shared.training.run_building import build_run
from shared.training.run_folder import begin, make_room
from shared.training.sitting import console, finish, open_log, sitting_seconds, train_and_log

SCRIPT = "06_chat/finetune.py"
QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
DATA = data_folder(QUICK_RUN.parents[1] / "data")
ADAPTER_FILE, STAGE_FILE = "adapter.safetensors", "stage.json"
REMEMBERED = (
    "stage",
    "pairs",
    "questions",
    "loss",
    "beta",
    "skill",
    "others",
    "samples",
    "only_passed",
    "text",
    "lora",
    "lora_layers",
)


def main(arguments: list[str]) -> None:
    """Parses the command line, builds the stage, trains."""
    options = command_line().parse_args(arguments)
    stop_after = sitting_seconds(options.stop_after)
    base = find_checkpoint(options.base)
    folder = user_path(options.out) if options.out else beside(base, options.stage)
    make_room(folder, options.resume, options.fresh, console.print)
    stage = stage_options(options, base)
    remember(stage, folder)
    config = config_of(stage, options.device, options.seed)
    with console.status("reading the text"):
        run = build_run(config, folder.resolve(), DATA)
    if stage.lora:
        add_lora(run, stage)
    prepare(run, stage, console.print)
    if not begin(run, options.resume, console.print):
        return
    tell_the_start(run, stage)
    with open_log(run) as log:
        if train_and_log(run, log, stop_after):
            if stage.lora:
                save_adapter(run.model, run.folder / ADAPTER_FILE)
                console.print(f"the adapter alone: {run.folder / ADAPTER_FILE}")
            finish(run, SCRIPT, arguments, log)


def command_line() -> ArgumentParser:
    """What can be asked for."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    stages = "; ".join(f"{name}: {stage.about}" for name, stage in STAGES.items())
    add("--stage", choices=STAGES, required=True, help=stages)
    add("--from", dest="base", default=str(QUICK_RUN), metavar="RUN", help="run or checkpoint")
    add("--data", action="append", metavar="SPEC[=SHARE]", help="sft: what to learn, and how much")
    add("--pairs", metavar="FILE", help="dpo: pairs by hand; none: preferences.txt")
    add("--questions", type=int, default=400, help="dpo: questions for pairs of its own; 0: none")
    add("--loss", choices=("dpo", "orpo"), default="dpo", help="of pairs")
    add("--beta", type=float, default=0.1, help="dpo: how near it stays to what it was")
    add("--skill", action="append", choices=SKILLS, help="dpo, practice: of these; none: of all")
    add("--others", type=float, default=0.25, help="practice: share of questions of other skills")
    add("--samples", type=int, default=16, help="practice: replies to each question")
    add("--only-passed", action="store_true", help="practice: what was wrong is left alone")
    add("--text", type=float, default=0.2, help="of the base's, not to forget it: share, weight")
    add("--lora", type=int, default=0, metavar="RANK", help="train small matrices beside the model")
    add("--lora-layers", choices=LORA_LAYERS, default="all", help="which matrices have one")
    add("--rate", type=float, help="learning rate; none: one that suits the stage")
    add("--budget", help="such as 90s, 5m or '200 steps'; none: one that suits the stage")
    add("--seed", type=int, default=0)
    add("--device", default="auto", help="cuda, mps or cpu")
    add("--out", metavar="FOLDER", help="none: beside the base, called BASE-STAGE")
    add("--resume", action="store_true", help="go on from the newest checkpoint")
    add("--fresh", action="store_true", help="set an earlier run aside, start anew")
    add("--stop-after", metavar="9m", help="end this sitting then, to --resume later")
    return parser


def stage_options(options: Namespace, base: Path) -> StageOptions:
    """The options as what a stage is built from; refuses what does not belong together.

    Raises:
        UserError: `--data` for a stage that takes none, or a share or rank out of range.
    """
    if options.data and options.stage != "sft":
        raise UserError(f"--data belongs to --stage sft; {options.stage} makes its own questions")
    if not 0 <= options.text < 1:
        raise UserError(f"--text is {options.text}; expected a share from 0 to below 1")
    if not 0 <= options.others < 1:
        raise UserError(f"--others is {options.others}; expected a share from 0 to below 1")
    if options.lora < 0 or options.questions < 0:
        raise UserError("--lora and --questions must be 0 or more")
    if options.lora_layers != "all" and not options.lora:
        raise UserError("--lora-layers belongs to --lora RANK: name the rank, too")
    known = {name: value for name, value in vars(options).items() if name in StageOptions._fields}
    data = tuple(parted(each) for each in options.data or ())
    lists = {"data": data, "skill": tuple(options.skill or SKILLS)}
    return StageOptions(**(known | lists | {"base": base}))


def parted(asked: str) -> tuple[str, float]:
    """`drills=0.9` -> its source and its share; without a share: 1.

    Raises:
        UserError: the share is not above 0.
    """
    spec, _, share = asked.rpartition("=")
    try:
        weight = float(share)
    except ValueError:
        return asked, 1.0  # no "=", or that of a file's name
    if not (spec and 0 < weight < math.inf):
        raise UserError(f"--data {asked}: the share {share!r} must be a number above 0")
    return spec, weight


def beside(base: Path, stage: str) -> Path:
    """The folder of the stage: beside the run of a checkpoint, or beside a published model."""
    run = base.parents[1] if base.parent.name == "checkpoints" else base
    return run.with_name(f"{run.name}-{stage}")


def remember(stage: StageOptions, folder: Path) -> None:
    """Notes what the stage was asked for; one that goes on must be asked for the same.

    Budget and rate are the run's own affair: it compares these itself.

    Raises:
        UserError: names what differs.
    """
    file = folder / STAGE_FILE
    asked = {name: getattr(stage, name) for name in REMEMBERED}
    asked = json.loads(json.dumps(asked))  # as a file gives it back
    if list_checkpoints(folder / "checkpoints") and file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        changes = [
            f"{name} was {before[name]!r} and is now {asked[name]!r}"
            for name in asked
            if before.get(name, asked[name]) != asked[name]
        ]
        if changes:
            raise UserError(
                f"{folder} was started differently: {'; '.join(changes)}. "
                "Put that back, or start another stage with --out"
            )
        return
    make_folder(folder)
    (folder / PAIRS_FILE).unlink(missing_ok=True)  # of a stage that ended before it was saved
    with atomic_file(file) as place:
        place.write_text(json.dumps(asked, indent=2), encoding="utf-8")


def tell_the_start(run: Run, stage: StageOptions) -> None:
    """Prints what is about to be trained."""
    weights = [p for p in run.model.parameters() if p.requires_grad]
    trained, every = sum(p.numel() for p in weights), run.model.count_parameters()
    console.print(
        f"{stage.stage}: trains {trained:,} of {every:,} weights · {device_label(run.device)} · "
        f"{dtype_name(run.precision.dtype)} · {run.config.budget}"
    )


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
