"""How large is a model? Parameters, arithmetic, memory and cache of every preset.

    python 03_attention/sizes.py
    python 03_attention/sizes.py --preset 124m --micro-batch 2 --recompute
    python 03_attention/sizes.py --preset nano --measure

Nothing is built: all numbers come from the formulas of `shared/model/counting.py` and
`memory_formula.py` beside this file. `--measure` builds the model, takes training steps on the
CPU and prints what they really held beside what the formula says.
"""

import argparse
import weakref
from collections.abc import Iterable

import torch
from memory_formula import training_memory
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from shared.errors import UserError, one_line_errors
from shared.model.config import ModelConfig
from shared.model.counting import count_parameters, forward_flops, kv_cache_bytes, training_flops
from shared.model.presets import PRESETS
from shared.model.transformer import Transformer

MEASURABLE = 30_000_000  # parameters; beyond this a step on a CPU takes minutes


class Meter(TorchDispatchMode):
    """Counts the bytes of tensors made inside it: how many live, and the most that ever did.

    Every operation's result is noted, forward and backward, until its storage is freed.
    Not seen: what one kernel takes and gives back by itself.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.held = self.peak = 0
        self.alive = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Runs the operation and notes the storages that are new."""
        result = operation(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_iter(result)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                self.held += storage.nbytes()
                self.peak = max(self.peak, self.held)
                weakref.finalize(storage, self._freed, storage._cdata)
        return result

    def _freed(self, key: int) -> None:
        self.held -= self.alive.pop(key)


def measure_step(
    config: ModelConfig,
    batch: int,
    autocast: bool = False,
    optimizer: str = "muon",
    recompute: bool = False,
) -> int:
    """The most bytes that live in a training step of two micro-batches, on the CPU.

    Weights and optimizer state count from the start: one step is taken before.
    """
    torch.manual_seed(0)
    model = Transformer(config).train()
    model.recompute = recompute
    optimizers = build_optimizers(model, optimizer)
    ids = torch.randint(config.vocab_size, (batch, config.context_length + 1))

    def step() -> None:
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = cross_entropy(model(ids[:, :-1]), ids[:, 1:])
            loss.backward()
        for each in optimizers:
            each.step()
            each.zero_grad(set_to_none=True)

    step()
    states = [state for each in optimizers for state in each.state.values()]
    known = [*model.parameters(), *model.buffers(), ids]
    known += [tensor for state in states for tensor in state.values() if torch.is_tensor(tensor)]
    resting = sum(t.nbytes for t in known) - sum(b.nbytes for b in model.buffers())
    with Meter(known) as meter:
        step()
    return resting + meter.peak


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Step 04's loss, in the same operations."""
    log_probabilities = logits.log_softmax(dim=-1, dtype=torch.float32)
    return -log_probabilities.gather(-1, targets.unsqueeze(-1)).mean()


def build_optimizers(model: Transformer, kind: str) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices inside blocks and AdamW for the rest."""
    if kind == "adamw":
        return [torch.optim.AdamW(model.parameters(), fused=True)]
    named = dict(model.named_parameters())
    hidden = {
        name: parameter
        for name, parameter in named.items()
        if name.startswith("blocks.") and parameter.dim() == 2 and "router" not in name
    }
    rest = [parameter for name, parameter in named.items() if name not in hidden]
    return [torch.optim.Muon(hidden.values()), torch.optim.AdamW(rest, fused=True)]


def scaled(number: float) -> str:
    """Three digits or so, with k, M, G or T: thousands, millions and so on."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.0f}{unit}" if number >= 100 or not unit else f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def print_table(title: str, columns: list[str], rows: dict[str, list[float]]) -> None:
    """One line a preset, numbers to the right."""
    print(f"\n{title}")
    print(f"{'':8}" + "".join(f"{column:>12}" for column in columns))
    for name, numbers in rows.items():
        print(f"{name:8}" + "".join(f"{scaled(number):>12}" for number in numbers))


def print_sizes(configs: dict[str, ModelConfig], batch: int, optimizer: str, again: bool) -> None:
    """Three tables: parameters by part, arithmetic and cache, memory to train."""
    parts = {name: count_parameters(config) for name, config in configs.items()}
    columns = ["embedding", "positions", "attention", "feedforward", "norms", "head", "total"]
    rows = {name: [getattr(part, c) for c in columns] for name, part in parts.items()}
    if any(part.idle for part in parts.values()):
        columns = [*columns, "active"]
        rows = {name: [*row, parts[name].active] for name, row in rows.items()}
    print_table("parameters (a tied head counts as embedding)", columns, rows)
    print_table(
        "FLOPs a token at the full context; bytes of KV cache a token, float32 and bfloat16",
        ["context", "forward", "training", "cache 32", "cache 16"],
        {
            name: [
                c.context_length,
                forward_flops(c),
                training_flops(c, recompute=again),
                kv_cache_bytes(c, 1, 4),
                kv_cache_bytes(c, 1, 2),
            ]
            for name, c in configs.items()
        },
    )
    print_memory(configs, batch, optimizer, again)


def print_memory(configs: dict[str, ModelConfig], batch: int, optimizer: str, again: bool) -> None:
    """Bytes to train, in float32 and under bfloat16 autocast."""
    for autocast, precision in ((False, "float32"), (True, "bfloat16 autocast")):
        memories = {
            name: training_memory(c, batch, None, autocast, optimizer, again)
            for name, c in configs.items()
        }
        columns = ["weights", "gradients", "optimizer", "activations", "temporary", "total"]
        recomputed = ", blocks recomputed" if again else ""
        print_table(
            f"bytes to train in {precision}: {optimizer}, micro-batch of {batch} full windows"
            + recomputed,
            columns,
            {name: [getattr(memory, c) for c in columns] for name, memory in memories.items()},
        )


def print_measured(name: str, batch: int, optimizer: str, again: bool) -> None:
    """What a step really held, beside the formula.

    Raises:
        UserError: the model is too large to be tried on a CPU.
    """
    config = PRESETS[name]
    if (size := count_parameters(config).total) > MEASURABLE:
        raise UserError(
            f"{name} has {size:,} parameters; --measure takes presets up to {MEASURABLE:,}: "
            "choose one with --preset"
        )
    for autocast, precision in ((False, "float32"), (True, "bfloat16 autocast")):
        said = training_memory(config, batch, None, autocast, optimizer, again).total
        held = measure_step(config, batch, autocast, optimizer, again)
        print(
            f"{name}, micro-batch {batch}, {optimizer}, {precision}"
            f"{', recomputed' if again else ''}: held {held:,} bytes, "
            f"formula {said:,} ({said / held - 1:+.1%})"
        )


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=PRESETS, help="only this one")
    parser.add_argument("--micro-batch", type=int, default=8, help="windows at once (8)")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--recompute", action="store_true", help="blocks run forward twice")
    parser.add_argument("--measure", action="store_true", help="take steps and count bytes")
    return parser.parse_args()


def main() -> None:
    """Prints the tables, or with `--measure` what was held."""
    arguments = read_arguments()
    names = [arguments.preset] if arguments.preset else list(PRESETS)
    if arguments.micro_batch < 1:
        raise UserError(f"--micro-batch is {arguments.micro_batch}; it must be at least 1")
    rest = (arguments.micro_batch, arguments.optimizer, arguments.recompute)
    if not arguments.measure:
        print_sizes({name: PRESETS[name] for name in names}, *rest)
        return
    for name in [arguments.preset] if arguments.preset else ["nano", "tiny"]:
        print_measured(name, *rest)


if __name__ == "__main__":
    with one_line_errors():
        main()
