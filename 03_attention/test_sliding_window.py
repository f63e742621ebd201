"""Sliding-window attention: by blocks as by mask, and how far it hears."""

import pytest
import torch
import window_benchmark
from torch.nn import functional as F

from shared.model import fast_paths
from shared.model.sliding_window import attend_in_window, window_mask


def random_parts(positions: int, batch: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(positions)
    return [
        torch.randn(batch, 3, positions, 8, generator=generator, requires_grad=True)
        for _ in range(3)
    ]


@pytest.mark.parametrize("window", [1, 2, 4, 7, 16, 40])
@pytest.mark.parametrize("positions", [1, 4, 15, 16, 33])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("bfloat16s_way", [False, True])
def test_blocks_equal_the_mask_forward_and_gradients(
    positions, window, split, bfloat16s_way, monkeypatch
):
    """Lengths on and off whole blocks, windows from one key to more than there are.

    Bfloat16 on the CPU goes another way (plain products); in float32 it can be held to 1e-5.
    """
    monkeypatch.setattr(fast_paths, "_has_slow_kernel", lambda queries: bfloat16s_way)
    parts = random_parts(positions)
    documents = (torch.arange(positions) // 5).expand(2, -1) if split else None
    allowed = window_mask(positions, positions, window, torch.device("cpu"))
    if split:
        allowed = allowed & (documents[0][:, None] == documents[0][None, :])
    ours = attend_in_window(*parts, documents, window)
    masked = F.scaled_dot_product_attention(*parts, attn_mask=allowed)
    assert torch.allclose(ours, masked, atol=1e-5)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    for mine, theirs in zip(
        torch.autograd.grad((ours * direction).sum(), parts),
        torch.autograd.grad((masked * direction).sum(), parts),
        strict=True,
    ):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_the_window_counts_the_querys_own_key():
    assert window_mask(4, 4, 2, torch.device("cpu")).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]
    assert window_mask(1, 4, 2, torch.device("cpu")).int().tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_information_travels_layers_times_window_minus_one_and_no_further(n_layers, random_model):
    window, last = 4, 23
    model = random_model(n_layers=n_layers, window=window)
    with torch.no_grad():
        ids = torch.randint(256, (1, 24), generator=torch.Generator().manual_seed(1))
        before = model(ids)[0, -1]
        reach = n_layers * (window - 1)
        for distance, heard in ((reach, True), (reach + 1, False)):
            changed = ids.clone()
            changed[0, last - distance] = (changed[0, last - distance] + 1) % 256
            assert torch.equal(model(changed)[0, -1], before) != heard, distance


def test_the_benchmark_times_equal_things_and_says_so(capsys):
    window_benchmark.main(["--positions", "64", "--window", "8"])
    shown = capsys.readouterr().out
    assert "W = 8" in shown and [line.split()[0] for line in shown.splitlines()[3:]] == [
        "blocks",
        "mask",
        "no",
    ]
    apart = float(shown.partition("and mask: ")[2].split()[0])
    assert apart < 1e-5
