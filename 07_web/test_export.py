"""Export: other people's engines compute what ours does, or are told by name what they cannot."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import nan as NAN
from pathlib import Path

import pytest
import serve
import torch
from exported_models import (
    CONVERSATIONS,
    HELLO,
    QK_NORM,
    as_kept,
    asked,
    export_to,
    greedy,
    save_run,
    small_bpe,
)
from gguf import GGUFReader

from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.errors import UserError
from shared.model.config import MoEConfig, NormConfig, RopeConfig
from shared.model.gguf_file import neighbours_first
from shared.model.heads import split_heads
from shared.model.positions import rope_angles, rotate
from shared.model.transformer import Transformer
from shared.model.weights import save_weights
from shared.text.bpe_files import show, unshow, write_tokenizers_json
from shared.text.tokenizer import ByteTokenizer
from shared.text.tokenizer_file import Tokenizer, load_tokenizer
from shared.text.transcript import render_prompt

GPT2 = {"positions": "learned", "norm": NormConfig("layer"), "activation": "gelu", "bias": True}
ODD = ("hello", "Ğ naïve 🙂 中文\n", " a  b ", "<|endoftext|>", "\x00\x7f\u0100\U0010ffff", "")


@pytest.fixture
def save(random_model, tmp_path) -> Callable[..., tuple[Path, Transformer]]:
    """A random model on disk, and the model."""

    def saved(tokenizer: Tokenizer | None = None, **fields) -> tuple[Path, Transformer]:
        tokenizer = tokenizer or ByteTokenizer()
        model = random_model(vocab_size=tokenizer.vocab_size, context_length=128, **fields)
        return save_run(model, tokenizer, tmp_path), model

    return saved


@pytest.mark.parametrize(
    ("family", "make", "fields"),
    [
        ("Qwen3", ByteTokenizer, {"norm": QK_NORM, "rope": RopeConfig(500.0)}),
        ("Llama", small_bpe, {"tied_head": True, "bias": True}),
        ("Mixtral", ByteTokenizer, {"moe": MoEConfig(n_experts=4, top_k=2)}),
        ("GPT2", small_bpe, {**GPT2, "n_kv_heads": None, "tied_head": True}),
    ],
)
@torch.no_grad()
def test_transformers_reads_the_folder_and_says_the_same(family, make, fields, save, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ours = make()
    run, model = save(ours, **fields)
    folder = export_to("transformers", run)
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__.startswith(family)
    ids = torch.arange(100)[None] * 7 % ours.vocab_size
    assert torch.allclose(theirs(ids).logits, model(ids), atol=1e-4)
    for text in ODD:
        expected = ours.encode(text).tolist()
        assert tokenizer.decode([ours.end_of_text, *expected], skip_special_tokens=True) == text
        if ours.kind == "bytes" or text not in ours.special:
            assert tokenizer(text).input_ids == [ours.end_of_text, *expected]
    prompt = tokenizer.apply_chat_template(
        asked(HELLO), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    written = theirs.generate(**prompt, max_new_tokens=40)[0, prompt["input_ids"].shape[1] :]
    assert written.tolist() == greedy(model, ours, HELLO, 40)


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_the_chat_template_writes_what_the_transcript_writes(messages, save):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(export_to("transformers", save()[0]))
    written = tokenizer.apply_chat_template(
        asked(messages), tokenize=False, add_generation_prompt=True
    )
    assert written == "\x1e" + render_prompt(as_kept(messages))
    with pytest.raises(Exception, match="no turn of tool: the roles are system, user, assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": ""}], tokenize=False)


@pytest.mark.parametrize(
    ("rope", "base", "scaling"),
    [
        (RopeConfig(500.0), 500.0, None),
        (RopeConfig(500.0, "ntk", 2.0), 500.0 * 2 ** (8 / 6), None),
        (RopeConfig(500.0, "interpolation", 2.0), 500.0, {"rope_type": "linear", "factor": 2.0}),
    ],
)
def test_the_base_of_rope_stands_under_its_older_name_too(rope, base, scaling, save):
    folder = export_to("transformers", save(rope=rope)[0])
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == pytest.approx(base)
    assert config["rope_scaling"] == scaling


def test_the_end_of_a_line_ends_a_reply_where_that_was_asked_for(save):
    run, _ = save()
    folder = export_to("transformers", run, "--line-ends-reply")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((folder / name).read_text())["eos_token_id"] == [30, 10]


@pytest.mark.parametrize(
    ("fields", "engine", "message"),
    [
        ({"logit_cap": 15.0}, "transformers", "model.logit_cap is 15.0"),
        ({"document_start": 30}, "transformers", "model.document_start is 30: .* --one-document"),
        ({"norm": QK_NORM, "moe": MoEConfig(4)}, "transformers", "model.norm.queries_and_keys"),
        ({"norm": QK_NORM, "moe": MoEConfig(4)}, "gguf", "model.norm.queries_and_keys is True"),
        ({"logit_cap": 15.0}, "gguf", "model.logit_cap is 15.0"),
        ({"document_start": 30}, "gguf", "model.document_start is 30: .* --one-document"),
        ({"window": 5}, "gguf", "model.window is 5: llama.cpp's llama has None there"),
        ({"bias": True}, "gguf", "model.bias is True: llama.cpp's llama has False there"),
        (
            {"positions": "learned"},
            "gguf",
            "model.positions is learned: llama.cpp's llama has rope",
        ),
        ({"norm": NormConfig("layer")}, "gguf", "model.norm.kind is layer: .* has rms there"),
        ({"activation": "relu2"}, "gguf", "model.activation is relu2: .* has swiglu there"),
    ],
)
def test_what_an_engine_cannot_hold_is_refused_by_name_and_nothing_is_written(
    fields, engine, message, save
):
    run, _ = save(**fields)
    with pytest.raises(UserError, match=message):
        export_to(engine, run)
    assert [path.name for path in run.parent.iterdir()] == ["run"]


@torch.no_grad()
def test_a_model_that_tells_documents_apart_goes_out_as_what_it_does_within_one(save):
    from shared.model.interop_folder import read_their_folder

    run, model = save(document_start=30)
    theirs = read_their_folder(export_to("transformers", run, "--one-document"))
    ids = torch.tensor([[30, *b"one document"]])
    assert torch.allclose(theirs(ids), model(ids), atol=1e-4)


def test_a_pretrained_tokenizer_stays_out_of_a_gguf_file(save, tmp_path):
    write_tokenizers_json(small_bpe(), tmp_path / "theirs.json")
    run, _ = save(load_tokenizer(tmp_path / "theirs.json"))
    with pytest.raises(UserError, match="a pretrained tokenizer is no tokenizer of ours"):
        export_to("gguf", run)


def test_scores_are_the_same_whether_halves_or_neighbours_turn():
    assert neighbours_first(torch.arange(8)[:, None], heads=2).flatten().tolist() == [
        *(0, 2, 1, 3),
        *(4, 6, 5, 7),
    ]
    cos, sin = rope_angles(5, 8, RopeConfig())

    def as_llama_turns(x: torch.Tensor) -> torch.Tensor:
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)

    matrices = torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(1))
    queries, keys = (rotate(split_heads(x @ m.T, 2), (cos, sin)) for m in matrices)
    theirs = [as_llama_turns(split_heads(x @ neighbours_first(m, 2).T, 2)) for m in matrices]
    assert torch.allclose(theirs[0] @ theirs[1].mT, queries @ keys.mT, atol=1e-5)


@pytest.mark.parametrize(("make", "kind"), [(ByteTokenizer, "f32"), (small_bpe, "q8_0")])
def test_a_gguf_file_has_every_token_and_no_empty_list_of_merges(make, kind, save, capsys):
    ours = make()
    run, _ = save(ours, d_ff=40)
    read = GGUFReader(export_to("gguf", run, "--type", kind) / f"run-{kind}.gguf")
    told = {name: field.contents() for name, field in read.fields.items()}
    names = told["tokenizer.ggml.tokens"]
    assert names.index("\x1e" if ours.kind == "bytes" else "<|endoftext|>") == ours.end_of_text
    assert unshow("".join(names[i] for i in ours.encode("Ğ 🙂"))) == "Ğ 🙂".encode()
    expected = (
        [f"{show(ours.vocabulary[a])} {show(ours.vocabulary[b])}" for a, b in ours.merges]
        if ours.kind == "bpe"
        else ["\x1e \x1e"]
    )
    assert told["tokenizer.ggml.merges"] == expected
    assert told["tokenizer.ggml.add_bos_token"] is True
    types = {tensor.name: tensor.tensor_type.name for tensor in read.tensors}
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert types["blk.0.attn_q.weight"] == kind.upper()
    assert types["blk.0.ffn_down.weight"] == ("F32" if kind == "f32" else "F16")
    assert ("f16, as 32 does not divide their rows: blk.0.ffn_down" in capsys.readouterr().out) == (
        kind == "q8_0"
    )


@pytest.mark.parametrize(("number", "message"), [(1e6, "too large for f16"), (NAN, "not finite")])
def test_numbers_that_a_type_cannot_hold_are_refused(number, message, save):
    run, model = save()
    with torch.no_grad():
        model.blocks[0].attention.query.weight[0, 0] = number
    save_weights(model, run)
    with pytest.raises(UserError, match=message):
        export_to("gguf", run, "--type", "f16")
    assert [path.name for path in run.parent.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("make", [ByteTokenizer, small_bpe])
def test_the_folder_for_transformers_is_served_and_answers_as_the_run_does(save, make, monkeypatch):
    run, model = save(make(), norm=QK_NORM)
    apps = []
    monkeypatch.setattr(serve, "build_server", lambda app, *_: apps.append(app) or (None, {}))
    monkeypatch.setattr(serve, "serve_until_told", lambda *_: None)
    folder = export_to("transformers", run)
    serve.main(["--checkpoint", str(folder), "--device", "cpu"])
    client = apps[0].test_client()
    given = client.post("/chat", json={"messages": asked(HELLO), "temperature": 0}).get_json()
    settings = replace(SamplingSettings(), temperature=0)
    pieces = stream_reply(model, make(), HELLO, settings)
    assert given["reply"] == "".join(piece.text for piece in pieces) != ""
    told = client.get("/healthz").get_json()
    assert told["model"]["parameters"] == model.count_parameters()
    assert "in_browser" not in told
