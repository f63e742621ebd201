"""The parts of a run follow from its config and from the machine that it runs on."""

import torch

from shared.training.run_config import TrainConfig
from shared.training.run_parts import build_optimizers


def test_muon_computes_in_float32_where_the_run_does_and_a_resumed_one_as_it_began():
    matrix = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))

    def moved(began: torch.dtype, here: torch.dtype) -> torch.Tensor:
        model = torch.nn.ModuleDict({"blocks": torch.nn.Linear(24, 8)})  # its bias is AdamW's
        weight = torch.nn.init.zeros_(model["blocks"].weight)
        weight.grad = matrix
        state = None
        for dtype in (began, here):
            muon = build_optimizers(model, TrainConfig(optimizer="muon"), dtype)[0]
            if state is not None:
                muon.load_state_dict(state)
            muon.step()
            state = muon.state_dict()
        return weight.detach()

    exact, rounded = (moved(dtype, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert not torch.equal(exact, rounded) and torch.allclose(exact, rounded, atol=1e-2)
    assert torch.equal(moved(torch.float32, torch.bfloat16), exact)
    assert torch.equal(moved(torch.float16, torch.float32), rounded)
