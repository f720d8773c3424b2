"""What the device of a training can do and shows: which it is, its arithmetic, its memory, its random numbers."""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from data.input_error import InputError

PROCESS_MEMORY = Path("/proc/self/clear_refs")  # where Linux lets a process reset what it counts of its memory


# How torch, oneDNN, C++, cuBLAS and cuDNN say that there is no memory left, in small letters.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "could not create a memory object",
    "bad_alloc",
    "alloc_failed",
    "unable to find a valid cudnn algorithm",
)


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises InputError for a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        there = [kind for kind, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
        raise InputError(f"device {name!r} cannot be used here; allowed: {', '.join(['auto', 'cpu', *there])}.")
    return device


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether the network computes in bfloat16: as asked, or, for "auto", where the device does so in hardware."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device, rank: int = 0) -> Iterator[None]:
    """Torch's random state follows from seed, epoch and rank inside, and is as before outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0]))
        yield


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Torch's random state on the host and on the device, uint8, by name."""
    state = {"host": torch.get_rng_state()}
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Brings back what `random_state` gave; a device's own state only where it was kept on one."""
    torch.set_rng_state(state["host"].cpu())
    if device.type == "cuda" and "device" in state:
        torch.cuda.set_rng_state(state["device"].cpu(), device)


@contextmanager
def reproducible(wanted: bool, device: torch.device) -> Iterator[None]:
    """Inside, torch computes the same to the last bit each time, where that is wanted; outside it is as before.

    On a CPU that takes a single thread: sums that several threads share are taken in another order where there are
    more of them. On a GPU it takes slower kernels.
    """
    if not wanted:
        yield
        return
    # Must stand before cuBLAS is first used; CUDA's own documentation gives these two values.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    tuning = torch.backends.cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.backends.cudnn.benchmark = tuning
        torch.set_num_threads(threads)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no memory left."""
    # Torch raises plain RuntimeErrors on the CPU and from CUDA's libraries, which only their words tell from others.
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or any(
        words in str(error).lower() for words in OUT_OF_MEMORY
    )


def release_memory(device: torch.device) -> None:
    """Gives memory that is no longer used back to the device, or to the system, for whoever else needs it."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        return
    # glibc keeps what is freed, hundreds of megabytes after a large training, until it is told to let go.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reset_peak_memory(device: torch.device) -> None:
    """Lets `peak_memory_mb` begin again at what is used now; on a CPU, where the system lets a process do so."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif PROCESS_MEMORY.exists():
        with suppress(OSError):
            PROCESS_MEMORY.write_text("5")  # proc(5): the highest size of the resident set so far


def peak_memory_mb(device: torch.device) -> float:
    """Most memory used since it was reset, or so far, in MiB: on a CUDA device by tensors, else by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
