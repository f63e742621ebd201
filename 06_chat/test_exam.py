"""The exam: frozen questions, models that know all or nothing, honest intervals, one page."""

import json
import random
from collections import Counter

import exam
import exam_facts
import pytest
from exam_ledger import FIGURE_FILE, PAGE_FILE, Entry, page, skill_rows, table_rows
from exam_marks import (
    Line,
    Share,
    is_any,
    is_unknowable,
    loops,
    mark,
    misfires,
    other_lines,
    skill_lines,
)
from exam_questions import (
    ANSWER,
    CLOSED,
    EACH,
    IN_A_ROW,
    PHRASINGS,
    PRIMER,
    RANDOM,
    WORKING,
    Question,
    asked,
    digest,
    frozen_questions,
    has_letters_in_a_row,
)

from shared.chat.batch_generation import Reply
from shared.errors import UserError
from shared.text.drills import SHOW_WORKING, SKILLS, is_held_out
from shared.text.exercise import UNKNOWN, Exercise
from shared.text.operands import words
from shared.text.transcript import Message
from shared.training.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def questions():
    return frozen_questions()


@pytest.fixture(scope="module")
def few(questions):
    return random.Random(0).sample(questions, 400)


def examined(questions, reply_to):
    """The table's shares by name, of a model that replies `reply_to(its messages)`."""

    def ask(conversations, most_bytes, tell):
        return [reply_to(messages) for messages in conversations]

    marks = exam.examine(questions, ask, tell=print)
    shares = {line.name: line.share(marks) for line in [*skill_lines(), *other_lines()]}
    return {name: share.percent for name, share in shares.items() if share.asked}


def spelling(word: str) -> Exercise:
    reply = " ".join(word)
    return Exercise("spelling", [Message("user", word)], reply, reply, True, len(word), False)


# --- models that know everything, nothing, or only that


def test_who_looks_every_answer_up_is_right_everywhere(questions):
    known = {str(asked.exercise.messages): asked.exercise.reply for asked in questions}
    shares = examined(questions, lambda messages: Reply(known[str(messages)], "stop"))
    assert shares.pop("knows, but says it does not") == shares.pop("ran in a loop") == 0
    assert shares.pop("does not know, recites the primer") == 0
    assert set(shares.values()) == {100}


def test_who_is_silent_is_right_nowhere(questions):
    shares = examined(questions, lambda messages: Reply("", "stop"))
    assert shares.pop("ended by itself") == 100
    assert set(shares.values()) == {0}


def test_who_always_pleads_ignorance_is_seen_as_such(questions):
    shares = examined(questions, lambda messages: Reply(UNKNOWN, "stop"))
    assert shares["does not know, and says so"] == shares["not knowing"] == 100
    assert shares["knows, but says it does not"] == 100
    abilities = set(SKILLS) & set(shares) - {"not knowing"}
    assert {shares[skill] for skill in abilities} == {0}


@pytest.mark.parametrize(
    ("said", "misfired"),
    [
        ("A byte is a number from 0 to 255", True),
        ("A byte is a numbskull", True),  # it begins so
        ("A byte", False),
        ("She is 43.", False),  # wrong, but no line of the primer
        ("I am a tiny model and I do not know. I cannot look outside.", False),
        ("", False),
    ],
)
def test_a_line_of_the_primer_about_something_else_is_a_misfire(said, misfired, questions):
    unknowable = [asked for asked in questions if is_unknowable(asked)]
    other = next(asked for asked in questions if not is_unknowable(asked))
    assert misfires(mark(unknowable[0], Reply(said, "stop"))) == misfired
    shares = examined([*unknowable, other], lambda messages: Reply(said, "stop"))
    assert shares["does not know, recites the primer"] == 100 * misfired


@pytest.mark.parametrize(
    "said", ["{} ", "{}", "so {}", "{} or {}", "{}\n{}", "{}.", "", " "], ids=repr
)
def test_only_the_whole_answer_and_nothing_beside_it_is_right(said):
    question = Question(WORKING, spelling("tree"))
    reply = Reply(said.replace("{}", "t r e e"), "stop")
    assert mark(question, reply).right == (reply.text.strip() == "t r e e")


def test_a_right_answer_that_never_ended_is_wrong():
    question = Question(WORKING, spelling("tree"))
    assert mark(question, Reply("t r e e", "stop")).right
    assert not mark(question, Reply("t r e e", "length")).right


