"""Continuing a text: what a model knows is shown as it is, whatever signs are in it."""

import generate

from shared.chat.sampling import SamplingSettings


def test_tokens_and_prompts_are_shown_as_they_are(tiny_model, tokenizer, monkeypatch, capsys):
    """`[/]` is a sign of the table's library, `:smile:` one for an emoji."""
    monkeypatch.setattr(tokenizer, "decode", lambda ids: "[/]")
    generate.explain_next_byte(tiny_model, tokenizer, ":smile: [b]", SamplingSettings())
    told = capsys.readouterr().out
    assert "':smile: [b]'" in told and told.count("'[/]'") == 8
