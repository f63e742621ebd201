"""The texts of the published weights: what is missing or another is told before any training."""

import hashlib

import full_run
import published_texts
import pytest

from shared.errors import UserError

TEXTS = [
    {"file": name, "sha256": hashlib.sha256(name.encode()).hexdigest()}
    for name in ("one.jsonl.xz", "two.jsonl.xz")
]


@pytest.fixture
def place(tmp_path):
    for text in TEXTS:
        (tmp_path / text["file"]).write_text(text["file"])
    return tmp_path


def test_texts_that_are_there_to_the_last_byte_pass(place):
    published_texts.check(TEXTS, place)


def test_all_that_is_missing_is_named_in_one_line_with_its_place(tmp_path):
    with pytest.raises(
        UserError, match=r"^no one.jsonl.xz, two.jsonl.xz in .*put them there"
    ) as told:
        published_texts.check(TEXTS, tmp_path)
    assert "\n" not in str(told.value)


def test_another_text_of_the_same_name_is_refused(place):
    (place / "two.jsonl.xz").write_text("something else")
    with pytest.raises(UserError, match=r"^two.jsonl.xz in .*: not the text of"):
        published_texts.check(TEXTS, place)


def test_what_is_checked_is_what_the_config_reads():
    config = full_run.config_of(full_run.CONFIGS / "published.yaml", [])
    read = {s.argument for s in config.data.sources if s.kind in ("jsonl", "messages")}
    place = published_texts.PLACE.relative_to(full_run.HERE.parent)
    with open(published_texts.TEXTS, "rb") as file:
        listed = published_texts.tomllib.load(file)["text"]
    assert read == {(place / text["file"]).as_posix() for text in listed}
    assert config.data.valid_fraction == 0.01 and config.train.snapshots == 16