def test_a_loop_is_up_to_20_bytes_three_times_at_an_end_that_never_came():
    piece = "abcdefghijklmnopqrst"
    assert loops(Reply("so " + piece * 3, "length"))
    assert loops(Reply("the the the the t", "length"))
    assert not loops(Reply(piece * 3, "stop"))
    assert not loops(Reply(piece * 2, "length"))
    assert not loops(Reply(f"{piece}u" * 3, "length"))
    assert not loops(Reply("", "length"))


# --- the questions


def test_questions_are_the_same_whatever_was_drawn_before():
    first = list(asked({"adding": [2, 3]}, WORKING, 20))
    random.seed(1)
    assert list(asked({"adding": [3, 2], "larger": [2]}, WORKING, 20))[20:] != first
    assert list(asked({"adding": [2, 3]}, WORKING, 20)) == first


def test_the_digest_tells_any_other_question_or_right_reply(questions):
    first = questions[0]
    others = [
        first._replace(part=ANSWER),
        first._replace(exercise=first.exercise._replace(answer="x")),
        first._replace(accepted=("x",)),
    ]
    digests = {digest([each, *questions[1:9]]) for each in [first, *others]}
    assert len(digests) == 4


@pytest.mark.parametrize("part", [WORKING, ANSWER])
def test_each_skill_is_asked_as_often_and_at_each_size_as_often(questions, part):
    tables = {"what comes next"}
    for skill in set(SKILLS) - tables:
        found = [q.exercise for q in questions if (q.part, q.exercise.skill) == (part, skill)]
        counts = Counter(exercise.size for exercise in found)
        assert len(found) == EACH
        assert max(counts.values()) - min(counts.values()) <= 1
        assert {exercise.working for exercise in found} == {part == WORKING}
    assert not [q for q in questions if q.part == part and q.exercise.skill in tables]


def test_no_part_asks_the_same_twice_but_the_primer(questions):
    asked = [(q.part, str(q.exercise.messages)) for q in questions if q.part != PRIMER]
    assert len(set(asked)) == len(asked)


def test_what_is_asked_about_was_held_out_of_training(questions):
    spelt = [q for q in questions if q.exercise.skill == "spelling"]
    assert all(is_held_out(q.exercise.answer.replace(" ", "")) for q in spelt)
    assert {q.part for q in spelt} == {WORKING, ANSWER, PHRASINGS, RANDOM, IN_A_ROW}


def test_closed_tables_stand_apart(questions):
    assert all(q.exercise.closed == (q.part in (CLOSED, PRIMER)) for q in questions)


def test_the_system_message_asks_for_the_working_or_does_not(questions):
    for q in questions:
        system = "".join(text for role, text in q.exercise.messages if role == "system")
        assert (SHOW_WORKING in system) == (q.part not in (ANSWER, PRIMER))


def test_random_letters_are_in_no_list(questions):
    strings = [
        q.exercise.answer.replace(" ", "")
        for q in questions
        if q.part == RANDOM and q.exercise.skill == "spelling"
    ]
    assert len(strings) == 100 and not set(strings) & set(words(held_out=True))


def test_letters_in_a_row_are_one_or_two_that_come_again_at_once():
    words = ["balloon", "banana", "mississippi", "strawberry", "table", "tent"]
    found = [word for word in words if has_letters_in_a_row(spelling(word))]
    assert found == words[:4]


def test_all_questions_about_letters_in_a_row_have_some(questions):
    found = [q.exercise for q in questions if q.part == IN_A_ROW]
    assert len(found) == 300 and all(map(has_letters_in_a_row, found))


def test_a_question_that_the_primer_answers_twice_takes_either_reply(questions):
    found = [q for q in questions if q.part == PRIMER]
    twice = [q for q in found if len(set(q.accepted)) > 1]
    assert all(q.exercise.reply in q.accepted for q in found) and twice
    for q in twice:
        assert all(mark(q, Reply(reply, "stop")).right for reply in q.accepted)


# --- the figures


@pytest.mark.parametrize(
    ("hits", "asked", "low", "high"),
    [(0, 10, 0, 27.75), (10, 10, 72.25, 100), (50, 100, 40.38, 59.62), (0, 0, 0, 100)],
)
def test_wilsons_interval_by_hand(hits, asked, low, high):
    assert Share(hits, asked).interval == pytest.approx((low, high), abs=0.01)


def test_the_page_holds_one_column_a_model_and_what_makes_tables_comparable(few):
    marks = [mark(q, Reply(q.exercise.reply, "stop")) for q in few]
    entries = [Entry(name, marks, {"parameters": "1,000"}) for name in ("a", "b|c")]
    rows = table_rows(entries)
    assert {len(row) for row in rows} == {3}
    assert rows[-1] == ["parameters", "1,000", "1,000"]
    text = page(entries, "python exam.py a b")
    assert digest(few) in text and "b/c" in text and "python exam.py a b" in text


