"""Shows which expert of a trained mixture takes which byte.

python 05_full_run/full_run.py --config quick --model.moe.n_experts 8 --out runs/experts
python 05_full_run/trained_experts.py runs/experts               draws into the run's folder
python 05_full_run/trained_experts.py runs/experts FIGURE.png    draws there
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from trained_attention import path_in_run

from shared.errors import UserError, one_line_errors
from shared.files import atomic_file, user_path
from shared.model.moe import MixtureOfExperts
from shared.model.transformer import Transformer
from shared.text.primer import read_primer
from shared.text.python_docs import read_python_docs
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

BYTES_READ = 40_000
BRACKETS = "()[]{}<>"
KINDS: dict[str, Callable[[str], bool]] = {
    "space": lambda c: c == " ",
    "new line": lambda c: c == "\n",
    "vowel": lambda c: c in "aeiou",
    "consonant": lambda c: c.islower() and c not in "aeiou",
    "capital": str.isupper,
    "digit": str.isdigit,
    "bracket": lambda c: c in BRACKETS,
    "other sign": lambda c: "!" <= c <= "~" and not c.isalnum() and c not in BRACKETS,
}


def main(arguments: list[str]) -> None:
    """Reads text with the model, counts who took what, prints a table and draws a figure."""
    if not arguments:
        raise UserError("name a run of a model with experts, such as 05_full_run/runs/experts")
    model, tokenizer = load_model(find_checkpoint(arguments[0]))
    if model.config.moe.n_experts < 2:
        raise UserError(f"{arguments[0]} has no experts: train with --model.moe.n_experts 8")
    if tokenizer.kind != "bytes":
        raise UserError("the table is by byte: give a run with the byte tokenizer")
    ids = torch.from_numpy(sample_ids().astype(np.int64))
    counts = first_choices(model, ids)  # (L, 256, E)
    for layer, of_layer in enumerate(counts, start=1):
        print_layer(layer, of_layer)
    run, *figure = arguments
    path = user_path(figure[0]) if figure else path_in_run(run, "trained_experts.png")
    print(f"drawn: {draw(counts, path)}")


def sample_ids() -> np.ndarray:
    """Bytes of the primer and of Python's documentation, half and half."""
    texts = []
    for documents in (read_primer(), read_python_docs()):
        text = b"".join(document.data for _, document in zip(range(200), documents, strict=False))
        texts.append(text[: BYTES_READ // 2])
    return np.frombuffer(b"".join(texts), dtype=np.uint8)


@torch.no_grad()
def first_choices(model: Transformer, ids: Tensor) -> Tensor:
    """Ids (N,) -> how often each layer sent each byte to each expert first, (L, V, E)."""
    shape = model.config.n_layers, model.config.vocab_size, model.config.moe.n_experts
    counts = torch.zeros(shape, dtype=torch.long)
    layers = [block.feedforward for block in model.blocks]
    length = model.config.context_length
    windows = ids[: len(ids) // length * length].view(-1, length)
    for window in windows.split(16):
        with RoutesTaken(layers) as taken:
            model(window)
        for layer, chosen in enumerate(taken.chosen):
            counts[layer].index_put_(
                (window.flatten(), chosen[:, 0]), torch.tensor(1), accumulate=True
            )
    return counts


class RoutesTaken:
    """Notes the choices of each layer while a model runs; in evaluation it keeps none itself."""

    def __init__(self, layers: list[MixtureOfExperts]) -> None:
        self.layers = layers
        self.chosen = []

    def __enter__(self) -> "RoutesTaken":
        def keep(layer: MixtureOfExperts, inputs: tuple[Tensor]) -> None:
            self.chosen.append(layer.route(inputs[0].flatten(0, 1)).chosen)

        self.hooks = [layer.register_forward_pre_hook(keep) for layer in self.layers]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()


def by_kind(counts: Tensor) -> dict[str, Tensor]:
    """Counts (V, E) -> for each kind of byte the share that each expert takes, (E,)."""
    shares = {}
    for name, belongs in KINDS.items():
        rows = [byte for byte in range(128) if belongs(chr(byte))]
        taken = counts[rows].sum(dim=0)
        shares[name] = taken / taken.sum().clamp(min=1)
    return shares


def print_layer(layer: int, counts: Tensor) -> None:
    """One table: kinds of bytes down, experts across, and each expert's favourite bytes."""
    experts = counts.shape[1]
    print(f"\nlayer {layer}   " + "".join(f"{f'expert {e}':>10}" for e in range(experts)))
    for kind, shares in by_kind(counts).items():
        print(f"{kind:<10}" + "".join(f"{share:>10.0%}" for share in shares.tolist()))
    overall = counts.sum(dim=0) / counts.sum()
    print(f"{'all':<10}" + "".join(f"{share:>10.0%}" for share in overall.tolist()))
    favourites = counts.argsort(dim=0, descending=True)[:4].T.tolist()
    shown = ["".join(readable(byte) for byte in best) for best in favourites]
    print(f"{'most often':<10}" + "".join(f"{text:>10}" for text in shown))


def readable(byte: int) -> str:
    """One visible character for a byte."""
    return {10: "↵", 32: "·", 30: "■"}.get(byte, chr(byte) if 32 < byte < 127 else "?")


def draw(counts: Tensor, path: Path) -> Path:
    """One panel a layer: kinds of bytes down, experts across, brightness the share."""
    figure = Figure(figsize=(3.2 * len(counts), 3.6), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False)[0]
    for layer, (axes, of_layer) in enumerate(zip(panels, counts, strict=True), start=1):
        shares = torch.stack(list(by_kind(of_layer).values()))  # (kinds, E)
        image = axes.imshow(shares.numpy(), vmin=0, vmax=1)
        axes.set(title=f"layer {layer}", xlabel="expert", xticks=range(of_layer.shape[1]))
        axes.set_yticks(range(len(KINDS)), list(KINDS) if layer == 1 else [""] * len(KINDS))
    figure.colorbar(image, ax=list(panels), label="share of the bytes of this kind")
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=100, metadata={"Software": None}, format="png")
    return path


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
