"""Pictures of trained models: what they count and show is what the model does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import quick_curves
import torch
import trained_attention
import trained_experts

from shared.errors import UserError
from shared.model.causal_attention import CausalAttention
from shared.model.config import ModelConfig, MoEConfig
from shared.model.heads import share_heads, split_heads
from shared.model.transformer import Transformer
from shared.text.bpe_training import train_bpe
from shared.text.operands import is_held_out
from shared.training.checkpoint import save_checkpoint

DEEP = ModelConfig(context_length=80, n_layers=4, d_model=16, n_heads=2, moe=MoEConfig(n_experts=4))


def saved_run(folder: Path, config: ModelConfig, tokenizer) -> Path:
    model = Transformer(replace(config, vocab_size=tokenizer.vocab_size))
    save_checkpoint(folder / "checkpoints", 1, model, tokenizer, {}, {})
    return folder


@pytest.fixture
def drawn(monkeypatch) -> list[Path]:
    """The paths that would be drawn to; nothing is drawn, so no committed figure changes."""
    paths = []
    for script in (trained_attention, trained_experts):
        monkeypatch.setattr(script, "draw", lambda *given: paths.append(given[-1]))
    ids = np.arange(200, dtype=np.uint8)
    monkeypatch.setattr(trained_experts, "sample_ids", lambda: ids)
    return paths


def test_every_printable_character_is_of_exactly_one_kind():
    for character in [*map(chr, range(32, 127)), "\n"]:
        kinds = [name for name, belongs in trained_experts.KINDS.items() if belongs(character)]
        assert len(kinds) == 1, (character, kinds)


def test_each_layer_sends_every_position_of_the_windows_to_one_first_expert():
    model = Transformer(DEEP).eval()
    ids = torch.randint(0, 256, (5 * 64 + 10,))  # the ten left over fill no window
    counts = trained_experts.first_choices(model, ids)
    assert counts.shape == (4, 256, 4)
    for of_layer in counts:
        assert torch.equal(of_layer.sum(dim=1), ids[: 5 * 64].bincount(minlength=256))


@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_the_weights_shown_are_those_the_model_mixes_values_with(window, tiny_config):
    torch.manual_seed(0)
    model = Transformer(replace(tiny_config, window=window)).eval()
    ids = torch.randint(0, 256, (1, 20))
    mixed, expected = [], []

    def keep(module: CausalAttention, inputs: tuple, output: torch.Tensor) -> None:
        values = share_heads(split_heads(module.value(inputs[0]), module.kv_heads), module.n_heads)
        mixed.append(values[0])  # (H, T, D)
        expected.append(output[0])

    for block in model.blocks:
        block.attention.register_forward_hook(keep)
    maps = trained_attention.attention_maps(model, ids)
    for block, weights, values, output in zip(model.blocks, maps, mixed, expected, strict=True):
        merged = (weights @ values).transpose(0, 1).flatten(1)  # (T, C)
        torch.testing.assert_close(block.attention.output(merged), output, rtol=1e-4, atol=1e-5)


def test_the_positions_of_the_picture_are_those_of_its_text():
    ids = b"\x1e" + trained_attention.TEXT.encode()
    assert bytes(ids[at] for at in trained_attention.ASKED) == trained_attention.WORD.encode()
    assert bytes(ids[at] for at in trained_attention.GUESSING) == b"123456"
    guessed = [ids[at + 1 : at + 2] for at in trained_attention.GUESSING[:-1]]
    assert b"".join(guessed) == trained_attention.WORD[:-1].encode()
    assert is_held_out(trained_attention.WORD)


def test_a_home_that_is_nobodys_is_one_line():
    for main in (quick_curves.main, trained_attention.main):
        with pytest.raises(UserError, match="cannot be a path here"):
            main(["~nosuch/run"])


def test_only_the_default_run_is_drawn_into_the_committed_figure(
    drawn, tmp_path, tokenizer, monkeypatch
):
    run = saved_run(tmp_path / "run", DEEP, tokenizer)
    trained_attention.main([str(run)])
    (run / "checkpoints" / "best.json").write_text('{"name": "step-0000001", "bits_per_byte": 1.0}')
    trained_attention.main([str(run / "best")])
    monkeypatch.setattr(trained_attention, "QUICK_RUN", run)
    trained_attention.main([])
    assert drawn == [run / "trained_attention.png"] * 2 + [trained_attention.FIGURE]


def test_experts_are_drawn_into_the_run_or_where_one_says(drawn, tmp_path, tokenizer):
    run = saved_run(tmp_path / "run", DEEP, tokenizer)
    trained_experts.main([str(run)])
    trained_experts.main([str(run), str(tmp_path / "figure.png")])
    assert drawn == [run / "trained_experts.png", tmp_path / "figure.png"]


@pytest.mark.parametrize("script", [trained_attention, trained_experts])
def test_tokens_that_are_no_bytes_are_refused_in_one_line(script, drawn, tmp_path):
    run = saved_run(tmp_path / "run", DEEP, train_bpe(["hehe"], 258))
    with pytest.raises(UserError, match="give a run with the byte tokenizer"):
        script.main([str(run)])
    assert not drawn


def test_the_figures_are_drawn(tmp_path):
    model = Transformer(DEEP).eval()
    ids = torch.randint(0, 256, (1, 64))
    maps = trained_attention.attention_maps(model, ids[:, :12])  # a label is slow to draw
    counts = trained_experts.first_choices(model, ids[0])
    for path in (
        trained_attention.draw(maps, {(1, 1): "x", (4, 2): "y"}, ["x"] * 12, tmp_path / "a.png"),
        trained_experts.draw(counts, tmp_path / "experts.png"),
    ):
        assert path.read_bytes().startswith(b"\x89PNG")
