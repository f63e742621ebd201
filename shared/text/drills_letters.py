"""Drills about the letters of a word: what a model of bytes sees, and one of words does not.

Each working writes the letters one by one, so that every step is a copy and a count.
Promoted by 02_tokenizer.
"""

from shared.text.exercise import Question
from shared.text.operands import ALPHABET, LONGEST, SHORTEST, Operands

LENGTHS = range(SHORTEST, LONGEST + 1)
SPELLING = (
    "spell {word}",
    "how do you spell {word}?",
    "spell the word {word}",
    "which letters are in {word}?",
    "how is {word} spelt?",
    "what are the letters of {word}?",
    "can you spell {word}?",
    "spell {word} for me",
    "write the letters of {word}",
    "how do you spell the word {word}?",
)
COUNTING = (
    "how many {letter}'s are in {word}?",
    "count the {letter}'s in {word}",
    "how many times does the letter {letter} occur in {word}?",
    "how often is the letter {letter} in {word}?",
    "how many {letter}'s are there in the word {word}?",
    "how many {letter} are there in {word}?",
    "how many {letter}'s does the word {word} have?",
    "how many times is {letter} in the word {word}?",
    "the word {word}: how many {letter}'s are there?",
    "count the letter {letter} in {word}",
    "are there {letter}'s in {word}, and how many?",
    "how many letters {letter} does {word} have?",
    "how many {letter}'s do you see in {word}?",
    "in {word}, how many {letter}'s are there?",
    "how often does {letter} occur in the word {word}?",
)
BACKWARDS = (
    "spell {word} backwards",
    "what is {word} backwards?",
    "reverse {word}",
    "write {word} backwards",
    "what is the word {word} spelt backwards?",
    "reverse the word {word}",
    "how do you write {word} backwards?",
    "turn {word} around",
    "say {word} backwards",
    "reverse the letters of {word}",
)
NTH = (
    "what is the {nth} letter of {word}?",
    "which letter is the {nth} in {word}?",
    "the {nth} letter of {word}?",
    "give me the {nth} letter of {word}",
    "which is the {nth} letter in {word}?",
    "what is the {nth} letter in the word {word}?",
    "tell me the {nth} letter of the word {word}",
    "which letter comes {nth} in {word}?",
    "name the {nth} letter of {word}",
    "which letter of {word} is the {nth}?",
)
LENGTH = (
    "how many letters are in {word}?",
    "how long is the word {word}?",
    "how many letters does {word} have?",
    "count the letters of {word}",
    "how many letters are there in {word}?",
    "what is the length of {word}?",
    "count all letters in {word}",
    "how many letters does the word {word} have?",
    "how long is {word}?",
    "how many letters are in the word {word}?",
)
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
SHORT_ORDINALS = "1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th".split()


def spelling(operands: Operands, size: int | None) -> Question:
    """`spell tree` → `1t 2r 3e 4e = t r e e`: a number tells the second e from the first."""
    word = operands.word(size)
    working = " ".join(numbered(word))
    return Question(SPELLING, {"word": word}, " ".join(word), len(word), working)


def counting(operands: Operands, size: int | None) -> Question:
    """`how many e's are in tree?` → `e? 1t 2r 3e(1) 4e(2) = 2`: what is sought, then all."""
    word = operands.word(size)
    letter = operands.pick(word if operands.chance(0.85) else ALPHABET)
    steps, count = numbered(word), 0
    for place, each in enumerate(word):
        if each == letter:
            count += 1
            steps[place] += f"({count})"
    blanks = {"word": word, "letter": letter}
    working = f"{letter}? {' '.join(steps)}"
    return Question(COUNTING, blanks, str(count), len(word), working)


def backwards(operands: Operands, size: int | None) -> Question:
    """`spell tree backwards` → `1t 2r 3e 4e 4e 3e 2r 1t = eert`: along the numbers, and back.

    In training no word is used that is a held-out one when reversed, such as `pots`.
    """
    word = operands.word(size)
    while not operands.held_out and not operands.allows(word[::-1]):
        word = operands.word(size)
    steps = numbered(word)
    working = " ".join(steps + steps[::-1])
    return Question(BACKWARDS, {"word": word}, word[::-1], len(word), working)


def nth_letter(operands: Operands, size: int | None) -> Question:
    """`what is the third letter of tree?` → `3? 1t 2r 3e = e`: on to the place."""
    word = operands.word(size)
    place = operands.between(1, min(len(word), len(ORDINALS)))
    nth, sought = operands.pick((ORDINALS, ORDINALS, SHORT_ORDINALS))[place - 1], str(place)
    if operands.chance(0.1):
        place, nth, sought = len(word), "last", "last"
    working = f"{sought}? {' '.join(numbered(word[:place]))}"
    return Question(NTH, {"word": word, "nth": nth}, word[place - 1], len(word), working)


def length(operands: Operands, size: int | None) -> Question:
    """`how many letters are in tree?` → `1t 2r 3e 4e = 4`."""
    word = operands.word(size)
    return Question(LENGTH, {"word": word}, str(len(word)), len(word), " ".join(numbered(word)))


def numbered(word: str) -> list[str]:
    """`["1t", "2r", "3e", "4e"]`."""
    return [f"{number}{letter}" for number, letter in enumerate(word, 1)]
