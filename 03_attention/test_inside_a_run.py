"""A trained model's head in the terminal: what is printed are the model's own numbers."""

import inside_a_run
import pytest
import torch
from attention import multi_head, part
from einops import rearrange

from conftest import VARIANTS
from shared.errors import UserError
from shared.model.weights import save_weights

IDS = list(b"the cat sat")


@pytest.mark.parametrize("name", ["grouped heads", "window", "GPT-2", "layer norms everywhere"])
@torch.no_grad()
def test_looking_inside_changes_nothing_and_its_stages_lead_to_the_models_output(
    random_model, name
):
    model, layer = random_model(**VARIANTS[name]), 1
    expected = model(torch.tensor([IDS]))[0]
    inside = inside_a_run.look_inside(model, IDS, layer)
    kept = inside.tensors
    close = lambda one, other: torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)  # noqa: E731
    close(inside.logits, expected)
    assert torch.equal(model(torch.tensor([IDS]))[0], expected), "the model is not as it was"
    assert len(inside.streams) == model.config.n_layers + 1
    close(inside_a_run.lens(model, inside.streams[-1]), expected.softmax(-1))
    block = model.blocks[layer]
    close(kept["normed"], block.attention_norm(inside.streams[layer]))
    merged = rearrange(kept["weights"] @ kept["values"], "heads t channels -> t (heads channels)")
    close(kept["merged"], merged)
    close(kept["output"], block.attention.output(merged))
    stream = kept["input"] + kept["output"]
    close(inside.streams[layer + 1], stream + block.feedforward(block.feedforward_norm(stream)))


@torch.no_grad()
def test_weights_are_the_whiteboards(random_model):
    model = random_model()
    inside = inside_a_run.look_inside(model, IDS, 0)
    own = part(model.blocks[0].state_dict(), "attention.")
    output, maps = multi_head(inside.tensors["normed"].unsqueeze(0), own, model.config.n_heads)
    torch.testing.assert_close(inside.tensors["weights"], maps[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(inside.tensors["output"], output[0], atol=1e-5, rtol=1e-4)


def test_the_script_prints_them_for_a_run(tmp_path, random_model, tokenizer, capsys):
    for step, scale in ((1, 2.0), (2, 1.0)):  # the newest counts
        folder = tmp_path / "checkpoints" / f"step-{step:07}"
        folder.mkdir(parents=True)
        model = random_model()
        model.embedding.weight.data *= scale
        save_weights(model, folder)
        tokenizer.save(folder / "tokenizer.json")
    inside_a_run.tell_run(["--run", str(tmp_path), "--text", "the cat sat", "--head", "4"])
    printed = capsys.readouterr().out
    kept = inside_a_run.look_inside(model, IDS, 0).tensors
    for line, numbers in {
        "input                              (C,)    = (32,)  ": kept["input"][-1],
        "query, turned                      (D,)    = (8,)   ": kept["queries"][3, -1],
        "keys, turned                       (T, D)  = (11, 8)": kept["keys"][3].flatten(),
        "weights = softmax(masked scores)   (T,)    = (11,)  ": kept["weights"][3, -1],
        "output  = merged @ Wo.T            (C,)    = (32,)  ": kept["output"][-1],
    }.items():
        shown = " ".join(f"{number:7.3f}" for number in numbers[:5].tolist())
        assert f"{line:54}     {shown}"[:54] in printed and shown in printed
    assert "layer 1, head 4, at" in printed
    assert "THE MAP" in printed and "layer 2 " in printed


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--layer", "3"], "--layer is 3; this model has 1 to 2"),
        (["--head", "0"], "--head is 0; this model has 1 to 4"),
        (["--text", "x" * 33], "--text is 33 ids; expected 1 to 32"),
        (["--run", "nowhere"], "no trained model in nowhere: train one first"),
    ],
)
def test_what_cannot_be_looked_at_is_told_in_one_line(
    tmp_path, random_model, tokenizer, more, words
):
    save_weights(random_model(), tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=words):
        inside_a_run.tell_run(["--run", str(tmp_path), "--text", "cat", *more])
