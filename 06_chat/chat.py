"""A chat in the terminal with a trained model.

python 06_chat/chat.py
python 06_chat/chat.py --mine                  # on your own functions
python 06_chat/chat.py --checkpoint RUN --temperature 0.5 --seed 1
python 06_chat/chat.py --adapter RUN-sft/adapter.safetensors
python 06_chat/chat.py --think --candidates 8 --pick vote
printf 'hello\\nwhat are you?\\n' | python 06_chat/chat.py
"""

import runpy
import sys
from dataclasses import fields
from pathlib import Path

from jsonargparse import ArgumentParser, set_parsing_settings

from shared.chat.adapter_file import with_adapter
from shared.chat.candidates import Choice, by_vote, pick_named, stream_chosen
from shared.chat.generation import steady_generation
from shared.chat.sampling import SamplingSettings
from shared.chat.session import ChatSession
from shared.chat.speculation import begin_speculation
from shared.chat.stacked import quickest_stacked, stacked
from shared.device import pick_device
from shared.errors import UserError, one_line_errors
from shared.files import atomic_file, user_path
from shared.text.drills import SHOW_WORKING
from shared.text.tokenizer import to_bytes
from shared.text.transcript import Message, render
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

set_parsing_settings(docstring_parse_attribute_docstrings=True)

ROOT = Path(__file__).resolve().parents[1]
QUICK_RUN = ROOT / "05_full_run" / "runs" / "quick"
COURSE = ROOT / "01_env" / "course"

HELP = """\
/reset            forget the conversation
/save FILE        write the transcript to a file
/system TEXT      set the system message; without TEXT take it away
/set NAME VALUE   change a setting; without NAME show them all
/help             this list
/quit             leave, as Ctrl-D does
Ctrl-C stops a reply that is being written."""


def main(arguments: list[str]) -> None:
    """Parses the command line, loads the model, talks until the input ends."""
    parser = ArgumentParser(
        description="A chat in the terminal with a trained model.", allow_abbrev=False
    )
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="a run or checkpoint folder")
    parser.add_argument("--adapter", metavar="FILE", help="what LoRA has learned beside it")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    parser.add_argument("--think", action="store_true", help="ask for the working, too")
    parser.add_argument("--candidates", type=int, default=1, help="replies to choose from")
    parser.add_argument("--pick", default="vote", help="vote, likelihood or MODULE:FUNCTION")
    parser.add_argument(
        "--speculate", choices=("on", "off"), default="on", help="the same text, in fewer passes"
    )
    parser.add_argument("--mine", action="store_true", help="run on your own finished functions")
    parser.add_class_arguments(SamplingSettings)
    options = parser.parse_args(arguments)
    if options.mine:
        runpy.run_path(str(COURSE))["swap_in"]()
    settings = SamplingSettings(
        **{item.name: options[item.name] for item in fields(SamplingSettings)}
    )
    checkpoint = find_checkpoint(options.checkpoint)
    model, tokenizer = load_model(checkpoint, pick_device(options.device))
    model = with_adapter(model, options.adapter)
    choice = Choice(options.candidates, pick_named(options.pick))
    if sys.stdin.isatty():
        print(f"{model.count_parameters():,} parameters. It is tiny: expect nonsense. /help helps.")
    with steady_generation(model):
        # A seed means one text, on a machine with bfloat16 too.
        model = (quickest_stacked if settings.seed is None else stacked)(model)
        session = ChatSession(model, tokenizer, settings)
        if options.think:
            session.set_system(SHOW_WORKING)
        if options.speculate == "on":
            session.speculation = begin_speculation(model, tokenizer)
        talk(session, choice)


ONE = Choice(1, by_vote)  # it is written as it comes; of several, one is shown once it is picked


def talk(session: ChatSession, choice: Choice = ONE) -> None:
    """Reads lines and answers them: `/` begins a command, anything else is a message."""
    terminal = sys.stdin.isatty()
    while True:
        try:
            line = input("user: " if terminal else "")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not line.strip():
            continue
        if not terminal:
            print(f"user: {line}")
        if line.strip() == "/quit":
            return
        try:
            if line.startswith("/"):
                print(command(session, line))
            else:
                answer(session, line, choice)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)


def answer(session: ChatSession, line: str, choice: Choice = ONE) -> None:
    """Prints the reply as it is written; Ctrl-C ends it and keeps what was said."""
    print("assistant: ", end="", flush=True)
    if choice.count != 1:
        print(chosen(session, line, choice), flush=True)
        return
    pieces = session.say(line)
    try:
        for piece in pieces:
            print(piece.text, end="", flush=True)
    except KeyboardInterrupt:
        pieces.close()
        print(" [stopped]", end="")
    print(flush=True)


def chosen(session: ChatSession, line: str, choice: Choice) -> str:
    """Draws several replies, keeps one, and says how many gave its answer."""
    asked = [*session.messages, Message("user", line)]
    [best] = stream_chosen(session.model, session.tokenizer, asked, session.settings, choice)
    session.messages = [*asked, Message("assistant", best.text)]
    return f"{best.text}   [{best.agreed} of {best.drawn} say so]"


def command(session: ChatSession, line: str) -> str:
    """Runs one `/` command; returns what to print.

    Raises:
        UserError: an unknown command, setting or value, or a file that cannot be written.
    """
    name, _, rest = line.strip().partition(" ")
    match name:
        case "/help":
            return HELP
        case "/reset":
            session.reset()
            return "(the conversation is forgotten)"
        case "/system":
            session.set_system(rest.strip())
            return f"(system: {rest.strip() or 'none'})"
        case "/save":
            return save(session, rest.strip())
        case "/set":
            return change_setting(session, rest.split())
    raise UserError(f"unknown command {name}; /help lists them")


def save(session: ChatSession, file: str) -> str:
    """Writes the transcript; returns what to print."""
    if not file:
        raise UserError("/save needs a file name, such as /save chat.txt")
    path = user_path(file)
    if path.is_dir():
        raise UserError(f"{path} is a folder; /save needs a file name, such as /save chat.txt")
    with atomic_file(path) as partial:
        partial.write_bytes(to_bytes(render(session.messages)))
    return f"(saved {len(session.messages)} turns to {path})"


def change_setting(session: ChatSession, words: list[str]) -> str:
    """Changes one sampling setting, or lists them; returns what to print."""
    kinds = {
        item.name: int if "int" in str(item.type) else float for item in fields(SamplingSettings)
    }
    if not words:
        return "\n".join(f"{name} {getattr(session.settings, name)}" for name in kinds)
    if len(words) != 2 or words[0] not in kinds:
        raise UserError(f"/set takes a name and a value; the names: {', '.join(kinds)}")
    name, text = words
    try:
        value = None if name == "seed" and text == "none" else kinds[name](text)
    except ValueError as error:
        raise UserError(f"{name} is {text!r}; expected {kinds[name].__name__}") from error
    session.change(**{name: value})
    return f"({name} is now {text})"


if __name__ == "__main__":
    with one_line_errors():
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="surrogateescape")  # any byte can be typed or piped in
        main(sys.argv[1:])
