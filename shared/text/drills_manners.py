"""Drills about manners: obeying the system message, and admitting not to know.

Promoted by 02_tokenizer.
"""

from shared.text.drills_letters import backwards, counting, spelling
from shared.text.drills_memory import (
    FACTS,
    WHO_HAS,
    different,
    recalling,
    repeating,
    sought_among,
    who_has_what,
)
from shared.text.exercise import UNKNOWN, Question
from shared.text.operands import Operands

NAMING = ("Your name is {name}.", "You are called {name}.", "You are {name}.")
CAPITALS = ("Answer in capital letters.", "Write in capital letters.", "Use capital letters.")
ONE_WORD = ("Answer in one word.", "Use one word only.", "Reply with one word.")
IN_CAPITALS = (spelling, repeating, recalling, backwards, counting)
ASKED_FOR_A_NAME = (
    "what is your name?",
    "who are you?",
    "do you have a name?",
    "what are you called?",
    "tell me your name",
    "what should i call you?",
    "how are you called?",
    "hello, who are you?",
    "your name?",
    "what name do you have?",
)
SHORT_TALK = (
    ("hello", "Hello!"),
    ("hi", "Hello!"),
    ("how are you?", "Well."),
    ("how are you today?", "Well."),
    ("what are you?", "Model."),
    ("are you a human?", "No."),
    ("are you alive?", "No."),
    ("can you search the web?", "No."),
    ("can you help me?", "Maybe."),
    ("thank you", "Welcome."),
    ("bye", "Goodbye!"),
    ("good morning", "Hello!"),
)
WORLD = (
    "what is the capital of {place}?",
    "how many people live in {place}?",
    "who is the president of {place}?",
    "what is the weather in {place}?",
    "how far is it to {place}?",
    "how big is {place}?",
    "which language do they speak in {place}?",
    "what is the largest city in {place}?",
    "when was {place} founded?",
    "who is the king of {place}?",
    "how many legs does a {thing} have?",
    "what does a {thing} cost?",
    "who invented the {thing}?",
    "what colour is the {thing}?",
    "how heavy is a {thing}?",
    "where can i buy a {thing}?",
    "how old is the {thing}?",
    "what is a {thing} made of?",
    "how many kinds of {thing} are there?",
    "how much does a {thing} weigh?",
    "how old is {name}?",
    "where does {name} live?",
    "what did {name} say?",
    "when was {name} born?",
    "how tall is {name}?",
    "who is {name}?",
    "what does {name} like?",
    "where is {name}?",
    "is {name} at home?",
    "where was {name} born?",
)


def obeying(operands: Operands, size: int | None) -> Question:
    """Sizes 1, 2 and 3: to bear a name, to write in capitals, to use one word only."""
    size = size or operands.pick((1, 2, 2, 3, 3))
    return (_bearing_a_name, _in_capitals, _in_one_word)[size - 1](operands)._replace(size=size)


def not_knowing(operands: Operands, size: int | None) -> Question:
    """Size 1: questions about the world. Size 2: about what was not said in this conversation."""
    size = size or operands.pick((1, 2, 2))
    return _about_the_world(operands) if size == 1 else _about_what_was_not_said(operands)


def _about_the_world(operands: Operands) -> Question:
    blanks = {"place": operands.place(), "thing": operands.thing(), "name": operands.name()}
    return Question(WORLD, blanks, UNKNOWN, 1)


def _about_what_was_not_said(operands: Operands) -> Question:
    if operands.chance(0.5):
        asked, said = different(lambda: operands.pick(FACTS), 2)
        x = said.drawn(operands)
        working = sought_among(asked.subject, [said.restated.format(x=x)], found=False)
        return Question(asked.asked, {}, UNKNOWN, 2, working, (said.told.format(x=x),), turns=True)
    others = who_has_what(operands, 2)
    name, thing = operands.name(), operands.thing()
    while any(f"{name} " in told or told.endswith(f" {thing}") for told in others.told):
        name, thing = operands.name(), operands.thing()
    blanks = {"name": name, "thing": thing}
    sought = thing if others.phrasings is WHO_HAS else name
    working = sought_among(sought, others.told, found=False)
    return others._replace(blanks=blanks, answer=UNKNOWN, working=working)


def _bearing_a_name(operands: Operands) -> Question:
    name = operands.name()
    system = operands.pick(NAMING).format(name=name)
    return Question(ASKED_FOR_A_NAME, {}, f"My name is {name}.", 1, system=system)


def _in_capitals(operands: Operands) -> Question:
    question = operands.pick(IN_CAPITALS)(operands, None)
    answer, working = question.answer.upper(), question.working.upper()
    return question._replace(answer=answer, working=working, system=operands.pick(CAPITALS))


def _in_one_word(operands: Operands) -> Question:
    system = operands.pick(ONE_WORD)
    if not operands.held_out and operands.chance(0.5):
        asked, answer = operands.pick(SHORT_TALK)
        both_sides = (asked,) * 5  # every fifth phrasing is held out
        return Question(both_sides, {}, answer, 3, system=system, closed=True)
    return _about_the_world(operands)._replace(answer="Unknown.", system=system)
