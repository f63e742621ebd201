"""Several processes, one model: DDP, a copy in each; FSDP, a piece in each.

`torchrun` starts N processes, each with its own GPU, and tells each its rank. All of them
run the same script, draw the same batches from the same seed, and work on their own share of
each. Rank 0, the main one, prints and writes.
Sources: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel
Training"; Rajbhandari et al. 2019, "ZeRO: Memory Optimizations Toward Training Trillion
Parameter Models", whose third stage FSDP is.
Promoted by 05_full_run.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from math import gcd
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.training.precision import Precision

LONG_PATIENCE = timedelta(days=1)  # while the main one reads corpora or saves


class Copies:
    """DDP: each process has the whole model and a share of the batch; gradients are averaged.

    PyTorch's DistributedDataParallel averages late layers' gradients while the backward pass
    still works on early ones; the result is that of an `all_reduce` afterwards.

    Args:
        accumulation: micro-batches in a step, of `rows` windows, over all processes together.
    """

    def __init__(self, device: torch.device, accumulation: int, rows: int) -> None:
        self.rank, self.processes = dist.get_rank(), dist.get_world_size()
        self.device, self.accumulation, self.is_main = device, accumulation, self.rank == 0
        self.mine, self.rows = share_of(self.rank, self.processes, accumulation, rows)
        # Flags and small news go over the CPU, whatever the gradients travel on.
        self.talk = dist.new_group(backend="gloo", timeout=LONG_PATIENCE)
        self._now = self.same(time.monotonic())

    def wrap(self, model: Transformer, precision: Precision) -> Transformer:
        """Readies the model for training; it stays the one to save and to sample from."""
        gpus = [self.device.index] if self.device.type == "cuda" else None
        self.wrapped = DistributedDataParallel(model, device_ids=gpus, gradient_as_bucket_view=True)
        self._part_ways()
        return model

    def called(self, model: nn.Module) -> nn.Module:
        """What to call in the forward pass: the wrapper, which sees to the other processes."""
        return self.wrapped

    def micro_batches(
        self, batches: Iterator[tuple[Tensor, ...]]
    ) -> Iterator[tuple[tuple[Tensor, ...], float]]:
        """This process's rows of one step's batches, and what share of them each is.

        Each process draws every micro-batch, so that all stand at the same place in the data.
        """
        for index in range(self.accumulation):
            batch = next(batches)
            if index in self.mine:
                with nullcontext() if index == self.mine[-1] else self.hold_back():
                    yield tuple(part[self.rows] for part in batch), 1 / len(self.mine)

    def over_all(self, loss: float, tokens: int) -> tuple[float, int]:
        """Mean loss and number of targets of all processes, from this one's."""
        return self._sum(loss) / self.processes, round(self._sum(tokens))

    def hold_back(self) -> AbstractContextManager[None]:
        """Adds up gradients of this process; only a step's last micro-batch sends them."""
        return self.wrapped.no_sync()

    def clock(self) -> float:
        """The main process's seconds at the end of the last step, `agree` or `barrier`.

        It stands still in between, so budgets and schedules are the same in every process.
        """
        return self._now

    def agree(self, flag: bool) -> bool:
        """True in every process if `flag` is true in any."""
        return self._sum(float(flag)) > 0

    def same(self, value: Any) -> Any:
        """The main process's value, in every process."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.talk)
        return box[0]

    def barrier(self) -> None:
        """Waits until every process has come here."""
        self._sum(0.0)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """A block that the main process goes through before the others do."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    def whole(self, model: Transformer) -> Transformer | None:
        """The model with all its weights in one place, to be saved; None outside the main."""
        return model if self.is_main else None

    def part(self, optimizer: Optimizer) -> Any:
        """What saves and loads the optimizer's state, whole whatever the strategy."""
        return optimizer

    def load(self, model: Transformer, weights: dict[str, Tensor]) -> None:
        """Puts whole weights, the same in every process, into the model."""
        model.load_state_dict(weights)
        self._part_ways()

    def _sum(self, value: float) -> float:
        seconds = time.monotonic() if self.is_main else 0.0
        news = torch.tensor([value, seconds], dtype=torch.float64)
        dist.all_reduce(news, group=self.talk)
        self._now = news[1].item()
        return news[0].item()

    def _part_ways(self) -> None:
        # Weights and data came from one seed; dropout must differ between the shares.
        if not self.is_main:
            torch.manual_seed(int(torch.randint(2**62, ())) + self.rank)


