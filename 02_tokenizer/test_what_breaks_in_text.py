"""`what_breaks_in_text.py`: its parts, its counts, and what a killed writer leaves."""

import math

import numpy as np
import psutil
import pytest
import what_breaks_in_text
from what_breaks_in_text import (
    FOLDS,
    WINDOW,
    bits_after,
    cut_into_windows,
    folds,
    how_often,
    runs,
    what_is_found,
    write_and_be_killed,
)

DOCUMENTS = [np.full(WINDOW // 2 + size, size, np.uint8) for size in range(2 * FOLDS)]


@pytest.mark.parametrize("pieces", [DOCUMENTS, cut_into_windows(DOCUMENTS)])
def test_each_byte_is_held_back_once_and_never_trained_on_at_the_same_time(pieces):
    row = np.sort(np.concatenate(pieces))
    parts = list(folds(pieces))
    assert (np.sort(np.concatenate([held_back for _, held_back in parts])) == row).all()
    assert all((np.sort(np.concatenate(part)) == row).all() for part in parts)


def test_windows_lose_no_byte_and_are_cut_alike():
    windows = cut_into_windows(DOCUMENTS)
    assert (np.concatenate(windows) == np.concatenate(DOCUMENTS)).all()
    assert {len(window) for window in windows[:-1]} == {WINDOW}


def test_counts_are_those_of_a_search_by_hand():
    seen, asked = np.frombuffer(b"abcabd", np.uint8), np.frombuffer(b"abe", np.uint8)
    assert how_often(runs(seen, 2), runs(asked, 2)).tolist() == [2, 0]


def test_a_share_is_mixed_with_that_of_knowing_nothing(monkeypatch):
    monkeypatch.setattr(what_breaks_in_text, "ORDER", 0)
    bits = bits_after(np.frombuffer(b"aab", np.uint8), np.frombuffer(b"a", np.uint8))
    assert bits == pytest.approx(-math.log2((2 + 4 / 256) / (3 + 4)))


@pytest.mark.parametrize("in_place", [True, False])
def test_who_writes_in_place_and_is_killed_leaves_half_that_opens(tmp_path, monkeypatch, in_place):
    class Killed(BaseException):
        """In place of the signal."""

    def kill(process: psutil.Process) -> None:
        raise Killed

    monkeypatch.setattr(psutil.Process, "kill", kill)
    monkeypatch.setattr(what_breaks_in_text, "read_ids", lambda: DOCUMENTS)
    with pytest.raises(Killed):
        write_and_be_killed(tmp_path / "corpus", in_place)
    found = what_is_found(tmp_path / "corpus", sum(map(len, DOCUMENTS)))
    assert found.startswith("opens without an error" if in_place else "no such file")
