"""Practice: learning from nothing but a program's yes or no to the model's own replies.

A group of k replies to one question is drawn. Reward: 1 for a right one, 0 for a wrong one.
Advantage: reward minus the group's mean, so that the better half of a group pushes one way
and the worse half the other. The gradient pushes each reply's log-probability by its advantage.
If all are right, or none is, every advantage is 0: there is nothing to learn.
Sources: Williams 1992, "Simple statistical gradient-following algorithms" (REINFORCE); Shao et
al. 2024, "DeepSeekMath", section 4.1 (GRPO); Liu et al. 2025, "Understanding R1-Zero-Like
Training" (without its divisions by spread and length).
Promoted by 06_chat.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from shared.chat.attempts import Judge, sample_groups
from shared.chat.reply_rows import ReplyRows, reply_log_probabilities, side_by_side
from shared.chat.sampling import SamplingSettings
from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.text.exercise import Exercise, check
from shared.text.tokenizer_file import Tokenizer

PATIENCE = 8  # batches without anything to learn
AT_ONCE = 64  # rows that go through the model together, no wider than the longest of them
TO_END = 16  # bytes beyond the longest right reply of a batch: all rows are as wide as the longest
Ask = Callable[[random.Random], Exercise]


@dataclass(frozen=True)
class PracticeConfig:
    """How much is tried before each step."""

    questions: int = 24
    """groups a step"""
    samples: int = 16
    """k, replies to each question"""
    max_new_bytes: int = 120
    """a reply that has not ended by then is wrong; also one far longer than the right one"""
    only_passed: bool = False
    """push up what was right and leave the rest alone"""

    def __post_init__(self) -> None:
        for name in ("questions", "samples", "max_new_bytes"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"{name} is {value}; expected at least 1")


class PracticeBatch(NamedTuple):
    """What a step learns from."""

    rows: ReplyRows
    """only replies with an advantage other than 0, (B, T); B may be 0"""
    advantages: Tensor
    """theirs, (B,)"""
    tried: int
    """replies in all groups: G k"""
    right: float
    """share of them that were right"""

    def in_parts(self, at_once: int) -> Iterator["PracticeBatch"]:
        """The batch in parts of so many rows: their losses, and gradients, add up to its own."""
        for first in range(0, len(self.advantages), at_once):
            rows = slice(first, first + at_once)
            yield self._replace(rows=self.rows.part(rows), advantages=self.advantages[rows])


def advantages(rewards: Tensor, only_passed: bool = False) -> Tensor:
    """What each reply is pushed by: rewards (G, k), 1 or 0 -> (G, k).

    Args:
        only_passed: the reward itself; else the group's mean is taken away from it.
    """
    return rewards if only_passed else rewards - rewards.mean(dim=1, keepdim=True)


def practice_loss(model: Transformer, batch: PracticeBatch) -> Tensor:
    """Minus the mean of advantage · log p(reply) over all replies tried, a scalar.

    Its value says nothing; its gradient is the policy gradient.
    """
    pushed = []
    for part in list(batch.in_parts(AT_ONCE)) or [batch]:  # a batch may be empty
        found = reply_log_probabilities(model, *part.rows)  # (B,)
        pushed.append((part.advantages.to(found.device) * found).sum())
    return -sum(pushed) / batch.tried


class Practice:
    """Endless batches: questions, the model's attempts at them, and what each is pushed by.

    A batch is drawn from the model as it is at that moment, at temperature 1 and from
    all ids: only then is the loss's gradient that of the share of right replies.

    Args:
        model: the one that learns.
        ask: makes a question from a generator.
        judge: takes an exercise and a reply, and says whether that is right.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        ask: Ask,
        config: PracticeConfig,
        seed: int,
        judge: Judge = check,
    ) -> None:
        self.model, self.tokenizer, self.ask, self.judge = model, tokenizer, ask, judge
        self.config, self.seed = config, seed
        self.drawn = 0

    def __iter__(self) -> Iterator[PracticeBatch]:
        return self

    def __next__(self) -> PracticeBatch:
        """Samples G groups of k; a step on the batch should follow before the next."""
        config, rng = self.config, random.Random(f"{self.seed} {self.drawn}")
        exercises = [self.ask(rng) for _ in range(config.questions)]
        longest = TO_END + max(len(exercise.reply.encode()) for exercise in exercises)
        most = min(config.max_new_bytes, longest)
        settings = SamplingSettings(1.0, 0, 1.0, 1.0, most, rng.getrandbits(62))
        training = self.model.training
        groups = sample_groups(
            self.model.eval(), self.tokenizer, exercises, config.samples, settings, self.judge
        )
        self.model.train(training)
        rewards = torch.tensor([[float(a.right) for a in group] for group in groups])  # (G, k)
        pushes = advantages(rewards, config.only_passed).flatten()
        attempts = [attempt for group in groups for attempt in group]
        kept = pushes.nonzero().flatten().tolist()
        kept.sort(key=lambda i: len(attempts[i].prompt) + len(attempts[i].reply))  # equals together
        rows = side_by_side([attempts[i].prompt for i in kept], [attempts[i].reply for i in kept])
        self.drawn += 1
        return PracticeBatch(rows, pushes[kept], len(attempts), rewards.mean().item())

    def next_to_learn(self) -> PracticeBatch:
        """The next batch with an advantage in it.

        Raises:
            UserError: so many in a row had none: all replies of each group are right, or wrong.
        """
        for _ in range(PATIENCE):
            batch = next(self)
            if len(batch.advantages):
                return batch
        raise UserError(
            f"nothing to learn: in {PATIENCE * self.config.questions} groups of "
            f"{self.config.samples} replies all were right or all wrong (the last: "
            f"{batch.right:.0%} right); practise another skill, or train on written replies first"
        )

    def state_dict(self) -> dict[str, Any]:
        """The position: with it and the model, the next batch is the one that would have come."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a saved position."""
        self.drawn = state["drawn"]