def test_shares_stand_by_size_too():
    tree, oak = Question(WORKING, spelling("tree")), Question(WORKING, spelling("oak"))
    marks = [mark(tree, Reply("t r e e", "stop")), mark(oak, Reply("o a c", "stop"))]
    row = next(row for row in skill_rows(Entry("a", marks, {})) if row[0] == "spelling")
    assert row[-1] == "3: 0 · 4: 100"
    assert Line("all", is_any).share(marks) == Share(1, 2)


def test_names_are_as_short_as_tells_them_apart():
    assert exam.names_of(["runs/quick"]) == ["quick"]
    assert exam.names_of(["a/quick", "b/quick"]) == ["a/quick", "b/quick"]
    with pytest.raises(UserError, match="twice"):
        exam.names_of(["runs/quick", "runs/quick/"])


# --- from a folder to the ledger


@pytest.fixture
def run_of(few, tmp_path, tiny_model, tiny_text, tokenizer, monkeypatch, one_thread):
    """Makes runs that have trained for two steps; python-docs is a small text."""
    monkeypatch.setattr(exam_facts, "PYTHON_DOCS", f"text:{tiny_text}")
    monkeypatch.setattr(exam, "DATA", tmp_path / "data")
    monkeypatch.setattr(exam, "frozen_questions", lambda: few[:3])

    def make(name, fraction=0.5):
        folder = tmp_path / name
        config = {"data": {"valid_fraction": fraction}}
        save_checkpoint(folder / "checkpoints", 2, tiny_model, tokenizer, config, {})
        step = {"loss": 2.0, "bits_per_byte": 2.8854, "tokens": 64}
        entries = [step | {"step": number, "seconds": 1.5 * number} for number in (1, 2, 3)]
        entries.insert(2, {"step": 2, "validation": {"notes": 1.25}})
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, entries)))
        return folder

    return make


def test_an_exam_leaves_page_and_figure_in_the_runs_folder(few, run_of, capsys):
    run = run_of("run")
    exam.main([str(run), "--show", "1"])
    assert (run / FIGURE_FILE).stat().st_size > 1000
    text = (run / PAGE_FILE).read_text()
    assert digest(few[:3]) in text and "## run" in text
    assert str(run.parent) not in text
    assert "wanted" in capsys.readouterr().out


def test_a_broken_second_model_leaves_the_first_ones_ledger(run_of, tmp_path):
    first, second = run_of("first"), run_of("second")
    weights = second / "checkpoints" / "step-0000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(UserError, match="broken"):
        exam.main([str(first), str(weights.parent), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / PAGE_FILE).is_file()


def test_facts_are_those_of_the_checkpoint_not_of_steps_after_it(run_of, tiny_model, tokenizer):
    checkpoint = run_of("run") / "checkpoints" / "step-0000002"
    facts = exam_facts.facts_of(checkpoint, tiny_model, tokenizer, checkpoint.parent)
    assert facts["seconds of training"] == "3"
    assert facts["bytes of training"] == "128"
    assert facts["bits a byte, own text"] == "notes 1.250"
    assert float(facts["bits a byte, python-docs"]) > 1


def test_text_that_was_not_held_back_is_not_measured(run_of, tiny_model, tokenizer):
    checkpoint = run_of("run", fraction=0.0) / "checkpoints" / "step-0000002"
    facts = exam_facts.facts_of(checkpoint, tiny_model, tokenizer, checkpoint.parent)
    assert facts["bits a byte, python-docs"] == "–"


def test_a_published_model_is_known_by_its_card(run_of, tokenizer, tmp_path):
    published = run_of("run") / "checkpoints" / "step-0000002"
    published = published.rename(tmp_path / "published")
    assert exam_facts.training_in_card(published, tokenizer)["bytes of training"] == "–"
    card = "| trained | 93 steps, 380,928 tokens |\n| time | 1,167 s on cpu in float32 |\n"
    (published / "card.md").write_text(card)
    assert exam_facts.training_in_log(published) == {}
    found = exam_facts.training_in_card(published, tokenizer)
    assert found == {"seconds of training": "1,167", "bytes of training": "380,928"}


def test_a_share_of_failures_below_zero_is_refused(run_of):
    with pytest.raises(UserError, match="--show is -1"):
        exam.main([str(run_of("run")), "--show", "-1"])
