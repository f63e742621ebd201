"""Continues a text with a trained model, and shows how each next byte is chosen.

python 06_chat/generate.py
python 06_chat/generate.py --prompt "The garden" --temperature 0.5 --seed 1
python 06_chat/generate.py --checkpoint RUN --interactive
"""

import sys
import time
from pathlib import Path

from jsonargparse import ArgumentParser, set_parsing_settings
from rich.console import Console
from rich.table import Table

from shared.chat.generation import prefill, steady_generation, stream_ids
from shared.chat.sampling import SamplingSettings, keep_top_k, keep_top_p
from shared.chat.speculation import SILENT, Speculation, begin_speculation
from shared.chat.stacked import quickest_stacked, stacked
from shared.device import pick_device
from shared.errors import one_line_errors
from shared.model.transformer import Transformer
from shared.text.tokenizer_file import Tokenizer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

set_parsing_settings(docstring_parse_attribute_docstrings=True)
QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
console = Console(highlight=False, markup=False, emoji=False)


def main(arguments: list[str]) -> None:
    """Parses the command line, then explains one step and continues the text."""
    parser = ArgumentParser(
        description="Continues a text with a trained model.", allow_abbrev=False
    )
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="a run or checkpoint folder")
    parser.add_argument("--prompt", default="Return a list of", help="the text to continue")
    parser.add_argument("--interactive", action="store_true", help="ask for prompts until Ctrl-D")
    parser.add_argument(
        "--speculate", choices=("on", "off"), default="on", help="the same text, in fewer passes"
    )
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    parser.add_class_arguments(SamplingSettings)
    options = parser.parse_args(arguments)
    settings = SamplingSettings(**{k: options[k] for k in SamplingSettings.__dataclass_fields__})
    device = pick_device(options.device)
    checkpoint = find_checkpoint(options.checkpoint)
    model, tokenizer = load_model(checkpoint, device)
    if not options.interactive:
        explain_next_byte(model, tokenizer, options.prompt, settings)
    with steady_generation(model):
        # A seed means one text, on a machine with bfloat16 too.
        model = (quickest_stacked if settings.seed is None else stacked)(model)
        on = options.speculate == "on"
        speculation = begin_speculation(model, tokenizer) if on else SILENT
        for prompt in prompts() if options.interactive else [options.prompt]:
            continue_aloud(model, tokenizer, prompt, settings, speculation)


def prompts():
    """Yields what the person types, until an end of file."""
    while True:
        try:
            prompt = input("prompt> " if sys.stdin.isatty() else "")
        except EOFError:
            print()
            return
        if prompt:
            yield prompt


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt that opens a document."""
    return [tokenizer.end_of_text, *tokenizer.encode(prompt).tolist()]


def explain_next_byte(
    model: Transformer, tokenizer: Tokenizer, prompt: str, settings: SamplingSettings
) -> None:
    """Prints the shapes of one step and how the settings reshape its probabilities."""
    ids = encode_prompt(tokenizer, prompt)[-model.config.context_length :]
    cache, logits = prefill(model, ids)
    logits = logits.float().cpu()
    keys = cache.layers[0].keys
    console.print(f"prompt        {prompt!r}, with the end-of-text id before it")
    console.print(f"ids           (T,)         = ({len(ids)},)")
    console.print(f"last logits   (V,)         = {tuple(logits.shape)}")
    console.print(f"cache, layer  (B, K, T, D) = {tuple(keys.shape)}, {cache.length} filled")
    warm = logits / max(settings.temperature, 1e-6)
    columns = {
        "softmax": logits.softmax(-1),
        f"temperature {settings.temperature:g}": warm.softmax(-1),
        "then top_k 5": keep_top_k(warm, 5).softmax(-1),
        "or top_p 0.9": keep_top_p(warm, 0.9).softmax(-1),
    }
    table = Table("next token", *columns, title="the likeliest next tokens and their shares")
    for token in logits.topk(8).indices.tolist():
        shares = [
            f"{shares[token]:.3f}" if shares[token] > 0 else "-" for shares in columns.values()
        ]
        table.add_row(repr(tokenizer.decode([token])), *shares)
    console.print(table)


def continue_aloud(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    settings: SamplingSettings,
    speculation: Speculation = SILENT,
) -> None:
    """Prints the prompt and its continuation as it is drawn, up to the end of the document."""
    decoder = tokenizer.decoder()
    count = 0
    start = time.perf_counter()
    print(prompt, end="", flush=True)
    ids = encode_prompt(tokenizer, prompt)
    for token in stream_ids(model, ids, settings, speculation=speculation):
        if token == tokenizer.end_of_text:
            break
        print(decoder.feed(token), end="", flush=True)
        count += 1
    seconds = time.perf_counter() - start
    print(decoder.flush())
    console.print(f"{count} bytes, {count / max(seconds, 1e-9):,.0f} bytes/s", style="dim")


if __name__ == "__main__":
    with one_line_errors():
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="surrogateescape")
        main(sys.argv[1:])
