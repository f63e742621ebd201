"""The one door to what is only fast: which path a computation takes, and what that buys.

A fast path gives the plain one's numbers, to rounding: without this file and `row_blocks`
the model is the same, only slower. T new positions meet T held ones, W is the window.

    computation   device, dtype                 when                               path
    attention     CPU, bfloat16                 T = T held, W < T, W <= 128        plain products
    attention     CPU, bfloat16                 T = T held, else; one document     row blocks
    attention     any other                     always                             PyTorch's SDPA
    RMSNorm       CPU, all                      a gradient may be asked for        backward by hand
    RMSNorm       any other                     always                             PyTorch's
    input of a    all, under autocast           always                             one cast
    branch        all, without autocast         always                             as it is

What each buys in a whole training step, on two cores of an AMD EPYC with AVX-512 and bfloat16
units unless another is named, torch 2.13.0; `fast_path_shares.py` measures it on any machine:

- Row blocks take 17 % of a step at nanoGPT's shape; the fused kernel takes twice as long.
- Plain products take a step of a small model with W = 64 from 50.5 ms to 45.1.
- RMSNorm by hand takes 2.1 ms in place of 4.7 (4096 vectors of 384, float32, one core): by
  count of its 13 norms, 3 % of a step at nanoGPT's shape. On one core with AVX2, in float32,
  a step of `quick` without it takes 1 to 2 % longer.
  Without it that step holds 6 % more memory, in bfloat16 8 %.
- Without the one cast a step of `quick` in bfloat16 holds 5 % more memory.

Left out: a backward pass by hand for RoPE's turn. For (8, 2, 256, 64) it takes 1.92 ms, the
formula 2.05 (float32, one core with AVX2; bfloat16: 2.37 and 2.38), 0.3 % of a step of `quick`.
Promoted by 03_attention.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

NARROW_WINDOW = 128  # keys; a wider one would keep too many weights for the backward pass


def rows_are_faster(
    queries: Tensor, keys: Tensor, documents: Tensor | None, window: int | None = None
) -> bool:
    """Whether queries (B, H, T, D) should meet keys (B, H, T held, D) by `row_blocks`."""
    new, held = queries.shape[2], keys.shape[2]
    square = new == held and documents is None
    narrow = window is not None and window < held and window <= NARROW_WINDOW
    return square and not narrow and _has_slow_kernel(queries)


def products_are_faster(queries: Tensor, window: int) -> bool:
    """Whether blocks of W queries should go by `attend_in_products`."""
    return window <= NARROW_WINDOW and _has_slow_kernel(queries)


def _has_slow_kernel(queries: Tensor) -> bool:
    """The CPU's fused attention leaves a processor's bfloat16 units idle."""
    return queries.device.type == "cpu" and queries.dtype is torch.bfloat16


def attend_in_products(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The attention formula as it stands: (..., W, D) over keys and values (..., 2 W, D).

    It keeps all its weights for the backward pass, which a narrow window can afford.

    Args:
        mask: booleans, (..., W, 2 W) or what is broadcast to it.
    """
    hidden = torch.zeros_like(mask, dtype=queries.dtype).masked_fill_(~mask, -math.inf)
    scores = queries / math.sqrt(queries.shape[-1]) @ keys.mT
    weights = (scores + hidden).softmax(dim=-1)
    return weights @ values


def trains_on_cpu(x: Tensor) -> bool:
    """Whether a gradient may be asked for where RMSNorm has no kernel of its own."""
    return torch.is_grad_enabled() and x.device.type == "cpu"


def rms_norm_by_hand(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`F.rms_norm` over the last axis, (..., C) and (C,) -> (..., C), with its own gradient."""
    return _RootMeanSquare.apply(x, weight, eps)


class _RootMeanSquare(torch.autograd.Function):
    """Keeps input / root and the root, where PyTorch's small kernels keep the input besides.

    With n = x / r, r the root, y = n w and the gradient g of y: w gets the sum of g n,
    and x gets (g w - n mean(g w n)) / r, since r grows with x.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square()
        inverse = (square / x.shape[-1] + eps).rsqrt()
        normed = wide * inverse
        ctx.save_for_backward(normed, inverse, weight)
        return (normed * weight).to(x.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, inverse, weight = ctx.saved_tensors
        product = gradient * normed
        mean = (product @ weight).unsqueeze(-1) / -normed.shape[-1]
        of_x = (gradient * weight).addcmul_(normed, mean).mul_(inverse)
        of_weight = product.flatten(0, -2).sum(dim=0)
        return of_x.to(gradient.dtype), of_weight, None


def cast_once(x: Tensor) -> Tensor:
    """x in autocast's dtype, if autocast is on.

    Left to itself, each linear layer that reads x would cast it anew and keep its own
    copy, and each would pass back a gradient to cast and add.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))
