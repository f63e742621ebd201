"""Bits a byte on documents held back: they agree with what the run itself measured."""

from dataclasses import replace

import held_out
import pytest
import torch

from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.text.sources import Source
from shared.text.tokenizer import ByteTokenizer
from shared.training.run_building import build_run
from shared.training.run_config import DataConfig, RunConfig, TrainConfig


@pytest.fixture
def data(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"the {n}th line of it is short\n" for n in range(300)))
    drills = Source("drills:400", questions=0.5)
    return DataConfig([Source(f"text:{text}"), drills, Source("primer")], valid_fraction=0.1)


def test_each_source_that_holds_something_back_has_the_figure_of_the_run(
    data, tiny_config, tmp_path
):
    config = RunConfig(
        data, tiny_config, TrainConfig(batch_size=4), device="cpu", precision="float32"
    )
    run = build_run(config, tmp_path / "run", tmp_path / "data")
    rows = held_out.measure(run.model.eval(), run.tokenizer, data, tmp_path / "data")
    assert [row[0] for row in rows] == ["text:text.txt", "drills:400, replies"]
    for (_, _, _, bits), own in zip(rows, run.validate().values(), strict=True):
        assert float(bits) == pytest.approx(own, abs=2e-3)


def test_the_page_names_the_command_and_no_folder(data, tiny_config, tmp_path):
    torch.manual_seed(0)
    model = Transformer(replace(tiny_config, vocab_size=256)).eval()
    rows = held_out.measure(model, ByteTokenizer(), data, tmp_path / "data")
    page = held_out.page(rows, "python 05_full_run/held_out.py published", "cpu")
    assert "`python 05_full_run/held_out.py published` (cpu)" in page
    assert f"| text:text.txt | {rows[0][1]} | {rows[0][2]} | {rows[0][3]} |" in page
    assert str(tmp_path) not in page


def test_a_config_that_holds_nothing_back_is_refused(data, tiny_config, tmp_path):
    none = replace(data, sources=[Source("primer")], valid_fraction=0.0)
    model = Transformer(replace(tiny_config, vocab_size=256)).eval()
    with pytest.raises(UserError, match="holds nothing back"):
        held_out.measure(model, ByteTokenizer(), none, tmp_path / "data")
