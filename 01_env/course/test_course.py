"""The course itself: one helpful line for whatever a file holds, and nothing finished is lost."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import learn
import pytest
from course_state import CourseState, load_state, save_state
from exercise_table import ROOT, Exercise, exercises_of
from grading import grade_file
from grading_process import GradingProcess
from judging import Draw
from learner_file import blanked, fingerprint
from lesson import Lesson

from shared.errors import UserError

pytestmark = pytest.mark.usefixtures("one_thread")
RIGHT = "    powers = (scores - scores.amax(-1, keepdim=True)).exp()\n"
RIGHT += "    return powers / powers.sum(-1, keepdim=True)\n"
OVERFLOWS = "    return scores.exp() / scores.exp().sum(-1, keepdim=True)\n"


@pytest.fixture
def softmax(tmp_path: Path) -> Exercise:
    """The first exercise of step 03 in a folder of its own."""
    shutil.copy(ROOT / "03_attention" / "notes.md", tmp_path)
    shutil.copy(ROOT / "03_attention" / "write_attention.py", tmp_path)
    return blank_again(tmp_path)


def blank_again(folder: Path) -> Exercise:
    """Takes out what somebody who learns here may have written of step 03; its first exercise."""
    exercises = [replace(exercise, folder=folder) for exercise in exercises_of("03")]
    for exercise in exercises:
        text = blanked(exercise.file, exercise.name)
        exercise.file.write_text(text, encoding="utf-8")
    return exercises[0]


def write(exercise: Exercise, body: str, name: str = "softmax") -> None:
    """Puts a body below a task's docstring, or in place of the one that is there."""
    before, head, rest = exercise.file.read_text().partition(f"def {name}(")
    docstring_end = rest.index('    """\n') + len('    """\n')
    after = rest.find("\n\ndef ")
    exercise.file.write_text(before + head + rest[:docstring_end] + body + rest[after:])


class Says:
    """Stands in for the grading process: it says what it is told to."""

    def __init__(self, status: str = "done", message: str = "") -> None:
        self.answer = status, message

    def verdict(self, exercise: Exercise, seed: int) -> tuple[str, str]:
        return self.answer

    def solution(self, exercise: Exercise) -> str:
        return f"the source of {exercise.name}"


def lesson_on(exercise: Exercise, process: Says, sure: bool = True, **state) -> Lesson:
    other = replace(exercise, name="score")
    return Lesson(CourseState(**state), process, lambda _: sure, 1, [exercise, other])


