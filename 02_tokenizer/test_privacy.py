"""Privacy: no folder of its owner's in what is published."""

from pathlib import Path

import pytest

from shared.privacy import without_folders


@pytest.mark.parametrize(
    ("given", "public"),
    [
        ("/home/me/x.yaml", "x.yaml"),
        ("../notes", "notes"),
        ("~/My Notes/", "My Notes"),
        ("My Notes/secret/x", "x"),
        ("C:\\Users\\me\\diary", "C:diary"),
        (Path("/a/b"), "b"),
        ("--data.path=/home/me/notes", "--data.path=notes"),
        ("markdown:/home/me/n", "markdown:n"),
        (
            "hub:Salesforce/wikitext:wikitext-103-raw-v1",
            "hub:Salesforce/wikitext:wikitext-103-raw-v1",
        ),
        ("no such file: /home/me/Bob's notes, old/x.md", "no such file: x.md"),
        (
            '[{spec: "markdown:/me/n"}, {spec: text:/b c/d}]',
            '[{"spec": "markdown:n"}, {"spec": "text:d"}]',
        ),
        ('--data.sources=[{spec: "markdown:/me/n"}]', '--data.sources=[{"spec": "markdown:n"}]'),
        ("[/home/me/no list", "no list"),
        ({"a": "/x/y", "b": ["x/y", ("\\z",)]}, {"a": "y", "b": ["y", ["z"]]}),
        (
            ["--train.decay=0.5", "6h", "--resume", None],
            ["--train.decay=0.5", "6h", "--resume", None],
        ),
    ],
)
def test_of_every_path_only_the_last_part_is_shown(given, public):
    assert without_folders(given) == public
