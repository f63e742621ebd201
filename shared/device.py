"""Where tensors live and what that place can do: device, dtype, seed, clock, memory.

Promoted by 01_env.
"""

import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import psutil
import torch
from torch import Tensor

from shared.errors import UserError

try:
    import resource
except ImportError:
    resource = None

# A product of two random N x N matrices, divided by its float64 answer's size,
# may be off by about the rounding step of the dtype. Apple's and other drivers
# have returned results off by 100 %: these limits are far from both.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}
# How much faster a dtype must be than float32 to be preferred: bfloat16 rounds, and
# float16 besides overflows, so its gradients need scaling.
HANDICAP = {torch.float32: 1.0, torch.bfloat16: 1.1, torch.float16: 1.5}

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # glibc's names, in malloc.h


@dataclass(frozen=True)
class DtypeReport:
    """What one dtype does in a matrix product on one device."""

    dtype: torch.dtype
    gflops: float
    """Billions of floating-point operations a second (2 N^3 for N x N times N x N)."""
    error: float
    """Relative error (Frobenius norm) against the same product in float64 on the CPU."""

    @property
    def right(self) -> bool:
        """True if the error lies within the dtype's own rounding."""
        return self.error <= TOLERANCE[self.dtype]  # a NaN error compares False


def available_devices() -> list[str]:
    """Names of the devices of this machine, the fastest kind first."""
    names = []
    if torch.cuda.is_available():
        names.append("cuda")
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def pick_device(requested: str | None = None) -> torch.device:
    """Picks `requested` if it is here, or else the first of CUDA, MPS, CPU.

    Who never wants the first sets TINY_LLM_DEVICE: it stands where no device is requested.

    Raises:
        UserError: the device is not on this machine.
    """
    here = available_devices()
    if requested in (None, "auto"):
        requested = os.environ.get("TINY_LLM_DEVICE") or here[0]
    kind, _, index = requested.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in here or (index and not (index.isdigit() and int(index) < count)):
        raise UserError(f"no device {requested!r} here: pick one of {', '.join(here)}")
    return torch.device(requested)


def dtype_name(dtype: torch.dtype) -> str:
    """`torch.bfloat16` -> `"bfloat16"`."""
    return str(dtype).removeprefix("torch.")


def seed_everything(seed: int) -> None:
    """Seeds PyTorch's global generators (weights at initialisation), on every device."""
    torch.manual_seed(seed)


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished: without it a clock times only the queueing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def work_clock(device: torch.device) -> Callable[[], float]:
    """A clock in seconds of work: on the CPU it stands still while other programs take turns."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def total_memory(device: torch.device) -> int:
    """Bytes of memory the device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return psutil.virtual_memory().total


def peak_memory(device: torch.device) -> int:
    """Bytes this process holds: at its peak on CUDA and CPU, right now on MPS."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if resource is None:  # Windows
        return psutil.Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Asks the C library to keep what this process frees, for its next tensors.

    Left alone, glibc gives every large tensor back to the system and gets fresh pages
    for the next one, which the system must fill with zeros, thousands in each step.
    Elsewhere (macOS, Windows, musl) this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)


@contextmanager
def steady_threads(
    work: Callable[[], object],
    worth: float = 2.0,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[int]:
    """Runs the block on as many CPU threads as a piece of its `work` asks for: one, or all.

    Threads of one operation wait for the slowest of them. Where other programs want the cores
    too, one thread is always late, and all together can be slower than one by far. So for
    small operations all must be worth it: by default twice as fast as one.

    Args:
        worth: how many times faster than one thread all of them must be.
        rounds: how often each is timed, in turn; the medians are compared.
        clock: returns seconds; a test passes its own.

    Yields:
        The number of threads, which is put back at the end of the block.
    """
    every = torch.get_num_threads()
    seconds: dict[int, list[float]] = {1: [], every: []}
    try:
        for _ in range(rounds):
            for count, timed in seconds.items():
                torch.set_num_threads(count)
                work()  # the first after a change wakes threads, or sends them to sleep
                begun = clock()
                work()
                timed.append(clock() - begun)
        faster = median(seconds[1]) / max(median(seconds[every]), 1e-9)
        count = every if faster >= worth else 1
        torch.set_num_threads(count)
        yield count
    finally:
        torch.set_num_threads(every)


def device_label(device: torch.device) -> str:
    """A name for people, such as `cuda (NVIDIA H200)` or `cpu (2 cores)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "mps":
        return "mps (Apple GPU)"
    return f"cpu ({torch.get_num_threads()} cores)"


def matmul_gflops(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Measures GFLOP/s of square matrix products, doubling N while the clock allows.

    Small sizes come first because an unsupported dtype can be a thousand times
    slower (float16 on many CPUs) and must not hang the check.

    Returns:
        The best rate over the sizes tried.
    """
    best = 0.0
    size = 256
    one_product = 0.0
    while 8 * one_product < seconds and size <= 4096:  # twice the size, eight times the work
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        _ = a @ b  # warm up: kernels are chosen and compiled at first use
        synchronize(device)
        rounds = 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds / 5:
            _ = a @ b
            synchronize(device)
            rounds += 1
        one_product = elapsed / rounds
        best = max(best, 2 * size**3 / one_product / 1e9)
        size *= 2
    return best


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Frobenius norm of the difference over that of `expected`; any shape, on any device."""
    expected = expected.detach().cpu().double()
    got = got.detach().cpu().double()
    return ((got - expected).norm() / expected.norm().clamp_min(1e-12)).item()


def matmul_error(device: torch.device, dtype: torch.dtype, size: int = 256, seed: int = 0) -> float:
    """Relative error of one `(size, size)` product on the device against float64 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(size, size, generator=generator).to(dtype)
    b = torch.randn(size, size, generator=generator).to(dtype)
    return relative_error(a.to(device) @ b.to(device), a.double() @ b.double())


def measure_dtypes(device: torch.device) -> list[DtypeReport]:
    """Rate and error of each dtype that the device can multiply at all."""
    reports = []
    for dtype in HANDICAP:
        try:
            error = matmul_error(device, dtype)
            reports.append(DtypeReport(dtype, matmul_gflops(device, dtype), error))
        except (RuntimeError, TypeError):  # this device has no kernel for the dtype
            continue
    return reports


def fastest_right_dtype(reports: list[DtypeReport]) -> torch.dtype:
    """The dtype worth training in: the fastest whose products are right; float32 if none is.

    A coarser dtype must be faster by its `HANDICAP`.
    """
    worth = {r.dtype: r.gflops / HANDICAP[r.dtype] for r in reports if r.right}
    return max(worth, key=worth.get, default=torch.float32)
