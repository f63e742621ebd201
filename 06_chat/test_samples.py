"""Samples: the same questions for every model, and what the published one must know of them."""

from pathlib import Path

import pytest
import samples
import torch
from exam import ask_model, examine

from shared.chat.sampling import SamplingSettings
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.text.drills import SKILLS
from shared.text.tokenizer import ByteTokenizer
from shared.training.checkpoint import load_model

PUBLISHED = Path(__file__).resolve().parents[1] / "05_full_run" / "published"
LEAST = 16  # of 20: what knows 95 % of all has fewer once in four hundred times


@pytest.mark.skipif(
    not (PUBLISHED / "card.md").is_file(), reason="no published weights in this checkout"
)
def test_the_published_model_solves_held_out_drills():
    model, tokenizer = load_model(PUBLISHED)
    questions = samples.twenty_drills()
    marks = examine(questions, lambda *part: ask_model(model, tokenizer, *part), tell=int)
    assert sum(mark.right for mark in marks) >= LEAST


def test_the_drills_are_twenty_of_all_skills_that_can_hold_out_and_always_the_same():
    questions = samples.twenty_drills()
    assert len({str(each.exercise.messages) for each in questions}) == samples.DRILLS == 20
    assert {each.exercise.skill for each in questions} == set(SKILLS) - {"what comes next"}
    assert questions == samples.twenty_drills()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_page_has_every_question_and_one_seed_gives_one_page(seed, monkeypatch):
    monkeypatch.setattr(samples, "LONGEST", 4)
    two = samples.twenty_drills()[:2]
    monkeypatch.setattr(samples, "twenty_drills", lambda: two)
    torch.manual_seed(0)
    model = Transformer(ModelConfig(context_length=128, n_layers=1, d_model=32, n_heads=2)).eval()
    settings = SamplingSettings(0.7, max_new_bytes=4, seed=seed)
    told = samples.page(model, ByteTokenizer(), settings, "python 06_chat/samples.py RUN")
    assert told == samples.page(model, ByteTokenizer(), settings, "python 06_chat/samples.py RUN")
    assert f"temperature 0.7, seed {seed}" in told
    blocks = told.count("\n```text\n")
    assert blocks == len(samples.CHATS) + len(samples.BEGINNINGS) + 2
    for chat in samples.CHATS:
        assert all(f"user: {turn}\nassistant: " in told for turn in chat)
    assert told.count("(wrong, wanted: ") == 2  # it is untrained


def test_no_reply_leaves_its_block():
    assert samples.fenced("a\n```\nb") == "```text\na\n'''\nb\n```"
