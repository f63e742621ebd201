"""Operands: the words, names and numbers of exercises, each on one side of the split.

About a tenth is held out, by a hash, whatever the skill: a held-out word is neither
spelt nor counted, sorted, repeated or remembered in training, and two numbers that are
held out together are neither added nor subtracted, compared nor sorted.
Promoted by 02_tokenizer.
"""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar
from zlib import crc32

Item = TypeVar("Item")

WORDS_PATH = Path(__file__).with_name("words.txt")
HELD_OUT = 10  # one in so many
# Words that people try first, and a sum that the primer answers in words of its own.
ALWAYS_HELD_OUT = frozenset({"strawberry", "mississippi", "banana", "2 2"})
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
SHORTEST, LONGEST = 3, 10  # letters of a random string
NAMES = tuple(
    """
    ada adam aisha alex ali alice amir amy ana anna anton arun astrid ava ayla bela ben bob
    carla carlos chen clara dana daniel david diego dina ella elsa emil emma erik eva fatima
    felix finn frida george grace greta hana hannah hugo ida igor ines iris ivan jack jane jin
    joel jonas julia kai karim karl katja kim lars laura lea leo lena lia lily lin lisa louis
    lucas lucy luis luna maja marco maria marie mark marta max maya mei mia mila mina moritz
    nadia nils nina noah nora olga oscar otto paul pedro petra pia priya ravi rita rosa ruth sam
    sami sara simon sofia sven tara theo tim tina tom uma vera victor wei yara yuki zara zoe
    """.split()
)
PLACES = tuple(
    """
    africa alaska argentina athens austria bali beijing belgium berlin bolivia boston brazil
    cairo canada chicago chile china colombia cuba delhi denmark dublin egypt england estonia
    finland florence geneva germany ghana greece hamburg hanoi helsinki hungary iceland india
    iran ireland israel italy jamaica japan kenya kyoto laos lima lisbon london madrid malta
    mexico milan moscow mumbai munich nairobi nepal norway oslo ottawa oxford paris peru poland
    portugal prague rome russia scotland seoul serbia spain sweden sydney texas tokyo toronto
    tunisia turkey ukraine venice vienna vietnam wales warsaw zurich
    """.split()
)
THINGS = tuple(
    """
    apple bag ball basket bell bicycle blanket boat book bottle bowl box bread brush bucket
    button cake camera candle cap carrot chair cheese clock coat coin comb cookie cup dice doll
    drum egg flag flute fork glass glove guitar hammer hat helmet honey jacket jar kettle key
    kite knife ladder lamp lemon letter map melon mirror mug nail needle orange oven paddle pan
    peach pear pen pencil phone piano pillow plate pot purse ribbon ring rope ruler sandwich
    scarf scissors shell shirt shoe shovel soap sock spoon stamp stone sugar table tent ticket
    tomato towel toy train trumpet umbrella vase violin wallet watch whistle wool
    """.split()
)


def is_held_out(operand: str) -> bool:
    """Whether no training exercise may be about this word, name, or "a b" of two numbers."""
    return operand in ALWAYS_HELD_OUT or crc32(operand.encode()) % HELD_OUT == 0


def pair_key(first: int, second: int) -> str:
    """The operand that two numbers are, whatever their order: the smaller one first."""
    return f"{first} {second}" if first < second else f"{second} {first}"


@cache
def one_side(items: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """Those of `items` that are held out, or those that are not."""
    return tuple(item for item in items if is_held_out(item) == held_out)


@cache
def words(held_out: bool, size: int | None = None) -> tuple[str, ...]:
    """One side's words of `words.txt`, those with so many letters or all from three letters on."""
    listed = WORDS_PATH.read_text(encoding="utf-8").split()
    lengths = [size] if size else range(SHORTEST, 100)
    return one_side(tuple(word for word in listed if len(word) in lengths), held_out)


class Operands:
    """Draws operands of one side of the split.

    Of the generator only `random` and `choices` are used: the same in every version of Python.

    Args:
        random_letters: words are strings of random letters.
    """

    def __init__(self, rng: random.Random, held_out: bool, random_letters: bool = False) -> None:
        self.rng, self.held_out, self.random_letters = rng, held_out, random_letters

    def allows(self, operand: str) -> bool:
        """Whether the operand is on this side of the split."""
        return is_held_out(operand) == self.held_out

    def chance(self, share: float) -> bool:
        """True so often."""
        return self.rng.random() < share

    def pick(self, items: Sequence[Item]) -> Item:
        """One of them."""
        return items[int(self.rng.random() * len(items))]

    def between(self, first: int, last: int) -> int:
        """A whole number, both ends included."""
        return first + int(self.rng.random() * (last + 1 - first))

    def word(self, size: int | None = None) -> str:
        """An everyday word or a string of random letters, of so many letters or of any number."""
        if self.random_letters:
            return self._letters(size or self.between(SHORTEST, LONGEST))
        return self.pick(words(self.held_out, size))

    def name(self) -> str:
        """A first name, with a capital; with random letters a made-up one."""
        drawn = self._letters(self.between(3, 6)) if self.random_letters else self._of(NAMES)
        return drawn.capitalize()

    def place(self) -> str:
        """A country or a town, with a capital."""
        return self._of(PLACES).capitalize()

    def thing(self) -> str:
        """Something that one person can have and another not."""
        return self.word(self.between(3, 6)) if self.random_letters else self._of(THINGS)

    def pair(self, size: int) -> tuple[int, int]:
        """Two numbers in any order, the longer one of so many digits."""
        while True:
            first, second = self.number(size), self.number(self.between(1, size))
            if self.allows(pair_key(first, second)):
                return (first, second) if self.chance(0.5) else (second, first)

    def numbers(self, count: int) -> list[int]:
        """Different numbers of up to three digits: held out means each with the one before it."""
        found = [self.number(self.between(1, 3))]
        while len(found) < count:
            number = self.number(self.between(1, 3))
            before = found[-1:] if self.held_out else found
            if number in found:
                continue
            if all([self.allows(pair_key(number, other)) for other in before]):
                found.append(number)
        return found

    def number(self, digits: int) -> int:
        """A number of so many digits."""
        return self.between(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)

    def _of(self, items: tuple[str, ...]) -> str:
        return self.pick(one_side(items, self.held_out))

    def _letters(self, size: int) -> str:
        while True:
            letters = self._any_letters(size)
            if self.allows(letters):
                return letters

    def _any_letters(self, size: int) -> str:
        """Half of them over a few letters, so that many stand twice in a row or come again."""
        alphabet = ALPHABET
        if self.chance(0.5):
            alphabet = self.rng.choices(ALPHABET, k=self.between(2, 4))
        return "".join(self.rng.choices(alphabet, k=size))
