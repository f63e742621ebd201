"""Writes a model of ours for other people's engines: transformers, MLX, llama.cpp.

    python 07_web/export.py 05_full_run/runs/quick --to transformers --out ~/quick-hf
    python 07_web/export.py 05_full_run/runs/quick --to gguf --out ~/quick-gguf --type q8_0
    python 07_web/export.py RUN --to gguf --adapter RUN-sft/adapter.safetensors --out DIR

What an engine cannot hold is refused, by its name, before anything is written. `export.md` tells
what each file holds. Nothing here is compared with training text: `publish.py` does that.
"""

import json
import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

from publish import QUICK_RUN, console

from shared.chat.adapter_file import with_adapter
from shared.errors import UserError, one_line_errors
from shared.files import atomic_folder, user_path
from shared.model.gguf_file import Q8_ROW, TYPES, write_gguf
from shared.model.interop_folder import write_their_folder
from shared.model.transformer import Transformer
from shared.text.chat_template import CHAT_TEMPLATE
from shared.text.engine_tokenizer import end_name, engine_tokens, tokenizer_json
from shared.text.tokenizer_file import Tokenizer
from shared.training.checkpoint import TOKENIZER_FILE, load_model
from shared.training.checkpoint_folder import find_checkpoint

ONE_DOCUMENT = (
    "model.document_start is {start}: this model begins anew at each document, and no other engine "
    "does. A chat is one document, and there all is the same: --one-document takes it as one"
)
STOPS_TOLD = (
    'a reply ends where the model begins another turn: give the engine the stop string "\\nuser:", '
    "or export with --line-ends-reply"
)


def main(arguments: list[str]) -> None:
    """Parses the command line, writes the folder, says what is in it."""
    options = command_line().parse_args(arguments)
    run, out = user_path(options.run), user_path(options.out)
    if out.exists():
        raise UserError(f"{out} exists already: name a folder that does not")
    if options.type and options.to != "gguf":
        raise UserError("--type belongs to --to gguf; transformers' folder holds float32")
    model, tokenizer = load_model(find_checkpoint(run))
    if options.adapter:
        model = with_adapter(model, user_path(options.adapter))
    model = as_one_document(model, options.one_document)
    ends = reply_ends(tokenizer, options.line_ends_reply)
    with atomic_folder(out) as place:
        if options.to == "gguf":
            kind = options.type or TYPES[0]
            name = f"{run.resolve().name}-{kind}.gguf"
            write_gguf_file(model, tokenizer, place / name, ends, kind)
        else:
            write_transformers_folder(model, tokenizer, place, ends)
    for file in sorted(out.iterdir()):
        console.print(f"{file.name:28} {file.stat().st_size:12,} bytes")
    if not options.line_ends_reply:
        console.print(STOPS_TOLD)


def command_line() -> ArgumentParser:
    """What can be asked for."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("run", nargs="?", default=str(QUICK_RUN), help="a run, a checkpoint or a published folder")
    add("--to", choices=("transformers", "gguf"), required=True, help="whose files")
    add("--out", required=True, help="the folder to make; it must not exist yet")
    add("--type", choices=TYPES, help="gguf: numbers of the matrices; none: f32")
    add("--adapter", metavar="FILE", help="what LoRA has learned; it is merged in")
    add(
        "--one-document",
        action="store_true",
        help="of a model that begins anew at each document, what it does within one",
    )
    add(
        "--line-ends-reply",
        action="store_true",
        help="the end of a line ends a reply, for engines that you can tell no stop string",
    )
    return parser


def as_one_document(model: Transformer, agreed: bool) -> Transformer:
    """The model as it is inside one document.

    Raises:
        UserError: it tells documents apart, and nobody agreed that it no longer will.
    """
    start = model.config.document_start
    if start is None:
        return model
    if not agreed:
        raise UserError(ONE_DOCUMENT.format(start=start))
    model.config = replace(model.config, document_start=None)
    return model


def reply_ends(tokenizer: Tokenizer, line_ends: bool) -> list[int]:
    """Ids that end a reply: the end of text, and the end of a line where that was asked for.

    Raises:
        UserError: the tokenizer has no id for the end of a line alone.
    """
    if not line_ends:
        return [tokenizer.end_of_text]
    line = tokenizer.encode("\n").tolist()
    if len(line) != 1:
        raise UserError("--line-ends-reply: this tokenizer has no token for the end of a line")
    return [tokenizer.end_of_text, *line]


def write_transformers_folder(
    model: Transformer, tokenizer: Tokenizer, place: Path, ends: list[int]
) -> None:
    """Weights, config, generation config, tokenizer and chat template; `ends` end a reply.

    Raises:
        UserError: transformers has no class for the model.
    """
    end = end_name(tokenizer)
    state = tokenizer_json(tokenizer)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict.fromkeys(("bos_token", "eos_token", "pad_token"), end),
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.config.context_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": CHAT_TEMPLATE,
    }
    write_their_folder(model, place, ends)
    for name, content in {TOKENIZER_FILE: state, "tokenizer_config.json": settings}.items():
        text = json.dumps(content, ensure_ascii=False, indent=2)
        (place / name).write_text(text, encoding="utf-8")


def write_gguf_file(
    model: Transformer, tokenizer: Tokenizer, path: Path, ends: list[int], kind: str
) -> None:
    """One file; `ends` end a reply, `kind` is that of the matrices' numbers.

    Raises:
        UserError: llama.cpp computes no such model, or knows no such tokenizer.
    """
    tokens = engine_tokens(tokenizer)
    if narrow := write_gguf(path, model, tokens, ends, CHAT_TEMPLATE, kind):
        console.print(f"f16, as {Q8_ROW} does not divide their rows: {', '.join(narrow)}")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
