"""Attention by blocks of rows equals the fused kernel, on whole blocks and on rests."""

import pytest
import torch
from torch.nn import functional as F

from shared.model.causal_attention import attend_to_all
from shared.model.config import RopeConfig
from shared.model.positions import rope_angles, rotate
from shared.model.row_blocks import attend_by_rows
from shared.model.sliding_window import window_mask


def random_parts(positions: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(positions)
    parts = torch.randn(3, 2, 3, positions, 16, generator=generator).to(dtype)
    return [part.clone().requires_grad_() for part in parts]


@pytest.mark.parametrize("window", [None, 1, 5, 64, 65, 300])
@pytest.mark.parametrize("positions", [1, 5, 63, 64, 65, 200])
def test_row_blocks_equal_the_fused_kernel_forward_and_gradients(positions, window):
    parts = random_parts(positions)
    ours = attend_by_rows(*parts, window)
    allowed = window_mask(positions, positions, window or positions, torch.device("cpu"))
    fused = F.scaled_dot_product_attention(*parts, attn_mask=allowed)
    assert torch.allclose(ours, fused, atol=1e-5)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    for mine, theirs in zip(
        torch.autograd.grad(ours, parts, direction),
        torch.autograd.grad(fused, parts, direction),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_in_bfloat16_the_error_is_no_larger_than_twice_the_fused_kernels():
    """Both round; the truth is float32 on the same rounded inputs."""
    parts = random_parts(256, torch.bfloat16)
    exact = [part.detach().float().requires_grad_() for part in parts]
    direction = torch.randn(2, 3, 256, 16, generator=torch.Generator().manual_seed(0))

    def results(attend, inputs):
        mixed = attend(*inputs)
        return [mixed, *torch.autograd.grad(mixed, inputs, direction.to(mixed.dtype))]

    def fused(*inputs):
        return F.scaled_dot_product_attention(*inputs, is_causal=True)

    truth = results(fused, exact)
    for ours, theirs, true in zip(
        results(attend_by_rows, parts), results(fused, parts), truth, strict=True
    ):
        scale = true.square().mean().sqrt()
        ours, theirs = ((x.float() - true).square().mean().sqrt() / scale for x in (ours, theirs))
        assert ours < max(2 * theirs, 0.01)


def test_bfloat16_on_the_cpu_goes_by_row_blocks():
    parts = random_parts(100, torch.bfloat16)
    assert torch.equal(attend_to_all(*parts), attend_by_rows(*parts))


def test_the_gradient_of_a_turn_is_autograds_own():
    angles = rope_angles(7, 8, RopeConfig())
    x = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles
    plainly = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(rotate(x, angles), plainly, atol=1e-6)
    (ours,) = torch.autograd.grad(rotate(x, angles), x, direction)
    (theirs,) = torch.autograd.grad(plainly, x, direction)
    assert torch.allclose(ours, theirs, atol=1e-6)