def test_a_blank_is_blank_and_a_right_answer_is_done(softmax):
    assert grade_file(softmax, 1).status == "blank"
    write(softmax, RIGHT)
    assert grade_file(softmax, 1).status == "done"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (OVERFLOWS, "likely: large scores overflow"),
        ("    return (scores\n", "does not parse ('(' was never closed): return (scores"),
        ("    return scores.softmax(-1)\n", "PyTorch's softmax is refused here"),
        ("    return torch.nn.Softmax(-1)(scores)\n", "PyTorch's softmax is refused here"),
        ("    return\n", "expected a tensor (3, 3), got None"),
        ("    return scores, scores\n", "got (a tensor (3, 3), a tensor (3, 3))"),
        ("    return scores[..., :1]\n", "expected shape (3, 3), got (3, 1)"),
        ("    return scors\n", "NameError: name 'scors' is not defined\nwrite_attention.py, line "),
        ("    return score(scores, scores)\n", "score, which it calls, is not written yet"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_or_its_likeliest_cause(softmax, body, said):
    write(softmax, body)
    verdict = grade_file(softmax, 1)
    assert verdict.status == "wrong"
    assert said in verdict.message


def test_another_signature_is_told_the_expected_one(softmax):
    text = softmax.file.read_text()
    softmax.file.write_text(text.replace("def softmax(scores: Tensor)", "def softmax(x, dim)"))
    write(softmax, "    return x.exp()\n")
    message = grade_file(softmax, 1).message
    assert message == "expected the arguments (scores), got (x, dim)"
    softmax.file.write_text(text.replace("def softmax(", "def soft_max("))
    message = grade_file(softmax, 1).message
    assert message == "write_attention.py has no function softmax: was it renamed?"


def test_every_seed_draws_other_inputs_and_the_same_one_the_same(softmax):
    write(softmax, OVERFLOWS)
    one, same, other = (grade_file(softmax, seed).message for seed in (1, 1, 2))
    assert one == same != other
    draws = [Draw(seed) for seed in (1, 1, 2)]
    for make in (lambda d: d.normal(3).tolist(), lambda d: d.ids(9).tolist(), Draw.text):
        one, same, other = map(make, draws)
        assert one == same != other


def test_finished_stays_finished_until_the_function_changes(softmax, tmp_path):
    place, state = tmp_path / "progress.json", CourseState()
    write(softmax, RIGHT)
    state.note(softmax, passed=True)
    save_state(state, place)
    write(softmax, "    return 1\n", name="score")
    write(softmax, "    # why\n" + RIGHT)
    assert load_state(place).is_finished(softmax)
    write(softmax, OVERFLOWS)
    assert not load_state(place).is_finished(softmax)
    write(softmax, "    return (\n")
    assert not load_state(place).is_finished(softmax)


def test_a_broken_state_file_ends_with_one_line(tmp_path):
    place = tmp_path / "progress.json"
    place.write_text('{"at": "softmax", ')
    with pytest.raises(UserError, match="delete it to begin anew"):
        load_state(place)


def test_hints_come_one_by_one_and_also_after_passing(softmax, capsys):
    write(softmax, RIGHT)
    lesson = lesson_on(softmax, Says("done"))
    for shown in (1, 2, 3, 3):
        capsys.readouterr()
        lesson.hint()
        assert capsys.readouterr().out.count("hint ") == shown
        lesson.grade()


@pytest.mark.parametrize(
    ("status", "hints", "sure", "shown"),
    [
        ("done", 0, False, True),
        ("wrong", 2, True, False),
        ("wrong", 3, False, False),
        ("wrong", 3, True, True),
    ],
)
def test_the_solution_is_for_who_passed_or_insists(softmax, capsys, status, hints, sure, shown):
    write(softmax, RIGHT)
    lesson = lesson_on(softmax, Says(status), sure, hints={"softmax": hints})
    lesson.grade()
    lesson.solution()
    assert ("the source of softmax" in capsys.readouterr().out) == shown


def test_a_reset_asks_and_touches_no_other_function(softmax):
    before = softmax.file.read_text()
    write(softmax, RIGHT)
    written = softmax.file.read_text()
    lesson_on(softmax, Says(), sure=False).reset()
    assert softmax.file.read_text() == written
    lesson = lesson_on(softmax, Says())
    lesson.grade()
    lesson.reset()
    assert softmax.file.read_text() == before
    assert not lesson.state.finished


def test_a_lesson_opens_where_the_learner_left_off_and_goes_on_only_when_asked(softmax, capsys):
    assert lesson_on(softmax, Says(), at="score").at.name == "score"
    write(softmax, RIGHT)
    lesson = lesson_on(softmax, Says("done"))
    lesson.grade()
    assert lesson.at.name == "softmax"
    lesson.next()
    assert lesson.at.name == lesson.state.at == "score"
    assert "exercise 2 of 2" in (printed := capsys.readouterr().out)
    assert "1 of 2" in printed
    lesson.next()  # there is no third
    lesson.back()
    assert lesson.at.name == "softmax"
    finished = {"softmax": fingerprint(softmax.file, "softmax")}
    assert lesson_on(softmax, Says(), finished=finished).at.name == "score"


def test_a_save_is_graded_and_keys_are_obeyed_until_q(softmax, capsys, monkeypatch):
    lesson = lesson_on(softmax, Says("wrong", "likely: this"))
    monkeypatch.setattr(learn, "save_state", lambda state: None)
    pressed = iter(["", "save", "", "h", "x", "l", "Q"])

    def read_key(seconds: float) -> str:
        key = next(pressed)
        if key == "save":
            write(softmax, OVERFLOWS)
            os.utime(softmax.file, ns=(1, 1))
        return key

    learn.watch(lesson, read_key)
    printed = capsys.readouterr().out
    assert printed.count("not yet") == 1
    assert "  likely: this\n" in printed
    assert "hint 1 of 3" in printed
    assert "[ ]" in printed


def test_the_scoreboard_says_whether_all_is_done(softmax, capsys, monkeypatch):
    monkeypatch.setattr(learn, "GradingProcess", lambda: process)
    for status, message in (("done", ""), ("wrong", "likely: this")):
        process = Says(status, message)
        process.close = lambda: None
        assert learn.check([softmax], CourseState(), seed=5) == (status == "done")
        printed = capsys.readouterr().out
        assert f"softmax               {status}\n" in printed
        assert message in printed
        assert f"{status == 'done':d} of 1 done, seed 5" in printed


def test_a_step_without_exercises_is_named():
    assert [e.step for e in exercises_of("3")][:1] == ["03"]
    with pytest.raises(UserError, match="step '09' has no exercises: expected one of 02, 03"):
        exercises_of("09")


def test_without_a_terminal_learn_points_to_check():
    done = subprocess.run(
        [sys.executable, ROOT / "01_env" / "course" / "learn.py"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: make learn needs a terminal; make check STEP=03 does not\n"


class Silent:
    """A grading process that was started and never answers, or whose end is closed."""

    def __init__(self, answer: Exception | None = None) -> None:
        self.answer, self.killed = answer, False

    def poll(self, seconds: float) -> bool:
        return self.answer is not None

    def recv(self) -> None:
        raise self.answer

    def kill(self) -> None:
        self.killed = True

    def send(self, request: object) -> None: ...
    def join(self) -> None: ...
    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (Silent(), "no answer after 5 seconds: a loop without end?"),
        (Silent(EOFError()), "an exit()"),
    ],
)
def test_a_process_that_hangs_or_ends_is_replaced(softmax, monkeypatch, first, said):
    waiting = [first, Silent()]

    def start(process: GradingProcess) -> None:
        process.process = process.connection = waiting.pop(0)
        process.ready = True

    monkeypatch.setattr(GradingProcess, "_start", start)
    status, message = GradingProcess().verdict(softmax, 1)
    assert status == "wrong" and said in message
    assert first.killed and not waiting


@pytest.mark.slow
def test_a_loop_without_end_and_an_exit_are_stopped_and_the_next_verdict_comes(softmax):
    process = GradingProcess(limit=1.0)
    try:
        write(softmax, "    while True: pass\n")
        assert process.verdict(softmax, 1) == (
            "wrong",
            "no answer after 1 seconds: a loop without end?",
        )
        write(softmax, "    import os; os._exit(3)\n")
        assert "your code ended Python" in process.verdict(softmax, 1)[1]
        write(softmax, RIGHT)
        assert process.verdict(softmax, 1) == ("done", "")
    finally:
        process.close()


@pytest.fixture
def own_copy(tmp_path: Path) -> Path:
    """Step 03 and the course in a folder of their own, as in a fresh clone."""
    for folder in ("01_env/course", "03_attention"):
        copied = tmp_path / folder
        copied.mkdir(parents=True)
        for file in (ROOT / folder).iterdir():
            if file.suffix in (".py", ".toml", ".md"):
                shutil.copy(file, copied)
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_in_a_terminal_a_save_is_answered_and_the_command_line_agrees(own_copy):
    import pty
    import select

    exercise = blank_again(own_copy / "03_attention")
    command = [sys.executable, own_copy / "01_env" / "course" / "learn.py"]
    ours, theirs = pty.openpty()
    running = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    printed = ""

    def wait_for(text: str) -> None:
        nonlocal printed
        end = time.monotonic() + 60
        while text not in printed and time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                printed += os.read(ours, 1 << 16).decode()
        assert text in printed, printed
        printed = printed.partition(text)[2]

    try:
        wait_for("q quit")
        write(exercise, OVERFLOWS)
        wait_for("likely: large scores overflow")
        write(exercise, RIGHT)
        wait_for("softmax: done")
        os.write(ours, b"q")
        assert running.wait(20) == 0
    finally:
        running.kill()
        os.close(ours)
        os.close(theirs)
    checked = subprocess.run([*command, "--check", "03"], capture_output=True, text=True)
    assert checked.returncode == 1
    assert "softmax               done\n" in checked.stdout
    assert "score                 blank\n" in checked.stdout
