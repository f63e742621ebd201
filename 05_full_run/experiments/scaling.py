"""Fits loss against parameters and tokens, and says how large a model a budget is worth.

python 05_full_run/experiments/scaling.py --config quick --sizes 2x64,3x96,4x128 --tokens 0.5M,1M,2M
python 05_full_run/experiments/scaling.py --runs 05_full_run/runs/scaling --hours 6
python 05_full_run/experiments/scaling.py --points points.json --budget-flops 1e15

The law is L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, section 3.3), with
N parameters, D tokens, and L in bits per byte where the paper has nats a token.
"""

import json
import math
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from compare import command_of, compare, given_rows, read_seeds, refuse_in_one_line, tell
from comparison import RESULTS_FILE, Row, read_results
from comparison_jobs import Job, plan_jobs
from full_run_paths import CONFIGS, RUNS
from power_law import FLOPS, NO_BEST, Point, PowerLaw, common_count, fit, measured_speed
from scaling_figure import RULE, draw
from variants import Variant

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.training.plan import TOKENS_A_PARAMETER
from shared.training.run_options import config_path

FIGURE_FILE = "scaling.png"
HEAD_WIDTH = 32  # channels a head in the sizes trained here


def main(arguments: list[str]) -> None:
    """Trains what is asked for, fits, draws, and answers for a budget."""
    options, passed_on = scaling_parser().parse_known_args(arguments)
    out = user_path(options.out or RUNS / "scaling")
    rows, known = given_rows(options.runs), read_points(options.points)
    refuse_budget(options)
    if options.sizes or options.tokens:
        variants = sized_variants(options)
        jobs = plan_jobs(variants, read_seeds(options.seeds), passed_on, None, out)
        refuse_too_few([*points_of(rows), *known], jobs, options)
        if not compare(jobs, out, command_of("scaling.py", arguments)):
            return
        rows += read_results(out / RESULTS_FILE)
    elif passed_on:
        raise UserError(f"{passed_on[0]} changes nothing: there are no --sizes to train")
    points = [*points_of(rows), *known]
    if not points:
        raise UserError("nothing to fit: give --sizes and --tokens, --runs or --points")
    law = fit(points)
    tell_law(law, points)
    best = tell_best(law, points, options)
    tell(f"drawn: {draw(law, points, best, out / FIGURE_FILE)}")


