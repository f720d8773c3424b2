"""What the device of a training can do and shows: which it is, its arithmetic, its memory, its random numbers."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from data.input_error import InputError


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
        raise InputError(f"device {name!r} cannot be used here; allowed: auto, cpu, cuda, cuda:N, mps.")
    return device


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether the network computes in bfloat16: as asked, or, for "auto", where the device does so in hardware."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Torch's random state follows from seed and epoch inside, and is as before outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        yield


def peak_memory_mb(device: torch.device) -> float:
    """Most memory used so far, in MiB: on a CUDA device by tensors, else by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
