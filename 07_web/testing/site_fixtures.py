"""Fixtures of the tests of a site without a server: a model that can be stopped, its site."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import static_site
import torch
from engine_page import files_served
from finished_runs import SECRET, finished_run

from shared.model.config import NormConfig
from shared.model.transformer import Transformer


@pytest.fixture(scope="module")
def model(random_model, tokenizer) -> Transformer:
    """Never ends its turn: its first channel is always 1, and speaks against the end alone."""
    kinds = {"norm": NormConfig("layer"), "bias": True}
    model = random_model(vocab_size=tokenizer.vocab_size, context_length=128, **kinds)
    with torch.no_grad():
        model.final_norm.weight[0], model.final_norm.bias[0] = 0, 1
        model.head.weight[:, 0] = 0
        model.head.weight[tokenizer.end_of_text, 0] = -1e4
    return model


@pytest.fixture(scope="module")
def site(tmp_path_factory, model, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("site")
    run = finished_run(folder, model, tokenizer, SECRET.encode() * 20)
    static_site.make_site(run, folder / "site", folder / "data")
    return folder / "site"


@pytest.fixture(scope="module")
def addresses(site) -> Iterator[dict[str, str]]:
    """The page on a host of files, in a folder of it, and as one file without any host."""
    with files_served(site.parent) as host:
        yield {"http": f"{host}/site/", "file": (site / "chat.html").as_uri()}
