"""A run begins with a model that another engine trained, with that one's own tokenizer."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from shared.errors import UserError
from shared.model.config import ModelConfig
from shared.text.sources import Source
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.loop import train
from shared.training.run_building import build_run
from shared.training.run_config import DataConfig, RunConfig

TEXT = "the quick brown fox jumps over the lazy dog, 12 times. naïve 🙂 " * 60
SIZES = {"vocab_size": 320, "max_position_embeddings": 64}
HEADS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
FAMILIES = {
    "Llama": {**HEADS, "rope_parameters": {"rope_type": "default", "rope_theta": 700.0}},
    "Qwen3": {**HEADS, "head_dim": 8, "tie_word_embeddings": True},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": None},
}


def their_folder(folder: Path, family: str, **more) -> tuple[Path, torch.nn.Module]:
    """A random model of theirs with a BPE of 300 ids, of which the model has some more."""
    import transformers

    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    kind = getattr(transformers, family + head)
    torch.manual_seed(0)
    fields = {**SIZES, **FAMILIES.get(family, HEADS), **more}
    theirs = kind(kind.config_class(**fields)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    theirs.save_pretrained(folder)
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    end = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=end)
    learned.train_from_iterator([TEXT], trainer)
    learned.save(str(folder / "tokenizer.json"))
    return folder, theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_begins_with_their_weights_and_their_tokenizer(family, tmp_path):
    folder, theirs = their_folder(tmp_path / "theirs", family)
    (tmp_path / "text.txt").write_text(TEXT)
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = RunConfig(
        DataConfig([Source(f"text:{tmp_path / 'text.txt'}")]),
        ModelConfig(context_length=16),
        init=str(folder),
        budget="2 steps",
        device="cpu",
        precision="float32",
    )
    run = build_run(config, tmp_path / "run", tmp_path / "data")
    assert (
        run.model.config.vocab_size == run.tokenizer.vocab_size == library.get_vocab_size() == 300
    )
    assert run.model.config.context_length == 16
    ids = run.tokenizer.encode("the lazy naïve fox 🙂").tolist()
    assert ids == library.encode("the lazy naïve fox 🙂").ids
    with torch.no_grad():
        ours = run.model.eval()(torch.tensor([ids]))
        assert torch.allclose(ours, theirs(torch.tensor([ids])).logits[..., :300], atol=1e-4)
    before = run.model.blocks[0].attention.query.weight.clone()
    assert len(list(train(**run.for_training()))) == 2
    assert not torch.equal(run.model.blocks[0].attention.query.weight, before)


def test_another_family_is_refused_by_name(tmp_path):
    folder, _ = their_folder(tmp_path / "theirs", "OPT", ffn_dim=48, word_embed_proj_dim=32)
    with pytest.raises(UserError, match="a 'opt' model; read are llama, mistral, qwen3"):
        load_model(find_checkpoint(folder))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read: .*model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"{}"), "cannot be read"),
        (lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer.json"),
        (lambda f: change(f, head_dim=16), "their head_dim is 16; our class computes with 8"),
        (lambda f: change(f, num_hidden_layers=3), "layers.2.* is missing"),
        (lambda f: change(f, vocab_size=200), "other sizes than its config says"),
        (lambda f: add_tokens(f, 21), "the model has 320 ids, its tokenizer 321: they do not"),
    ],
)
def test_a_folder_that_is_broken_or_not_covered_is_refused_in_one_line(spoil, message, tmp_path):
    folder, _ = their_folder(tmp_path / "theirs", "Llama")
    spoil(folder)
    with pytest.raises(UserError, match=message) as told:
        load_model(find_checkpoint(folder))
    assert "\n" not in str(told.value)


def change(folder: Path, **fields) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def add_tokens(folder: Path, count: int) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"<more {n}>" for n in range(count)])
    tokenizer.save(str(folder / "tokenizer.json"))
