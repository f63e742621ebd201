"""The measure of frames: what is counted to which frame, and that it measures."""

import subprocess
import sys

import frame_times
import pytest

from shared.errors import UserError


def event(name: str, at: float, worked: float = 0.0, thread: int = 1) -> dict:
    """As Chromium traces it; times in milliseconds."""
    return {"name": name, "ts": 1000 * at, "tdur": 1000 * worked, "pid": 1, "tid": thread}


def test_work_counts_to_the_frame_in_which_it_begins_and_other_threads_do_not():
    ticks = [event("FireAnimationFrame", at) for at in (10, 26, 46)]
    tasks = [("RunTask", 5, 3), ("RunTask", 11, 2), ("RunTask", 25, 4), ("RunTask", 30, 1)]
    others = [event("RunTask", 12, 9, thread=2), event("Paint", 12, 9), event("RunTask", 50, 7)]
    traced = [*(event(*task) for task in tasks), *others, *ticks]
    gaps, worked, each = frame_times.frames(traced)
    assert (gaps, worked) == ([16, 20], [6, 1])
    assert sorted(each) == [1, 2, 3, 4, 7]


def test_a_view_that_is_not_there_is_a_mistake_of_the_users():
    with pytest.raises(UserError, match="no view 'stars'; there are closed, bytes"):
        frame_times.main(["--views", "stars"])


@pytest.mark.slow
def test_each_view_gets_a_line(browser_path):  # a process of its own: this one has a browser
    command = [sys.executable, frame_times.__file__, *"--seconds 0.5 --views closed head".split()]
    shown = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
    lines = [line for line in shown.splitlines() if line.startswith("│")]
    assert [line.split()[1] for line in lines] == ["closed", "head"]
