"""Why a warmup: the first steps of models of three widths, and how short runs end.

    python 04_training/warmup_effect.py

Half a minute on an idle machine. Prints two tables and draws `figures/warmup.png`.
"""

from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from shared.device import seed_everything
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.batches import shifted
from shared.text.tokenizer import ByteTokenizer
from shared.training.loss import cross_entropy
from shared.training.optimizer import build_adamw, scale_learning_rates
from shared.training.schedule import warmup_stable_decay

FIGURE = Path(__file__).with_name("figures") / "warmup.png"
WIDTHS = (64, 256, 1024)
SHARES = {"no warmup": 0.0, "warmup": 0.1}
STEPS = 100
FIRST = 8  # steps drawn
LAST = 10  # steps whose mean loss is the end of a run
SEEDS = (0, 1, 2)


def main() -> None:
    """First the widths, then the ends."""
    text = "\n".join(topics[name] for name in sorted(topics))
    ids = torch.from_numpy(ByteTokenizer().encode(text).copy()).long()
    curves = tell_first_steps(ids)
    print(f"drawn: {draw(curves, FIGURE)}")
    tell_ends(ids)


def tell_first_steps(ids: Tensor, rate: float = 0.003) -> dict[tuple[int, str], list[float]]:
    """Prints and returns the first losses of each width, with and without the warmup."""
    print(f"the first {FIRST} losses in nats, learning rate {rate}, seed 0")
    curves = {}
    for width in WIDTHS:
        for name, share in SHARES.items():
            losses = run_losses(ids, width, rate, share, seed=0, stop=FIRST)
            curves[width, name] = losses
            print(f"  C = {width:4}  {name:9} ", " ".join(f"{loss:.2f}" for loss in losses))
    return curves


def tell_ends(ids: Tensor, width: int = 64) -> None:
    """Prints how runs of `STEPS` steps end, at two rates."""
    print(f"C = {width}, {STEPS} steps: the last {LAST} losses' mean, seeds {SEEDS}")
    for rate in (0.003, 0.01):
        for name, share in SHARES.items():
            ends = [mean(run_losses(ids, width, rate, share, seed)[-LAST:]) for seed in SEEDS]
            print(f"  rate {rate:<5}  {name:9} ", " ".join(f"{end:.2f}" for end in ends))


def run_losses(
    ids: Tensor, width: int, rate: float, warmup_share: float, seed: int, stop: int = STEPS
) -> list[float]:
    """The losses in nats of the first `stop` steps of a run of `STEPS` steps with AdamW.

    Args:
        ids: (n,), the whole text.
    """
    seed_everything(seed)
    model = Transformer(ModelConfig(context_length=64, n_layers=2, d_model=width, n_heads=4))
    factors = [warmup_stable_decay(step / STEPS, warmup_share) for step in range(stop)]
    return train_small(model, ids, rate, factors)


def train_small(model: Transformer, ids: Tensor, rate: float, factors: list[float]) -> list[float]:
    """A step of AdamW for each factor of the learning rate, on ids (n,); returns the losses."""
    optimizers = build_adamw(model, rate, weight_decay=0.1)
    losses = []
    for factor in factors:
        scale_learning_rates(optimizers, factor)
        inputs, targets = draw_batch(ids, model.config.context_length)  # (B, T) each
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def draw_batch(ids: Tensor, context_length: int, batch_size: int = 4) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (B, T) each, of windows that begin anywhere in the text."""
    starts = torch.randint(len(ids) - context_length, (batch_size,)).tolist()
    return shifted(torch.stack([ids[start : start + context_length + 1] for start in starts]))


def draw(curves: dict[tuple[int, str], list[float]], path: Path) -> Path:
    """One panel a width: the first losses, with and without the warmup."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(WIDTHS), sharey=True)
    for axes, width in zip(panels, WIDTHS, strict=True):
        for name, colour in zip(SHARES, ("tab:red", "#2a788e"), strict=True):
            axes.plot(range(1, FIRST + 1), curves[width, name], "o-", color=colour, label=name)
        axes.set(title=f"C = {width}", xlabel="step")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("loss in nats")
    panels[0].legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


if __name__ == "__main__":
    main()