def scaling_parser() -> ArgumentParser:
    """The options; its mistakes are `UserError`s."""
    parser = ArgumentParser(
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
        epilog="Every other option, such as --data.path FILE, goes to each run as it is: "
        "see full_run.py --help.",
    )
    parser.add_argument("--config", help="name or .yaml file of the config to start from")
    parser.add_argument("--sizes", help="layers x width to train, such as 2x64,3x96,4x128")
    parser.add_argument("--tokens", help="how many for each of them, such as 0.5M,1M,2M")
    parser.add_argument("--seeds", default="0", help="seeds of each, such as 0,1,2")
    parser.add_argument(
        "--runs", nargs="+", default=[], help="folders of comparisons or finished runs"
    )
    parser.add_argument(
        "--points", help="a .json list of objects with parameters, tokens and bits_per_byte"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--budget-flops", type=float, help="the best size for so many FLOPs")
    budget.add_argument("--hours", type=float, help="the best size for so long on this machine")
    parser.add_argument("--out", help="folder; none: 05_full_run/runs/scaling")
    parser.error = refuse_in_one_line
    return parser


def sized_variants(options: Namespace) -> list[Variant]:
    """Every size with every number of tokens.

    Raises:
        UserError: one of the two is missing, or cannot be read.
    """
    if not (options.sizes and options.tokens):
        raise UserError("--sizes and --tokens go together, such as --sizes 2x64 --tokens 1M")
    if options.config:
        config_path(options.config, CONFIGS)
    variants = []
    for size in dict.fromkeys(options.sizes.split(",")):
        match = re.fullmatch(r"\s*([1-9]\d*)x([1-9]\d*)\s*", size)
        if match is None:
            raise UserError(f"--sizes {size!r}: expected layers x width such as 4x128")
        layers, width = int(match[1]), int(match[2])
        heads = math.gcd(width, max(1, width // HEAD_WIDTH))
        fields = {"n_layers": layers, "d_model": width, "n_heads": heads}
        for tokens in dict.fromkeys(options.tokens.split(",")):
            name = f"{layers}x{width}-{tokens.strip()}"
            overrides = {f"model.{key}": str(value) for key, value in fields.items()}
            variants.append(Variant(name, options.config, overrides, f"{tokens} tokens"))
    return variants


def refuse_budget(options: Namespace) -> None:
    """Says at once what is wrong with the budget that is asked about.

    Raises:
        UserError: it is not above 0.
    """
    for asked in (options.hours, options.budget_flops):
        if asked is not None and not 0 < asked < math.inf:
            raise UserError(f"a budget of {asked}: it must be above 0")


def refuse_too_few(known: Sequence[Point], jobs: Sequence[Job], options: Namespace) -> None:
    """Says before training what the fit would say after it.

    Raises:
        UserError: even when all jobs are trained, no law, or none with a best size, follows.
    """
    pairs = [(point.parameters, point.tokens) for point in known]
    pairs += [job.expected() for job in jobs if not job.refused]
    count = common_count(pairs)
    if count is not None and (options.hours or options.budget_flops):
        raise UserError(NO_BEST)


def points_of(rows: Sequence[Row]) -> list[Point]:
    """The finished runs as points."""
    fields = ("parameters", "tokens", "bits_per_byte", "tokens_per_second")
    return [Point(*(row[name] for name in fields)) for row in rows if "failed" not in row]


def read_points(path: str | None) -> list[Point]:
    """Points from a file; `tokens_per_second` may be among their fields.

    Raises:
        UserError: the file is not to be had, or is not such a list.
    """
    if path is None:
        return []
    try:
        entries = json.loads(user_path(path).read_text(encoding="utf-8"))
        points = [
            Point(
                *(float(e[name]) for name in ("parameters", "tokens", "bits_per_byte")),
                float(e.get("tokens_per_second") or 0) or None,
            )
            for e in entries
        ]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: expected a list of objects, parameters, tokens and bits_per_byte in each "
            f"({error})"
        ) from error
    for point in points:
        if not all(0 < x < math.inf for x in (point.parameters, point.tokens, point.loss)):
            raise UserError(f"{path}: {point} has a number that is not above 0")
    return points


def tell_law(law: PowerLaw, points: Sequence[Point]) -> None:
    """Prints the fitted law and how well it goes through the points."""
    tokens = f" + {law.b:.4g} / D^{law.beta:.3f}" if law.b else ""
    tell(f"bits per byte = {law.floor:.4f} + {law.a:.4g} / N^{law.alpha:.3f}{tokens}")
    tell(f"{len(points)} runs; typical distance from the law {100 * law.error:.2f}%")
    if not law.b:
        tell(f"too few token counts for more: fitted at {law.tokens:,.0f} tokens, and holds there")


def tell_best(
    law: PowerLaw, points: Sequence[Point], options: Namespace
) -> tuple[float, float] | None:
    """Prints the best size for the budget asked for, beside the rule of 20; None if none is.

    Raises:
        UserError: these points cannot answer it.
    """
    if options.budget_flops is None and options.hours is None:
        return None
    asked = options.hours if options.budget_flops is None else options.budget_flops
    best = law.best(asked)  # refuses a law without tokens
    if options.hours is not None:
        best = law.best_in(asked * 3600, measured_speed(points))
    flops = FLOPS * best[0] * best[1]
    size = math.sqrt(flops / FLOPS / TOKENS_A_PARAMETER)
    for words, n, d in (("best", *best), (RULE, size, TOKENS_A_PARAMETER * size)):
        ratio = f"{d / n:,.1f} tokens a parameter"
        tell(f"{words}: {n:,.0f} parameters, {d:,.0f} tokens ({ratio}): {law.loss(n, d):.3f} bits")
    tell(f"both take {flops:.3g} FLOPs, 6 for each parameter and token")
    for name, value in zip(("parameters", "tokens"), best, strict=True):
        seen = [getattr(point, name) for point in points]
        if not min(seen) <= value <= max(seen):
            tell(f"careful: {name} lie outside of those measured, {min(seen):,} to {max(seen):,}")
    return best


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
