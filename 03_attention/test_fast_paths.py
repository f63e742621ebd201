"""Fast paths give the plain path's numbers and are taken where their table says."""

from functools import partial

import fast_path_shares
import pytest
import torch
from fast_path_shares import SWITCHES, measure_shares
from torch.nn import functional as F

from shared.model import causal_attention, sliding_window
from shared.model.causal_attention import attend_to_all
from shared.model.config import ModelConfig
from shared.model.fast_paths import NARROW_WINDOW
from shared.model.row_blocks import attend_by_rows
from shared.model.sliding_window import attend_in_window, same_document, window_mask


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


ROWS, PRODUCTS, SDPA = "attend_by_rows", "attend_in_products", "scaled_dot_product_attention"


@pytest.mark.parametrize(
    ("dtype", "window", "new", "split", "path"),
    [
        (torch.bfloat16, None, 300, False, ROWS),
        (torch.bfloat16, None, 300, True, SDPA),
        (torch.bfloat16, None, 1, False, SDPA),
        (torch.float32, None, 300, False, SDPA),
        (torch.bfloat16, 300, 300, False, ROWS),
        (torch.bfloat16, NARROW_WINDOW + 1, 300, False, ROWS),
        (torch.bfloat16, NARROW_WINDOW + 1, 300, True, SDPA),
        (torch.bfloat16, NARROW_WINDOW, 300, False, PRODUCTS),
        (torch.bfloat16, NARROW_WINDOW, 300, True, PRODUCTS),
        (torch.bfloat16, NARROW_WINDOW, 1, False, SDPA),
        (torch.float32, NARROW_WINDOW, 300, False, SDPA),
    ],
)
def test_attention_goes_the_way_of_the_table(dtype, window, new, split, path, monkeypatch):
    taken = []

    def noted(name, attend):
        return lambda *args, **named: taken.append(name) or attend(*args, **named)

    for owner, name in (
        (causal_attention, ROWS),
        (sliding_window, ROWS),
        (sliding_window, PRODUCTS),
        (F, SDPA),
    ):
        monkeypatch.setattr(owner, name, noted(name, getattr(owner, name)))
    queries, keys, values = (part.detach() for part in random_parts(300, dtype))
    documents = torch.arange(300).div(50).floor().expand(2, -1) if split else None
    attend = attend_to_all if window is None else partial(attend_in_window, window=window)
    mixed = attend(queries[:, :, 300 - new :], keys, values, documents)
    assert taken == [path] and mixed.dtype == dtype
    seen = window_mask(new, 300, window or 300, torch.device("cpu"))
    if split:
        seen = seen & same_document(documents, documents)
    parts = (part.float() for part in (queries[:, :, 300 - new :], keys, values))
    exact = F.scaled_dot_product_attention(*parts, attn_mask=seen)
    assert torch.allclose(mixed.float(), exact, atol=2e-2)


def test_without_a_path_a_step_holds_other_memory():
    """A switch that switched nothing off would show no difference at all."""
    found = set()
    for window in (None, 8):
        config = ModelConfig(
            context_length=64, n_layers=2, d_model=32, n_heads=2, vocab_size=16, window=window
        )
        seconds, shares = measure_shares(config, 1, torch.bfloat16, rounds=1)
        assert seconds > 0 and all(share.larger != 0 for share in shares.values()), shares
        assert shares["RMSNorm by hand"].larger > 0 and shares["one cast"].larger > 0
        found |= set(shares)
    assert found == set(SWITCHES)


def test_in_float32_only_the_norm_has_a_path_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(fast_path_shares, "SHAPES", {"tiny": (ModelConfig(8, 8, 1, 8, 1), 1)})
    monkeypatch.setattr(fast_path_shares, "keep_freed_memory", lambda: None)
    fast_path_shares.main(["--dtype", "float32", "--rounds", "1", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in lines[2:]] == ["tiny:", "without"]
    assert lines[-1].startswith("without RMSNorm by hand")