class Pieces(Copies):
    """FSDP: each process keeps 1 / N of every matrix, its gradient and its optimizer state.

    A block's weights are gathered just before it runs, forward and backward, and
    forgotten after; its gradients are averaged and each process keeps its piece.
    """

    def wrap(self, model: Transformer, precision: Precision) -> Transformer:
        """Cuts every parameter into N pieces by rows, in place.

        Raises:
            UserError: float16, whose overflows each process would see on its own.
        """
        if precision.skips_overflow:
            raise UserError(
                "strategy fsdp does not go with float16: take --precision bfloat16 or float32, "
                "or --strategy ddp"
            )
        mesh = dist.init_device_mesh(self.device.type, (self.processes,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        self.wrapped = fully_shard(model, mesh=mesh)
        self._part_ways()
        return model

    def hold_back(self) -> AbstractContextManager[None]:
        """Nothing: gradients are sent after each micro-batch, since whole ones may not fit."""
        return nullcontext()

    def whole(self, model: Transformer) -> Transformer | None:
        """The model with all its weights in one place, to be saved; None outside the main."""
        weights = {name: _joined(t, self.is_main) for name, t in model.state_dict().items()}
        if not self.is_main:
            return None
        with torch.device("meta"):  # takes no memory and no random numbers
            complete = Transformer(model.config)
        complete.load_state_dict(weights, assign=True)
        return complete

    def part(self, optimizer: Optimizer) -> Any:
        """What saves and loads the optimizer's state, whole whatever the strategy."""
        return WholeState(optimizer, self.is_main)

    def load(self, model: Transformer, weights: dict[str, Tensor]) -> None:
        """Puts whole weights, the same in every process, into the model's pieces."""
        like = model.state_dict()
        model.load_state_dict({name: _cut(t, like[name]) for name, t in weights.items()})
        self._part_ways()


class WholeState:
    """Saves an optimizer's state as if never cut, so that any number of processes can load it."""

    def __init__(self, optimizer: Optimizer, keep: bool) -> None:
        self.optimizer, self.keep = optimizer, keep

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's, every tensor whole and on the CPU; empty ones unless `keep`."""
        saved = self.optimizer.state_dict()
        saved["state"] = {
            index: {name: _joined(value, self.keep) for name, value in entries.items()}
            for index, entries in saved["state"].items()
        }
        return saved

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on from whole state."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state = {
            index: {name: _cut(value, parameters[index]) for name, value in entries.items()}
            for index, entries in saved["state"].items()
        }
        self.optimizer.load_state_dict(saved | {"state": state})


def _joined(value: Any, keep: bool) -> Any:
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()  # all processes take part, one keeps
    return whole.cpu() if keep else torch.empty(0)


def _cut(value: Any, like: Tensor) -> Any:
    if not isinstance(like, DTensor) or getattr(value, "shape", None) != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def share_of(rank: int, processes: int, accumulation: int, rows: int) -> tuple[range, slice]:
    """The micro-batches of a step, and the rows of each, that process `rank` works on.

    Whole micro-batches as far as they go round, then equal numbers of rows: a mean of
    the processes' means is the mean of all only if their shares are alike.

    Raises:
        UserError: the batch cannot be shared equally.
    """
    apart = gcd(processes, accumulation)  # processes that work on different micro-batches
    together = processes // apart  # processes that share one
    if rows % together:
        raise UserError(
            f"{processes} processes cannot share {accumulation} micro-batches of {rows} windows "
            f"equally: make train.batch_size a multiple of {together}, or train.accumulation "
            f"one of {processes}"
        )
    width = rows // together
    first = rank // apart * width
    return range(rank % apart, accumulation, apart), slice(first, first + width)
