"""Run options: the command line of a run, where files and presets stand behind single fields.

Promoted by 05_full_run.
"""

import json
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from shared.errors import UserError
from shared.files import user_path
from shared.model.presets import PRESETS
from shared.training.run_config import RunConfig


def build_parser(configs: Path) -> ArgumentParser:
    """The command line of a run: `--config`, `--data` and every field of `RunConfig`."""
    parser = ArgumentParser(
        description="Trains a model; any field can be set on the command line.", allow_abbrev=False
    )
    known = ", ".join(config_names(configs))
    parser.add_argument("--config", action="config", help=f"one of {known}, or a .yaml file")
    parser.add_class_arguments(RunConfig, sub_configs=True)
    return parser


def resolve_config_names(arguments: list[str], configs: Path) -> list[str]:
    """Replaces the names after `--config`, `--data` and `--model` by what they stand for.

    That is a file's path for the first two, a preset's fields for the last. What sets many
    fields goes to the front, so that a single field wins over it wherever it was given.

    Raises:
        UserError: neither a known name nor a file.
    """
    meanings = {
        "--config": lambda name: str(config_path(name, configs)),
        "--data": lambda name: str(config_path(name, configs / "data")),
        "--model": preset_fields,
        "--train": lambda text: text,
    }
    first = {name: [] for name in meanings}
    rest = []
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        if name not in meanings:
            rest.append(argument)
        elif (value := value if equals else next(left, None)) is None:
            rest.append(argument)  # the parser says what is missing
        else:
            first[name] += [name, meanings[name](value)]
    return [*chain.from_iterable(first.values()), *rest]


def preset_fields(name: str) -> str:
    """A preset's fields as JSON, but for the vocabulary, which follows the tokenizer.

    JSON and .yaml files are left as they are.

    Raises:
        UserError: no such preset.
    """
    if name.startswith("{") or name.endswith((".yaml", ".yml", ".json")):
        return name
    if name not in PRESETS:
        raise UserError(f"no preset {name!r}: pick one of {', '.join(PRESETS)}, or give a .yaml")
    fields_of = asdict(PRESETS[name])
    del fields_of["vocab_size"]
    return json.dumps(fields_of)


def config_names(configs: Path) -> list[str]:
    """Names of the configs in a folder."""
    return sorted(path.stem for path in configs.glob("*.yaml"))


def config_path(name: str, configs: Path) -> Path:
    """The file of a config given by name or path.

    Raises:
        UserError: neither a known name nor a file.
    """
    for path in (user_path(configs / f"{name}.yaml"), user_path(name)):
        if path.is_file():
            return path.resolve()
    known = ", ".join(config_names(configs))
    raise UserError(f"no config {name!r}: pick one of {known}, or give the path of a .yaml file")


def to_run_config(parser: ArgumentParser, namespace: Namespace) -> RunConfig:
    """The parsed namespace as a `RunConfig`; other options of the parser are ignored."""
    built = parser.instantiate(namespace)
    return RunConfig(**{item.name: built[item.name] for item in fields(RunConfig)})
