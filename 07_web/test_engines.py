"""Other people's engines themselves: what they say of an exported model is what ours says."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
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

from shared.model.config import ModelConfig, MoEConfig, RopeConfig
from shared.model.transformer import Transformer
from shared.text.tokenizer import END_OF_TEXT, ByteTokenizer
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message, render, render_prompt

pytestmark = pytest.mark.slow

REPLY = "Ğrüße 🙂 中文!"
AGAIN = [*HELLO, Message("assistant", REPLY), Message("user", "again")]
MODELS = {
    "qwen3": (ByteTokenizer, {"norm": QK_NORM, "rope": RopeConfig(500.0)}),
    "llama": (ByteTokenizer, {"rope": RopeConfig(scaling="interpolation", factor=2.0)}),
    "llama, ntk": (ByteTokenizer, {"rope": RopeConfig(500.0, "ntk", 3.0), "n_kv_heads": None}),
    "llama, BPE, tied": (small_bpe, {"tied_head": True}),
    "mixtral": (ByteTokenizer, {"moe": MoEConfig(n_experts=4, top_k=2)}),
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Transformer]:
    """A model that knows two replies by heart, with letters that take up to four bytes each."""
    torch.manual_seed(0)
    sizes = {"context_length": 128, "n_layers": 2, "d_model": 64, "n_heads": 2}
    model = Transformer(ModelConfig(**sizes, norm=QK_NORM))
    text = "\x1e" + render([*AGAIN, Message("assistant", REPLY)]) + "\x1e"
    ids = torch.tensor([list(text.encode())])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(120):
        logits = model(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run = save_run(model, ByteTokenizer(), tmp_path_factory.mktemp("taught"))
    return run, model.eval()


class Llama:
    """llama.cpp's own server, in this process, on a free port."""

    def __init__(self, file: Path) -> None:
        engine = pytest.importorskip("xllamacpp")
        settings = engine.CommonParams()
        settings.model.path = str(file)
        settings.n_ctx, settings.n_parallel, settings.port = 256, 1, 0
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
        settings.warmup, settings.verbosity = False, 0
        # Left to itself it keeps keys and values in f16, and attends in it.
        settings.cache_type_k = settings.cache_type_v = engine.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = engine.Server(settings)

    def ask(self, path: str, **body: Any) -> Any:
        """What it answers, as JSON; of a stream the list of its events."""
        request = urllib.request.Request(
            self.server.listening_address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            if not body.get("stream"):
                return json.load(answer)
            lines = answer.read().decode().splitlines()
            events = (line.removeprefix("data: ") for line in lines if line.startswith("data: {"))
            return [json.loads(event) for event in events]

    def reply(self, messages: list[Message], **more: Any) -> dict[str, Any]:
        """Its answer to a chat, at temperature 0."""
        settings = {"temperature": 0, **more}
        return self.ask("/v1/chat/completions", messages=asked(messages), **settings)


@pytest.fixture
def save(random_model, tmp_path) -> Callable[..., tuple[Path, Transformer]]:
    """A random model on disk, and the model."""

    def saved(tokenizer: Tokenizer, **fields) -> tuple[Path, Transformer]:
        model = random_model(vocab_size=tokenizer.vocab_size, context_length=128, **fields)
        return save_run(model, tokenizer, tmp_path), model

    return saved


@pytest.mark.parametrize(("make", "fields"), MODELS.values(), ids=MODELS)
@torch.no_grad()
def test_llama_cpp_reads_the_same_ids_and_writes_the_same_bytes(make, fields, save):
    tokenizer = make()
    run, model = save(tokenizer, **fields)
    llama = Llama(export_to("gguf", run) / "run-f32.gguf")
    for text in ("hello", "Ğ naïve 🙂 中文\n", " a  b ", "user: 12"):
        ids = llama.ask("/tokenize", content=text, add_special=True)["tokens"]
        assert ids == [tokenizer.end_of_text, *tokenizer.encode(text).tolist()]
        assert llama.ask("/detokenize", tokens=ids[1:])["content"] == text
    settings = {"temperature": 0, "n_predict": 40, "return_tokens": True, "n_probs": 4}
    told = llama.ask("/completion", prompt=render_prompt(HELLO), **settings)
    ours = greedy(model, tokenizer, HELLO, 40)
    assert told["tokens_evaluated"] == 1 + len(tokenizer.encode(render_prompt(HELLO)))
    assert told["tokens"] == [token for token in ours if token != tokenizer.end_of_text]
    prompt = [tokenizer.end_of_text, *tokenizer.encode(render_prompt(HELLO)).tolist()]
    likely = model(torch.tensor([prompt]))[0, -1].log_softmax(-1)
    first = told.get("completion_probabilities", [{"id": None}])[0]
    if first["id"] == ours[0]:  # of half a character it tells no likelihood
        expected = [likely[each["id"]].item() for each in first["top_logprobs"]]
        assert [each["logprob"] for each in first["top_logprobs"]] == pytest.approx(
            expected, abs=1e-4
        )


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
def test_llama_cpp_chats_over_http_and_keeps_characters_whole(kind, taught, tmp_path):
    run, _ = taught
    folder = export_to("gguf", run, "--type", kind, place=tmp_path)
    llama = Llama(folder / f"run-{kind}.gguf")
    for messages in (HELLO, AGAIN):
        choice = llama.reply(messages, stop=["\nuser:"])["choices"][0]
        assert choice["message"]["content"].strip() == REPLY
        assert choice["finish_reason"] == "stop"
    parts = llama.reply(AGAIN, stop=["\nuser:"], stream=True)
    texts = [part["choices"][0]["delta"].get("content") or "" for part in parts if part["choices"]]
    assert "".join(texts).strip() == REPLY
    assert {"🙂", "中", "文"} <= set(texts)


def test_llama_cpp_ends_a_reply_with_its_line_where_the_file_says_so(taught, tmp_path):
    run, _ = taught
    folder = export_to("gguf", run, "--line-ends-reply", place=tmp_path)
    llama = Llama(folder / "run-f32.gguf")
    assert llama.reply(HELLO, max_tokens=60)["choices"][0]["message"]["content"].strip() == REPLY


def test_llama_cpps_template_writes_what_the_transcript_writes(taught, tmp_path):
    run, _ = taught
    llama = Llama(export_to("gguf", run, place=tmp_path) / "run-f32.gguf")
    for messages in CONVERSATIONS:
        expected = render_prompt(as_kept(messages))
        written = llama.ask("/apply-template", messages=asked(messages))["prompt"]
        assert written.lstrip("\x1e") == expected
        count = llama.reply(messages, max_tokens=1)["usage"]["prompt_tokens"]
        assert count == 1 + len(expected.encode())  # the begin token, once


def test_the_pipeline_of_transformers_gives_the_same_reply(taught, tmp_path):
    from transformers import pipeline

    run, model = taught
    folder = export_to("transformers", run, "--line-ends-reply", place=tmp_path)
    chat = pipeline("text-generation", model=str(folder))
    for messages in (HELLO, AGAIN):
        said = chat(asked(messages), max_new_tokens=60, do_sample=False)[0]["generated_text"][-1][
            "content"
        ]
        ours = ByteTokenizer().decode(greedy(model, ByteTokenizer(), messages, 60))
        assert said.strip() == REPLY and ours.startswith(said)


@torch.no_grad()
def test_mlx_computes_the_same_and_replies_the_same_in_8_bits_too(taught, tmp_path):
    mlx = pytest.importorskip("mlx.core")
    from mlx_lm import convert, generate, load

    run, model = taught
    folder = export_to("transformers", run, "--line-ends-reply", place=tmp_path)
    ids = [END_OF_TEXT, *render(AGAIN).encode()]
    convert(str(folder), str(tmp_path / "mlx8"), quantize=True, q_bits=8, q_group_size=32)
    for place, tolerance in ((folder, 1e-4), (tmp_path / "mlx8", 0.5)):
        theirs, tokenizer = load(str(place))
        logits = torch.tensor(theirs(mlx.array([ids])).tolist())
        assert torch.allclose(logits, model(torch.tensor([ids])), atol=tolerance)
        prompt = tokenizer.apply_chat_template(asked(HELLO), add_generation_prompt=True)
        assert generate(theirs, tokenizer, prompt=prompt, max_tokens=60).strip() == REPLY


@pytest.mark.parametrize(("make", "fields"), MODELS.values(), ids=MODELS)
@torch.no_grad()
def test_mlx_reads_a_stretched_base_and_other_families(make, fields, save):
    mlx = pytest.importorskip("mlx.core")
    from mlx_lm import load

    run, model = save(make(), **fields)
    theirs, _ = load(str(export_to("transformers", run)))
    ids = [[30, *b"hello there"]]
    logits = torch.tensor(theirs(mlx.array(ids)).tolist())
    assert torch.allclose(logits, model(torch.tensor(ids)), atol=1e-3)
