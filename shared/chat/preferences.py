"""Preferences: of two replies to one question the better one becomes likelier, the other less.

    margin = (log p of chosen - log q of chosen) - (log p of rejected - log q of rejected)
    DPO    = -log sigmoid(beta · margin)        p is the model, q the frozen one it began as

q keeps p near where it began: only what p changed counts, and where the margin is large
already little is pushed. ORPO does without q: it learns the chosen reply as usual, and
that its odds should be above those of the rejected one.
Sources: Rafailov et al. 2023, "Direct Preference Optimization", equation 7; Hong et al. 2024,
"ORPO: Monolithic Preference Optimization without Reference Model", equations 6 and 7.
Promoted by 06_chat.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.chat.reply_rows import ReplyRows, reply_log_probabilities
from shared.errors import UserError
from shared.model.transformer import Transformer


@dataclass(frozen=True)
class PreferenceConfig:
    """How pairs are learned from."""

    loss: Literal["dpo", "orpo"] = "dpo"
    """dpo measures from the model it began as; orpo needs no such model"""
    beta: float = 0.1
    """dpo: small lets the model go far; orpo: the weight of the odds beside the plain loss"""

    def __post_init__(self) -> None:
        if self.loss not in ("dpo", "orpo"):
            raise UserError(f"loss is {self.loss!r}; expected dpo or orpo")
        if not 0 < self.beta < float("inf"):
            raise UserError(f"beta is {self.beta}; expected a number above 0, such as 0.1")


def dpo_loss(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Mean of -log sigmoid(beta · margin) over pairs, a scalar.

    Args:
        policy: log-probabilities of whole replies in nats, (2, pairs): chosen, then rejected.
        reference: the same under the frozen model.
    """
    chosen, rejected = policy - reference  # (pairs,) twice: how much likelier than at first
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


def orpo_loss(policy: Tensor, lengths: Tensor, beta: float) -> Tensor:
    """Mean of -log p(chosen) - beta · log sigmoid(log odds ratio) over pairs, a scalar.

    Here p is the geometric mean over a reply's ids, so that long replies are not unlikely
    for being long; odds are p / (1 - p).

    Args:
        policy: as for `dpo_loss`, (2, pairs).
        lengths: ids of these replies, (2, pairs).
    """
    means = policy / lengths  # (2, pairs), nats an id
    # p = 1 would have endless odds; the nearest float below it has -expm1 above 0.
    odds = means - torch.log(-torch.expm1(means.clamp(max=-1e-7)))  # (2, pairs), in logs
    return -(means[0] + beta * F.logsigmoid(odds[0] - odds[1])).mean()


def preference_loss(
    model: Transformer, reference: Transformer, rows: ReplyRows, config: PreferenceConfig
) -> Tensor:
    """The loss that the config names, of pairs side by side, a scalar.

    Args:
        reference: the model as it was; gets no gradient. ORPO does not ask it.
        rows: (2 pairs, T): all chosen replies, then the rejected ones in the same order.
    """
    policy = reply_log_probabilities(model, *rows).view(2, -1)  # (2, pairs)
    if config.loss == "orpo":
        lengths = rows.replies[:, 1:].sum(dim=-1).view(2, -1).to(policy.device)
        return orpo_loss(policy, lengths, config.beta)
    with torch.no_grad():
        frozen = reply_log_probabilities(reference, *rows).view(2, -1)  # (2, pairs)
    return dpo_loss(policy, frozen, config.beta)
