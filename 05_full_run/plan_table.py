"""The table of `full_run.py --plan`: what each config would do here in six hours."""

from collections.abc import Callable

from batch_search import measured
from rich.console import Console
from rich.table import Table

from shared.errors import UserError
from shared.training.plan import TOKENS_A_PARAMETER, Plan
from shared.training.run_config import NoText, RunConfig

ANY_TEXT = ("--data.sources", '[{"spec": "primer"}]')  # a plan trains on random ids


def print_plans(configs: dict[str, Callable[..., RunConfig]], console: Console) -> None:
    """Builds each named config, measures it in a process of its own, and prints one table."""
    rule = f"rule of thumb: {TOKENS_A_PARAMETER} tokens a parameter, each some four bytes of text"
    table = Table(title="six hours on this machine", caption=rule, collapse_padding=True)
    table.add_column("config", no_wrap=True)
    for column in ("parameters", "tokens/s", "tokens in 6 h", "a parameter", "memory", "fits"):
        table.add_column(column, justify="right", no_wrap=column == "parameters")
    below = []
    for name, config_with in configs.items():
        try:
            with console.status(f"measuring {name}"):
                plan, needs = plan_of(config_with)
        except UserError as error:
            table.add_row(name, "-", "-", "-", "-", "-", "see below")
            below.append(f"{name}: {error}")
            continue
        if needs:
            below.append(f"{name}: {needs}")
        table.add_row(
            name,
            f"{plan.parameters:,}",
            f"{plan.tokens_per_second:,.0f}",
            f"{plan.tokens_seen() / 1e6:,.0f} M",
            f"{plan.tokens_per_parameter():,.1f}",
            f"{plan.memory / 2**30:.1f} GiB",
            ("yes, given a text" if needs else "yes")
            if plan.fits
            else f"no (has {plan.available / 2**30:.1f} GiB)",
        )
    console.print(table)
    for line in below:
        console.print(line, soft_wrap=True)


def plan_of(config_with: Callable[..., RunConfig]) -> tuple[Plan, str]:
    """The measured plan, and what the config still needs before it can train."""
    try:
        return measured(config_with()), ""
    except NoText as error:
        return measured(config_with(*ANY_TEXT)), str(error)
