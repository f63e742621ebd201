"""The parts of a run follow from its config and from the machine that it runs on."""

import pytest
import torch

from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig
from shared.model.transformer import Transformer
from shared.text.batches import NOT_COUNTED
from shared.text.byte_table import ByteTable
from shared.text.replies import ids_in_replies
from shared.text.sources import Source
from shared.text.token_file import load_corpus
from shared.text.tokenizer import ByteTokenizer
from shared.training.run_building import build_run, first_model
from shared.training.run_config import DataConfig, RunConfig, TrainConfig
from shared.training.run_parts import build_batches, build_optimizers
from shared.training.validation import score_corpora


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


def test_a_run_counts_replies_alone_where_its_source_says_so(tmp_path):
    (tmp_path / "chats.txt").write_text("user: hi\nassistant: Hello!\n\n" * 9)
    spec = f"transcripts:{tmp_path / 'chats.txt'}"
    config = RunConfig(DataConfig([Source(spec, questions=0)]), ModelConfig(context_length=64))
    corpora = [load_corpus(config.data.sources[0], tmp_path, ByteTokenizer(), 0)]
    _, targets = next(build_batches(corpora, config))
    said = bytes(targets[targets != NOT_COUNTED].tolist())
    assert b" Hello!\n\x1e" in said and b"user" not in said and b"hi" not in said


def test_replies_are_not_asked_of_text_that_has_none(tmp_path):
    (tmp_path / "tale.txt").write_text("Once the assistant: said nothing. " * 20)
    source = Source(f"text:{tmp_path / 'tale.txt'}", questions=0.5)
    with pytest.raises(UserError, match=r"questions is 0\.5, but it holds no conversation"):
        load_corpus(source, tmp_path, ByteTokenizer(), 0)
    with pytest.raises(UserError, match="questions is 2; expected a share, 0 to 1"):
        Source("primer", questions=2)


def test_validation_of_replies_leaves_the_questions_out(tmp_path):
    chats = "user: {0}\nassistant: {0}!\n\n"
    (tmp_path / "chats.txt").write_text("".join(chats.format(f"word{n}") for n in range(80)))
    spec = f"transcripts:{tmp_path / 'chats.txt'}"
    sizes = ModelConfig(context_length=32, n_layers=1, d_model=8, n_heads=1)
    found = []
    for questions in (0.5, 1.0):
        data = DataConfig([Source(spec, questions=questions)], valid_fraction=0.3)
        run = build_run(RunConfig(data, sizes, device="cpu"), tmp_path / "run", tmp_path / "data")
        (losses,) = run.validation_losses().values()
        scores = score_corpora(run.tokenizer, run.corpora, {run.corpora[0].name: losses})
        found.append((losses, scores[0].figures))
    (of_replies, alone), (of_all, beside) = found
    marks = torch.from_numpy(ids_in_replies(run.corpora[0].validation, ByteTable(run.tokenizer)))
    assert torch.equal(of_replies, of_all[marks[1 : len(of_all) + 1]])
    assert list(alone) == ["this model, replies"] and "xz" in " ".join(beside)


@pytest.mark.parametrize("experts", [1, 3])
def test_at_its_first_step_a_models_blocks_change_nothing(experts):
    sizes = ModelConfig(n_layers=2, d_model=32, n_heads=2, moe=MoEConfig(experts))
    config = RunConfig(model=sizes)
    model, ids = first_model(config, None), torch.arange(40).unsqueeze(0)
    straight = model.head(model.final_norm(model.embedding(ids)))
    assert torch.equal(model(ids), straight)
    begun = Transformer(sizes)
    assert not torch.equal(begun(ids), begun.head(begun.final_norm(begun.embedding(ids))))
    assert torch.equal(first_model(config, begun)(ids), begun(ids))  # a given one stays itself
