"""The page: the same model as the package's, the same losses, and a reply at the end."""

import ast
from pathlib import Path

import one_page
import pytest
import torch

from shared.model.config import ModelConfig
from shared.model.transformer import Transformer

SIZES = {"layers": 2, "channels": 32, "heads": 2}
TEXT = torch.randint(64, 127, (300,), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def both(one_thread) -> tuple[one_page.Transformer, Transformer]:
    """The page's model and the package's, with the same weights under the same names."""
    torch.manual_seed(0)
    page = one_page.Transformer(**SIZES)
    for parameter in page.parameters():  # none is 0 or 1, so that each shows in the logits
        torch.nn.init.normal_(parameter, std=0.2)
    shared = Transformer(ModelConfig(n_layers=2, d_model=32, n_heads=2, d_ff=85))
    shared.load_state_dict(page.state_dict())
    return page, shared


def test_the_page_and_the_package_give_the_same_logits(both):
    page, shared = both
    torch.testing.assert_close(page(TEXT[None, :128]), shared(TEXT[None, :128]), atol=1e-5, rtol=0)


def test_ten_steps_of_the_page_and_the_package_lose_the_same(both):
    moments = [step / 10 for step in range(10)]
    of_page, of_shared = (one_page.train(model, TEXT, moments) for model in both)
    assert len(of_page) == 10 and of_page[-1] < of_page[0]
    assert of_page == pytest.approx(of_shared, abs=1e-4)


def test_a_few_steps_write_text_and_answer_one_line(one_thread, capsys):
    model = one_page.Transformer(**SIZES)
    one_page.main(model, moments=[0.1, 0.5], lines=[b"hello\n", b"\xff\n"])
    printed = capsys.readouterr().out
    assert printed.count("assistant:") == 2


def test_the_page_is_one_page_and_imports_nothing_of_the_package():
    text = Path(one_page.__file__).read_text()
    assert len(text.splitlines()) <= 200
    imports = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert "torch" in names and not any(name.startswith("shared") for name in names)
