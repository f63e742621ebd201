"""Processes: how those that `torchrun` started meet, and what is said if one is lost.

Promoted by 05_full_run.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from shared.device import pick_device
from shared.errors import UserError
from shared.training.run_config import RunConfig
from shared.training.strategy import OneProcess

if TYPE_CHECKING:
    from shared.training.distributed import Copies

PATIENCE = timedelta(minutes=10)  # for others in a step: longer, and one of them is lost
LOST = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|timed out|peer", re.I)
LAUNCH = "torchrun --nproc-per-node N full_run.py ..."


def pick_strategy(config: RunConfig) -> "OneProcess | Copies":
    """The strategy that `config` names; under `torchrun`, joins the other processes first.

    Raises:
        UserError: it does not go with how this process was started.
    """
    processes = count_processes()
    name = config.strategy
    accumulation, rows = config.train.accumulation, config.train.batch_size
    if name == "auto":
        name = "ddp" if processes > 1 else "one"
    if name == "one" and processes > 1:
        raise UserError(f"strategy one would train {processes} times the same: leave torchrun out")
    if name == "one":
        return OneProcess(pick_device(config.device), accumulation)
    if "RANK" not in os.environ:
        raise UserError(f"strategy {name} shares work among processes: start them with {LAUNCH}")
    from shared.training.distributed import Copies, Pieces  # seconds that one process saves

    device = join_others(config.device)
    return (Copies if name == "ddp" else Pieces)(device, accumulation, rows)


def join_others(requested: str) -> torch.device:
    """Meets the other processes that `torchrun` started; returns this one's device.

    Raises:
        UserError: no GPU is left for this process, or the device knows no such thing.
    """
    device = pick_device(requested)
    if device.type == "mps":
        if requested != "auto":
            raise UserError("torchrun needs cuda or cpu; a Mac's GPU works in one process only")
        device = torch.device("cpu")
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= (here := torch.cuda.device_count()):
            raise UserError(f"process {local + 1} of this machine has no GPU: there are {here}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        gpu = {"device_id": device} if device.type == "cuda" else {}
        dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE, **gpu)
    return device


def count_processes() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that prints and writes; known before the others are met."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turns the failure of a collective into one clear line, and parts from the others at the end.

    Raises:
        UserError: another process ended, or did not answer.
    """
    try:
        yield
    except RuntimeError as error:
        told = isinstance(error, dist.DistError) or LOST.search(str(error))
        if not (dist.is_available() and dist.is_initialized() and told):
            raise
        raise UserError(
            f"process {dist.get_rank()} has lost another process of this run, which was killed or "
            "failed: what was saved is whole; start again with --resume, with as many processes "
            f"as you like ({str(error).splitlines()[0]})"
        ) from error
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
