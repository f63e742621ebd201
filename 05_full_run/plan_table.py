"""The table of `full_run.py --plan`: what each config would do here in six hours."""

from collections.abc import Callable

from batch_search import measured
from rich.console import Console
from rich.table import Table

from shared.errors import UserError
from shared.training.plan import TOKENS_A_PARAMETER
from shared.training.run_config import RunConfig


def print_plans(configs: dict[str, Callable[[], RunConfig]], console: Console) -> None:
    """Builds each named config, measures it in a process of its own, and prints one table."""
    rule = f"rule of thumb: {TOKENS_A_PARAMETER} tokens a parameter, each some four bytes of text"
    table = Table(title="six hours on this machine", caption=rule, collapse_padding=True)
    table.add_column("config", no_wrap=True)
    for column in ("parameters", "tokens/s", "tokens in 6 h", "a parameter", "memory", "fits"):
        table.add_column(column, justify="right", no_wrap=column == "parameters")
    refused = []
    for name, config in configs.items():
        try:
            with console.status(f"measuring {name}"):
                plan = measured(config())
        except UserError as error:
            table.add_row(name, "-", "-", "-", "-", "-", "see below")
            refused.append(f"{name}: {error}")
            continue
        table.add_row(
            name,
            f"{plan.parameters:,}",
            f"{plan.tokens_per_second:,.0f}",
            f"{plan.tokens_seen() / 1e6:,.0f} M",
            f"{plan.tokens_per_parameter():,.1f}",
            f"{plan.memory / 2**30:.1f} GiB",
            "yes" if plan.fits else f"no (has {plan.available / 2**30:.1f} GiB)",
        )
    console.print(table)
    for line in refused:
        console.print(line, soft_wrap=True)
