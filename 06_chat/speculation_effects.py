"""What does speculation guess right, and how often could rounding show?

python 06_chat/speculation_effects.py
python 06_chat/speculation_effects.py --checkpoint RUN --price 0.05
python 06_chat/speculation_effects.py --ties

The first prints the share of guesses that are kept, by kind of text; each prompt begins a
conversation, so only the public text is known. The price of a guess is given, not measured, so
that the table is the same on every machine. `--ties` reads written text one id a pass and nine
ids a pass, and draws from both rows of logits with the same random numbers, many times: how
many draws differ?
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from exam_questions import primer_questions
from jsonargparse import ArgumentParser
from one_talker_benchmark import as_ids, held_out
from rich.console import Console
from rich.table import Table
from torch import Tensor

from shared.chat.generation import stream_ids
from shared.chat.kv_cache import KVCache
from shared.chat.sampling import SamplingSettings, shares_of
from shared.chat.speculation import Speculation, public_text
from shared.chat.stacked import stacked
from shared.errors import one_line_errors
from shared.model.transformer import Transformer
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import render_prompt
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
DRAWS = 500  # of each position, to find near ties


class Counted(Speculation):
    """Counts passes and guesses."""

    passes = guessed = 0

    def guess(self, ids: list[int], most: int) -> list[int]:
        """The guesses for one pass."""
        guesses = super().guess(ids, most)
        self.passes, self.guessed = self.passes + 1, self.guessed + len(guesses)
        return guesses


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints one table or one line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="a run or checkpoint folder")
    parser.add_argument("--new_bytes", type=int, default=150, help="at most, after each prompt")
    parser.add_argument("--price", type=float, default=0.05, help="of a guess, in passes")
    parser.add_argument("--ties", action="store_true", help="look for draws that rounding turns")
    options = parser.parse_args(arguments)
    model, tokenizer = load_model(find_checkpoint(options.checkpoint), torch.device("cpu"))
    model = stacked(model)
    settings = SamplingSettings(max_new_bytes=options.new_bytes, seed=0)
    if options.ties:
        prompts = [prompt for _, prompt in held_out(tokenizer)]
        print(ties(model, prompts, settings))
        return
    known = public_text(tokenizer)
    Console().print(accepted(model, tokenizer, settings, lambda: Counted(options.price, known)))


def accepted(
    model: Transformer,
    tokenizer: Tokenizer,
    settings: SamplingSettings,
    begin: Callable[[], Counted],
) -> Table:
    """A row for each kind of text: guesses kept, and ids a pass."""
    kinds: dict[str, list[list[int]]] = {}
    for kind, prompt in held_out(tokenizer):
        kinds.setdefault(kind, []).append(prompt)
    chat = [render_prompt(q.exercise.messages) for q in primer_questions()[::9]]
    kinds["primer"] = [as_ids(text, tokenizer) for text in chat]
    table = Table("kind", "guesses a pass", "share kept", "bytes a pass")
    for kind, prompts in kinds.items():
        passes = guessed = written = 0
        for prompt in prompts:
            counted = begin()
            for _ in until_the_end(model, prompt, settings, counted, tokenizer.end_of_text):
                written += 1
            passes, guessed = passes + counted.passes, guessed + counted.guessed
        kept = written - passes
        shown = guessed / passes, kept / max(1, guessed), written / passes
        table.add_row(kind, *(f"{number:.2f}" for number in shown))
    return table


def until_the_end(
    model: Transformer,
    prompt: list[int],
    settings: SamplingSettings,
    speculation: Speculation,
    end: int,
) -> Iterator[int]:
    """New ids up to the end of the document."""
    for token in stream_ids(model, prompt, settings, speculation=speculation):
        yield token
        if token == end:
            return


def ties(model: Transformer, prompts: list[list[int]], settings: SamplingSettings) -> str:
    """How many of many draws differ where nine ids went through the model in one pass."""
    drawn = differ = 0
    largest = 0.0
    for prompt in prompts:
        ids = [*prompt, *stream_ids(model, prompt, settings)][: model.config.context_length]
        single, many = (logits_by(model, ids, count) for count in (1, 9))
        largest = max(largest, float((single - many).abs().max()))
        recents = [ids[: end + 1] for end in range(len(ids))]
        pairs = [shares_of(logits, settings, recents) for logits in (single, many)]
        generator = torch.Generator().manual_seed(0)
        for _ in range(DRAWS):
            times = torch.empty_like(pairs[0]).exponential_(generator=generator)
            first, second = ((shares / times).argmax(dim=-1) for shares in pairs)
            differ += int((first != second).sum())
            drawn += len(ids)
    return f"logits differ by {largest:.1e} at most; {differ} of {drawn:,} draws differ"


@torch.inference_mode()
def logits_by(model: Transformer, ids: list[int], count: int) -> Tensor:
    """Logits (T, V) of a text that is read so many ids at a time."""
    cache = KVCache(model.config)
    return torch.cat([model(part, cache)[0] for part in torch.tensor([ids]).split(count, dim=1)])


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
