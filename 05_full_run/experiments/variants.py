"""Variants of a config: named bundles of fields, grids, and random draws from them."""

import math
import random
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from shared.errors import UserError
from shared.privacy import without_folders
from shared.training.budget import parse_budget
from shared.training.run_config import RunConfig

Choice = tuple[str, dict[str, str]]
"""a label, and the values of the fields that it sets"""

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
TOKEN_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
OWN_OPTIONS = {"seed": "--seeds", "budget": "--budget", "out": "--out", "config": "--config"}
LONGEST_NAME = 100  # of a folder; file systems stop at 255 bytes


@dataclass(frozen=True)
class Variant:
    """One member of a comparison."""

    name: str
    """also its folder's"""
    config: str | None
    """name or file of the config it starts from; none: the defaults"""
    overrides: dict[str, str]
    """dotted field -> value, as on the command line"""
    budget: str | None = None
    """its own budget; none: that of the comparison"""

    def arguments(self, passed_on: Sequence[str] = ()) -> list[str]:
        """Its command line for `full_run.py`, `passed_on` standing before its own overrides."""
        config = [] if self.config is None else ["--config", self.config]
        return [*config, *passed_on, *(f"--{name}={v}" for name, v in self.overrides.items())]


@dataclass(frozen=True)
class Range:
    """Values of one field to draw from, `low` and `high` included."""

    field: str
    low: float
    high: float
    log: bool
    """draw the logarithm evenly, not the value"""
    whole: bool
    """draw whole numbers"""

    def draw(self, numbers: random.Random) -> Choice:
        """A value with four digits: what is read in the name is what was trained."""
        if self.whole and not self.log:
            value = numbers.randint(int(self.low), int(self.high))
        else:
            low, high = (math.log(x) if self.log else x for x in (self.low, self.high))
            value = numbers.uniform(low, high)
            value = math.exp(value) if self.log else value
        text = str(round(value)) if self.whole else f"{value:.4g}"
        return f"{self.field.rpartition('.')[2]}={text}", {self.field: text}


def read_vary(text: str) -> list[Choice] | Range:
    """`field=a,b,c` -> one choice a value; `field=low..high`, `field=log:low..high` -> a range.

    Commas inside brackets separate nothing, so that a value may be a list.

    Raises:
        UserError: no such form, or a field that has an option of its own.
    """
    field, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise UserError(f"--vary {text!r}: expected field=value,value such as model.n_layers=2,4")
    check_field(field)
    if span := re.fullmatch(rf"(log:)?({NUMBER})\.\.({NUMBER})", values):
        low, high = float(span[2]), float(span[3])
        if low >= high or (span[1] and low <= 0):
            raise UserError(f"--vary {text!r}: expected low..high, and above 0 after log:")
        whole = all(re.fullmatch(r"[-+]?\d+", span[at]) for at in (2, 3))
        return Range(field, low, high, log=bool(span[1]), whole=whole)
    short = field.rpartition(".")[2]
    return [(f"{short}={without_folders(value)}", {field: value}) for value in split_values(values)]


def split_values(text: str) -> list[str]:
    """`"1,[2,3]"` -> `["1", "[2,3]"]`."""
    values = [""]
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]


def read_named(text: str) -> Choice:
    """`"moe: model.moe.n_experts=8 model.d_ff=176"` -> its name and what it sets.

    Raises:
        UserError: no such form, or a field that has an option of its own.
    """
    name, colon, fields = text.partition(":")
    try:
        pairs = [word.partition("=") for word in shlex.split(fields)]
    except ValueError as error:
        raise UserError(f"--variant {text!r}: {error}") from error
    if not name.strip() or not colon or not all(pair[1] for pair in pairs):
        raise UserError(f"--variant {text!r}: expected 'name: field=value field=value'")
    for field, _, _ in pairs:
        check_field(field)
    return name.strip(), {field: value for field, _, value in pairs}


def check_field(field: str) -> None:
    """Refuses the fields that every run of a comparison gets from an option.

    Raises:
        UserError: it is one of them, or no name at all.
    """
    if field in OWN_OPTIONS:
        raise UserError(f"{field} cannot be varied: it is {OWN_OPTIONS[field]} for all runs")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", field):
        raise UserError(f"{field!r} is no field's name: see full_run.py --help for the names")


def expand(axes: Sequence[list[Choice] | Range], draws: int | None, seed: int) -> list[Choice]:
    """One choice of every axis: all of the grid, or `draws` different members of it.

    With the same seed a larger number of draws begins with the smaller one's.

    Raises:
        UserError: a range without `draws`: it has no members to count.
    """
    ranges = [axis for axis in axes if isinstance(axis, Range)]
    if draws is None:
        if ranges:
            raise UserError(f"{ranges[0].field} has a range: say how many to draw with --random N")
        return [joined(members) for members in product(*axes)]
    size = math.inf if ranges else math.prod(len(axis) for axis in axes)
    numbers = random.Random(seed)
    found = {}
    for _ in range(1000 * draws):  # ranges of whole numbers may hold fewer than asked for
        if len(found) >= min(draws, size):
            break
        drawn = [a.draw(numbers) if isinstance(a, Range) else numbers.choice(a) for a in axes]
        label, fields = joined(drawn)
        found.setdefault(tuple(sorted(fields.items())), (label, fields))
    return list(found.values())


def joined(members: Sequence[Choice]) -> Choice:
    """Several choices as one; a later one wins."""
    fields = {name: value for _, chosen in members for name, value in chosen.items()}
    return ",".join(label for label, _ in members), fields


def name_variants(configs: Sequence[str], choices: Sequence[Choice]) -> list[Variant]:
    """Every choice for every config, each with a name of its own that can be a folder's."""
    variants = []
    seen = {}
    for config in configs or [None]:
        for label, fields in choices:
            stem = Path(config).stem if config else "defaults"
            parts = [stem] if not label else [stem, label] if len(configs) > 1 else [label]
            name = re.sub(r"[^\w.=,+-]", "-", ",".join(parts)).lstrip(".-")[:LONGEST_NAME]
            name = name.rstrip(".") or "-"  # Windows drops dots at the end, and there and on Macs
            count = seen[name.lower()] = seen.get(name.lower(), 0) + 1  # A and a are one folder
            name += f"-{count}" if count > 1 else ""
            variant = Variant(name, config, fields)
            if all((v.config, v.overrides) != (config, fields) for v in variants):
                variants.append(variant)
    return variants


def budget_in_steps(text: str, config: RunConfig) -> str:
    """`"10M tokens"` -> the steps of `config` nearest to it; other budgets as they are.

    Raises:
        UserError: no budget.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmb]?)\s*tokens?\s*", text, re.IGNORECASE)
    if match is None:
        try:
            parse_budget(text)
        except UserError as error:
            raise UserError(f"{error}, or '10M tokens'") from error
        return text
    tokens = float(match[1]) * TOKEN_UNITS[match[2].lower()]
    if tokens <= 0:
        raise UserError(f"budget {text!r}: a run needs some tokens")
    per_step = config.train.batch_size * config.train.accumulation * config.model.context_length
    return f"{max(1, round(tokens / per_step))} steps"
