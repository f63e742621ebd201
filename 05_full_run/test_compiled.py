"""torch.compile: the same losses where it works, one line where it does not."""

import pytest
import torch

from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.training.compiled import compiled_or_eager
from shared.training.precision import Precision

CONFIG = ModelConfig(context_length=16, n_layers=1, d_model=32, n_heads=2)


def test_a_failing_compiler_is_one_line_and_the_model_is_untouched(monkeypatch):
    def broken(model):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    model, lines = Transformer(CONFIG), []
    state = torch.get_rng_state()
    assert compiled_or_eager(model, 2, 16, Precision(torch.device("cpu")), lines.append) is model
    assert lines == ["torch.compile does not work here (no C++ compiler); training without it"]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_the_compiled_model_has_the_eager_ones_gradients():
    torch.manual_seed(0)
    model, precision = Transformer(CONFIG), Precision(torch.device("cpu"), torch.bfloat16)
    lines: list[str] = []
    fast = compiled_or_eager(model, 2, 16, precision, lines.append)
    if lines:
        pytest.skip(lines[0])
    ids = torch.randint(256, (2, 16))
    gradients = []
    for forward in (model, fast):
        with precision.autocast():
            logits = forward(ids)
        logits.float().square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        model.zero_grad()
    for eager, compiled in zip(*gradients, strict=True):
        assert torch.allclose(eager, compiled, rtol=2e-2, atol=eager.abs().max().item() * 2e-2)
